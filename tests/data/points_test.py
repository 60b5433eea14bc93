# SPDX-License-Identifier: Apache-2.0
"""Normalisation and augmentation of clouds: what each keeps, its range, and that no cloud depends on its
batch.
"""

import numpy as np
import pytest

from perceiver_jax.data import points as clouds
from perceiver_jax.data import randomness
from perceiver_jax.data.points import PointAugmentation
from perceiver_jax.errors import ConfigError

IDS = np.arange(40)
POINTS = 3 + randomness.normal(randomness.keys(0, "points", IDS), (60, 3)) * np.float32([1, 2, 3])


def norms(points):
    return np.linalg.norm(points, axis=-1)


@pytest.mark.parametrize("how", ["center", "cube", "sphere"])
def test_normalised_clouds_have_zero_mean(how):
    np.testing.assert_allclose(clouds.normalize(POINTS, how).mean(1), 0, atol=1e-5)


def test_cube_and_sphere_are_touched_and_shapes_kept():
    cube, sphere = clouds.normalize(POINTS, "cube"), clouds.normalize(POINTS, "sphere")
    np.testing.assert_allclose(np.abs(cube).max((1, 2)), 1, rtol=1e-6)
    np.testing.assert_allclose(norms(sphere).max(1), 1, rtol=1e-6)
    centered = POINTS - POINTS.mean(1, keepdims=True)
    np.testing.assert_allclose(sphere / np.abs(sphere).max((1, 2), keepdims=True), cube, atol=1e-5)
    np.testing.assert_allclose(cube * np.abs(centered).max((1, 2), keepdims=True), centered, atol=1e-4)


def test_a_cloud_of_one_point_repeated_stays_finite():
    flat = np.full((2, 5, 3), 7, np.float32)
    for how in ("center", "cube", "sphere"):
        np.testing.assert_array_equal(clouds.normalize(flat, how), 0)
    np.testing.assert_array_equal(clouds.normalize(flat, "unit_cube"), 0.5)


def test_the_unit_cube_is_the_cube_moved():
    unit = clouds.normalize(POINTS, "unit_cube")
    np.testing.assert_allclose(unit, (clouds.normalize(POINTS, "cube") + 1) / 2, atol=1e-6)
    np.testing.assert_allclose(unit.mean(1), 0.5, atol=1e-5)
    assert unit.min() >= 0 and unit.max() <= 1


@pytest.mark.parametrize("how", clouds.NORMALIZATIONS)
def test_normals_turn_and_do_nothing_else(how):
    with_normals = np.concatenate([POINTS, clouds.normalize(POINTS, "sphere")], -1)
    still = PointAugmentation(normalize_before="center", scale=(0.5, 2.0), translation=0.3, jitter=0.1, normalize=how)
    out = still.apply(with_normals, IDS, 3)
    np.testing.assert_array_equal(out[..., 3:], with_normals[..., 3:])
    np.testing.assert_array_equal(out[..., :3], still.apply(POINTS, IDS, 3))
    turned = PointAugmentation(rotation=180.0).apply(with_normals, IDS, 3)
    np.testing.assert_array_equal(turned[..., :3], PointAugmentation(rotation=180.0).apply(POINTS, IDS, 3))
    np.testing.assert_array_equal(
        turned[..., 3:], PointAugmentation(rotation=180.0).apply(with_normals[..., 3:], IDS, 3)
    )
    matrices = clouds.rotations(randomness.keys(0, "turn", IDS))
    np.testing.assert_array_equal(clouds.rotate(with_normals, matrices)[..., :3], clouds.rotate(POINTS, matrices))


def test_everything_off_changes_nothing():
    np.testing.assert_array_equal(PointAugmentation().apply(POINTS, IDS, 3), POINTS)


def test_evaluation_only_normalises():
    augmentation = PointAugmentation(normalize_before="center", scale=(0.5, 2.0), jitter=0.1, normalize="sphere")
    np.testing.assert_array_equal(
        augmentation.apply(POINTS, IDS, None), clouds.normalize(clouds.normalize(POINTS, "center"), "sphere")
    )


@pytest.mark.parametrize("per_point, per_axis", [(False, False), (False, True), (True, False), (True, True)])
def test_scale(per_point, per_axis):
    augmentation = PointAugmentation(scale=(0.8, 1.25), scale_per_point=per_point, scale_per_axis=per_axis)
    factors = augmentation.apply(POINTS, IDS, 0) / POINTS
    assert 0.8 - 1e-5 <= factors.min() < 0.82 and 1.22 < factors.max() <= 1.25 + 1e-5
    assert (np.ptp(factors, axis=1).max() > 0.1) == per_point
    assert (np.ptp(factors, axis=2).max() > 0.1) == per_axis
    assert np.ptp(factors[:, 0, 0]) > 0.2


@pytest.mark.parametrize("axis", "xyz")
def test_rotation_keeps_norms_and_the_axis(axis):
    turned = PointAugmentation(rotation=180.0, up_axis=axis).apply(POINTS, IDS, 0)
    np.testing.assert_allclose(norms(turned), norms(POINTS), rtol=1e-5)
    np.testing.assert_array_equal(turned[..., clouds.AXES[axis]], POINTS[..., clouds.AXES[axis]])
    assert np.abs(turned - POINTS).max(2).mean() > 1


def test_rotation_turns_counter_clockwise_by_the_angle():
    x = np.float32([[[1, 0, 0]]])
    np.testing.assert_allclose(clouds.rotate_about(x, np.float32([np.pi / 2]), "z"), [[[0, 1, 0]]], atol=1e-6)
    np.testing.assert_allclose(clouds.rotate_about(x, np.float32([np.pi / 2]), "y"), [[[0, 0, -1]]], atol=1e-6)


def test_rotation_stays_within_its_limit():
    x = np.tile(np.float32([1, 0, 0]), (40, 1, 1))
    turned = PointAugmentation(rotation=30.0, up_axis="z").apply(x, IDS, 0)
    degrees = np.degrees(np.arctan2(turned[..., 1], turned[..., 0]))
    assert np.abs(degrees).max() <= 30.001 and degrees.min() < -20 and degrees.max() > 20


def test_random_rotations_are_rotations_in_all_directions():
    matrices = clouds.rotations(randomness.keys(0, "turn", np.arange(2000)))
    np.testing.assert_allclose(
        matrices @ matrices.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (2000, 3, 3)), atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-5)
    np.testing.assert_allclose(matrices.mean(0), 0, atol=0.05)
    np.testing.assert_allclose((matrices**2).mean(0), 1 / 3, atol=0.03)
    np.testing.assert_allclose(norms(clouds.rotate(POINTS, matrices[:40])), norms(POINTS), rtol=1e-5)


def test_translation_moves_whole_clouds_within_its_limit():
    moved = PointAugmentation(translation=0.2).apply(POINTS, IDS, 0) - POINTS
    assert 0.15 < np.abs(moved).max() <= 0.2 + 1e-5 and np.ptp(moved, axis=1).max() < 1e-5
    assert np.ptp(moved[:, 0], axis=1).max() > 0.1


def test_jitter_has_its_deviation():
    noise = PointAugmentation(jitter=0.05).apply(POINTS, IDS, 0) - POINTS
    assert abs(noise.std() - 0.05) < 0.003 and abs(noise.mean()) < 0.003


def test_paper_order():
    augmentation = PointAugmentation(
        normalize_before="center", scale=(0.99, 1.01), scale_per_point=True, normalize="cube", seed=4
    )
    factors = randomness.uniform(randomness.keys(4, "scale", IDS, 2), (60, 1), 0.99, 1.01)
    by_hand = (POINTS - POINTS.mean(1, keepdims=True)) * factors
    by_hand -= by_hand.mean(1, keepdims=True)
    by_hand /= np.abs(by_hand).max((1, 2), keepdims=True)
    np.testing.assert_allclose(augmentation.apply(POINTS, IDS, 2), by_hand, atol=1e-5)


def test_a_cloud_does_not_depend_on_its_batch():
    augmentation = PointAugmentation(
        normalize_before="sphere",
        scale=(0.5, 2.0),
        scale_per_axis=True,
        rotation=180.0,
        translation=0.3,
        jitter=0.1,
        normalize="cube",
        seed=5,
    )
    whole = augmentation.apply(POINTS, IDS, 7)
    for rows in ([3], [3, 4], [39, 0, 3], list(range(17))):
        np.testing.assert_array_equal(augmentation.apply(POINTS[rows], IDS[rows], 7), whole[rows])
    assert not np.array_equal(augmentation.apply(POINTS, IDS, 8), whole)
    assert not np.array_equal(augmentation.apply(POINTS, IDS + 1, 7), whole)


def test_random_subset():
    subset = clouds.random_subset(100, 30, randomness.keys(0, "subset", IDS))
    assert subset.shape == (40, 30) and subset.min() == 0 and subset.max() == 99
    assert all(len(set(row)) == 30 for row in subset.tolist())
    counts = np.bincount(subset.ravel(), minlength=100)
    assert counts.min() >= 2 and counts.max() <= 25  # 12 expected each


def test_wrong_fields_are_named_together():
    with pytest.raises(
        ConfigError, match=r"normalize='box'.* none, center, cube, sphere, unit_cube.*scale=\(2.0, 1.0\).*jitter=-1"
    ):
        PointAugmentation(normalize="box", scale=(2.0, 1.0), jitter=-1.0)
    with pytest.raises(ConfigError, match="up_axis='w'"):
        PointAugmentation(up_axis="w")
