# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in their official folders, the Python and the binary version.

A record is 3,072 bytes: red, green, blue, each row by row. Of CIFAR-100's two labels the fine one counts.
"""

import dataclasses
import pathlib
import pickle
from typing import Any

import numpy as np

from perceiver_jax.errors import ConfigError

SHAPE = (3, 32, 32)
RECORD = 3 * 32 * 32
MD5 = {  # of the official archives, from https://www.cs.toronto.edu/~kriz/cifar.html
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
    "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
}
TRAIN_10 = tuple(f"data_batch_{k}" for k in range(1, 6))


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """The images of one split, (images, height, width, channels), and their labels, int32 (images,)."""

    image: np.ndarray
    label: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Of each image."""
        return self.image.shape[1:]

    def images(self, ids: np.ndarray) -> np.ndarray:
        """Those of these rows."""
        return self.image[ids]

    def select(self, chosen: np.ndarray) -> "LabelledImages":
        """Those that are marked."""
        return self if chosen.all() else LabelledImages(self.image[chosen], self.label[chosen])


@dataclasses.dataclass(frozen=True)
class Version:
    """One of the four official folders.

    Attributes:
        files: of each split.
        names: the file with the class names.
        label_key: of a pickle; "" for the binary version.
        label_bytes: before a binary record; the last is the label.
    """

    files: dict[str, tuple[str, ...]]
    names: str
    label_key: str = ""
    label_bytes: int = 0


VERSIONS = {
    "cifar-10-batches-py": Version({"train": TRAIN_10, "test": ("test_batch",)}, "batches.meta", "labels"),
    "cifar-100-python": Version({"train": ("train",), "test": ("test",)}, "meta", "fine_labels"),
    "cifar-10-batches-bin": Version(
        {"train": tuple(f"{name}.bin" for name in TRAIN_10), "test": ("test_batch.bin",)},
        "batches.meta.txt",
        label_bytes=1,
    ),
    "cifar-100-binary": Version(
        {"train": ("train.bin",), "test": ("test.bin",)}, "fine_label_names.txt", label_bytes=2
    ),
}


def version(folder: pathlib.Path) -> Version | None:
    """Which official folder this is, by its file of class names and the first of its training files."""
    for candidate in VERSIONS.values():
        if (folder / candidate.names).is_file() and (folder / candidate.files["train"][0]).is_file():
            return candidate
    return None


def read_cifar(folder: pathlib.Path) -> tuple[tuple[str, ...], dict[str, LabelledImages]]:
    """Class names and splits of an official folder, checked.

    Raises:
        ConfigError: a file is missing or broken, a label is out of range.
    """
    kind = version(folder)
    names = _class_names(folder / kind.names)
    splits = {}
    for split, files in kind.files.items():
        parts = [_read_file(folder / file, kind, len(names)) for file in files]
        image, label = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        splits[split] = LabelledImages(np.ascontiguousarray(image.transpose(0, 2, 3, 1)), label)
    return names, splits


def _class_names(file: pathlib.Path) -> tuple[str, ...]:
    if file.suffix == ".txt":
        return tuple(line.strip() for line in _text(file).splitlines() if line.strip())
    meta = _unpickle(file)
    names = next((meta[key] for key in ("fine_label_names", "label_names") if key in meta), None)
    if not names:
        raise ConfigError(f"{file}: holds no class names: expected label_names or fine_label_names. Unpack it again.")
    return tuple(name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names)


def _read_file(file: pathlib.Path, kind: Version, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 3, 32, 32) uint8 and labels (n,) int32."""
    data, label = _pickled(file, kind.label_key) if kind.label_key else _binary(file, kind.label_bytes)
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != RECORD or len(label) != len(data):
        raise ConfigError(
            f"{file}: images of shape {data.shape} and type {data.dtype} with {len(label)} labels: expected "
            f"(n, {RECORD}) uint8 and n labels. Unpack the set again."
        )
    if len(label) and not 0 <= label.min() <= label.max() < num_classes:
        raise ConfigError(
            f"{file}: labels from {label.min()} to {label.max()}: expected 0 to {num_classes - 1}, one for each name."
        )
    return data.reshape(-1, *SHAPE), label.astype(np.int32)


def _pickled(file: pathlib.Path, label_key: str) -> tuple[np.ndarray, np.ndarray]:
    content = _unpickle(file)
    if missing := [key for key in ("data", label_key) if key not in content]:
        raise ConfigError(f"{file}: has no {missing[0]!r}, got {', '.join(map(str, content))}. Unpack the set again.")
    return np.asarray(content["data"]), np.asarray(content[label_key])


def _binary(file: pathlib.Path, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    content, size = np.frombuffer(_bytes(file), np.uint8), RECORD + label_bytes
    if len(content) % size:
        raise ConfigError(f"{file}: {len(content)} bytes: expected a multiple of {size}. Unpack the set again.")
    records = content.reshape(-1, size)
    return records[:, label_bytes:], records[:, label_bytes - 1]


def _text(file: pathlib.Path) -> str:
    try:
        return _bytes(file).decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 text (byte {error.start}). Unpack the set again.") from error


def _bytes(file: pathlib.Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}). Unpack the set again.") from error


class _ArraysOnly(pickle.Unpickler):
    """A pickle may run anything; these hold dicts, lists, strings and NumPy arrays."""

    ALLOWED = {"_reconstruct", "ndarray", "dtype", "encode", "_frombuffer"}

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] in ("numpy", "_codecs") and name in self.ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no array")


def _unpickle(file: pathlib.Path) -> dict[str, Any]:
    try:
        with open(file, "rb") as stream:
            content = _ArraysOnly(stream, encoding="latin1").load()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}). Unpack the set again.") from error
    except Exception as error:  # a broken pickle raises whatever it likes
        raise ConfigError(
            f"{file}: is no CIFAR file ({type(error).__name__}: {' '.join(str(error).split())[:100]}). "
            "Unpack the set again."
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: holds {type(content).__name__}: expected a dict. Unpack the set again.")
    return {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
