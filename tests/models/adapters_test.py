# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.models.adapters import PointAdapter, SequenceAdapter, TokenAdapter
from perceiver_jax.models.positions import (
    FourierPositions,
    LearnedPositions,
    fourier_features,
    grid_positions,
)

FOURIER = FourierPositions(4, 16.0)


def random(*shape):
    return jax.random.uniform(jax.random.key(0), shape, minval=-1)


def test_points():
    points = random(2, 10, 3)
    np.testing.assert_array_equal(PointAdapter(FOURIER).apply({}, points), fourier_features(points, 4, 16.0))
    paper = PointAdapter(FourierPositions(64, 2240))
    assert paper.apply({}, points).shape == (2, 10, 387)


def test_point_features_and_coordinates_as_features():
    points = random(2, 10, 5)
    positions = fourier_features(points[..., :3], 4, 16.0)
    plain = PointAdapter(FOURIER).apply({}, points)
    np.testing.assert_array_equal(plain, jnp.concatenate([points[..., 3:], positions], -1))
    with_coordinates = PointAdapter(FOURIER, coordinates_as_features=True).apply({}, points)
    np.testing.assert_array_equal(with_coordinates, jnp.concatenate([points, positions], -1))


def test_sequence_padding_changes_nothing():
    sequence = random(2, 6, 3)
    for positions in (FOURIER, LearnedPositions(9, 4)):
        adapter = SequenceAdapter(positions, max_length=9)
        variables = adapter.init(jax.random.key(0), sequence)
        padded = jnp.pad(sequence, ((0, 0), (0, 3), (0, 0)))
        output = adapter.apply(variables, sequence)
        np.testing.assert_array_equal(output, adapter.apply(variables, padded)[:, :6])


@pytest.mark.parametrize(
    ("adapter", "shape", "message"),
    [
        (PointAdapter(FOURIER), (2, 3, 100), r"looks like \(batch, 3, points\). Swap the last two axes"),
        (PointAdapter(FOURIER), (2, 100, 2), r"\(2, 100, 2\): expected \(batch, points, 3 coordinates"),
        (PointAdapter(FOURIER), (100, 3), r"expected \(batch, points, 3 coordinates"),
        (SequenceAdapter(FOURIER, 8), (2, 9, 3), "length 9: expected at most max_length=8"),
        (SequenceAdapter(FOURIER, 8), (2, 8), r"expected \(batch, length, channels\)"),
        (SequenceAdapter(FOURIER, 8, 4), (2, 8, 3), r"expected \(batch, length, 4\)"),
        (TokenAdapter(FOURIER, 8, 262), (2, 8), "type float32: expected .*, whole numbers"),
    ],
)
def test_wrong_shapes(adapter, shape, message):
    with pytest.raises(ValueError, match=message):
        adapter.apply({}, jnp.zeros(shape))


def test_whole_numbers_are_refused():
    inputs = jnp.zeros((2, 8, 3), jnp.uint8)
    with pytest.raises(ValueError, match="type uint8: expected floating point"):
        PointAdapter(FOURIER).apply({}, inputs)


def test_tokens_are_embedded_and_placed():
    adapter = TokenAdapter(FOURIER, max_length=9, vocabulary_size=20, embed_dim=4)
    tokens = jnp.array([[3, 5, 3]])
    variables = adapter.init(jax.random.key(0), tokens)
    output = adapter.apply(variables, tokens)
    assert output.shape == (1, 3, 4 + 1 + 2 * 4) and variables["params"]["embed"]["embedding"].shape == (20, 4)
    np.testing.assert_array_equal(output[0, 0, :4], output[0, 2, :4])
    assert not np.array_equal(output[0, 0, :4], output[0, 1, :4])
    np.testing.assert_array_equal(output[0, :, 4:], fourier_features(grid_positions((9,)), 4, 16.0)[:3])
    with pytest.raises(ValueError, match="length 10: expected at most max_length=9"):
        adapter.apply(variables, jnp.zeros((1, 10), jnp.int32))
