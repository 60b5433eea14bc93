# SPDX-License-Identifier: Apache-2.0
"""Images and masks as arrays of one .npz.

`images` (n, height, width[, 3]) uint8, or floating point from 0 to 1; `masks`, if any, (n, height, width) with numbers
of objects, or (n, masks, height, width[, 1]), or (n, height, width, masks).
"""

import pathlib

import numpy as np

from perceiver_jax.errors import ConfigError


def read_scenes(file: pathlib.Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Images (n, height, width, 3) uint8, and masks (n, planes, height, width) of whole numbers, if there are any.

    Raises:
        ConfigError: names the array that is missing, broken or of a wrong shape.
    """
    try:
        with np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files if name in ("images", "masks")}
            names = ", ".join(content.files)
    except Exception as error:  # NumPy and zlib raise whatever a damaged byte leads to
        raise ConfigError(f"{file}: cannot be read ({' '.join(str(error).split())[:120]}). Write it again.") from error
    if "images" not in arrays:
        raise ConfigError(f"{file}: expected an array images, got {names or 'nothing'}.")
    images = _colours(arrays["images"], file)
    return images, _planes(arrays["masks"], images.shape, file) if "masks" in arrays else None


def _colours(images: np.ndarray, file: pathlib.Path) -> np.ndarray:
    """(n, height, width, 3) uint8."""
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:
        raise ConfigError(f"{file}: images has shape {images.shape}: expected (images, height, width[, 1 or 3]).")
    if images.dtype.kind == "f":
        if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1):
            raise ConfigError(f"{file}: images are floating point beyond 0 to 1. Scale them, or store uint8.")
        images = (255 * images + 0.5).astype(np.uint8)
    if images.dtype != np.uint8:
        raise ConfigError(f"{file}: images has type {images.dtype}: expected uint8, or floating point from 0 to 1.")
    return np.broadcast_to(images, (*images.shape[:3], 3))


def _planes(masks: np.ndarray, images: tuple[int, ...], file: pathlib.Path) -> np.ndarray:
    """(n, planes, height, width) whole numbers."""
    count, height, width, _ = images
    if masks.ndim == 5 and masks.shape[4] == 1:
        masks = masks[..., 0]
    if masks.ndim == 3:
        masks = masks[:, None]
    elif masks.ndim == 4 and masks.shape[1:3] == (height, width) != masks.shape[2:]:
        masks = np.moveaxis(masks, 3, 1)
    if masks.ndim != 4 or (len(masks), *masks.shape[2:]) != (count, height, width) or not masks.size:
        raise ConfigError(
            f"{file}: masks has shape {masks.shape}: expected masks of {height} x {width} pixels for {count} images."
        )
    if masks.dtype.kind not in "biu":
        raise ConfigError(f"{file}: masks has type {masks.dtype}: expected whole numbers.")
    return masks
