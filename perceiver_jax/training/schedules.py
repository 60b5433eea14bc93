# SPDX-License-Identifier: Apache-2.0
"""Learning rates as functions of the step.

A schedule is a pure, traceable function `rate(step) -> float32`. `step` counts from 0: `rate(s)` is the rate
of the update that consumes batch s. Epochs may be fractional; an epoch boundary is the step `round(epochs *
steps_per_epoch)`, and the step at a boundary already has the new rate.
"""

import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_jax.errors import ConfigError

log = logging.getLogger(__name__)

Number = int | float
Schedule = Callable[[int | np.ndarray | jax.Array], jax.Array]
OWN = {  # arguments of each schedule beside those of the warm-up
    "constant": (),
    "cosine": ("t_max_epochs", "eta_min"),
    "exponential": ("decay_steps", "gamma"),
    "flat_cosine": ("flat_epochs", "t_max_epochs", "eta_min"),
    "multistep": ("milestones", "gamma"),
    "step": ("step_epochs", "gamma"),
}


def make_schedule(
    *,
    name: str,
    learning_rate: Number,
    num_steps: int,
    steps_per_epoch: int,
    warmup_epochs: Number = 0.0,
    warmup_steps: int = 0,
    milestones: Sequence[Number] = (),
    gamma: Number = 0.1,
    step_epochs: Number | None = None,
    decay_steps: int | None = None,
    flat_epochs: Number | None = None,
    t_max_epochs: Number | None = None,
    eta_min: Number = 0.0,
) -> Schedule:
    """Builds `rate(step)`; arguments that belong to another schedule are not used, which is said.

    Args:
        name: `constant`; `multistep`: times `gamma` at each of `milestones`; `step`: times `gamma` every
            `step_epochs`; `cosine`: half a cosine wave down from where the warm-up ends; `flat_cosine`: the
            same, starting at `flat_epochs` (Perceiver IO on ImageNet: flat for 55 epochs, cosine over 55);
            `exponential`: times `gamma` over every `decay_steps`, a little at each step, also during the warm-up (Slot
            Attention: 0.5 over 100,000).
        learning_rate: the highest rate.
        num_steps: of the run.
        steps_per_epoch: converts epochs into steps.
        warmup_epochs: length W of a linear warm-up before any schedule: step s < W has the factor
            (s + 1) / W, so that no step has rate zero and step W - 1 has the full rate.
        warmup_steps: the same in steps, instead.
        milestones: epochs, rising, counted from the start of the run, the warm-up included.
        gamma: factor of `multistep`, `step` and `exponential`.
        step_epochs: epochs between two drops of `step`.
        decay_steps: steps over which `exponential` falls by `gamma`.
        flat_epochs: epoch at which `flat_cosine` begins to fall.
        t_max_epochs: length of the cosine; the rate stays at `eta_min` after it. None is the rest of the run.
        eta_min: rate at the end of the cosine.

    Raises:
        ConfigError: a value out of range; all of them in one message.
    """
    given = locals()
    _check(given)
    if ignored := unused(given):
        log.warning("schedule %s has no use for %s", name, ", ".join(f"{key}={given[key]!r}" for key in ignored))

    def to_step(epochs):
        return round(epochs * steps_per_epoch)

    warmup = warmup_steps or to_step(warmup_epochs)
    if warmup >= num_steps:
        raise ConfigError(
            f"a warm-up of {warmup} steps does not end within the run of {num_steps}. Shorten it "
            f"(config.schedule.{'warmup_steps' if warmup_steps else 'warmup_epochs'}), or train for longer."
        )
    if name == "constant":
        schedule = _piecewise([], [learning_rate])
    elif name == "multistep":
        rates = [learning_rate * gamma**k for k in range(len(milestones) + 1)]
        schedule = _piecewise([to_step(epoch) for epoch in milestones], rates)
    elif name == "exponential":
        schedule = _exponential(learning_rate, gamma, decay_steps)
    elif name == "step":
        count = math.ceil(num_steps / (step_epochs * steps_per_epoch))
        rates = [learning_rate * gamma**k for k in range(count + 1)]
        schedule = _piecewise([to_step(k * step_epochs) for k in range(1, count + 1)], rates)
    else:
        start = max(warmup, to_step(flat_epochs) if name == "flat_cosine" else 0)
        length = num_steps - start if t_max_epochs is None else to_step(t_max_epochs)
        schedule = _cosine(start, length, learning_rate, eta_min)
    return _warmed_up(schedule, warmup) if warmup else schedule


def _piecewise(boundaries: list[int], rates: list[Number]) -> Schedule:
    """rates[k] where k boundaries are at or below the step; a table, so every rate is the nearest float32."""
    boundaries, rates = np.asarray(boundaries, np.int32), np.asarray(rates, np.float32)

    def rate(step):
        return jnp.asarray(rates)[jnp.searchsorted(jnp.asarray(boundaries), step, side="right")]

    return rate


def _exponential(high: Number, gamma: Number, decay_steps: int) -> Schedule:
    def rate(step):
        return jnp.float32(high) * jnp.float32(gamma) ** (jnp.asarray(step, jnp.float32) / decay_steps)

    return rate


def _cosine(start: int, length: int, high: Number, low: Number) -> Schedule:
    def rate(step):
        progress = jnp.clip(jnp.asarray(step - start, jnp.float32) / length, 0, 1)
        return low + jnp.float32(high - low) * (1 + jnp.cos(jnp.pi * progress)) / 2

    return rate


def _warmed_up(schedule: Schedule, warmup: int) -> Schedule:
    def rate(step):
        return schedule(step) * jnp.minimum(jnp.asarray(step + 1, jnp.float32) / warmup, 1)

    return rate


def _check(given: dict) -> None:
    """Raises one ConfigError that lists every value out of range."""
    name, milestones = given["name"], [0, *given["milestones"]]
    flat, flat_limit = given["flat_epochs"], given["num_steps"] / max(1, given["steps_per_epoch"])
    rules = {  # argument: (is it in range, what was expected)
        "name": (name in OWN, f"one of {', '.join(OWN)}"),
        "learning_rate": (0 <= given["learning_rate"] < math.inf, "a finite number >= 0"),
        "num_steps": (given["num_steps"] >= 1, ">= 1"),
        "steps_per_epoch": (given["steps_per_epoch"] >= 1, ">= 1"),
        "warmup_epochs": (given["warmup_epochs"] >= 0, ">= 0"),
        "warmup_steps": (
            given["warmup_steps"] == 0 or (given["warmup_steps"] > 0 and not given["warmup_epochs"]),
            ">= 0, and 0 if warmup_epochs is set",
        ),
        "gamma": (0 < given["gamma"] < math.inf, "> 0"),
        "eta_min": (0 <= given["eta_min"] <= given["learning_rate"], "between 0 and learning_rate"),
        "milestones": (
            name != "multistep" or (len(milestones) > 1 and all(a < b for a, b in pairwise(milestones))),
            "at least one epoch > 0, in rising order",
        ),
        "step_epochs": (name != "step" or (given["step_epochs"] or 0) > 0, "> 0 for the step schedule"),
        "decay_steps": (
            name != "exponential" or (given["decay_steps"] or 0) > 0,
            "> 0 for the exponential schedule",
        ),
        "flat_epochs": (
            name != "flat_cosine" or (flat is not None and 0 <= flat < flat_limit),
            "an epoch within the run for flat_cosine",
        ),
        "t_max_epochs": (given["t_max_epochs"] is None or given["t_max_epochs"] > 0, "> 0 or None"),
    }
    bad = [f"{key}={given[key]!r}: expected {expected}" for key, (good, expected) in rules.items() if not good]
    if bad:
        raise ConfigError(f"schedule: {'; '.join(bad)}. Correct the config.")


def unused(given: Mapping[str, Any]) -> list[str]:
    """Arguments that are set and that this schedule has no use for, as they remain when another is chosen by a flag."""
    own = {*OWN[given["name"]], "warmup_epochs", "warmup_steps"}
    defaults = {key: parameter.default for key, parameter in inspect.signature(make_schedule).parameters.items()}
    optional = {key: default for key, default in defaults.items() if default is not inspect.Parameter.empty}
    return [key for key in optional if key not in own and _plain(given[key]) != _plain(optional[key])]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
