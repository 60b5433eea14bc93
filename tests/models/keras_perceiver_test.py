# SPDX-License-Identifier: Apache-2.0
"""Keras' Perceiver: heads one by one or all at once are the same; dropout acts in training alone.

That it equals Keras' own is shown by `golden_test`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.models.keras_perceiver import KerasSelfAttend

LATENTS = jax.random.normal(jax.random.key(0), (2, 5, 8))


def layer(rate=0.0):
    return KerasSelfAttend(3, (8, 8), 0.0, rate, "dense", jnp.float32)


@pytest.fixture(scope="module")
def variables():
    made = layer().init(jax.random.key(1), LATENTS, False)
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), made)


def test_heads_one_by_one_or_at_once_are_the_same(variables, monkeypatch):
    def output_and_gradient():
        def loss(variables):
            outputs = layer().apply(variables, LATENTS, False)
            return (outputs**2).sum(), outputs

        return jax.grad(loss, has_aux=True)(variables)[::-1]

    one_by_one = output_and_gradient()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    at_once = output_and_gradient()
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), one_by_one, at_once)


def test_dropout_of_the_weights_acts_in_training_alone(variables):
    def outputs(rate, train, seed=0):
        return layer(rate).apply(variables, LATENTS, train, rngs={"dropout": jax.random.key(seed)})

    without = outputs(0.0, False)
    np.testing.assert_array_equal(outputs(0.5, False), without)
    np.testing.assert_array_equal(outputs(0.0, True), without)
    assert np.abs(outputs(0.5, True) - without).max() > 0.01
    assert np.abs(outputs(0.5, True) - outputs(0.5, True, seed=1)).max() > 0.01
