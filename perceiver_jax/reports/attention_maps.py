# SPDX-License-Identifier: Apache-2.0
"""Reads the attention maps of a run, as `training.capture` describes and writes them."""

from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.errors import ConfigError
from perceiver_jax.files import read_arrays, read_json

NUM_AXES = {"cross": 5, "latent": 5, "latent_stage": 1, "probabilities": 2, "id": 1}
KINDS = ("image", "points", "sequence", "text")


def read_about(run: Path) -> dict[str, Any]:
    """Kind of the examples, layout of the inputs, axes, class names, and `steps`: step (8 digits) -> epoch.

    Raises:
        ConfigError: the run has no maps; the line says which setting records them.
    """
    file = run / "attention" / "about.json"
    try:
        content = read_json(file)
    except FileNotFoundError:
        raise ConfigError(
            f"{run} has no attention maps: its model does not attend, they were too large, it was too short a while in "
            "training, or config.attention_maps.every was 0. Train with config.attention_maps.every=10, the default; "
            "the attention of slots is drawn by: python -m perceiver_jax.visualize slots"
        ) from None
    wrong = [name for name, good in _rules(content).items() if not good]
    if wrong:
        raise ConfigError(f"{file}: {', '.join(wrong)} not as written. Restore it from a copy.")
    return content


def _rules(content: dict[str, Any]) -> dict[str, bool]:
    """What `training.capture` writes -> whether it is there."""
    steps, grid, names = (content.get(name) for name in ("steps", "grid", "class_names"))
    return {
        "kind": content.get("kind") in KINDS,
        "array": isinstance(content.get("array"), str),
        "grid": "grid" in content and (grid is None or _whole(grid) and len(grid) == 2),
        "patch": isinstance(content.get("patch"), int) and content["patch"] > 0,
        "permutation": "permutation" in content and _whole(content["permutation"] or []),
        "class_names": isinstance(names, list) and all(isinstance(name, str) for name in names),
        "steps": isinstance(steps, dict)
        and all(step.isdecimal() and isinstance(epoch, int | float) for step, epoch in steps.items()),
    }


def _whole(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(isinstance(number, int) and 0 <= number < 2**31 for number in numbers)


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
    file = run / "attention" / f"{step:08d}.npz"
    arrays = read_arrays(file)
    _check(file, {name: arrays[name].ndim for name in arrays}, NUM_AXES)
    return {name: array.astype(np.float32) if array.dtype == np.float16 else array for name, array in arrays.items()}


def read_examples(run: Path) -> dict[str, np.ndarray]:
    """The examples as the source gave them, with `id`, and `object` where it is known where the object is."""
    file, about = run / "attention" / "examples.npz", read_about(run)
    arrays = read_arrays(file)
    _check(file, dict.fromkeys(arrays, 0), {about["array"]: 0, "id": 0, "label": 0})
    return arrays


def _check(file: Path, found: dict[str, int], expected: dict[str, int]) -> None:
    if wrong := [name for name, value in expected.items() if found.get(name) != value]:
        raise ConfigError(f"{file}: {', '.join(wrong)} not as written. Restore it from a copy.")
