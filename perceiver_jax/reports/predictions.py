# SPDX-License-Identifier: Apache-2.0
"""Predictions on the terminal."""

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

BAR = 20  # characters of a bar that stands for certainty


def print_predictions(title: str, tops: Mapping[str, list[tuple[str, float]]]) -> None:
    """A table: a block of lines for each input, its most likely classes with their probabilities.

    Args:
        tops: by the input's name, (class, probability) in falling order.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(title)
    table = Table("input", "class", "probability", "", box=SIMPLE_HEAD)
    table.columns[0].overflow = table.columns[1].overflow = "fold"
    table.columns[2].justify = "right"
    for name, top in tops.items():
        for place, (label, probability) in enumerate(top):
            row = (label, f"{100 * probability:.1f} %", "█" * round(BAR * probability))
            table.add_row("" if place else name, *row, end_section=place == len(top) - 1)
    console.print(table)
