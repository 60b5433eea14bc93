# SPDX-License-Identifier: Apache-2.0
"""From an image and a mask for each object to a scene: numbers of objects, one size, and what can be measured."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from perceiver_jax.data.scenes import ATTRIBUTES
from perceiver_jax.errors import ConfigError

MEASURED = ("present", "x", "y", "size", "red", "green", "blue", "visible")
"""The columns of `attributes` that `measured` fills in."""
MOST_OPEN = 0.1  # of the pixels without an object, what masks of the background may leave out


class Scene(NamedTuple):
    """One example, as `scenes` has them; what nobody knows is None."""

    image: np.ndarray
    objects: np.ndarray | None
    attributes: np.ndarray | None
    properties: np.ndarray | None = None


def numbered(masks: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """(height, width) uint8 of masks (height, width), of 0 and 1 or 0 and 255: 0 background, i + 1 the i-th mask.

    Where masks overlap, the later one counts.
    """
    objects = np.zeros(np.shape(masks[0]), np.uint8)
    for number, mask in enumerate(masks, 1):
        objects[mask > mask.max() / 2] = number
    return objects


def renumbered(values: np.ndarray) -> np.ndarray:
    """(height, width) uint8: 0, and the numbers of the objects of one mask from 1 on, in order."""
    found, places = np.unique(values, return_inverse=True)
    numbers = np.cumsum(found > 0) if len(found) < 256 else np.full(len(found), 255)
    return numbers.astype(np.uint8)[places.reshape(values.shape)]


def objects_of(planes: list[np.ndarray], background: int, where: str) -> np.ndarray:
    """(height, width) uint8: the numbers from 1 on of masks that show an object each, in order.

    Args:
        background: how many of the first masks show none.
        where: file, for errors.

    Raises:
        ConfigError: the first masks leave open what no object covers, so that they are no background.
    """
    shown = [plane for plane in planes[background:] if plane.any()]
    objects = numbered(shown[:255]) if shown else np.zeros(planes[0].shape, np.uint8)
    if background:
        behind = numbered(planes[:background]) > 0
        open_share = 1 - behind[objects == 0].mean() if (objects == 0).any() else 0.0
        if open_share > MOST_OPEN:
            raise ConfigError(
                f"{where}: no background in the first {background} of {len(planes)} masks: they leave open "
                f"{open_share:.0%} of the pixels without an object. Set --config.data.background_masks=0 if all masks "
                "show an object each."
            )
    return objects


def fitted(array: np.ndarray, crop: Sequence[int], size: int | None, smooth: bool) -> np.ndarray:
    """(size, size[, 3]) uint8: the rows crop[0]:crop[1] and columns crop[2]:crop[3], resized.

    Args:
        crop: empty for the largest square in the middle.
        size: None keeps it.
        smooth: bilinear between the centres of pixels, without a filter for smaller sizes, as `tf.image.resize` does by
            default; else the nearest pixel.
    """
    height, width = array.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    top, bottom, left, right = crop or (top, top + side, left, left + side)
    array = np.ascontiguousarray(array[top:bottom, left:right])
    if size is None or array.shape[:2] == (size, size):
        return array
    scale = (array.shape[1] / size, 0, 0, 0, array.shape[0] / size, 0)
    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(array).transform((size, size), Image.Transform.AFFINE, scale, how))


def measured(image: np.ndarray, objects: np.ndarray, max_objects: int) -> np.ndarray:
    """(max_objects, attributes) float32: place, size and mean colour of each object's visible pixels.

    x and y are the middle of these pixels, size the distance to the farthest of them; `visible` is 1, `shape` and
    `angle` are 0. An object without pixels is not present.
    """
    attributes = np.zeros((max_objects, len(ATTRIBUTES)), np.float32)
    columns = [ATTRIBUTES.index(name) for name in MEASURED]
    for number in range(1, max_objects + 1):
        rows, places = np.nonzero(objects == number)
        if not len(rows):
            continue
        y, x = (rows + 0.5) / objects.shape[0], (places + 0.5) / objects.shape[1]
        colour = image[rows, places].mean(0) / 255
        size = np.hypot(y - y.mean(), x - x.mean()).max()
        attributes[number - 1, columns] = [1, x.mean(), y.mean(), size, *colour, 1]
    return attributes
