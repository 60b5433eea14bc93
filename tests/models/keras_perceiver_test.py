# SPDX-License-Identifier: Apache-2.0
"""Keras' Perceiver: dropout of attention weights acts in training alone.

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


def test_dropout_of_the_weights_acts_in_training_alone(variables):
    def outputs(rate, train, seed=0):
        return layer(rate).apply(variables, LATENTS, train, rngs={"dropout": jax.random.key(seed)})

    without = outputs(0.0, False)
    np.testing.assert_array_equal(outputs(0.5, False), without)
    np.testing.assert_array_equal(outputs(0.0, True), without)
    assert np.abs(outputs(0.5, True) - without).max() > 0.01
    assert np.abs(outputs(0.5, True) - outputs(0.5, True, seed=1)).max() > 0.01
