# SPDX-License-Identifier: Apache-2.0
"""Reads the attention maps of a run, as `training.capture` describes and writes them."""

from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.errors import ConfigError
from perceiver_jax.files import read_arrays, read_json


def read_about(run: Path) -> dict[str, Any]:
    """Kind of the examples, layout of the inputs, axes, class names, and `steps`: step (8 digits) -> epoch.

    Raises:
        ConfigError: the run has no maps; the line says which setting records them.
    """
    try:
        return read_json(run / "attention" / "about.json")
    except FileNotFoundError:
        raise ConfigError(
            f"{run} has no attention maps: its model does not attend, they were too large, it was too short a while in "
            "training, or config.attention_maps.every was 0. Train with config.attention_maps.every=10, the default."
        ) from None


def steps(run: Path) -> list[int]:
    """The steps there are maps of, ascending."""
    return sorted(int(step) for step in read_about(run)["steps"])


def read(run: Path, step: int) -> dict[str, np.ndarray]:
    """The maps after `step` steps: `cross`, `latent`, `latent_stage`, `probabilities`, `id`, `label`; float32.

    Raises:
        ConfigError: there are none of that step, with those there are; the file is damaged.
    """
    known = read_about(run)["steps"]
    if f"{step:08d}" not in known:
        listed = ", ".join(f"{int(other)} (epoch {epoch:g})" for other, epoch in sorted(known.items()))
        raise ConfigError(f"{run} has no attention maps of step {step}: there are {listed or 'none yet'}.")
    arrays = read_arrays(run / "attention" / f"{step:08d}.npz")
    return {name: array.astype(np.float32) if array.dtype == np.float16 else array for name, array in arrays.items()}


def read_examples(run: Path) -> dict[str, np.ndarray]:
    """The examples as the source gave them, with `id`, and `object` where it is known where the object is."""
    read_about(run)
    return read_arrays(run / "attention" / "examples.npz")
