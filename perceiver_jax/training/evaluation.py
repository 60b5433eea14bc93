# SPDX-License-Identifier: Apache-2.0
"""Exact evaluation: every example of a split once. Results come to the host one batch late, statistics in float64."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from perceiver_jax.metrics import statistics
from perceiver_jax.training.sharding import put_batch

Batches = Iterable[dict[str, np.ndarray]]


def evaluate(
    step: Callable,
    variables: dict[str, Any],
    batches: Batches,
    mesh: Mesh,
    on_batch: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The summed statistics of all batches.

    Args:
        step: jitted (variables, batch, index) -> statistics.
        on_batch: called after each batch is dispatched (progress, watchdog).
    """
    total = None
    for stats in _outputs(step, variables, batches, mesh, on_batch):
        total = statistics.add(total, stats)
    return total


def predict(
    step: Callable,
    variables: dict[str, Any],
    batches: Batches,
    mesh: Mesh,
    on_batch: Callable[[], None] = lambda: None,
) -> dict[str, np.ndarray]:
    """What is predicted of every example, in the order of ids, without padding.

    Args:
        step: jitted (variables, batch, index) -> arrays of one row per example, `id` among them.
    """
    parts = list(_outputs(step, variables, batches, mesh, on_batch))
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    real = rows["id"] >= 0
    order = np.argsort(rows["id"][real])
    return {name: values[real][order] for name, values in rows.items()}


def _outputs(
    step: Callable, variables: dict[str, Any], batches: Batches, mesh: Mesh, on_batch: Callable[[], None]
) -> Iterator[Any]:
    pending = None
    with jax.set_mesh(mesh):
        for index, batch in enumerate(batches):
            output = step(variables, put_batch(batch, mesh), np.int32(index))
            if pending is not None:
                yield jax.device_get(pending)
            pending = output
            on_batch()
        yield jax.device_get(pending)
