# SPDX-License-Identifier: Apache-2.0
"""Figures of scenes taken apart into slots: arrays in, Figure out, and a file where its name is given.

Images are uint8, or floating point from -1 to 1; masks and attention are shares, which sum to 1 over the slots. A slot
has one colour throughout. While a training runs, `slot_views` draws the same in milliseconds.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from perceiver_jax.figures import canvas
from perceiver_jax.figures.slot_views import cut_out, mixture, painted, pixels, resized, shares, slot_colours

INCHES = 1.1  # of a cell
EDGE, HEAD = 0.03, 0.25  # around a cell, above a row with heads, of a cell
COLORMAP = "viridis"
LEGIBLE = 0.004  # share of the pixels that a slot needs to have its number on them

Row = UInt8[np.ndarray, "_ height width 3"]


def visualize_slots(
    images: Shaped[np.ndarray, "batch height width colors"],
    recons: Shaped[np.ndarray, "batch *slots height width colors"],
    masks: Shaped[np.ndarray, "batch num_slots height width *one"],
    save_path: str | pathlib.Path | None = None,
) -> Any:
    """A row for each image: as it is, reconstructed, its masks, and what each slot shows times its share, on white.

    Args:
        recons: of the whole images, or of every slot.
        save_path: a file of one of `canvas.FORMATS`.

    Raises:
        ConfigError: the file cannot be written.
    """
    parts, seen = shares(masks), pixels(images)
    each = pixels(recons if recons.ndim == 5 else recons[:, None])
    whole = np.stack([seen, mixture(each, parts), painted(seen, parts)], 1)
    cells = np.concatenate([whole, cut_out(each, parts)], 1)
    heads = ["image", "reconstruction", "masks", *_names(parts.shape[1])]
    figure, axes, tops = _drawn(list(cells), {0: heads}, title="Images taken apart into slots")
    for image, top in zip(parts, tops, strict=True):
        _write_numbers(axes, image, 2, top)
    return canvas.saved(figure, save_path)


def visualize_attention_evolution(
    attn: Float[np.ndarray, "*many num_iterations num_slots rows columns"],
    save_path: str | pathlib.Path | None = None,
    images: Shaped[np.ndarray, "batch height width colors"] | None = None,
) -> Any:
    """A row for each iteration of each image: whose every place is, then what share of it each slot has.

    Args:
        save_path: a file of one of `canvas.FORMATS`.
        images: what the first column is painted on.

    Raises:
        ConfigError: the file cannot be written.
    """
    maps = np.asarray(attn if attn.ndim == 5 else attn[None], np.float32)
    if images is not None:
        maps = resized(maps, *images.shape[1:3])
    below = np.full((len(maps), *maps.shape[3:], 3), 255, np.uint8) if images is None else pixels(images)
    cells = np.concatenate([painted(below[:, None], maps)[:, :, None], _heat(maps)], 2)
    count, iterations = maps.shape[:2]
    lines = [f"iteration {k + 1}" for k in range(iterations)] * count
    figure, *_ = _drawn(
        list(cells.reshape(-1, *cells.shape[2:])),
        {0: ["all slots", *_names(maps.shape[2])]},
        lines,
        title="Attention of the slots, iteration by iteration",
        block=iterations,
        bar="share of each place",
    )
    return canvas.saved(figure, save_path)


def visualize_slot_decomposition(
    original_image: Shaped[np.ndarray, "height width colors"],
    reconstructed_image: Shaped[np.ndarray, "*slots height width colors"],
    masks: Shaped[np.ndarray, "num_slots height width *one"],
    save_path: str | pathlib.Path | None = None,
) -> Any:
    """One image, slot by slot: the slot's mask, what it shows, and what of the original is under its mask.

    Args:
        reconstructed_image: the whole, or that of every slot.
        save_path: a file of one of `canvas.FORMATS`.

    Raises:
        ConfigError: the file cannot be written.
    """
    parts, original = shares(masks), pixels(original_image)
    each = pixels(reconstructed_image if reconstructed_image.ndim == 4 else reconstructed_image[None])
    whole = mixture(each, parts)
    error = np.abs(whole.astype(np.int16) - original).mean(-1, keepdims=True).repeat(3, -1)
    first = np.stack([original, whole, error.astype(np.uint8), painted(original, parts)])
    rows = [first, _heat(parts), cut_out(each, parts), cut_out(original[None], parts)]
    heads = {0: ["original", "reconstruction", "error", "masks"], 1: _names(len(parts))}
    lines = ["", "mask", "slot x mask", "original x mask"]
    figure, axes, tops = _drawn(rows, heads, lines, title="An image, slot by slot", bar="share of each pixel")
    _write_numbers(axes, parts, 3, tops[0])
    return canvas.saved(figure, save_path)


def _names(count: int) -> list[str]:
    return [f"slot {k + 1}" for k in range(count)]


def _heat(maps: Float[np.ndarray, "*batch height width"]) -> UInt8[np.ndarray, "*batch height width 3"]:
    import matplotlib

    return matplotlib.colormaps[COLORMAP](np.clip(maps, 0, 1), bytes=True)[..., :3]


def _drawn(
    rows: Sequence[Row],
    heads: dict[int, Sequence[str]],
    lines: Sequence[str] = (),
    *,
    title: str,
    block: int = 0,
    bar: str = "",
) -> tuple[Any, Any, list[float]]:
    """A figure of cells on one pair of axes, whose unit is a cell; and where each row begins.

    Args:
        heads: what stands above the cells of a row; of slots in the slot's colour.
        lines: what stands left of each row.
        block: rows that belong together, between lines.
        bar: what the colours of `COLORMAP` are.
    """
    columns, (height, width) = max(map(len, rows)), rows[0].shape[1:3]
    tops = [row + HEAD * sum(head <= row for head in heads) for row in range(len(rows))]
    tall = tops[-1] + 1
    figure = canvas.new(INCHES * columns + 0.3 + 0.8 * bool(bar), INCHES * tall * height / width + 0.4)
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots()
    axes.set_axis_off()
    for top, row in zip(tops, rows, strict=True):
        for column, cell in enumerate(row):
            _draw_cell(axes, cell, column, top)
    for row, names in heads.items():
        _write_heads(axes, names, tops[row])
    for top, line in zip(tops, lines, strict=False):
        axes.text(-0.03, top + 0.5, line, rotation=90, ha="right", va="center", fontsize=8)
    for row in range(block, len(rows), block) if block else ():
        axes.axhline(tops[row], color="0.6", linewidth=0.8)
    axes.set(xlim=(-0.2 if lines else 0, columns), ylim=(tall, 0), aspect=height / width)
    if bar:
        _draw_bar(figure, axes, bar)
    return figure, axes, tops


def _draw_cell(axes: Any, cell: UInt8[np.ndarray, "height width 3"], column: float, top: float) -> None:
    left, right, upper, lower = column + EDGE, column + 1 - EDGE, top + EDGE, top + 1 - EDGE
    axes.imshow(cell, extent=(left, right, lower, upper), interpolation="nearest")
    axes.plot([left, right, right, left, left], [upper, upper, lower, lower, upper], color="0.75", linewidth=0.5)


def _write_heads(axes: Any, names: Sequence[str], top: float) -> None:
    slots = [column for column, name in enumerate(names) if name.startswith("slot")]
    for column, name in enumerate(names):
        axes.text(column + 0.5, top - 0.05, name, ha="center", va="bottom", fontsize=8)
    for column, colour in zip(slots, slot_colours(len(slots)) / 255, strict=True):
        axes.plot([column + EDGE, column + 1 - EDGE], [top] * 2, color=colour, linewidth=3.5, solid_capstyle="butt")


def _write_numbers(axes: Any, parts: Float[np.ndarray, "num_slots height width"], column: float, top: float) -> None:
    """The number of each slot, where those pixels that it has most of are farthest from others."""
    from matplotlib.patheffects import withStroke
    from scipy.ndimage import distance_transform_edt

    owner, shape = parts.argmax(0), np.array(parts.shape[1:])
    halo = [withStroke(linewidth=1.5, foreground="white")]
    for slot in np.flatnonzero(np.bincount(owner.ravel(), minlength=len(parts)) >= LEGIBLE * owner.size):
        inside = distance_transform_edt(np.pad(owner == slot, 1))[1:-1, 1:-1]
        y, x = (np.array(np.unravel_index(inside.argmax(), shape)) + 0.5) / shape
        at = column + EDGE + (1 - 2 * EDGE) * x, top + EDGE + (1 - 2 * EDGE) * y
        axes.text(*at, str(slot + 1), ha="center", va="center", fontsize=7, weight="bold", path_effects=halo)


def _draw_bar(figure: Any, axes: Any, label: str) -> None:
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(ScalarMappable(cmap=COLORMAP), ax=axes, aspect=30, fraction=0.02, pad=0.01, shrink=0.7)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
