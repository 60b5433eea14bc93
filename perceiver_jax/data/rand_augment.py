# SPDX-License-Identifier: Apache-2.0
"""RandAugment (Cubuk et al. 2020, https://arxiv.org/abs/1909.13719) with the sixteen operations that Perceiver IO uses.

Each operation takes images (batch, height, width, channels) uint8 with 1 or 3 channels, a strength in [0, 1] and random
numbers (batch, 3) in [0, 1), and equals PIL's of the same name. Lengths are shares of the image where the published
code has pixels of 224. Where that code differs from PIL by an oversight, this is PIL: it takes the contrast about the
number of pixels over 256 in place of the mean, and leaves no bit at all to `posterize` below a strength of 1/4.
"""

from collections.abc import Callable

import numpy as np

from perceiver_jax.data import randomness
from perceiver_jax.errors import ConfigError

MAX_MAGNITUDE = 10.0
GREY = 128  # of what comes in from beyond the border
ROTATION, SHEAR, TRANSLATION, CUTOUT = 30.0, 0.3, 100 / 224, 40 / 224  # at full strength: degrees, slope, shares
GREY_WEIGHTS = (19595, 38470, 7471)  # PIL's, of 65536
LEVELS = np.arange(256)

Operation = Callable[[np.ndarray, float, np.ndarray], np.ndarray]


def rand_augment(images: np.ndarray, key: np.ndarray, num_layers: int, magnitude: float) -> np.ndarray:
    """Images after `num_layers` operations each, drawn evenly and with repetition, of one strength.

    Args:
        images: (batch, height, width, 1 or 3) uint8.
        key: (batch,) of `randomness.keys`; nothing else decides what an image becomes.
        magnitude: 0 to 10.

    Raises:
        ConfigError: other images.
    """
    if images.dtype != np.uint8 or images.shape[3] not in (1, 3):
        raise ConfigError(
            f"RandAugment: images of {images.dtype} with {images.shape[3]} channels: expected uint8 with 1 or 3. "
            "Set --config.data.rand_augment_layers=0"
        )
    numbers = randomness.uniform(key, (num_layers, 4))
    images = images.copy()
    for layer in numbers.transpose(1, 0, 2):
        chosen = np.minimum((layer[:, 0] * len(OPERATIONS)).astype(int), len(OPERATIONS) - 1)
        for index, operation in enumerate(OPERATIONS.values()):
            rows = np.flatnonzero(chosen == index)
            if len(rows):
                images[rows] = operation(images[rows], magnitude / MAX_MAGNITUDE, layer[rows, 1:])
    return images


def auto_contrast(images: np.ndarray, strength: float, numbers: np.ndarray) -> np.ndarray:
    """Each channel stretched from 0 to 255."""
    low, high = images.min((1, 2))[..., None].astype(float), images.max((1, 2))[..., None].astype(float)
    scale = 255 / np.where(high > low, high - low, 1)
    stretched = np.clip(LEVELS * scale - low * scale, 0, 255).astype(np.uint8)
    return _look_up(images, np.where(high > low, stretched, LEVELS.astype(np.uint8)))


def equalize(images: np.ndarray, strength: float, numbers: np.ndarray) -> np.ndarray:
    """Each channel's histogram made flat."""
    channels = images.reshape(len(images), -1, images.shape[3]).transpose(0, 2, 1)
    tables = np.array([[_equalizing(channel) for channel in image] for image in channels])
    return _look_up(images, tables)


def _equalizing(channel: np.ndarray) -> np.ndarray:
    histogram = np.bincount(channel, minlength=256)
    step = (histogram.sum() - histogram[np.flatnonzero(histogram)[-1]]) // 255
    if step == 0:
        return LEVELS.astype(np.uint8)
    before = np.cumsum(histogram) - histogram
    return np.minimum((before + step // 2) // step, 255).astype(np.uint8)


def _look_up(images: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Pixels replaced by a table (batch, channels, 256) for each image and channel."""
    replaced = np.empty_like(images)
    for out, image, table in zip(replaced, images, tables, strict=True):
        for k in range(image.shape[2]):
            np.take(table[k], image[..., k], out=out[..., k])
    return replaced


def invert(images: np.ndarray, strength: float, numbers: np.ndarray) -> np.ndarray:
    """255 - x."""
    return 255 - images


def posterize(images: np.ndarray, strength: float, numbers: np.ndarray) -> np.ndarray:
    """Only the highest bits: 4 at full strength, fewer below, at least one."""
    return images & np.uint8(256 - (1 << 8 - max(int(4 * strength), 1)))


def solarize(images: np.ndarray, strength: float, numbers: np.ndarray) -> np.ndarray:
    """Inverts what is not darker than 256 * strength."""
    return np.where(images < int(256 * strength), images, 255 - images)


def solarize_add(images: np.ndarray, strength: float, numbers: np.ndarray) -> np.ndarray:
    """Adds up to 110 to what is darker than 128."""
    lighter = np.minimum(LEVELS + int(110 * strength), 255)
    return np.where(LEVELS < 128, lighter, LEVELS).astype(np.uint8)[images]


def color(images: np.ndarray, strength: float, numbers: np.ndarray) -> np.ndarray:
    """Away from grey, or towards it; a strength of 1/2 changes nothing, here and in the next three."""
    return _enhance(_grey(images), images, strength)


def contrast(images: np.ndarray, strength: float, numbers: np.ndarray) -> np.ndarray:
    """Away from the mean of its grey, or towards it."""
    mean = (_grey(images).mean((1, 2, 3)) + 0.5).astype(np.uint8)
    return _enhance(mean[:, None, None, None], images, strength)


def brightness(images: np.ndarray, strength: float, numbers: np.ndarray) -> np.ndarray:
    """Away from black, or towards it."""
    return _enhance(np.zeros((1, 1, 1, 1), np.uint8), images, strength)


def sharpness(images: np.ndarray, strength: float, numbers: np.ndarray) -> np.ndarray:
    """Away from a smoothed image, or towards it; the border stays."""
    height, width = images.shape[1:3]
    smooth, wide = images.copy(), images.astype(np.int32)
    windows = [wide[:, i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3)]
    inner = 4 * windows[4] + sum(windows)
    smooth[:, 1:-1, 1:-1] = (2 * inner + 13) // 26  # rounded
    return _enhance(smooth, images, strength)


def _enhance(plain: np.ndarray, images: np.ndarray, strength: float) -> np.ndarray:
    """From the plain image to the real one, and beyond it above a strength of 1/2."""
    factor = np.float32(1.8 * strength + 0.1)
    plain = plain.astype(np.float32)
    return np.clip(plain + factor * (images - plain), 0, 255).astype(np.uint8)


def _grey(images: np.ndarray) -> np.ndarray:
    """(batch, height, width, 1), as PIL converts."""
    if images.shape[3] == 1:
        return images
    total = sum(weight * images[..., k].astype(np.int32) for k, weight in enumerate(GREY_WEIGHTS))
    return ((total + 0x8000) >> 16).astype(np.uint8)[..., None]


def rotate(images: np.ndarray, strength: float, numbers: np.ndarray) -> np.ndarray:
    """A turn about the centre, either way."""
    angle = np.radians(ROTATION * strength) * _signs(numbers)
    cosine, sine, zero = np.cos(angle), np.sin(angle), np.zeros(len(angle))
    middle_y, middle_x = ((size - 1) / 2 for size in images.shape[1:3])
    down = middle_y - cosine * middle_y - sine * middle_x
    right = middle_x - cosine * middle_x + sine * middle_y
    return _affine(images, np.stack([cosine, sine, down + zero, -sine, cosine, right + zero], 1))


def shear_x(images: np.ndarray, strength: float, numbers: np.ndarray) -> np.ndarray:
    """Rows slide the more, the lower they are."""
    return _moved(images, 3, SHEAR * strength * _signs(numbers))


def shear_y(images: np.ndarray, strength: float, numbers: np.ndarray) -> np.ndarray:
    """Columns slide the more, the further right they are."""
    return _moved(images, 1, SHEAR * strength * _signs(numbers))


def translate_x(images: np.ndarray, strength: float, numbers: np.ndarray) -> np.ndarray:
    """To the left or right."""
    return _moved(images, 5, TRANSLATION * strength * images.shape[2] * _signs(numbers))


def translate_y(images: np.ndarray, strength: float, numbers: np.ndarray) -> np.ndarray:
    """Up or down."""
    return _moved(images, 2, TRANSLATION * strength * images.shape[1] * _signs(numbers))


def cutout(images: np.ndarray, strength: float, numbers: np.ndarray) -> np.ndarray:
    """A grey box about a random pixel (DeVries and Taylor 2017)."""
    images = images.copy()
    for image, place in zip(images, numbers[:, 1:], strict=True):
        middle = [int(share * size) for share, size in zip(place, image.shape[:2], strict=True)]
        half = [int(CUTOUT * strength * size + 1e-6) for size in image.shape[:2]]
        rows, columns = (slice(max(m - h, 0), m + h) for m, h in zip(middle, half, strict=True))
        image[rows, columns] = GREY
    return images


def _signs(numbers: np.ndarray) -> np.ndarray:
    return np.where(numbers[:, 0] < 0.5, -1.0, 1.0)


def _moved(images: np.ndarray, entry: int, values: np.ndarray) -> np.ndarray:
    """The identity but for one entry of its matrix."""
    matrices = np.tile([1.0, 0, 0, 0, 1, 0], (len(images), 1))
    matrices[:, entry] = values
    return _affine(images, matrices)


def _affine(images: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Pixel (i, j) is the nearest to (a i + b j + c, d i + e j + f) of matrices (batch, 6), grey beyond the border."""
    height, width = images.shape[1:3]
    i, j = np.arange(height)[:, None], np.arange(width)
    moved = np.empty_like(images)
    for out, image, (a, b, c, d, e, f) in zip(moved, images, matrices, strict=True):
        y = np.floor(a * i + b * j + (c + 0.5)).astype(np.int32)
        x = np.floor(d * i + e * j + (f + 0.5)).astype(np.int32)
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        pixels = image.reshape(-1, image.shape[2])[np.where(inside, y * width + x, 0)]
        out[:] = np.where(inside[..., None], pixels, np.uint8(GREY))
    return moved


OPERATIONS: dict[str, Operation] = {
    operation.__name__: operation
    for operation in (
        *(auto_contrast, equalize, invert, rotate, posterize, solarize, color, contrast, brightness, sharpness),
        *(shear_x, shear_y, translate_x, translate_y, cutout, solarize_add),
    )
}
