# SPDX-License-Identifier: Apache-2.0
"""How often codes are used: NumPy in, image out."""

import numpy as np

WIDTH, HEIGHT, GAP = 512, 48, 4  # pixels of a codebook's strip
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
