# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from perceiver_jax.metrics.assignment import matched_costs

RNG = np.random.default_rng(0)
COSTS = {
    "random": RNG.normal(size=(20, 6, 6)),
    "tied": RNG.integers(0, 3, (20, 6, 6)),
    "wide": RNG.random((20, 3, 6)),
    "tall": RNG.random((20, 6, 3)),
}


@pytest.mark.parametrize("kind", COSTS)
def test_the_least_sum_is_scipys(kind):
    cost = COSTS[kind].astype(np.float32)
    matched = np.asarray(jax.jit(matched_costs)(cost))
    assert matched.shape == cost.shape[:2]
    expected = [matrix[linear_sum_assignment(matrix)].sum() for matrix in cost]
    np.testing.assert_allclose(matched.sum(1), expected, atol=1e-5)
    if kind == "tall":
        assert ((matched == 0).sum(1) == 3).all()


def test_the_gradient_is_that_of_the_matched_costs_alone():
    cost = jnp.asarray(COSTS["random"][:1], jnp.float32)
    gradient = np.asarray(jax.jit(jax.grad(lambda cost: matched_costs(cost).sum()))(cost))[0]
    rows, columns = linear_sum_assignment(cost[0])
    expected = np.zeros((6, 6))
    expected[rows, columns] = 1
    np.testing.assert_array_equal(gradient, expected)


def test_what_is_not_finite_ends_and_shows():
    cost = np.zeros((20, 6, 6), np.float32)
    cost[0], cost[1, 2], cost[2, :, 3] = np.nan, np.inf, np.nan
    assert np.isfinite(jax.jit(matched_costs)(cost).sum(1)).tolist() == [False, False, False] + [True] * 17
