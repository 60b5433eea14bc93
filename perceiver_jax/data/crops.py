# SPDX-License-Identifier: Apache-2.0
"""Windows of images of any size, brought to one size: random ones to train on, the centre to evaluate.

A random window is the "Inception crop" (Szegedy et al. 2015, section 6): its share of the area and the logarithm of its
aspect are uniform. Resizing is PIL's, bicubic with antialiasing; bytes are rounded and stay within 0..255.
"""

import numpy as np
from PIL import Image

from perceiver_jax.data import randomness

ATTEMPTS = 10  # at a window that lies within the image; then it is the one in the centre
LARGEST_ASPECT = 4 / 3
Window = tuple[int, int, int, int]  # top, left, height, width


def framed(image: np.ndarray, window: Window, size: tuple[int, int]) -> np.ndarray:
    """The window of an image (height, width, channels) uint8 or float32, resized to (height, width)."""
    top, left, height, width = window
    cut = image[top : top + height, left : left + width]
    if cut.shape[:2] == size:
        return cut
    planes = [cut] if cut.shape[2] == 3 and cut.dtype == np.uint8 else list(cut.transpose(2, 0, 1))
    resized = [np.asarray(Image.fromarray(p).resize(size[::-1], Image.Resampling.BICUBIC)) for p in planes]
    return np.concatenate([plane.reshape(*size, -1) for plane in resized], axis=2)


def central_window(height: int, width: int, size: tuple[int, int], share: float = 1.0) -> Window:
    """The largest window in the centre with the aspect of `size`, its sides times `share`."""
    scale = share * min(height / size[0], width / size[1])
    high, wide = (max(int(scale * side + 1e-6), 1) for side in size)
    return (height - high + 1) // 2, (width - wide + 1) // 2, high, wide


def random_window(
    height: int, width: int, size: tuple[int, int], key: np.uint64, min_area: float, share: float = 1.0
) -> Window:
    """A window that follows from `key` alone; the one in the centre, of `share`, where none of the attempts fits."""
    numbers = randomness.uniform(np.array([key], np.uint64), (ATTEMPTS, 4))[0].astype(np.float64)
    area = (min_area + (1 - min_area) * numbers[:, 0]) * height * width
    aspect = LARGEST_ASPECT ** (2 * numbers[:, 1] - 1) * (size[1] / size[0])
    high, wide = np.rint(np.sqrt(area / aspect)), np.rint(np.sqrt(area * aspect))
    fits = np.flatnonzero((high >= 1) & (high <= height) & (wide >= 1) & (wide <= width))
    if not len(fits):
        return central_window(height, width, size, share)
    high, wide, place = int(high[fits[0]]), int(wide[fits[0]]), numbers[fits[0], 2:]
    top, left = (int(p * (free + 1)) for p, free in zip(place, (height - high, width - wide), strict=True))
    return top, left, high, wide
