# SPDX-License-Identifier: Apache-2.0
"""What codes of slots look like: slots and masks of images, use of codebooks, images with one code swapped."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from perceiver_jax.figures import canvas
from perceiver_jax.figures.images import contact_sheet

ROW_HEIGHT, WIDTH = 1.6, 15.0  # inches
LINE = 4  # pixels between the parts of a sheet


def decompositions(images: np.ndarray, recons: np.ndarray, masks: np.ndarray) -> Any:
    """A row for each image: the input, its reconstruction, the mask of every slot.

    Args:
        images, recons: (batch, height, width, 3), uint8.
        masks: (batch, num_slots, height, width), from 0 to 1.
    """
    titles = ["input", "reconstruction", *(f"slot {k} mask" for k in range(1, masks.shape[1] + 1))]
    figure = canvas.new(WIDTH, max(5.0, ROW_HEIGHT * len(images)))
    axes = figure.subplots(len(images), len(titles), squeeze=False)
    for row, image, recon, mask in zip(axes, images, recons, masks, strict=True):
        for axis, shown in zip(row, (image, recon, *mask), strict=True):
            axis.imshow(shown, **({"cmap": "viridis", "vmin": 0, "vmax": 1} if shown.ndim == 2 else {}))
            axis.axis("off")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    return figure


def use_of_codes(counts: np.ndarray, captions: Sequence[str]) -> Any:
    """A histogram for each codebook: how often each of its codes was used, the most used first.

    Args:
        counts: (num_blocks, codebook_size).
        captions: one a codebook.
    """
    columns = min(4, len(counts))
    rows = -(-len(counts) // columns)
    figure = canvas.new(4 * columns, 2.4 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, row, caption in zip(axes, counts, captions, strict=False):
        axis.bar(np.arange(len(row)), np.sort(row)[::-1], width=1.0, color=canvas.COLOURS[0])
        axis.axhline(row.sum() / len(row), color=canvas.COLOURS[1], label="used evenly")
        axis.set_title(caption, fontsize=9)
        axis.set_xlabel("codes, the most used first")
        axis.set_ylabel("times used")
    axes[0].legend()
    for axis in axes[len(counts) :]:
        axis.axis("off")
    return figure


def swaps(first: np.ndarray, second: np.ndarray, swapped: np.ndarray) -> np.ndarray:
    """The two images, then a sheet: in row s, column m the first with block m of slot s of the second.

    Args:
        first, second: (height, width, 3), uint8, as decoded from their codes.
        swapped: (num_slots, num_blocks, height, width, 3).

    Returns:
        uint8 (height, width, 3).
    """
    num_slots, num_blocks = swapped.shape[:2]
    titles = [f"slot {s + 1}, block {m + 1}" for s in range(num_slots) for m in range(num_blocks)]
    grid = contact_sheet(swapped.reshape(-1, *swapped.shape[2:]), titles, columns=num_blocks)
    pair = contact_sheet(np.stack([first, second]), ["first", "second"], columns=2)
    width = max(grid.shape[1], pair.shape[1])
    parts = [pair, np.full((LINE, width, 3), 225, np.uint8), grid]
    padded = [np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=255) for part in parts]
    return np.concatenate(padded)
