# SPDX-License-Identifier: Apache-2.0
"""The one train step, for every task: differentiate, accumulate, divide once, update, advance, guard, average."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from perceiver_jax.metrics.statistics import Mean
from perceiver_jax.tasks.base import Batch, Task
from perceiver_jax.training.sharding import replicated
from perceiver_jax.training.state import TrainState

ADVANCE = np.uint32(2**32 - 1)
"""Number of no micro-batch: what `Task.advance` draws is independent of what the loss drew."""


class Report(NamedTuple):
    """What a step tells the host.

    Attributes:
        stats: additive statistics of the task, `gradient_norm` and `skipped_steps`.
        learning_rate: the rate that was applied.
        bad_steps: non-finite steps in a row, this one included.
    """

    stats: dict[str, Any]
    learning_rate: Array
    bad_steps: Array


Step = Callable[[TrainState, Batch], tuple[TrainState, Report]]


def keep_finite(state: TrainState, updated: TrainState, stats: dict, rate: Array, good: Array):
    """The updated state and its report or, where the step was not `good`, the state as it was and empty statistics."""
    kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), updated, state)
    bad_steps = jnp.where(good, 0, state.bad_steps + 1)
    stats = jax.tree.map(lambda x: jnp.where(good, x, jnp.zeros_like(x)), stats)
    stats["skipped_steps"] = Mean(jnp.where(good, 0.0, 1.0), jnp.ones(()))
    return kept.replace(step=state.step + 1, bad_steps=bad_steps), Report(stats, rate, bad_steps)


def make_train_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    schedule: Callable,
    *,
    seed: int,
    micro_batches: int = 1,
    ema_decay: float = 0.0,
    guard: Callable[..., tuple[TrainState, Report]] = keep_finite,
) -> Step:
    """The train step as a pure function (state, batch) -> (state, report); `jit` and donation are the caller's.

    Args:
        optimizer: gives the descent direction; the applied update is -rate x direction, and `rate` is what is logged.
        micro_batches: the batch is cut into that many parts, one after the other; gradients and statistics add up, so
            unequal weights count as they do in the full batch.
        ema_decay: of the parameters' moving average; 0 keeps none.
        guard: what becomes of a step, given the state before and after it and whether all its numbers are finite.
    """

    def gradients(state: TrainState, batch: Batch, micro):
        rngs = _streams(task.rng_streams, jax.random.key(seed), state.step, micro)

        def total(params):
            loss, aux = task.loss({"params": params, **state.extra}, batch, rngs, train=True)
            return loss.total, (loss, aux.stats, aux.sums)

        grads, added = jax.grad(total, has_aux=True)(state.params)
        return grads, *added

    def train_step(state: TrainState, batch: Batch):
        grads, loss, stats, sums = _accumulate(gradients, state, batch, micro_batches)
        grads = jax.tree.map(lambda g: g / jnp.maximum(loss.weight, 1e-8), grads)
        rate = schedule(state.step) * state.lr_scale
        direction, opt_state = optimizer.update(grads, state.opt_state, state.params)
        norm = optax.tree.norm(grads)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, direction)
        rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), state.step), ADVANCE)
        extra = task.advance(state.extra, sums, rng)
        ema = _average(state.ema, params, ema_decay, state.step)
        updated = state.replace(params=params, opt_state=opt_state, extra=extra, ema=ema)
        stats |= {"gradient_norm": Mean(norm, jnp.ones(()))}
        return guard(state, updated, stats, rate, _finite((loss.total, norm, params, extra)))

    return train_step


def _finite(tree) -> Array:
    """Whether every number in the tree is; parameters too, for a finite gradient may yet throw them out of range."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def jit_train_step(step: Step, state: TrainState, mesh: Mesh) -> Step:
    """Compiles a train step once: the state is donated and comes back where it lay; a batch stays where it was put.

    Args:
        state: the abstract state, with its shardings.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(shardings, None),
        out_shardings=(shardings, replicated(mesh)),
    )


def make_evaluation_step(task: Task, *, seed: int) -> Callable:
    """(variables, batch, index) -> statistics; batch `index` sees the same random numbers at every evaluation."""

    def evaluation_step(variables, batch: Batch, index):
        return task.evaluate(variables, batch, _streams(task.rng_streams, jax.random.key(seed), index, 0))

    return evaluation_step


def make_prediction_step(task: Task, *, seed: int) -> Callable:
    """(variables, batch, index) -> what the task predicts of each row, and its `id`; as `make_evaluation_step`."""

    def prediction_step(variables, batch: Batch, index):
        rngs = _streams(task.rng_streams, jax.random.key(seed), index, 0)
        return task.predict(variables, batch, rngs) | {"id": batch["id"]}

    return prediction_step


def _average(ema, params, decay: float, step):
    """The next moving average, empty if none is kept; early on it forgets faster, or it would hold on to the start.

    The decay is min(decay, (1 + step) / (10 + step)), as in TensorFlow's averages.
    """
    if not ema:
        return ema
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda e, p: decay * e + (1.0 - decay) * p, ema, params)


def _accumulate(gradients: Callable, state: TrainState, batch: Batch, micro_batches: int):
    """The sum over micro-batches of all that `gradients` gives; each part spans all devices."""
    if micro_batches == 1:
        return gradients(state, batch, 0)
    parts = jax.tree.map(lambda x: x.reshape(-1, micro_batches, *x.shape[1:]).swapaxes(0, 1), batch)
    shapes = jax.eval_shape(gradients, state, jax.tree.map(lambda x: x[0], parts), 0)

    def add(total, part):
        return jax.tree.map(jnp.add, total, gradients(state, part[1], part[0])), None

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(add, zeros, (jnp.arange(micro_batches), parts))[0]


def _streams(names: tuple[str, ...], key, step, micro) -> dict:
    """One key per named stream, a function of (seed, step, micro-batch, name) alone: nothing to save."""
    key = jax.random.fold_in(jax.random.fold_in(key, step), micro)
    return dict(zip(names, jax.random.split(key, len(names)), strict=True)) if names else {}
