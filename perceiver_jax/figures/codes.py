# SPDX-License-Identifier: Apache-2.0
"""How often codes are used, and what images become through them: NumPy in, image out."""

import numpy as np

WIDTH, HEIGHT, GAP = 512, 48, 4  # pixels of a codebook's strip
CELL = 64  # pixels of a small image, enlarged by a whole factor
BAR, EVEN = (0, 114, 178), (213, 94, 0)


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


def sheet(images: np.ndarray, recons: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """A row for each image: itself, its reconstruction, and the share of every slot in its pixels, in grey.

    Args:
        images: uint8 (batch, height, width, 3).
        recons: floating point from -1 to 1, of the same shape.
        masks: (batch, num_slots, height, width, 1), from 0 to 1.

    Returns:
        uint8 (height, width, 3).
    """
    made = np.clip((np.asarray(recons, np.float32) + 1) * 127.5 + 0.5, 0, 255)
    shares = np.broadcast_to(np.asarray(masks, np.float32) * 255, (*masks.shape[:-1], 3))
    cells = np.concatenate([np.stack([images, made], 1), shares], 1).astype(np.uint8)
    factor = max(1, CELL // cells.shape[2])
    cells = cells.repeat(factor, axis=2).repeat(factor, axis=3)
    cells = np.pad(cells, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    rows = [np.concatenate(list(row), 1) for row in cells]
    return np.concatenate(rows)[:-GAP, :-GAP]
