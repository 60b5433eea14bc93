# SPDX-License-Identifier: Apache-2.0
"""Contact sheets of sequences: curves over time, and text."""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from perceiver_jax.figures.lettering import lettered

CELL = (3.0, 1.8)  # inches of one example's cell
CHANNELS = 8  # curves that can be told apart in a cell
LETTERS, LINES = 44, 10  # of the text that a cell has room for


def curve_sheet(
    sequences: np.ndarray, mask: np.ndarray, titles: Sequence[str], *, columns: int = 4, dpi: int = 100
) -> np.ndarray:
    """Sequences (batch, length, channels) side by side, a curve for each of the first channels; padding is left out.

    Returns:
        uint8 (height, width, 3).

    Raises:
        ValueError: there are more or fewer titles than sequences.
    """

    def draw(axes: Any, k: int) -> None:
        length = int(np.flatnonzero(mask[k]).max(initial=0)) + 1
        real = np.where(mask[k, :length, None], sequences[k, :length, :CHANNELS], np.nan)  # dropped steps are gaps
        axes.plot(real, linewidth=0.8, marker="." if length < 40 else None, markersize=2)
        axes.set_xlim(0, max(sequences.shape[1] - 1, 1))
        axes.tick_params(labelsize=6)

    return _sheet(len(sequences), titles, draw, columns, dpi)


def text_sheet(texts: Sequence[str], titles: Sequence[str], *, columns: int = 4, dpi: int = 100) -> np.ndarray:
    """Texts side by side, each as much as its cell has room for; as `curve_sheet`."""

    def draw(axes: Any, k: int) -> None:
        lines = textwrap.wrap(texts[k], LETTERS)
        shown = "\n".join(lines[:LINES]) + (" ..." if len(lines) > LINES else "")
        family = ["monospace", *matplotlib.rcParams["font.family"]]  # the latter have what the former lacks
        axes.text(0, 1, shown, fontsize=7.5, family=family, va="top", parse_math=False)
        axes.axis("off")

    import matplotlib

    return _sheet(len(texts), titles, draw, columns, dpi, "".join(texts))


def _sheet(count: int, titles: Sequence[str], draw: Callable, columns: int, dpi: int, letters: str = "") -> np.ndarray:
    """Cells under their titles, in fonts that also have the `letters`."""
    if len(titles) != count:
        raise ValueError(f"{count} examples, {len(titles)} titles: expected one each.")
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here: costs 0.2 s
    from matplotlib.figure import Figure

    rows = -(-count // columns)
    figure = Figure(figsize=(columns * CELL[0], rows * CELL[1]), dpi=dpi, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    with lettered([*titles, letters]) as labels:
        for k, axes in enumerate(figure.subplots(rows, columns, squeeze=False).ravel()):
            if k < count:
                draw(axes, k)
                axes.set_title(labels[k], fontsize=8, parse_math=False)
            else:
                axes.axis("off")
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
