# SPDX-License-Identifier: Apache-2.0
"""A training step and a forward pass of a config, to be timed in a process of their own."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from benchmarks import measure
from benchmarks.inputs import register_random_arrays
from perceiver_jax import experiment
from perceiver_jax.errors import ConfigError
from perceiver_jax.tasks.base import Task
from perceiver_jax.training.record import num_parameters
from perceiver_jax.training.settings import Training
from perceiver_jax.training.sharding import put_batch
from perceiver_jax.training.state import TrainState, abstract_state, init_state, state_maker
from perceiver_jax.training.step import Report, jit_train_step, keep_finite, make_train_step


class JaxSteps:
    """The config's own model; one for another model overrides `make_task`.

    The step is the trainer's: forward, backward, optimizer, the guard against non-finite values, the metrics. The
    forward pass is `task.predict`: from the batch's arrays to probabilities (or pictures), positions included.

    Args:
        config: resolved, on random arrays.
    """

    guard = staticmethod(keep_finite)

    def __init__(self, config: Mapping[str, Any]):
        jax.config.update("jax_enable_compilation_cache", False)  # compile times are cold ones
        register_random_arrays()
        self.training = training = experiment.build(config)
        self.task = self.make_task(training.task)
        self.make_state, self.abstract, self.jitted_step = training_step(training, self.task, self.guard)
        self.batch = put_batch(training.source.batch(training.settings.batch_size), training.mesh)
        rngs = {name: jax.random.key(0) for name in self.task.rng_streams}
        self.jitted_forward = jax.jit(lambda variables, batch: self.task.predict(variables, batch, rngs))

    def make_task(self, task: Task) -> Task:
        """The task whose model is timed."""
        return task

    def describe(self) -> dict[str, Any]:
        """Number of parameters, FLOPs of a step by formula, device, versions, notes."""
        device, training = jax.devices()[0], self.training
        return {
            "parameters": num_parameters(self.abstract.params),
            "flops_per_step": (training.flops_per_example or 0.0) * training.settings.batch_size or None,
            "adapted_shape": self._adapted_shape(),
            "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
            "versions": measure.versions("jax", "jaxlib", "flax", "optax", "numpy"),
            "notes": self.task.notes(training.source.spec),
        }

    def _adapted_shape(self) -> list[int]:
        """Length and channels of what the adapter gives to the encoder; [] of a model without one."""
        adapter = getattr(self.training.task.model, "adapter", None)
        if adapter is None:
            return []
        arguments = self.training.task.inputs(self.batch)
        key = jax.random.key(0)
        shape = jax.eval_shape(lambda x: adapter.init_with_output(key, x)[0], arguments["inputs"]).shape
        return list(shape[1:])

    def compile(self) -> dict[str, float]:
        """Compiles both, makes the state; seconds each took from the traced function to the executable."""
        training = self.training
        with jax.set_mesh(training.mesh):
            step, self.step = _timed(lambda: self.jitted_step.lower(self.abstract, self.batch).compile())
            variables = self.abstract.variables()
            forward, self.forward = _timed(lambda: self.jitted_forward.lower(variables, self.batch).compile())
        self.state = init_state(self.make_state, training.mesh, training.settings.seed)
        return {"step": step, "forward": forward}

    def burst(self, what: str, count: int) -> float:
        """Seconds of one of `count` steps or forward passes in a row."""
        began = time.perf_counter()
        for _ in range(count):
            if what == "step":
                self.state, result = self.step(self.state, self.batch)
            else:
                result = self.forward(self.state.variables(), self.batch)
        jax.block_until_ready((self.state, result))
        return (time.perf_counter() - began) / count

    def memory(self) -> dict[str, float | None]:
        """MB at the peak: of the process, and of its share of the accelerator."""
        stats = jax.local_devices()[0].memory_stats() or {}
        device = stats.get("peak_bytes_in_use")
        return {"process": measure.peak_memory(), "device": device and device / 1e6}


class UnguardedSteps(JaxSteps):
    """The same step without the guard: whatever comes out becomes the state."""

    @staticmethod
    def guard(state: TrainState, updated: TrainState, stats: dict, rate: jax.Array, good: jax.Array):
        return updated.replace(step=state.step + 1), Report(stats, rate, state.bad_steps)


class FullGradientSteps(JaxSteps):
    """The same model, differentiated through all iterations of slot attention."""

    def make_task(self, task: Task) -> Task:
        return with_full_gradient(task)


def with_full_gradient(task: Task) -> Task:
    """The task with `gradient="full"`; ConfigError where its model has no slot attention."""
    if not hasattr(task.model, "slot_attention"):
        raise ConfigError("--peer=full_gradient is for models with slot attention alone. Leave it out.")
    slot_attention = task.model.slot_attention.clone(gradient="full")
    return dataclasses.replace(task, model=task.model.clone(slot_attention=slot_attention))


def training_step(
    training: Training, task: Task, guard: Callable = keep_finite
) -> tuple[Callable, TrainState, Callable]:
    """The trainer's own step for a task: what makes its state, that state's shapes, the step under `jit`."""
    settings = training.settings
    make_state = state_maker(task, training.optimizer, training.source.spec, ema=settings.ema_decay > 0)
    abstract = abstract_state(make_state, training.mesh)
    step = make_train_step(
        task,
        training.optimizer,
        training.schedule,
        seed=settings.seed,
        micro_batches=settings.micro_batches,
        ema_decay=settings.ema_decay,
        guard=guard,
    )
    return make_state, abstract, jit_train_step(step, abstract, training.mesh)


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result
