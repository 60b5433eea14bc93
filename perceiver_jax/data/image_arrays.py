# SPDX-License-Identifier: Apache-2.0
"""Images and labels as plain arrays: one .npz, .npy files of the same names, or MNIST's idx files.

Names are {split}_images and {split}_labels, or x_{split} and y_{split} as Keras' data sets have them, for the splits
train, validation and test; `class_names` is optional.
"""

import gzip
import pathlib
import zlib

import numpy as np

from perceiver_jax.data.cifar import LabelledImages
from perceiver_jax.data.labels import numbered
from perceiver_jax.data.splits import SPLITS
from perceiver_jax.errors import ConfigError

NAMES = (("{}_images", "{}_labels"), ("x_{}", "y_{}"))
IDX = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")}
IDX["test"] = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
IDX_TYPES = {8: np.uint8, 9: np.int8, 11: np.int16, 12: np.int32, 13: np.float32, 14: np.float64}
BROKEN = (OSError, ValueError, EOFError, KeyError, IndexError, zlib.error)


def arrays_lie_in(folder: pathlib.Path) -> bool:
    """Whether a folder holds one .npz, or .npy files of a training split."""
    return len(list(folder.glob("*.npz"))) == 1 or any(
        (folder / f"{image.format('train')}.npy").is_file() for image, _ in NAMES
    )


def idx_lie_in(folder: pathlib.Path) -> bool:
    """Whether a folder holds the training images of an MNIST-like set, packed or not."""
    return _idx_file(folder, IDX["train"][0]).is_file()


def read_arrays(path: pathlib.Path) -> tuple[tuple[str, ...], dict[str, LabelledImages]]:
    """Class names and splits of a .npz, or of a folder with one or with .npy files.

    Raises:
        ConfigError: names the array that is missing, broken or of a wrong shape.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.npz"))[:1] or sorted(path.glob("*.npy"))
    arrays = {}
    for file in files:
        try:
            content = np.load(file, allow_pickle=False)
            arrays |= dict(content) if file.suffix == ".npz" else {file.stem: content}
        except Exception as error:  # a damaged header raises whatever it likes
            raise _unreadable(file, error) from error
    splits = {}
    for split in SPLITS:
        for image, label in NAMES:
            image, label = image.format(split), label.format(split)
            if image in arrays:
                if label not in arrays:
                    raise ConfigError(f"{path}: has {image} but no {label}: expected one label for each image.")
                splits[split] = labelled(arrays[image], arrays[label], f"{path}: {image}")
    if "train" not in splits:
        known = " or ".join(image.format("train") for image, _ in NAMES)
        raise ConfigError(f"{path}: expected {known}, got {', '.join(arrays) or 'nothing'}.")
    if "class_names" in arrays:
        return tuple(map(str, arrays["class_names"].ravel())), splits
    return numbered((part.label for part in splits.values()), path), splits


def read_idx(folder: pathlib.Path) -> tuple[tuple[str, ...], dict[str, LabelledImages]]:
    """Splits of an MNIST-like folder; classes are numbers.

    Raises:
        ConfigError: a file is missing or broken.
    """
    splits = {}
    for split, (image, label) in IDX.items():
        if split == "train" or _idx_file(folder, image).is_file():
            images, labels = (_idx(_idx_file(folder, name)) for name in (image, label))
            splits[split] = labelled(images, labels, f"{folder}: {image}")
    return numbered((part.label for part in splits.values()), folder), splits


def labelled(images: np.ndarray, labels: np.ndarray, where: str) -> LabelledImages:
    """Images (n, height, width, channels) uint8 or float32 and labels (n,), checked.

    Raises:
        ConfigError: wrong shape or type, not as many labels, a NaN.
    """
    images = images[..., None] if images.ndim == 3 else images
    labels = np.asarray(labels).reshape(-1)
    if images.ndim != 4 or images.shape[3] > 4:
        hint = ", got what looks like channels first: move them last" if images.ndim == 4 else ""
        raise ConfigError(f"{where} has shape {images.shape}: expected (images, height, width[, 1 to 4]){hint}.")
    if len(labels) != len(images) or labels.dtype.kind not in "iu":
        raise ConfigError(
            f"{where}: {len(images)} images with {len(labels)} labels of {labels.dtype}: expected one integer each."
        )
    if images.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is named
            images = images.astype(np.float32, copy=False)
        if bad := np.flatnonzero(~np.isfinite(images).all((1, 2, 3))).tolist():
            raise ConfigError(f"{where}: {len(bad)} images hold NaN or infinity, the first is number {bad[0]}.")
    elif images.dtype != np.uint8:
        raise ConfigError(f"{where} has type {images.dtype}: expected uint8, or floating point.")
    return LabelledImages(images, labels.astype(np.int32))


def _idx_file(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The file as it lies there: by its name, with a dot, or packed."""
    for written in (name, name.replace("-idx", ".idx")):
        for file in (folder / written, folder / f"{written}.gz"):
            if file.is_file():
                return file
    return folder / f"{name}.gz"


def _idx(file: pathlib.Path) -> np.ndarray:
    """Two zeros, a type, the number of axes, their sizes (big-endian), the numbers."""
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        dtype, ndim = np.dtype(IDX_TYPES[content[2]]).newbyteorder(">"), content[3]
        shape = np.frombuffer(content, ">i4", ndim, 4)
        return np.frombuffer(content, dtype, offset=4 + 4 * ndim).reshape(shape).astype(dtype.newbyteorder("="))
    except BROKEN as error:
        raise _unreadable(file, error) from error


def _unreadable(file: pathlib.Path, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())[:120]
    return ConfigError(f"{file}: cannot be read ({type(error).__name__}: {reason}). Fetch or write it again.")
