# SPDX-License-Identifier: Apache-2.0
"""The distance against closed forms, and that it is safe where matrices have no full rank."""

import numpy as np
import pytest

from perceiver_jax.metrics.frechet import frechet_distance, image_distance, random_features


def with_moments(mean, scale, rows=64, seed=0):
    """Rows whose mean and covariance are exactly these: diag(scale^2)."""
    rows = np.random.default_rng(seed).standard_normal((rows, len(mean)))
    rows -= rows.mean(0)
    root = np.linalg.cholesky(np.linalg.inv(np.cov(rows, rowvar=False)))
    return (rows @ root) * np.asarray(scale) + np.asarray(mean)


def test_gaussians_of_one_axis_system():
    first, second = with_moments([0, 0, 0], [1, 2, 3]), with_moments([1, -2, 0], [2, 2, 1], rows=50, seed=1)
    assert frechet_distance(first, second) == pytest.approx(1 + 4 + (1 - 2) ** 2 + (3 - 1) ** 2)
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first))
    assert frechet_distance(first, first[::-1]) == pytest.approx(0, abs=1e-9)


def test_matrices_that_do_not_commute():
    first, second = with_moments([0, 0], [1, 3]), with_moments([0, 0], [2, 0.5], seed=1)
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    a, b = np.diag([1.0, 9.0]), turn @ np.diag([4.0, 0.25]) @ turn.T
    root_trace = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))  # of a 2 x 2 matrix
    expected = np.trace(a + b) - 2 * root_trace
    assert frechet_distance(first, second @ turn.T) == pytest.approx(expected)


def test_fewer_rows_than_features():
    rows = np.random.default_rng(0).standard_normal((5, 40))
    assert frechet_distance(rows, rows) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(rows, rows + 2) == pytest.approx(4 * 40)


def test_images_by_any_features():
    dark, light = (np.random.default_rng(0).integers(low, low + 50, (70, 16, 16, 3), np.uint8) for low in (0, 200))
    assert image_distance(dark, light) > 10 * image_distance(dark, dark[::-1]) >= 0
    mean = image_distance(dark, light, lambda images: images.reshape(len(images), -1).mean(1, keepdims=True) / 255)
    assert mean == pytest.approx((200 / 255) ** 2, rel=0.05)
    np.testing.assert_allclose(random_features(dark[:3]), random_features(dark)[:3], rtol=1e-5)
