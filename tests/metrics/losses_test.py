# SPDX-License-Identifier: Apache-2.0
"""Losses against NumPy formulas."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from perceiver_jax.metrics.losses import cross_entropy, in_top_k


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_the_formula(smoothing):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 5)), rng.integers(0, 5, 6)
    target = np.full((6, 5), smoothing / 5)
    target[np.arange(6), labels] += 1 - smoothing
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -(target * log_probabilities).sum(1)
    got = cross_entropy(jnp.asarray(logits, jnp.float32), jnp.asarray(labels), smoothing)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_top_k_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(100, 10)), rng.integers(0, 10, 100)
    for k in (1, 5):
        got = np.mean(in_top_k(jnp.asarray(logits, jnp.float32), jnp.asarray(labels), k))
        assert got == pytest.approx(top_k_accuracy_score(labels, logits, k=k))


def test_equal_logits_are_right_for_one_class_only():
    assert np.asarray(in_top_k(jnp.zeros((4, 4)), jnp.arange(4), 1)).tolist() == [True, False, False, False]


def test_nan_logits_are_never_right():
    assert not in_top_k(jnp.full((1, 3), jnp.nan), jnp.zeros(1, jnp.int32), 3).any()
