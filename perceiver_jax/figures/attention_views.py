# SPDX-License-Identifier: Apache-2.0
"""How attention is drawn on each kind of example: images, clouds of points, sequences, text; Matplotlib axes in.

A view holds the examples and draws example k: as it is, its map alone, and its map over it. Maps are relative: 1 is
what each input would get if all got the same. `columns` of examples lie side by side in a panel; an evolution has
cells of so many inches, and room for `most_epochs`. `note` says how to read the picture.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from perceiver_jax.figures.clouds import project
from perceiver_jax.figures.images import displayable

RING = {"facecolors": "none", "linewidths": 1.2}
MARKED = 12  # peaks that are marked, the highest first


class ImageView:
    """Images (examples, height, width, channels), one input for each pixel or square patch.

    Args:
        grid: rows and columns of the inputs.
        patch: side of a patch in pixels.
        order: where each pixel of the array is in the picture, row by row; None: where it stands.
    """

    columns, cell, most_epochs, note = 3, (1.7, 1.7), 8, ""

    def __init__(self, images: np.ndarray, grid: Sequence[int], patch: int = 1, order: np.ndarray | None = None):
        self.grid, self.patch, self.order = tuple(grid), patch, order
        self.images = self._in_place(displayable(images))

    def pixels(self, values: np.ndarray) -> np.ndarray:
        """(inputs,) -> (height, width): each pixel has the value of its input, and is where it belongs."""
        large = values.reshape(self.grid).repeat(self.patch, 0).repeat(self.patch, 1)
        return self._in_place(large[None, : self.images.shape[1], : self.images.shape[2]])[0]

    def on_inputs(self, objects: np.ndarray) -> np.ndarray:
        """Object masks (examples, height, width), in the array's order of pixels -> share of each input."""
        rows, columns = (side * self.patch for side in self.grid)
        padded = np.zeros((len(objects), rows, columns))
        padded[:, : objects.shape[1], : objects.shape[2]] = objects
        cut = padded.reshape(len(objects), self.grid[0], self.patch, self.grid[1], self.patch)
        return cut.mean((2, 4)).reshape(len(objects), -1)

    def original(self, axes: Any, k: int) -> None:
        axes.imshow(self.images[k])
        axes.set_axis_off()

    def heat(self, axes: Any, k: int, values: np.ndarray, **colours: Any) -> Any:
        axes.set_axis_off()
        return axes.imshow(self.pixels(values), **colours)

    def overlay(self, axes: Any, k: int, values: np.ndarray, alpha: float, **colours: Any) -> Any:
        axes.imshow(self.images[k].mean(-1), cmap="gray", vmin=0, vmax=255)
        return self.heat(axes, k, values, alpha=alpha, **colours)

    def peaks(self, axes: Any, k: int, marked: np.ndarray) -> None:
        self.original(axes, k)
        places = np.zeros(self.grid[0] * self.grid[1])
        for index in marked:
            places[:] = 0
            places[index] = 1
            rows, columns = np.nonzero(self.pixels(places))
            x, y = (columns.mean(), rows.mean())
            axes.scatter(x, y, s=70, edgecolors="white", facecolors="none", linewidths=2.4)
            axes.scatter(x, y, s=70, edgecolors="red", **RING)

    def _in_place(self, images: np.ndarray) -> np.ndarray:
        if self.order is None:
            return images
        flat = images.reshape(len(images), -1, *images.shape[3:])
        placed = np.empty_like(flat)
        placed[:, self.order] = flat
        return placed.reshape(images.shape)


class CloudView:
    """Clouds (examples, points, 3), seen obliquely from above; near points are drawn over far ones."""

    columns, cell, most_epochs, note = 3, (1.9, 1.9), 8, ""

    def __init__(self, points: np.ndarray, up_axis: str = "z"):
        self.seen = project(points[..., :3], up_axis)

    def original(self, axes: Any, k: int) -> None:
        self._scatter(axes, k, c="0.35")

    def heat(self, axes: Any, k: int, values: np.ndarray, **colours: Any) -> Any:
        order = np.argsort(values)  # what is attended to most must not be hidden
        return self._scatter(axes, k, order, c=values[order], s=8 + 40 * values[order] / values.max(), **colours)

    def overlay(self, axes: Any, k: int, values: np.ndarray, alpha: float, **colours: Any) -> Any:
        self._scatter(axes, k, c="0.8")
        return self._scatter(axes, k, c=values[np.argsort(self.seen[k, :, 2])], s=14, alpha=alpha, **colours)

    def peaks(self, axes: Any, k: int, marked: np.ndarray) -> None:
        self._scatter(axes, k, c="0.7")
        axes.scatter(*self.seen[k, marked, :2].T, s=60, edgecolors="red", **RING)

    def _scatter(self, axes: Any, k: int, order: np.ndarray | None = None, s: Any = 6, **colours: Any) -> Any:
        order = np.argsort(self.seen[k, :, 2]) if order is None else order
        axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
        axes.set_axis_off()
        return axes.scatter(*self.seen[k, order, :2].T, s=s, linewidths=0, **colours)


class SequenceView:
    """Sequences (examples, length, channels) of which `mask` says what is real: bands behind curves over time."""

    columns, cell, most_epochs, note = 1, (2.6, 1.3), 6, " (time steps from left to right)"
    channels = 8

    def __init__(self, sequences: np.ndarray, mask: np.ndarray | None = None):
        mask = np.ones(sequences.shape[:2], bool) if mask is None else mask.astype(bool)
        self.curves = np.where(mask[..., None], sequences[..., : self.channels], np.nan)
        self.lengths = [int(np.flatnonzero(row).max(initial=0)) + 1 for row in mask]

    def original(self, axes: Any, k: int) -> None:
        self._curves(axes, k)

    def heat(self, axes: Any, k: int, values: np.ndarray, **colours: Any) -> Any:
        band = values[None, : self.lengths[k]]
        self._time(axes, k)
        axes.set_yticks([])
        extent = (-0.5, self.lengths[k] - 0.5, 0, 1)
        return axes.imshow(band, aspect="auto", interpolation="nearest", extent=extent, **colours)

    def overlay(self, axes: Any, k: int, values: np.ndarray, alpha: float, **colours: Any) -> Any:
        drawn = self.heat(axes, k, values, alpha=alpha, **colours)
        low, high = np.nanmin(self.curves[k]), np.nanmax(self.curves[k])
        scaled = (self.curves[k, : self.lengths[k]] - low) / max(high - low, 1e-12)
        axes.plot(0.05 + 0.9 * scaled, color="white", linewidth=1.4, alpha=0.8)
        axes.plot(0.05 + 0.9 * scaled, color="black", linewidth=0.6)
        return drawn

    def peaks(self, axes: Any, k: int, marked: np.ndarray) -> None:
        self._curves(axes, k)
        for step in marked:
            axes.axvspan(step - 0.5, step + 0.5, color="red", alpha=0.25, linewidth=0)

    def _curves(self, axes: Any, k: int) -> None:
        self._time(axes, k)
        axes.plot(self.curves[k, : self.lengths[k]], linewidth=0.8)

    def _time(self, axes: Any, k: int) -> None:
        axes.set_xlim(-0.5, self.lengths[k] - 0.5)
        axes.tick_params(labelsize=6)
        axes.locator_params(axis="x", nbins=6, integer=True)


class TextView:
    """Texts, one character for each input: coloured fields behind the characters, in lines."""

    columns, cell, most_epochs, note = 1, (3.4, 1.4), 4, ""

    def __init__(self, texts: Sequence[str], *, letters: int = 48, lines: int = 6):
        self.texts = [text[: letters * lines] for text in texts]
        longest = max((len(text) for text in self.texts), default=1)
        if len(texts) == 1:  # has a whole panel, two and a half times as many letters as lines fill it
            letters = min(letters, max(8, math.ceil(math.sqrt(2.5 * longest))))
        self.letters = min(letters, longest)
        self.lines = -(-longest // self.letters)

    def original(self, axes: Any, k: int) -> None:
        self._letters(axes, k)

    def heat(self, axes: Any, k: int, values: np.ndarray, **colours: Any) -> Any:
        self._field(axes)
        field = np.full(self.lines * self.letters, np.nan)
        length = len(self.texts[k])
        field[:length] = values[:length]
        field = np.ma.masked_invalid(field.reshape(self.lines, self.letters))
        return axes.imshow(field, aspect="auto", interpolation="nearest", **colours)

    def overlay(self, axes: Any, k: int, values: np.ndarray, alpha: float, **colours: Any) -> Any:
        drawn = self.heat(axes, k, values, alpha=alpha, **colours)
        self._letters(axes, k, drawn.to_rgba(values, alpha=alpha))
        return drawn

    def peaks(self, axes: Any, k: int, marked: np.ndarray) -> None:
        self._letters(axes, k)
        for place in marked[marked < len(self.texts[k])]:
            line, letter = divmod(int(place), self.letters)
            axes.add_patch(_rectangle(letter, line))

    def _letters(self, axes: Any, k: int, behind: np.ndarray | None = None) -> None:
        self._field(axes)
        for place, letter in enumerate(self.texts[k]):
            line, column = divmod(place, self.letters)
            red, green, blue, alpha = (1, 1, 1, 1) if behind is None else behind[place]
            light = alpha * (0.3 * red + 0.59 * green + 0.11 * blue) + 1 - alpha
            colour = "black" if light > 0.5 else "white"
            style = {
                "fontsize": min(14, max(6, 260 / self.letters)),
                "ha": "center",
                "va": "center",
                "parse_math": False,
            }
            axes.text(column, line, letter, color=colour, **style)

    def _field(self, axes: Any) -> None:
        axes.set(xlim=(-0.6, self.letters - 0.4), ylim=(self.lines - 0.4, -0.6), xticks=[], yticks=[])
        axes.set_axis_off()


def _rectangle(column: int, line: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, line - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=1)
