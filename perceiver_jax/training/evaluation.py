# SPDX-License-Identifier: Apache-2.0
"""Exact evaluation: every example of a split once, statistics added in float64 on the host, one batch late."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from perceiver_jax.metrics import statistics
from perceiver_jax.training.sharding import put_batch


def evaluate(
    step: Callable,
    variables: dict[str, Any],
    batches: Iterable[dict[str, np.ndarray]],
    mesh: Mesh,
    on_batch: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The summed statistics of all batches.

    Args:
        step: jitted (variables, batch, index) -> statistics.
        on_batch: called after each batch is dispatched (progress, watchdog).
    """
    total, pending = None, None
    with jax.set_mesh(mesh):
        for index, batch in enumerate(batches):
            stats = step(variables, put_batch(batch, mesh), np.int32(index))
            if pending is not None:
                total = statistics.add(total, jax.device_get(pending))
            pending = stats
            on_batch()
    return statistics.add(total, jax.device_get(pending))
