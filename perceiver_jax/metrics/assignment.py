# SPDX-License-Identifier: Apache-2.0
"""Matchings one to one of least cost, for a batch at once and under jit: the Hungarian algorithm, by optax."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float


def matched_costs(cost: Float[Array, "batch rows columns"]) -> Float[Array, "batch rows"]:
    """What each row pays in the cheapest matching, min(rows, columns) pairs; 0 where a row has no column.

    The gradient is that of the matched costs. A cost that is not finite counts as 0 when matching, so that it cannot
    keep the algorithm from ending, and is returned as it is where it was matched.
    """
    finite = jax.lax.stop_gradient(jnp.where(jnp.isfinite(cost), cost, 0))
    rows, columns = jax.vmap(optax.assignment.hungarian_algorithm)(finite)
    batch = jnp.arange(len(cost))[:, None]
    return jnp.zeros(cost.shape[:2], cost.dtype).at[batch, rows].set(cost[batch, rows, columns])
