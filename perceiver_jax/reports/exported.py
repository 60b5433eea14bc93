# SPDX-License-Identifier: Apache-2.0
"""A run as a folder that needs none of this package: `weights.portable`'s files, the config and a model card."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from perceiver_jax.data.spec import ArraySpec
from perceiver_jax.errors import ConfigError
from perceiver_jax.files import read_json, replacing
from perceiver_jax.reports.model_card import model_card
from perceiver_jax.reports.results import read_results
from perceiver_jax.weights import portable

CARD, CONFIG = "README.md", "config.json"
FILES = {CARD, CONFIG, portable.FUNCTION, portable.WEIGHTS}
CHECKED = (3, 2)
"""Batch sizes of the round trip."""
TOLERANCE, COARSE = 1e-4, 0.02
"""Largest difference of a probability in the round trip, computed in float32 and in half precision."""


def check_folder(folder: Path) -> None:
    """An export replaces a whole folder: only one that holds nothing else.

    Raises:
        ConfigError: it holds other files, or is one.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output_dir={folder} is a file: expected a folder, or a name that is free.")
    if folder.is_dir() and (others := sorted({file.name for file in folder.iterdir()} - FILES)):
        raise ConfigError(f"--output_dir={folder} holds other files ({others[0]}): expected an empty or a new folder.")


def write_export(folder: Path, run: Any) -> float:
    """Writes the folder as a whole or not at all.

    Args:
        run: an `experiment.Run`.

    Returns:
        float: the largest difference between the probabilities of the run and those of the files read back.

    Raises:
        ConfigError: it cannot be written, or the run is no classifier.
        RuntimeError: the files do not compute what the run does; nothing is written.
    """
    if not run.spec.class_names:
        raise ConfigError(
            f"{run.workdir} was trained without classes: expected a classifier, nothing else is exported. From Python, "
            "perceiver_jax.experiment.load(RUN) gives the task and its variables."
        )
    arrays = {name: array for name, array in run.spec.arrays.items() if name != "label"}
    about = {"format": "jax", "run": run.workdir.name, "step": str(run.step)}
    results = [found for split in ("validation", "test") if (found := read_results(run.workdir, split, run.step))]
    try:
        with replacing(folder) as scratch:
            portable.write(scratch, _predict(run), run.variables, arrays, about)
            difference = _difference(run, scratch, arrays)
            (scratch / CONFIG).write_text(json.dumps(run.config, indent=1))
            (scratch / CARD).write_text(model_card(run, read_json(run.workdir / "run.json"), results, difference))
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error.strerror}). Choose another: --output_dir=DIR") from error
    return difference


def _predict(run: Any) -> portable.Predict:
    return lambda variables, batch: run.task.predict(variables, batch, {})


def _difference(run: Any, folder: Path, arrays: Mapping[str, ArraySpec]) -> float:
    """The largest difference on random inputs."""
    weights, call = portable.read(folder)
    batch = _random_batch(max(CHECKED), arrays)
    expected, largest = jax.jit(_predict(run))(run.variables, batch)["probabilities"], 0.0
    for size in CHECKED:
        got = call(weights, {name: array[:size] for name, array in batch.items()})["probabilities"]
        largest = max(largest, float(np.abs(expected[:size] - got).max()))
    limit = TOLERANCE if run.config["model"].get("dtype", "float32") == "float32" else COARSE
    if not largest <= limit:
        raise RuntimeError(f"the export differs from the run by {largest}: expected at most {limit}")
    return largest


def _random_batch(size: int, arrays: Mapping[str, ArraySpec]) -> dict[str, np.ndarray]:
    """Floats in [-1, 1), bytes and tokens from 0 to 199; half of a mask is real."""
    generator = np.random.default_rng(0)

    def random(array: ArraySpec) -> np.ndarray:
        shape, dtype = (size, *array.shape), np.dtype(array.dtype)
        values = generator.uniform(-1, 1, shape) if dtype.kind == "f" else generator.integers(0, 200, shape)
        return values.astype(dtype)

    batch = {name: random(array) for name, array in arrays.items()}
    if "mask" in batch:
        batch["mask"][:] = np.arange(batch["mask"].shape[1]) < max(batch["mask"].shape[1] // 2, 1)
    return batch
