# SPDX-License-Identifier: Apache-2.0
"""Scores of variants: a panel for each score, mean and standard deviation of each variant, and each of its runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from perceiver_jax.figures import canvas
from perceiver_jax.figures.lettering import lettered

COLUMNS = 3
WIDTH, ROW = 3.6, 0.32  # inches of a panel, and of a variant in it


def figure(
    names: Sequence[str], scores: Mapping[str, Sequence[Sequence[float]]], texts: Mapping[str, Sequence[str]]
) -> Any:
    """Variants from top to bottom.

    Args:
        scores: name -> the values of each variant's runs.
        texts: name -> what is written beside each variant.
    """
    rows = -(-len(scores) // COLUMNS)
    with lettered(names) as labels:
        result = canvas.new(1.2 + WIDTH * min(len(scores), COLUMNS), rows * (0.7 + ROW * len(names)))
        cells = result.subplots(rows, min(len(scores), COLUMNS), squeeze=False, sharey=True).ravel()
        for axes, (title, values) in zip(cells, scores.items(), strict=False):
            axes.set_title(title, fontsize=9)
            _draw(axes, values, texts[title])
            axes.set_yticks(range(len(names)), labels, fontsize=8, parse_math=False)
        for axes in cells[len(scores) :]:
            axes.remove()
        cells[0].set_ylim(len(names) - 0.4, -0.6)
    return result


def _draw(axes: Any, values: Sequence[Sequence[float]], texts: Sequence[str]) -> None:
    for row, (some, text) in enumerate(zip(values, texts, strict=True)):
        real = np.asarray([value for value in some if np.isfinite(value)], float)
        if len(real):
            spread = real.std(ddof=1) if len(real) > 1 else 0
            axes.plot(real, np.full(len(real), row), ".", color="0.6", markersize=5)
            axes.errorbar(real.mean(), row, xerr=spread, fmt="o", color=canvas.COLOURS[0], markersize=5, capsize=3)
        axes.text(0.98, row - 0.3, text, fontsize=7, ha="right", transform=axes.get_yaxis_transform())
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(axis="x", labelsize=7)
    axes.margins(x=0.12)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
