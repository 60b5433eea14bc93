# SPDX-License-Identifier: Apache-2.0
"""The train step of a run as a program: jitted for its mesh, and lowered from shapes alone, without any data."""

from typing import Any

import jax

from perceiver_jax.tasks.base import zeros_batch
from perceiver_jax.training.settings import Training
from perceiver_jax.training.sharding import array_sharding
from perceiver_jax.training.state import TrainState
from perceiver_jax.training.step import Step, jit_train_step, make_train_step


def jitted_step(training: Training, state: TrainState) -> Step:
    """The train step, to be compiled once.

    Args:
        state: abstract, with its shardings.
    """
    settings = training.settings
    step = make_train_step(
        training.task,
        training.optimizer,
        training.schedule,
        seed=settings.seed,
        micro_batches=settings.micro_batches,
        ema_decay=settings.ema_decay,
    )
    return jit_train_step(step, state, training.mesh)


def lowered_step(training: Training, state: TrainState) -> jax.stages.Lowered:
    """The train step before XLA compiles it, for the devices of the mesh, which need not be here."""
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=array_sharding(x.shape, training.mesh)),
        abstract_batch(training, training.settings.batch_size),
    )
    with jax.set_mesh(training.mesh):
        return jitted_step(training, state).lower(state, batch)


def abstract_batch(training: Training, rows: int) -> Any:
    """Shapes and types of a batch."""
    return jax.eval_shape(lambda: zeros_batch(training.source.spec, rows))
