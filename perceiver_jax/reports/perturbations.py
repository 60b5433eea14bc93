# SPDX-License-Identifier: Apache-2.0
"""Accuracy on clouds that were turned, moved, scaled or thinned out."""

from collections.abc import Callable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from perceiver_jax.data.perturbation import SEED, STRENGTHS, UNITS, Perturbed
from perceiver_jax.data.source import Source


def measure(accuracy: Callable[[Source], float], source: Source, clean: float) -> dict[str, Any]:
    """Accuracy by kind and strength, printed.

    Args:
        accuracy: of a model on the clouds of a source.
        clean: the accuracy on `source` itself.
    """
    scores = {
        kind: {f"{strength:g}": accuracy(Perturbed(source, kind, strength)) for strength in strengths}
        for kind, strengths in STRENGTHS.items()
    }
    perturb = {"seed": SEED, "clean": clean, "accuracy": scores}
    show(perturb)
    return perturb


def show(perturb: dict[str, Any]) -> None:
    """A line per kind of perturbation: its strengths and the accuracy at each, beside the clean one."""
    console = Console(highlight=False, markup=False)
    console.print(f"accuracy under perturbation; {100 * perturb['clean']:.2f} % without")
    table = Table("perturbation", "strength: accuracy", box=SIMPLE_HEAD)
    for kind, scores in perturb["accuracy"].items():
        cells = [f"{strength}{UNITS.get(kind, '')}: {100 * value:.2f} %" for strength, value in scores.items()]
        cells = [cell.replace(" ", "\u00a0") for cell in cells]  # a line breaks between strengths only
        table.add_row(kind, "   ".join(cells))
    console.print(table)
