# SPDX-License-Identifier: Apache-2.0
"""Dropout of attention weights: its rate, its scale, its gradient, and that no two weights share their fate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.models.dropout import AttentionDropout, kept

SHAPE = (4, 2, 33, 65)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_as_many_are_kept_as_asked_and_independently(rate):
    mask = np.asarray(kept(jax.random.key(0), rate, SHAPE), np.float64)
    assert mask.shape == SHAPE
    deviation = (rate * (1 - rate) / mask.size) ** 0.5
    assert abs(mask.mean() - (1 - rate)) < 4 * deviation
    halves = mask[..., :64].reshape(-1, 2)  # what is cut from one word
    neighbours = [(halves[:, 0], halves[:, 1]), (mask[..., 1:-1:2].ravel(), mask[..., 2::2].ravel())]
    neighbours.append((mask[:, :, 1:].ravel(), mask[:, :, :-1].ravel()))
    for one, other in neighbours:
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / len(one) ** 0.5


def test_the_mean_stays_and_gradients_follow_the_mask():
    weights = jnp.full(SHAPE, 0.25)

    def dropped(weights, seed):
        return AttentionDropout(0.1).apply({}, weights, rngs={"dropout": jax.random.key(seed)})

    outputs = dropped(weights, 1)
    assert set(np.unique(outputs)) == {np.float32(0), np.float32(0.25) / np.float32(0.9)}
    np.testing.assert_allclose(outputs.mean(), 0.25, rtol=0.02)
    gradient = jax.grad(lambda weights: dropped(weights, 1).sum())(weights)
    np.testing.assert_allclose(gradient, outputs / 0.25, rtol=1e-6)
    assert np.array_equal(outputs, dropped(weights, 1)) and not np.array_equal(outputs, dropped(weights, 2))
