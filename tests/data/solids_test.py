# SPDX-License-Identifier: Apache-2.0
"""The procedural set: pure in the id, balanced, normalised, and its classes can be told apart."""

import pickle

import numpy as np
import pytest

from perceiver_jax.data.solids import Solids
from perceiver_jax.errors import ConfigError

SOLIDS = Solids(num_points=128)
IDS = np.arange(48)


def test_an_example_does_not_depend_on_its_batch():
    whole = SOLIDS.load("train", IDS, 0)["points"]
    for rows in ([7], [7, 8], [47, 0, 7], list(range(5, 30))):
        np.testing.assert_array_equal(SOLIDS.load("train", IDS[rows], 0)["points"], whole[rows])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(SOLIDS)).load("train", IDS, 0)["points"], whole)


def test_what_does_and_does_not_change_an_example():
    train = SOLIDS.load("train", IDS, None)["points"]
    np.testing.assert_array_equal(SOLIDS.load("train", IDS, 5)["points"], train)
    np.testing.assert_array_equal(Solids(num_points=128, seed=9).load("train", IDS, 0)["points"], train)
    for other in (
        SOLIDS.load("test", IDS, None),
        Solids(num_points=128, set_seed=1).load("train", IDS, None),
    ):
        assert not any(np.array_equal(a, b) for a, b in zip(train, other["points"], strict=True))


def test_augmentation_follows_the_epoch():
    augmented = Solids(num_points=128, jitter=0.05)
    assert not np.array_equal(augmented.load("train", IDS, 0)["points"], augmented.load("train", IDS, 1)["points"])


def test_at_least_twelve_balanced_classes():
    names = SOLIDS.spec.class_names
    assert len(set(names)) == len(names) >= 12
    for split in SOLIDS.splits:
        counts = np.bincount(SOLIDS.labels(split), minlength=len(names))
        assert len(counts) == len(names) and np.ptp(counts) <= 1
        assert len(SOLIDS.labels(split)) == SOLIDS.num_examples(split)
    np.testing.assert_array_equal(SOLIDS.load("train", IDS, 0)["label"], SOLIDS.labels("train")[IDS])


def test_clouds_fill_the_unit_cube():
    points = SOLIDS.load("train", IDS, 0)["points"]
    np.testing.assert_allclose(np.abs(points).max((1, 2)), 1, atol=1e-6)
    np.testing.assert_allclose(points.mean(1), 0, atol=1e-5)


def test_variation_and_noise():
    def extents(**options):
        """Singular values of each cone: its proportions, however it is turned."""
        solids = Solids(num_points=1024, **options)
        cones = np.flatnonzero(solids.labels("test") == solids.spec.class_names.index("cone"))[:30]
        values = np.linalg.svd(solids.load("test", cones, None)["points"], compute_uv=False)
        return values / values[:, :1]

    assert extents(variation=0.0, noise=0.0).std(0).max() < 0.03
    assert extents(variation=1.0, noise=0.0)[:, 1:].std(0).min() > 0.05
    exact, noisy = Solids(noise=0.0).load("test", IDS, None), Solids(noise=0.1).load("test", IDS, None)
    assert 0.02 < np.abs(exact["points"] - noisy["points"]).mean() < 0.2


def features(points):
    """What no turn changes: extents, distances from the centre, distances between points."""
    values = np.linalg.svd(points, compute_uv=False) / np.sqrt(points.shape[1])
    radii = np.sort(np.linalg.norm(points, axis=-1), axis=1)[:, ::4]
    distances = np.sort(np.linalg.norm(points - np.roll(points, 64, axis=1), axis=-1), axis=1)[:, ::4]
    return np.concatenate([values, radii / 3, distances / 3], 1)


def test_classes_can_be_told_apart_by_simple_statistics():
    solids = Solids(num_points=256)
    train, test = solids.load("train", np.arange(1600), 0), solids.load("test", np.arange(320), None)
    known, asked = features(train["points"]), features(test["points"])
    nearest = ((asked[:, None] - known[None]) ** 2).sum(-1).argmin(1)
    right = train["label"][nearest] == test["label"]
    assert right.mean() > 0.6  # chance: 0.06
    assert np.bincount(test["label"][right], minlength=16).min() >= 4  # of 20; chance: 1.25


def test_impossible_fields():
    with pytest.raises(ConfigError, match="num_points=0"):
        Solids(num_points=0)
    with pytest.raises(ConfigError, match="variation=2.0"):
        Solids(variation=2.0)
