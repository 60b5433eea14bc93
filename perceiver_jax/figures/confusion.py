# SPDX-License-Identifier: Apache-2.0
"""Confusion matrices: counts, coloured by the share of the true class, in one hue from light to dark."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from perceiver_jax.figures import canvas
from perceiver_jax.figures.lettering import lettered

COLOURS = "Blues"
NUMBERED, NAMED = 45, 120  # classes up to which counts are written into the cells, names at the axes
LIGHT, DARK = np.array([247.0, 251, 255]), np.array([8.0, 48, 107])  # the ends of "Blues"
SIDE, ROW, LETTER = 520, 13, 6  # pixels: of the small picture, of a line and of a letter in it


def figure(confusion: np.ndarray, class_names: Sequence[str]) -> Any:
    """The matrix (true, predicted) with names and counts where they can be read.

    Colours grow with the square root of the share, so that few mistakes among many are seen.
    """
    from matplotlib.colors import PowerNorm

    count = len(confusion)
    side = np.clip(2.5 + 0.32 * count, 5, 16)
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    with lettered(class_names) as labels:
        result = canvas.new(side + 1.2, side)
        axes = result.subplots()
        shown = axes.imshow(share, cmap=COLOURS, norm=PowerNorm(0.5, 0, 1), interpolation="nearest", aspect="auto")
        axes.set(xlabel="predicted class", ylabel="true class")
        _name_axes(axes, labels)
        for line in (axes.axhline, axes.axvline):
            for place in range(1, count):
                line(place - 0.5, color="0.9", linewidth=0.4)
        if count <= NUMBERED:
            _write_counts(axes, confusion, share)
        bar = result.colorbar(shown, ax=axes, shrink=0.8, ticks=[0, 0.05, 0.2, 0.5, 1], label="share of the true class")
        bar.ax.set_yticklabels(["0 %", "5 %", "20 %", "50 %", "100 %"])
    return result


def _name_axes(axes: Any, labels: list[str]) -> None:
    count = len(labels)
    if count > NAMED:
        axes.set_title("classes by their number")
        return
    size = 9 if count <= 45 else 7 if count <= 70 else 5.5
    axes.set_xticks(range(count), labels, rotation=90 if max(map(len, labels)) > 3 else 0, fontsize=size)
    axes.set_yticks(range(count), labels, fontsize=size)
    for text in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        text.set_parse_math(False)


def _write_counts(axes: Any, confusion: np.ndarray, share: np.ndarray) -> None:
    size = 9 if confusion.max() < 1000 and len(confusion) <= 20 else 6.5
    for true, predicted in zip(*np.nonzero(confusion), strict=True):
        colour = "white" if share[true, predicted] > 0.35 else "black"
        text = f"{confusion[true, predicted]:,.0f}"
        axes.text(predicted, true, text, ha="center", va="center", fontsize=size, color=colour)


def thumbnail(confusion: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """The matrix for a dashboard, in milliseconds: rows with number and name, columns with their number.

    Returns:
        uint8 (height, width, 3).
    """
    from PIL import Image, ImageDraw

    cell = max(SIDE // max(len(confusion), 1), 1)
    named = cell >= ROW
    labels = [f"{name[:20]} {k}" if name.isascii() else str(k) for k, name in enumerate(class_names)] if named else []
    left = LETTER * max(map(len, labels), default=0) + 2
    share = np.sqrt(confusion / np.maximum(confusion.sum(1, keepdims=True), 1))[..., None]
    cells = (LIGHT + share * (DARK - LIGHT)).round().astype(np.uint8).repeat(cell, axis=0).repeat(cell, axis=1)
    image = Image.new("RGB", (left + cells.shape[1], (ROW if named else 0) + cells.shape[0]), "white")
    image.paste(Image.fromarray(cells), (left, ROW if named else 0))
    draw = ImageDraw.Draw(image)
    for k, label in enumerate(labels):
        draw.text((left - 2, ROW + (k + 0.5) * cell), label, fill="black", anchor="rm")
        draw.text((left + (k + 0.5) * cell, ROW - 1), str(k), fill="black", anchor="mb")
    return np.asarray(image)
