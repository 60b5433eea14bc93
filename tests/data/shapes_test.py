# SPDX-License-Identifier: Apache-2.0
"""Surfaces: points lie on them, spread by area, and a shape does not depend on the others in its batch."""

import numpy as np
import pytest

from perceiver_jax.data import randomness, shapes

N = 4000


def one(name, proportions=(0.5, 0.5, 0.5), n=N):
    u, v = randomness.uniform(randomness.keys(0, "surface", np.arange(1)), (2, n))[0][:, None]
    return shapes.sample(np.array([shapes.NAMES.index(name)]), np.float32([proportions]), u, v)[0]


def radius(points):
    return np.hypot(points[:, 0], points[:, 1])


def test_spheroid_of_equal_axes_is_a_sphere():
    points = one("spheroid")
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=0.006)  # chords of 16 segments
    np.testing.assert_allclose((points**2).mean(0), 1 / 3, atol=0.02)


def test_cylinder_and_its_share_of_caps():
    h = 0.5 + 1.1 / 2
    points = one("cylinder")
    side = np.abs(radius(points) - 1) < 1e-5
    caps = np.abs(np.abs(points[:, 2]) - h) < 1e-5
    assert (side | caps).all()
    assert abs((side & ~caps).mean() - 2 * h / (2 * h + 1)) < 0.03
    assert abs((radius(points)[caps & ~side] ** 2).mean() - 0.5) < 0.03  # uniform on the disc


def test_torus():
    points = one("torus")
    tube = np.hypot(radius(points) - 1, points[:, 2])
    assert tube.max() < 0.2901 and tube.min() > 0.284  # a polygon of 16 sides in a circle of 0.29
    assert (radius(points) > 1).mean() > 0.55  # more area outside


def test_ring_has_a_hole():
    assert radius(one("ring")).min() > 0.39


def test_helix_follows_its_screw():
    points = one("helix")
    assert np.abs(radius(points) - 1).max() <= 0.1201 and abs(points[:, 2].max() - 1.35) < 0.13


def test_box_and_octahedron_lie_on_their_planes():
    np.testing.assert_allclose((np.abs(one("box")) / [1.0, 0.75, 0.7]).max(1), 1, atol=1e-5)
    x, y, z = np.abs(one("octahedron")).T  # a square of half edge sqrt(1/2), tips at 1.15
    np.testing.assert_allclose(np.maximum(x, y) * 2**0.5 + z / 1.15, 1, atol=1e-5)


def test_cross_is_three_bars():
    points = np.sort(np.abs(one("cross")), axis=1)
    assert points[:, 1].max() < 0.2251  # off its own axis a point is within half the width


def test_box_spreads_by_area():
    points = one("box")
    x, y, z = 1.0, 0.75, 0.7
    on_x = np.abs(np.abs(points[:, 0]) - x) < 1e-5
    assert abs(on_x.mean() - y * z / (y * z + x * z + x * y)) < 0.03


def test_a_shape_does_not_depend_on_its_neighbours():
    count = 3 * len(shapes.NAMES)
    label = np.arange(count) % len(shapes.NAMES)
    numbers = randomness.uniform(randomness.keys(0, "all", np.arange(count)), (2, 100))
    proportions = randomness.uniform(randomness.keys(0, "p", np.arange(count)), (3,))
    whole = shapes.sample(label, proportions, numbers[:, 0], numbers[:, 1])
    assert np.isfinite(whole).all()
    for rows in [[k] for k in range(16)] + [[40, 3, 19], [15, 31]]:
        part = shapes.sample(label[rows], proportions[rows], numbers[rows, 0], numbers[rows, 1])
        np.testing.assert_array_equal(part, whole[rows])


@pytest.mark.parametrize("corner", [0.0, 1 - 2.0**-24])
def test_the_ends_of_the_coordinates_are_on_the_surface(corner):
    count = len(shapes.NAMES)
    ends = np.full((count, 4), corner, np.float32)
    points = shapes.sample(np.arange(count), np.ones((count, 3), np.float32), ends, ends)
    assert np.isfinite(points).all() and np.abs(points).max() < 3.5
    at_origin = {shapes.NAMES[k] for k in np.flatnonzero((np.abs(points) < 1e-6).all((1, 2)))}
    assert at_origin <= {"cone"}  # its base begins there; elsewhere it would be a part without area
