# SPDX-License-Identifier: Apache-2.0
"""What codes of slots look like: use of codebooks, images with one code swapped. Slots themselves: `slots`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from perceiver_jax.figures import canvas
from perceiver_jax.figures.images import contact_sheet

WIDTH, HEIGHT, GAP = 512, 48, 4  # pixels of a codebook's strip
BAR, EVEN = (0, 114, 178), (213, 94, 0)
LINE = 4  # pixels between the parts of a sheet


def thumbnail(counts: np.ndarray) -> np.ndarray:
    """A strip for each codebook, its codes from the most to the least used, in milliseconds.

    The highest bar fills a strip; the line is what each code would have if all were used as often.

    Args:
        counts: (num_blocks, codebook_size).

    Returns:
        uint8 (height, width, 3).
    """
    size = counts.shape[1]
    code = np.arange(WIDTH) * size // WIDTH
    strips = []
    for row in counts:
        share = np.sort(row)[::-1] / max(row.sum(), 1e-9)
        top = max(share[0], 1 / size)
        level = (np.arange(HEIGHT, 0, -1) - 0.5)[:, None] / HEIGHT * top
        strip = np.where((share[code] >= level)[..., None], BAR, (255, 255, 255))
        strip[min(int(HEIGHT * (1 - 1 / size / top)), HEIGHT - 1)] = EVEN
        strips += [strip, np.full((GAP, WIDTH, 3), 225)]
    return np.concatenate(strips[:-1]).astype(np.uint8)


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
