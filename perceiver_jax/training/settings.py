# SPDX-License-Identifier: Apache-2.0
"""The numbers a training loop runs by, all in steps; `experiment` makes them from a config's epochs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import optax
from jax.sharding import Mesh

from perceiver_jax.data.source import Source
from perceiver_jax.tasks.base import Task
from perceiver_jax.training.capture import CaptureSettings
from perceiver_jax.training.controls import Controls
from perceiver_jax.training.watchdog import Limits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Attributes:
    batch_size: examples per step over all processes.
    log_every, evaluate_every, checkpoint_every, keep_every: steps; 0 is never.
    micro_batches: parts a batch is computed in, one after the other.
    ema_decay: of the parameters' average that is evaluated; 0 keeps none.
    max_bad_steps: non-finite steps in a row that end the run.
    profile_start, profile_steps: window that the profiler records; 0 steps is none.
    limits: what the watchdog goes by.
    attention: what is kept of the attention to a few examples.
    """

    seed: int
    num_steps: int
    steps_per_epoch: int
    batch_size: int
    evaluation_batch_size: int
    log_every: int
    evaluate_every: int
    checkpoint_every: int
    limits: Limits
    keep_every: int = 0
    keep_latest: int = 2
    micro_batches: int = 1
    ema_decay: float = 0.0
    max_bad_steps: int = 10
    profile_start: int = 0
    profile_steps: int = 0
    num_workers: int = 0
    prefetch: int = 4
    attention: CaptureSettings = CaptureSettings()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Everything a training loop needs; built by `experiment`, which alone reads configs.

    Attributes:
        schedule: step -> learning rate.
        controls: a fresh set of controls; the loop owns it.
        flops_per_example: of one training step, by the model's analytic formula; None where there is none.
        initial: path -> value that a parameter begins with instead of its initialiser's.
    """

    task: Task
    source: Source
    optimizer: optax.GradientTransformation
    schedule: Any
    mesh: Mesh
    controls: Controls
    settings: Settings
    flops_per_example: float | None = None
    initial: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
