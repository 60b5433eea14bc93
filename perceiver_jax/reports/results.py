# SPDX-License-Identifier: Apache-2.0
"""The results of an evaluation: as files in the run folder, and as a table on the terminal."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from perceiver_jax.errors import ConfigError
from perceiver_jax.files import read_json, write_json


def write_results(workdir: Path, results: dict[str, Any]) -> Path:
    """Writes `evaluation/SPLIT-STEP/results.json` and makes `evaluation/results.json` its copy; both atomically.

    Raises:
        ConfigError: the run folder cannot be written.
    """
    folder = workdir / "evaluation" / f"{results['split']}-{results['step']}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in (folder / "results.json", workdir / "evaluation" / "results.json"):
            write_json(file, results)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error.strerror}). Make room or give write access.") from error
    return folder / "results.json"


def read_results(workdir: Path, split: str, step: int) -> dict[str, Any] | None:
    """What was written for this split and step, if it was."""
    file = workdir / "evaluation" / f"{split}-{step}" / "results.json"
    return read_json(file) if file.exists() else None


def with_earlier_perturb(workdir: Path, results: dict[str, Any]) -> dict[str, Any]:
    """The results with what was measured on perturbed data of the same split and step before, if it was."""
    before = read_results(workdir, results["split"], results["step"]) or {}
    return results | {"perturb": before["perturb"]} if "perturb" in before else results


def print_results(results: dict[str, Any], *, max_classes: int = 60) -> None:
    """A table of the metrics, and one line per class where there are classes."""
    console = Console(highlight=False, markup=False)
    title = f"{results['split']}: {results['num_examples']:,} examples, checkpoint of step {results['step']}"
    console.print(title)
    table = Table("metric", "value", box=SIMPLE_HEAD)
    for name, value in results.items():
        if isinstance(value, float):
            table.add_row(name, f"{100 * value:.2f} %" if name.endswith("accuracy") else f"{value:.4f}")
    console.print(table)
    per_class = results.get("per_class", {})
    if not per_class or len(per_class) > max_classes:
        return
    classes = Table("class", "precision", "recall", "f1", "support", box=SIMPLE_HEAD)
    for name, scores in per_class.items():
        row = [f"{100 * scores[key]:.1f} %" for key in ("precision", "recall", "f1")]
        classes.add_row(name, *row, str(scores["support"]))
    console.print(classes)


def print_perturbations(perturb: dict[str, Any], units: dict[str, str]) -> None:
    """A line per kind of perturbation: its strengths and the accuracy at each, beside the clean one."""
    console = Console(highlight=False, markup=False)
    console.print(f"accuracy under perturbation; {100 * perturb['clean']:.2f} % without")
    table = Table("perturbation", "strength: accuracy", box=SIMPLE_HEAD)
    for kind, scores in perturb["accuracy"].items():
        cells = [f"{strength}{units.get(kind, '')}: {100 * value:.2f} %" for strength, value in scores.items()]
        cells = [cell.replace(" ", "\u00a0") for cell in cells]  # a line breaks between strengths only
        table.add_row(kind, "   ".join(cells))
    console.print(table)
