# SPDX-License-Identifier: Apache-2.0
"""Augmentation of images: pure functions of (batch, height, width, channels) uint8 or float32, a whole batch at a time.

Two steps have a file of their own: `crops` (windows of images, also of different sizes) and `rand_augment`.
Resizing and zooming are one linear map of the rows and one of the columns, so they are two products of matrices;
normalisation is the model's first step (`models/adapters.py`), with the mean and std of the spec.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from perceiver_jax.data import crops, randomness
from perceiver_jax.data.rand_augment import MAX_MAGNITUDE, rand_augment
from perceiver_jax.data.spec import Spec
from perceiver_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageAugmentation:
    """What is done to an image after it was read; sources of images inherit these fields, and all are off by default.

    Order: crop, flip, RandAugment, resize, zoom, permute. Central crop, resizing and permuting act in evaluation too,
    the rest in training only.

    Attributes:
        min_crop_area: random window of an aspect of 3:4 to 4:3 with this share of the area or more, resized to
            `image_size` or, without that, to the image's own size; 1: none. ImageNet's recipes have 0.08.
        central_crop: sides of the window in the centre that is resized where no random one is, as a share of the
            largest; 1: none. ImageNet's recipes have 224 / 256.
        crop_padding: random crop of the same size from the image with so many black pixels around it.
        flip: mirror each image left to right, or not, by a fair coin.
        rand_augment_layers: RandAugment's operations for each image; 0: none.
        rand_augment_magnitude: their strength, 0 to 10.
        image_size: height and width that images are resized to, bilinearly with half-pixel centres as Keras'
            `Resizing`; None: as they are. Windows, and files of different sizes, are resized by `crops`.
        zoom: height and width are scaled by independent U(1 - zoom, 1 + zoom) about the centre, what is outside is
            mirrored, as Keras' `RandomZoom`.
        permutation_seed: one fixed random order of the pixels for all images; None: as they are.
        permutation_file: the order itself, .npy: pixel indices, row by row.
        seed: of the augmentation.
    """

    min_crop_area: float = 1.0
    central_crop: float = 1.0
    crop_padding: int = 0
    flip: bool = False
    rand_augment_layers: int = 0
    rand_augment_magnitude: float = 5.0
    image_size: int | None = None
    zoom: float = 0.0
    permutation_seed: int | None = None
    permutation_file: str = ""
    seed: int = 0

    def __post_init__(self):
        problems = []
        if self.image_size is not None and self.image_size < 1:
            problems.append(f"image_size={self.image_size}: expected at least 1, or None for images as they are.")
        if self.crop_padding < 0:
            problems.append(f"crop_padding={self.crop_padding}: expected 0 (off) or more.")
        for name in ("min_crop_area", "central_crop"):
            if not 0 < getattr(self, name) <= 1:
                problems.append(f"{name}={getattr(self, name)}: expected more than 0, and at most 1 (off).")
        if self.rand_augment_layers < 0:
            problems.append(f"rand_augment_layers={self.rand_augment_layers}: expected 0 (off) or more.")
        if not 0 <= self.rand_augment_magnitude <= MAX_MAGNITUDE:
            problems.append(f"rand_augment_magnitude={self.rand_augment_magnitude}: expected 0 to {MAX_MAGNITUDE}.")
        if not 0 <= self.zoom < 1:
            problems.append(f"zoom={self.zoom}: expected 0 (off) or more, and less than 1.")
        if self.permutation_seed is not None and self.permutation_file:
            problems.append("permutation_seed and permutation_file are both set: expected one of them.")
        if problems:
            raise ConfigError(" ".join(problems))

    @property
    def takes_windows(self) -> bool:
        """Whether windows of the images are resized, which takes images as they were read."""
        return self.min_crop_area < 1 or self.central_crop < 1

    def shape(self, stored: tuple[int, int, int]) -> tuple[int, int, int]:
        """What an image of the stored shape becomes; ConfigError for an order of pixels that does not fit it."""
        shape = stored if self.image_size is None else (self.image_size, self.image_size, stored[2])
        if self.permutation_file:
            pixel_order(shape[0] * shape[1], None, self.permutation_file)
        return shape

    def apply(self, images: np.ndarray | Sequence[np.ndarray], ids: np.ndarray, epoch: int | None) -> np.ndarray:
        """The images of the examples `ids` as the model sees them in this epoch, or in evaluation (None).

        Args:
            images: (batch, height, width, channels), or a list of images of any size, which takes an `image_size`.
        """
        train = epoch is not None
        if self.takes_windows or not isinstance(images, np.ndarray):
            images = self._framed(images, ids, epoch)
        if train and self.crop_padding:
            images = self._cropped(images, ids, epoch)
        if train and self.flip:
            coin = randomness.bits(randomness.keys(self.seed, "flip", ids, epoch), 1)[:, 0]
            images = mirror(images, coin >> np.uint64(63) == 1)
        if train and self.rand_augment_layers:
            key = randomness.keys(self.seed, "rand_augment", ids, epoch)
            images = rand_augment(images, key, self.rand_augment_layers, self.rand_augment_magnitude)
        size = images.shape[1:3] if self.image_size is None else (self.image_size, self.image_size)
        factors = np.ones((len(images), 2), np.float32)
        if train and self.zoom:
            key = randomness.keys(self.seed, "zoom", ids, epoch)
            factors = randomness.uniform(key, (2,), 1 - self.zoom, 1 + self.zoom)
        if size != images.shape[1:3] or (train and self.zoom):
            images = resample(images, size, factors)
        return self._permuted(images)

    def prepare(self, inputs: np.ndarray, spec: Spec) -> np.ndarray:
        """One image (height, width, channels), resized and permuted as in evaluation; another array as it is."""
        return self.apply(inputs[None], np.zeros(1, np.int64), None)[0] if inputs.ndim == 3 else inputs

    def pictured(self, split: str, ids: np.ndarray) -> dict[str, np.ndarray]:
        """The order of the pixels, where they are not in their own."""
        if self.permutation_seed is None and not self.permutation_file:
            return {}
        (shape,) = (array.shape for array in self.spec.arrays.values() if len(array.shape) == 3)
        return {"pixel_order": pixel_order(shape[0] * shape[1], self.permutation_seed, self.permutation_file)}

    def _framed(self, images: np.ndarray | Sequence[np.ndarray], ids: np.ndarray, epoch: int | None) -> np.ndarray:
        size = images[0].shape[:2] if self.image_size is None else (self.image_size, self.image_size)
        if epoch is None or self.min_crop_area == 1:
            windows = (crops.central_window(*image.shape[:2], size, self.central_crop) for image in images)
        else:
            keys = randomness.keys(self.seed, "window", ids, epoch)
            windows = (
                crops.random_window(*image.shape[:2], size, key, self.min_crop_area, self.central_crop)
                for image, key in zip(images, keys, strict=True)
            )
        return np.stack([crops.framed(image, w, size) for image, w in zip(images, windows, strict=True)])

    def _cropped(self, images: np.ndarray, ids: np.ndarray, epoch: int) -> np.ndarray:
        key = randomness.keys(self.seed, "crop", ids, epoch)
        width = 2 * self.crop_padding + 1
        offsets = (randomness.uniform(key, (2,)) * width).astype(np.int64) - self.crop_padding
        return shift(images, np.minimum(offsets, self.crop_padding))

    def unpermuted(self, images: np.ndarray) -> np.ndarray:
        """The pixels of loaded images back in their places, for a person to look at."""
        return self._permuted(images, np.argsort)

    def _permuted(self, images: np.ndarray, of: Callable[[np.ndarray], np.ndarray] = np.asarray) -> np.ndarray:
        """The pixels in the order that `of` makes of the fixed one, where there is one."""
        if self.permutation_seed is None and not self.permutation_file:
            return images
        batch, height, width, channels = images.shape
        order = of(pixel_order(height * width, self.permutation_seed, self.permutation_file))
        return images.reshape(batch, -1, channels).take(order, axis=1).reshape(images.shape)


@functools.lru_cache(maxsize=4)
def pixel_order(num_pixels: int, seed: int | None, file: str) -> np.ndarray:
    """The order of the pixels: by the file, or by the seed.

    Raises:
        ConfigError: the file cannot be read or is no order of so many pixels.
    """
    if not file:
        return randomness.permutation(num_pixels, seed, "pixels")
    try:
        order = np.load(file)
    except Exception as error:  # a damaged header raises whatever it likes
        raise ConfigError(f"permutation_file={file} cannot be read ({' '.join(str(error).split())}).") from error
    if order.ndim != 1 or order.dtype.kind not in "iu" or len(order) != num_pixels:
        raise ConfigError(
            f"permutation_file={file} has shape {order.shape} of {order.dtype}: expected {num_pixels} integers, one "
            "for each pixel of an image."
        )
    if not np.array_equal(np.sort(order), np.arange(num_pixels)):
        raise ConfigError(f"permutation_file={file}: expected each of 0..{num_pixels - 1} once.")
    return order


def shift(images: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Image i moved up and left by offsets[i] pixels (down and right where negative); zero where nothing was."""
    height, width = images.shape[1:3]
    moved = np.zeros_like(images)
    for out, image, (y, x) in zip(moved, images, offsets.tolist(), strict=True):
        inside = image[max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)]
        top, left = max(-y, 0), max(-x, 0)
        out[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return moved


def mirror(images: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Images with those of `chosen` (bool, batch) flipped left to right."""
    mirrored = images.copy()
    mirrored[chosen] = images[chosen, :, ::-1]
    return mirrored


def resample(images: np.ndarray, size: tuple[int, int], factors: np.ndarray) -> np.ndarray:
    """Images resized to (height, width), then zoomed out about the centre by factors (batch, 2) of height and width."""
    pixels = images.transpose(0, 3, 1, 2).astype(np.float32)
    rows, columns = (_zooming(size[k], factors[:, k]) @ _resizing(images.shape[1 + k], size[k]) for k in (0, 1))
    pixels = rows[:, None] @ pixels @ columns[:, None].transpose(0, 1, 3, 2)
    pixels = pixels.transpose(0, 2, 3, 1)
    if images.dtype.kind == "f":
        return np.ascontiguousarray(pixels)
    return (np.minimum(pixels, 255) + np.float32(0.5)).astype(images.dtype)


@functools.lru_cache(maxsize=8)
def _resizing(old: int, new: int) -> np.ndarray:
    """(new, old): bilinear, half-pixel centres, without antialiasing; the border's value beyond the border."""
    place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return _interpolation(place[None], old)[0]


def _zooming(size: int, factors: np.ndarray) -> np.ndarray:
    """(batch, size, size): output i comes from factor * (i - centre) + centre; mirrored beyond the border."""
    centre = (size - 1) / 2
    place = factors.astype(np.float64)[:, None] * (np.arange(size) - centre) + centre
    return _interpolation(place, size)


def _interpolation(place: np.ndarray, size: int) -> np.ndarray:
    """Matrices (batch, outputs, size) that interpolate linearly at the places, (batch, outputs)."""
    low = np.floor(place).astype(np.int64)
    matrices = np.zeros((*place.shape, size), np.float32)
    batch, output = np.indices(place.shape)
    for index, weight in ((low, 1 - (place - low)), (low + 1, place - low)):
        matrices[batch, output, _mirrored(index, size)] += weight.astype(np.float32)
    return matrices


def _mirrored(index: np.ndarray, size: int) -> np.ndarray:
    """... 1 0 | 0 1 2 | 2 1 ..."""
    index = np.mod(index, 2 * size)
    return np.minimum(index, 2 * size - 1 - index)
