# SPDX-License-Identifier: Apache-2.0
"""Perturbed clouds: each kind does what it says, alike in every batch, and normalisation is evaluation's."""

import dataclasses

import numpy as np
import pytest

from perceiver_jax.data import perturbation, randomness
from perceiver_jax.data.perturbation import STRENGTHS, Perturbed
from perceiver_jax.data.pipeline import evaluation_batches
from perceiver_jax.data.solids import Solids
from perceiver_jax.data.source import Source
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError

IDS = np.arange(30)
RAW = Solids(num_points=40, num_train=40, num_validation=10, num_test=30, normalize="none", up_axis="z")
CUBE = dataclasses.replace(RAW, normalize="cube")


def pair(source, kind, strength):
    """Points before and after."""
    perturbed = Perturbed(source, kind, strength)
    return source.load("test", IDS, None)["points"], perturbed.load("test", IDS, None)["points"]


@pytest.mark.parametrize("kind", ["rotation_up", "rotation_any"])
@pytest.mark.parametrize("strength", [15.0, 180.0])
def test_rotations_keep_norms_and_stay_within_their_angle(kind, strength):
    before, after = pair(RAW, kind, strength)
    np.testing.assert_allclose(np.linalg.norm(after, axis=-1), np.linalg.norm(before, axis=-1), rtol=1e-4, atol=1e-6)
    cosine = (before * after).sum(-1) / (before**2).sum(-1)
    degrees = np.degrees(np.arccos(np.clip(cosine, -1, 1))).max(1)
    assert degrees.max() <= strength + 0.1 and degrees.max() > strength / 2
    if kind == "rotation_up":
        np.testing.assert_array_equal(after[..., 2], before[..., 2])


def test_turns_are_rotations_by_the_angle():
    matrices = perturbation.turns(randomness.keys(0, "turns", np.arange(500)), 60.0)
    np.testing.assert_allclose(matrices @ matrices.transpose(0, 2, 1), np.tile(np.eye(3), (500, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-5)
    degrees = np.degrees(np.arccos(np.clip((np.trace(matrices, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert degrees.max() <= 60.01 and 25 < degrees.mean() < 35


def test_translation_scale_and_stretch():
    before, after = pair(RAW, "translation", 0.3)
    moved = after - before
    assert np.ptp(moved, axis=1).max() < 1e-5 and 0.25 < np.abs(moved).max() <= 0.3 + 1e-5
    before, after = pair(RAW, "scale", 2.0)
    factors = after / before
    assert np.ptp(factors, axis=(1, 2)).max() < 1e-3 and 0.5 - 1e-4 <= factors.min() < 0.6 < 1.7 < factors.max() < 2.001
    factors = np.divide(*pair(RAW, "stretch", 1.5)[::-1])
    assert np.ptp(factors, axis=1).max() < 1e-3 and np.ptp(factors[:, 0], axis=1).max() > 0.1


@pytest.mark.parametrize("strength", STRENGTHS["dropped_points"])
def test_dropped_points(strength):
    before, after = pair(RAW, "dropped_points", strength)
    assert after.shape == (30, 40 - round(40 * strength), 3)
    for cloud, subset in zip(before, after, strict=True):
        assert {point.tobytes() for point in subset} <= {point.tobytes() for point in cloud}
        assert len({point.tobytes() for point in subset}) == len(subset)
    assert Perturbed(RAW, "dropped_points", 1.0).load("test", IDS, None)["points"].shape[1] == 1


@pytest.mark.parametrize("kind", STRENGTHS)
def test_the_model_sees_it_normalised_as_in_evaluation(kind):
    before, after = pair(CUBE, kind, STRENGTHS[kind][-1])
    np.testing.assert_allclose(np.abs(after).max((1, 2)), 1, atol=1e-5)
    np.testing.assert_allclose(after.mean(1), 0, atol=1e-5)
    unchanged = kind in ("translation", "scale")
    assert (after.shape == before.shape and np.abs(after - before).max() < 1e-5) == unchanged


@pytest.mark.parametrize("kind", STRENGTHS)
def test_goes_through_the_pipeline_and_does_not_depend_on_the_batch(kind):
    source = Perturbed(CUBE, kind, STRENGTHS[kind][0])
    assert isinstance(source, Source) and source.num_examples("test") == 30
    whole = source.load("test", IDS, None)["points"]
    with evaluation_batches(source, "test", 7) as batches:
        rows = np.concatenate([batch["points"][batch["weight"] > 0] for batch in batches])
    np.testing.assert_array_equal(rows, whole)


def test_normals_turn_and_are_not_moved():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class WithNormals(Solids):
        def load(self, split, ids, epoch):
            arrays = super().load(split, ids, epoch)
            return arrays | {"points": np.concatenate([arrays["points"]] * 2, -1)}

    source = WithNormals(num_points=10, num_test=30, normalize="none")
    for kind in ("translation", "scale", "stretch"):
        before, after = pair(source, kind, 1.5)
        np.testing.assert_array_equal(after[..., 3:], before[..., 3:])
    for kind in ("rotation_up", "rotation_any"):
        before, after = pair(source, kind, 90.0)
        np.testing.assert_array_equal(after[..., 3:], after[..., :3])


def test_other_data_and_kinds_are_refused():
    class Images:
        spec, splits = Spec({"image": ArraySpec((4, 4, 3), "float32")}), ("test",)
        num_examples = load = labels = len

    with pytest.raises(ConfigError, match="are for point clouds: got Images with image"):
        perturbation.check_clouds(Images())
    with pytest.raises(ConfigError, match="'shear' is unknown: expected one of rotation_up"):
        Perturbed(RAW, "shear", 1.0)
