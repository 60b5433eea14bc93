# SPDX-License-Identifier: Apache-2.0
"""Out of memory: what was raised becomes a table of what a step needs, and the knobs that lower it.

Sizes are those of one device. What the step works with comes from XLA's own analysis of the compiled step; where it
does not even compile, from the shapes of what the backward pass keeps, and the table says that this is an estimate.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import jax

from perceiver_jax.errors import ConfigError, Retry
from perceiver_jax.tasks.base import zeros_batch
from perceiver_jax.training.settings import Training
from perceiver_jax.training.sharding import array_sharding, batch_shards
from perceiver_jax.training.state import TrainState
from perceiver_jax.training.step import jit_train_step, make_train_step

EXHAUSTED = "RESOURCE_EXHAUSTED"
"""How XLA's errors begin when memory is used up."""


@contextlib.contextmanager
def explained(training: Training, state: TrainState) -> Iterator[None]:
    """Turns running out of memory, of a device or of this process, into a ConfigError with the table.

    Args:
        state: abstract, with its shardings.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, Retry) or not _is_exhausted(error):
            raise
        raise ConfigError(_report(training, state, error)) from error


def needs(training: Training, state: TrainState) -> list[tuple[str, int, str]]:
    """(what, bytes on one device, a remark) of a training step."""
    rows = [
        ("parameters", _size(state.params), ""),
        ("optimizer", _size(state.opt_state), ""),
        ("averages, other state", _size((state.ema, state.extra)), ""),
    ]
    try:
        size, remark = _compiled(training, state), "gradients included; from the compiled step"
    except Exception:  # it may not even compile, for whatever reason
        size, remark = _kept(training, state), "estimated: what the backward pass keeps"
    return [row for row in rows if row[1]] + [("activations", size, remark)]


def _report(training: Training, state: TrainState, error: BaseException) -> str:
    settings = training.settings
    rows = [f"  {what:<22}{size / 1e6:>16,.1f} MB  {remark}" for what, size, remark in needs(training, state)]
    knobs = (
        f"config.batch_size (now {settings.batch_size:,}) lower, config.micro_batches (now {settings.micro_batches}) "
        "higher, config.model.remat=True"
    )
    reason = " ".join(str(error).split())[:160]
    return "\n".join(
        [f"out of memory ({reason}). A step needs on each device:", *map(str.rstrip, rows), f"Set {knobs}."]
    )


def _is_exhausted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or EXHAUSTED in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _size(tree: Any) -> int:
    """Bytes of one device's share."""
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def _compiled(training: Training, state: TrainState) -> int:
    """What XLA reserves beside the arguments of the step."""
    settings = training.settings
    step = make_train_step(
        training.task,
        training.optimizer,
        training.schedule,
        seed=settings.seed,
        micro_batches=settings.micro_batches,
        ema_decay=settings.ema_decay,
    )
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=array_sharding(x.shape, training.mesh)),
        _batch(training, settings.batch_size),
    )
    with jax.set_mesh(training.mesh):
        compiled = jit_train_step(step, state, training.mesh).lower(state, batch).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def _kept(training: Training, state: TrainState) -> int:
    """The shapes of all that is kept from the forward to the backward pass of one micro-batch."""
    task, settings = training.task, training.settings
    rows = settings.batch_size // settings.micro_batches // batch_shards(training.mesh)

    def residuals(params, extra, batch, rng):
        rngs = dict.fromkeys(task.rng_streams, rng)
        return jax.vjp(lambda p: task.loss({"params": p, **extra}, batch, rngs, train=True)[0].total, params)[1]

    batch = _batch(training, max(rows, 1))
    shapes = jax.eval_shape(residuals, state.params, state.extra, batch, jax.random.key(0))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def _batch(training: Training, rows: int) -> Any:
    return jax.eval_shape(lambda: zeros_batch(training.source.spec, rows))
