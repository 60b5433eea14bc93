# SPDX-License-Identifier: Apache-2.0
"""Inputs that are in no set: read from a file, checked, and brought to what a trained model sees.

Arrays are those of one example, without a batch axis. What is done to them is the source's (`Preparing`); its files are
not touched.
"""

import logging
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from perceiver_jax.data import image_folders
from perceiver_jax.data.scene_masks import fitted
from perceiver_jax.data.source import Preparing
from perceiver_jax.data.spec import Spec
from perceiver_jax.data.text import VOCABULARY_SIZE, encode, read_text
from perceiver_jax.data.ts_format import read_ts
from perceiver_jax.errors import ConfigError

LOG = logging.getLogger(__name__)
Shape = tuple[int, ...]
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""What the pixels of an image file become, by the channels that the model takes."""
SEED = 0
"""Of the points taken from a mesh or from a larger cloud."""
TRUTH = ("label", "mask", "objects", "attributes", "properties")
"""Arrays of an example that are no input."""


def input_name(spec: Spec) -> str:
    """The one array of an example that is none of `TRUTH`."""
    (name,) = (name for name in spec.arrays if name not in TRUTH)
    return name


def kind(spec: Spec) -> str:
    """A key of `READERS`; one's own data are images or sequences if they look like it."""
    name = input_name(spec)
    if name == "image" and "label" not in spec.arrays:
        return "scene"
    if name in READERS:
        return name
    if "mask" in spec.arrays:
        return "sequence"
    return "image" if len(spec.arrays[name].shape) == 3 else "array"


def read(file: pathlib.Path, spec: Spec) -> dict[str, np.ndarray]:
    """The inputs in a file by name: most hold one, a .ts file and a .npy array with one more axis hold several.

    Raises:
        ConfigError: it cannot be read, or is no file for this kind of data.
    """
    what, shape = kind(spec), spec.arrays[input_name(spec)].shape
    reader = {".npy": _array, **READERS[what]}.get(file.suffix.lower())
    if reader is None:
        known = ", ".join([*READERS[what], ".npy"])
        raise ConfigError(f"{file}: this run takes {NAMES[what]}: expected one of {known}, got {file.suffix!r}.")
    try:
        found = reader(file, shape)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror or error}).") from error
    return {str(file): found[0]} if len(found) == 1 else {f"{file}:{k}": part for k, part in enumerate(found, 1)}


def prepare(value: np.ndarray | str | bytes, source: Any, spec: Spec, name: str = "the input") -> np.ndarray:
    """One input as the model sees it; what is longer than the model takes is cut, and that is said.

    Args:
        value: an array; of text also str or UTF-8 bytes.
        source: of the run; only asked to `prepare`, so its files need not be there.
        name: for messages.

    Raises:
        ConfigError: another shape or type than the run was trained on.
    """
    if isinstance(value, str | bytes):
        if kind(spec) != "tokens":
            raise ConfigError(f"{name}: is text: expected an array, this run takes {NAMES[kind(spec)]}.")
        value = encode(value.encode() if isinstance(value, str) else value)
    value, expected = np.asarray(value), spec.arrays[input_name(spec)]
    _check(value, expected.shape, spec, name)
    if "mask" in spec.arrays and len(value) > expected.shape[0]:
        LOG.warning("%s has length %d: cut to the %d that this run takes", name, len(value), expected.shape[0])
        value = value[: expected.shape[0]]
    _check_numbers(value, np.dtype(expected.dtype), spec, name)
    value = value.astype(expected.dtype)
    if isinstance(source, Preparing):
        value = source.prepare(value, spec)
    elif kind(spec) == "scene" and value.shape != expected.shape:
        value = fitted(value, (), expected.shape[0], True)
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise ConfigError(f"{name} holds NaN or infinity: expected finite numbers.")
    if not has_length(spec) and value.shape != expected.shape:
        raise ConfigError(f"{name} has shape {value.shape}: expected {expected.shape}, as the run was trained on.")
    return value


def has_length(spec: Spec) -> bool:
    """Whether inputs may differ in their first axis: sequences, and clouds, of which a Perceiver takes any."""
    return "mask" in spec.arrays or kind(spec) == "points"


def _check(value: np.ndarray, shape: Shape, spec: Spec, name: str) -> None:
    """Axes and channels."""
    if not value.size:
        raise ConfigError(f"{name} is empty: shape {value.shape}.")
    if value.ndim == len(shape) and (value.ndim == 1 or value.shape[-1] == shape[-1]):
        return
    expected = {3: f"(height, width, {shape[-1]})", 2: f"(length, {shape[-1]})", 1: "(length,)"}.get(len(shape), shape)
    swapped = value.ndim == len(shape) and shape[-1] in value.shape[:-1]
    hint = ", got what looks like channels first: move them last" if swapped else ""
    raise ConfigError(f"{name} has shape {value.shape}: expected {expected}{hint}. This run takes {NAMES[kind(spec)]}.")


def _check_numbers(value: np.ndarray, dtype: np.dtype, spec: Spec, name: str) -> None:
    """Type and range."""
    allowed = "f" if dtype.kind == "f" else "iu"
    if value.dtype.kind not in allowed:
        raise ConfigError(f"{name} has type {value.dtype}: expected {dtype}, in the units the run was trained on.")
    highest = VOCABULARY_SIZE - 1 if kind(spec) == "tokens" else 255 if dtype == np.uint8 else None
    if highest is not None and not 0 <= value.min() <= value.max() <= highest:
        raise ConfigError(f"{name} holds {value.min()} to {value.max()}: expected 0 to {highest}.")


def _image(file: pathlib.Path, shape: Shape) -> list[np.ndarray]:
    """Resized so that the shorter side fits, and cropped at the centre, where the model takes squares."""
    if shape[2] not in MODES:
        raise ConfigError(f"{file}: this run takes images of {shape[2]} channels: expected a .npy array.")
    return [image_folders.read_image(file, shape[0] if shape[0] == shape[1] else None, MODES[shape[2]])]


def _whole_image(file: pathlib.Path, shape: Shape) -> list[np.ndarray]:
    return [image_folders.read_image(file, None, MODES[shape[2]])]


def _cloud(form: str) -> Callable[[pathlib.Path, Shape], list[np.ndarray]]:
    def read_file(file: pathlib.Path, shape: Shape) -> list[np.ndarray]:
        from perceiver_jax.data import cloud_files  # imports trimesh

        normals = shape[1] == 6
        if form == "lines":
            return [cloud_files.read_lines(file, shape[0], normals)]
        return [cloud_files.read_cloud(file, form, shape[0], normals, SEED)]

    return read_file


def _array(file: pathlib.Path, shape: Shape) -> list[np.ndarray]:
    try:
        array = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ConfigError(f"{file}: cannot be read ({' '.join(str(error).split())[:120]}).") from error
    return list(array) if array.ndim == len(shape) + 1 and len(array) else [array]


READERS: dict[str, dict[str, Callable[[pathlib.Path, Shape], list[np.ndarray]]]] = {
    "points": {".off": _cloud("off"), ".ply": _cloud("ply"), ".pcd": _cloud("pcd"), ".txt": _cloud("lines")},
    "image": dict.fromkeys(image_folders.SUFFIXES, _image),
    "scene": dict.fromkeys(image_folders.SUFFIXES, _whole_image),
    "sequence": {".ts": lambda file, shape: list(read_ts(file, labelled=False).sequences)},
    "tokens": {".txt": lambda file, shape: [encode(read_text(file))]},
    "array": {},
}
"""Kind -> suffix -> what reads such a file; .npy is read for all."""
NAMES = {
    "points": "point clouds",
    "image": "images",
    "scene": "images",
    "sequence": "sequences",
    "tokens": "text",
    "array": "arrays of one shape",
}
