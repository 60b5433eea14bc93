# SPDX-License-Identifier: Apache-2.0
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.models.positions import (
    FourierPositions,
    LearnedPositions,
    fourier_features,
    grid_positions,
    sin_cos_pi,
)

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "fourier_features.npz"


def in_float64(coordinates, num_bands, resolutions):
    sines, cosines = [], []
    for dim, resolution in enumerate(resolutions):
        for band in range(num_bands):
            frequency = 1 + band * (resolution / 2 - 1) / (num_bands - 1)
            sines.append(np.sin(np.pi * frequency * coordinates[..., dim]))
            cosines.append(np.cos(np.pi * frequency * coordinates[..., dim]))
    return np.stack([*np.moveaxis(coordinates, -1, 0), *sines, *cosines], -1)


def test_features_equal_deepmind():
    golden = np.load(GOLDEN)
    features = fourier_features(
        jnp.asarray(golden["pos"]), int(golden["num_bands"]), tuple(golden["max_resolution"].tolist())
    )
    np.testing.assert_allclose(features, golden["features"], rtol=0, atol=1e-5)


def test_grid_equals_deepmind():
    expected = np.load(GOLDEN)["positions"]
    np.testing.assert_allclose(grid_positions(expected.shape[:-1]), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("resolution", "tolerance"), [(20, 1e-5), (224, 1e-4), (2240, 1e-3)])
def test_features_equal_float64_formula(resolution, tolerance):
    coordinates = np.random.default_rng(0).uniform(-1, 1, (2, 50, 3)).astype(np.float32)
    expected = in_float64(coordinates.astype(np.float64), 8, [resolution] * 3)
    features = FourierPositions(8, resolution)(jnp.asarray(coordinates))
    assert features.shape == (2, 50, 3 + 2 * 3 * 8)
    np.testing.assert_allclose(features, expected, rtol=0, atol=tolerance)


def test_one_resolution_for_each_dimension():
    coordinates = np.random.default_rng(0).uniform(-1, 1, (9, 2)).astype(np.float32)
    features = fourier_features(jnp.asarray(coordinates), 4, (10.0, 30.0))
    np.testing.assert_allclose(features, in_float64(coordinates, 4, [10, 30]), atol=1e-5)
    with pytest.raises(ValueError, match="max_resolution has 3 values: expected 1 or 2"):
        fourier_features(jnp.asarray(coordinates), 4, (10.0, 30.0, 5.0))
    with pytest.raises(ValueError, match="fourier_bands=-1: expected at least 0"):
        fourier_features(jnp.asarray(coordinates), -1, 10.0)


def test_half_precision_coordinates_get_float32_features():
    assert fourier_features(jnp.ones((4, 2), jnp.bfloat16), 4, 10.0).dtype == jnp.float32


def test_without_raw_positions():
    coordinates = jnp.linspace(-1, 1, 10).reshape(5, 2)
    without = FourierPositions(3, 8.0, include_positions=False)(coordinates)
    np.testing.assert_array_equal(without, FourierPositions(3, 8.0)(coordinates)[:, 2:])


def test_learned_positions_read_the_length_alone():
    positions, coordinates = LearnedPositions(6, 4), jnp.zeros((3, 6, 2))
    variables = positions.init(jax.random.key(0), coordinates)
    output = positions.apply(variables, coordinates)
    np.testing.assert_array_equal(output, positions.apply(variables, coordinates + 1))
    np.testing.assert_array_equal(output[1], variables["params"]["table"])
    with pytest.raises(ValueError, match="for length 6: got length 5"):
        positions.apply(variables, coordinates[:, :5])


def test_learned_positions_start_truncated_normal():
    table = LearnedPositions(500, 64).init(jax.random.key(0), jnp.zeros((500, 1)))["params"]["table"]
    assert abs(float(table.std()) - 0.0176) < 2e-4  # 0.02 cut at two standard deviations
    assert float(jnp.abs(table).max()) <= 0.04


def test_sine_and_cosine_are_exact_for_any_number_of_turns():
    half_turns = np.random.default_rng(0).uniform(-1200, 1200, 4001).astype(np.float32)
    half_turns[:5] = 0, 0.5, -0.5, 1, -1199.5
    expected = np.sin(np.pi * half_turns.astype(np.float64)), np.cos(np.pi * half_turns.astype(np.float64))
    np.testing.assert_allclose(jax.jit(sin_cos_pi)(half_turns), expected, rtol=0, atol=2.5e-7)
    slope = jax.vmap(jax.grad(lambda x: sin_cos_pi(x)[0]))(half_turns)
    np.testing.assert_allclose(slope, np.pi * expected[1], rtol=0, atol=1e-5)
