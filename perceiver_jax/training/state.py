# SPDX-License-Identifier: Apache-2.0
"""The state of a run: everything on the devices that the next step depends on."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from perceiver_jax.data.spec import Spec
from perceiver_jax.tasks.base import Task, Variables
from perceiver_jax.training.sharding import state_shardings
from perceiver_jax.weights.transfer import overlay

MakeState = Callable[..., "TrainState"]
"""(key, path -> value a parameter begins with instead of its initialiser's) -> the first state."""


@flax.struct.dataclass
class TrainState:
    """A pytree of arrays, or of their shapes, types and shardings.

    Attributes:
        step: int32, batches consumed; drives data, randomness and schedule.
        extra: what is neither parameter nor optimizer state (codebooks, batch statistics).
        ema: exponential moving average of the parameters; empty when not kept.
        lr_scale: float32, what the plateau control multiplies the schedule by.
        bad_steps: int32, non-finite steps in a row.
    """

    step: Any
    params: Any
    opt_state: Any
    extra: Any
    ema: Any
    lr_scale: Any
    bad_steps: Any

    def variables(self) -> Variables:
        """What evaluation uses: the averaged parameters where there are any."""
        return {"params": self.ema or self.params, **self.extra}


def state_maker(task: Task, optimizer: optax.GradientTransformation, spec: Spec, *, ema: bool) -> MakeState:
    """A pure function from a random key, and values to begin with where there are any, to the first state."""

    def make(rng: Array, initial: Mapping[str, Any] | None = None) -> TrainState:
        variables = dict(overlay(task.init(rng, spec), initial or {}))
        params = variables.pop("params")
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state=optimizer.init(params),
            extra=variables,
            ema=jax.tree.map(jnp.copy, params) if ema else {},
            lr_scale=jnp.ones((), jnp.float32),
            bad_steps=jnp.zeros((), jnp.int32),
        )

    return make


def abstract_state(make: MakeState, mesh: Mesh) -> TrainState:
    """Shapes, types and shardings of the state, without computing it: what a checkpoint is restored into."""
    return _placed(jax.eval_shape(make, jax.random.key(0)), mesh)


def _placed(shapes: Any, mesh: Mesh) -> Any:
    """Shapes and types with the shardings that their paths and shapes have."""
    shardings = state_shardings(shapes, mesh)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)


def abstract_variables(task: Task, spec: Spec, mesh: Mesh, *, ema: bool) -> dict[str, Any]:
    """The fields of the state that evaluation reads, as `abstract_state` has them; the optimizer need not be known."""
    extra = dict(jax.eval_shape(lambda key: task.init(key, spec), jax.random.key(0)))
    fields = {"ema" if ema else "params": extra.pop("params")} | ({"extra": extra} if extra else {})
    return _placed(fields, mesh)


def init_state(make: MakeState, mesh: Mesh, seed: int, initial: Mapping[str, np.ndarray] | None = None) -> TrainState:
    """The first state, made where it will lie; the same bits on every mesh.

    Args:
        initial: path -> value that a leaf begins with instead of its initialiser's.
    """
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(make, mesh))
    with jax.set_mesh(mesh):
        return jax.jit(make, out_shardings=shardings)(jax.random.key(seed), dict(initial or {}))
