# SPDX-License-Identifier: Apache-2.0
"""Contact sheets of point clouds."""

from collections.abc import Sequence

import numpy as np

from perceiver_jax.figures.lettering import lettered

VIEW = ((0.80, 0.60, 0.00), (-0.25, 0.33, 0.91), (0.55, -0.73, 0.41))  # rows: right, up, towards the viewer
CELL = 2.0  # inches, edge of one cloud's cell
DOTS = 1000  # square points, 1/72 inch, that the dots of a cloud cover together, within limits
TITLE, FILL = 0.08, 0.44  # share of a cell: height of its title, half the width of its cloud

HEAT = np.array(
    [(68, 1, 84), (72, 24, 106), (71, 45, 123), (66, 64, 134), (59, 82, 139), (51, 99, 141), (44, 114, 142)]
    + [(38, 130, 142), (33, 145, 140), (31, 160, 136), (40, 174, 128), (63, 188, 115), (94, 201, 98)]
    + [(132, 212, 75), (173, 220, 48), (216, 226, 25), (253, 231, 37)]
)
"""Seventeen colours of viridis at even distances; Matplotlib, which has them all, takes 0.3 s to load in a training."""


def heat_colors(values: np.ndarray) -> np.ndarray:
    """A colour for each value, uint8 (..., 3): from 0, dark, to the largest of the last axis, bright."""
    place = values / np.maximum(values.max(-1, keepdims=True), 1e-12) * (len(HEAT) - 1)
    channels = [np.interp(place, np.arange(len(HEAT)), channel) for channel in HEAT.T]
    return np.round(np.stack(channels, -1)).astype(np.uint8)


def contact_sheet(
    points: np.ndarray, titles: Sequence[str], *, columns: int = 4, up_axis: str = "z", dpi: int = 100
) -> np.ndarray:
    """Clouds side by side, seen obliquely from above without perspective; brighter points are nearer.

    Args:
        points: (batch, points, 3); each cloud is scaled to fill its cell.
        titles: one a cloud, written above it.
        up_axis: the coordinate that points up in the picture.

    Returns:
        uint8 (height, width, 3).

    Raises:
        ValueError: there are more or fewer titles than clouds.
    """
    if len(titles) != len(points):
        raise ValueError(f"{len(points)} clouds, {len(titles)} titles: expected one each.")
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here: costs 0.2 s
    from matplotlib.figure import Figure

    rows = -(-len(points) // columns)
    figure = Figure(figsize=(columns * CELL, rows * CELL), dpi=dpi, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, columns), ylim=(0, rows))
    axes.axis("off")
    column, row = np.arange(len(points)) % columns, rows - 1 - np.arange(len(points)) // columns
    seen = project(points, up_axis)
    x, y = (seen[..., k] * FILL + place[:, None] + 0.5 for k, place in enumerate((column, row)))
    order = np.argsort(seen[..., 2], axis=None)  # far points first
    x, y, near = (values.ravel()[order] for values in (x, y - TITLE / 2, seen[..., 2]))
    axes.scatter(x, y, c=near, s=np.clip(DOTS / points.shape[1], 3, 12), cmap="viridis", linewidths=0)
    with lettered(titles) as labels:
        for k, label in enumerate(labels):
            place = (column[k] + 0.5, row[k] + 1 - TITLE / 2)
            axes.text(*place, label, fontsize=8, ha="center", va="center", parse_math=False)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def project(points: np.ndarray, up_axis: str) -> np.ndarray:
    """Right, up and nearness of every point, in [-1, 1]."""
    points = np.roll(points, 2 - "xyz".index(up_axis), axis=-1)
    points = points - (points.max(1, keepdims=True) + points.min(1, keepdims=True)) / 2
    seen = points @ np.asarray(VIEW, points.dtype).T
    return seen / np.maximum(np.abs(seen).max((1, 2), keepdims=True), 1e-12)
