# SPDX-License-Identifier: Apache-2.0
"""The results of an evaluation: as files in the run folder, and as a table on the terminal."""

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from perceiver_jax.errors import ConfigError
from perceiver_jax.files import read_json, replacing, write_json

NAME = "results.json"
SAID = {"accuracy": "accuracy", "top5_accuracy": "top 5 accuracy"}
"""Scores that are also said in a line of their own."""
CHANGEABLE = ("num_slots", "num_iterations")
"""Fields of a task that an evaluation may change."""
OURS = re.compile(
    r"(results|report|confusion_matrix|confidence_histogram|confidence_analysis|comparison)\.(json|html|png|svg|pdf)"
)
"""Files of a folder of results."""


def folder_of(workdir: Path, split: str, step: int, changes: Mapping[str, int] | None = None) -> Path:
    """Where the results of a split and a step lie in a run folder.

    Args:
        changes: of the task's fields, for this evaluation alone; they stand in the name.
    """
    return workdir / "evaluation" / named(f"{split}-{step}", changes or {})


def named(name: str, changes: Mapping[str, int]) -> str:
    """The name with what was changed: test-96-num_slots_3."""
    return "-".join([name, *(f"{field}_{value}" for field, value in changes.items())])


def write_results(
    workdir: Path,
    results: dict[str, Any],
    *,
    folder: Path | None = None,
    draw: Callable[[Path], None] | None = None,
) -> Path:
    """Makes `evaluation/SPLIT-STEP/` anew as a whole, and then `evaluation/results.json` a copy of its results.

    Args:
        folder: written instead; the run stays as it is.
        draw: writes into the folder what belongs to the results. Without, results that stand there already stay, with
            all that belongs to them.

    Returns:
        Path: of `results.json`.

    Raises:
        ConfigError: it cannot be written.
    """
    into = folder or folder_of(workdir, results["split"], results["step"])
    if draw or not _stands(into, results):
        with replaced(into) as scratch:
            write_json(scratch / NAME, results)
            if draw:
                draw(scratch)
    if folder is None:
        with _explained(into):
            write_json(workdir / "evaluation" / NAME, read_json(into / NAME))
    return into / NAME


def _stands(folder: Path, results: dict[str, Any]) -> bool:
    """Whether these results, at least, are in the folder."""
    if not (folder / NAME).exists():
        return False
    before = read_json(folder / NAME)
    return {name: before.get(name) for name in results} == results


@contextlib.contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A scratch folder that replaces a folder of results as a whole when the block ends well.

    Raises:
        ConfigError: it cannot be written, or holds files that are no results and would be lost.
    """
    check_folder(folder)
    with _explained(folder), replacing(folder) as scratch:
        yield scratch


def check_folder(folder: Path) -> None:
    """Whether `replaced` will do; ConfigError says why not, before anything is computed."""
    with _explained(folder):
        others = [file.name for file in folder.iterdir() if not OURS.fullmatch(file.name)] if folder.exists() else []
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder.absolute().parent):
            pass
    if others:
        raise ConfigError(
            f"{folder} holds other files than results ({', '.join(sorted(others)[:3])}) and would be replaced as a "
            "whole. Name a new or empty folder."
        )


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"{folder} cannot be written: a file stands where a folder has to be. Move it.") from error
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error.strerror}). Make room or give write access.") from error


def read_results(workdir: Path, split: str, step: int) -> dict[str, Any] | None:
    """What was written for this split and step, if it was."""
    file = folder_of(workdir, split, step) / NAME
    return read_json(file) if file.exists() else None


def with_earlier_perturb(workdir: Path, results: dict[str, Any]) -> dict[str, Any]:
    """The results with what was measured on perturbed data of the same split and step before, if it was."""
    before = read_results(workdir, results["split"], results["step"]) or {}
    return results | {"perturb": before["perturb"]} if "perturb" in before else results


def print_results(results: dict[str, Any], *, max_classes: int = 60) -> None:
    """A table of the metrics, and one line per class where there are classes."""
    console = Console(highlight=False, markup=False)
    title = f"{results['split']}: {results['num_examples']:,} examples, checkpoint of step {results['step']}"
    console.print(title + "".join(f", {name}={results[name]}" for name in CHANGEABLE if name in results))
    table = Table("metric", "value", box=SIMPLE_HEAD)
    for name, value in results.items():
        if isinstance(value, float):
            table.add_row(name, f"{100 * value:.2f} %" if name.endswith("accuracy") else f"{value:.4f}")
    console.print(table)
    for name, said in SAID.items():
        if name in results:
            console.print(f"{results['split'].capitalize()} {said}: {100 * results[name]:.2f}%")
    per_class = results.get("per_class", {})
    if not per_class or len(per_class) > max_classes:
        return
    classes = Table("class", "precision", "recall", "f1", "support", box=SIMPLE_HEAD)
    for name, scores in per_class.items():
        row = [f"{100 * scores[key]:.1f} %" for key in ("precision", "recall", "f1")]
        classes.add_row(name, *row, str(scores["support"]))
    console.print(classes)
