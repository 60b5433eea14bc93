# SPDX-License-Identifier: Apache-2.0
"""The HDF5 layout of `modelnet40_ply_hdf5_2048` (Qi et al. 2017).

`train_files.txt` and `test_files.txt` list HDF5 files by a path of which the last part counts, each with `data`
(clouds, points, 3), `label` (clouds, 1) or (clouds,) and, where normals are asked for, `normal` (clouds, points, 3);
`shape_names.txt` has the class names by label.
"""

import dataclasses
import math
import pathlib

import h5py
import numpy as np

from perceiver_jax.data.layouts import HDF5_FILES, HDF5_LISTS, read_class_names, read_lines
from perceiver_jax.errors import ConfigError

LARGEST_PACKING = 2000  # gzip packs up to 1032 bytes into one


@dataclasses.dataclass(frozen=True)
class Clouds:
    """The clouds of one split, float32 (clouds, points, 3, or 6 with normals), and their labels, int32 (clouds,)."""

    points: np.ndarray
    label: np.ndarray

    def select(self, chosen: np.ndarray) -> "Clouds":
        """Those that are marked."""
        return self if chosen.all() else Clouds(self.points[chosen], self.label[chosen])


def read_hdf5(folder: pathlib.Path, normals: bool = False) -> tuple[tuple[str, ...], Clouds, Clouds]:
    """Class names, official training part and test part of a folder in the layout, checked.

    Raises:
        ConfigError: names the file and the record that is wrong.
    """
    listed = {split: _files(folder, split) for split in HDF5_LISTS}
    names = read_class_names(folder / "shape_names.txt")
    parts = {split: [_read_file(file, names, normals) for file in files] for split, files in listed.items()}
    pairs = [pair for split in HDF5_LISTS for pair in zip(parts[split], listed[split], strict=True)]
    sizes = {part.points.shape[1]: file for part, file in pairs}
    if len(sizes) > 1:
        found = ", ".join(f"{size} in {file.name}" for size, file in sizes.items())
        raise ConfigError(f"{folder}: clouds of different size ({found}): expected one number of points in all files.")
    train, test = (_join(parts[split]) for split in ("train", "test"))
    for split, part in (("train", train), ("test", test)):
        if not len(part.label):
            raise ConfigError(
                f"{folder}: the {split} split is empty: expected at least one cloud in {HDF5_LISTS[split]}."
            )
    if unseen := sorted(set(test.label.tolist()) - set(train.label.tolist())):
        missing = ", ".join(names[k] for k in unseen)
        raise ConfigError(f"{folder}: the test split has classes that the training split lacks: {missing}.")
    return names, train, test


def _files(folder: pathlib.Path, split: str) -> list[pathlib.Path]:
    listing = folder / HDF5_LISTS[split]
    if not listing.is_file():
        files = sorted(folder.glob(HDF5_FILES[split]))
        if not files:
            raise ConfigError(
                f"{folder}: neither {HDF5_LISTS[split]} nor {HDF5_FILES[split]}: the {split} split is not there."
            )
        return files
    names = [line.strip().replace("\\", "/").rsplit("/", 1)[-1] for line in read_lines(listing)]
    files = [folder / name for name in names if name]
    for number, file in enumerate(files, 1):
        if not file.is_file():
            raise ConfigError(f"{listing}: entry {number}, {file.name}, is not in {folder}. Unpack the set again.")
    return files


def _read_file(file: pathlib.Path, names: tuple[str, ...], normals: bool) -> Clouds:
    try:
        with h5py.File(file, "r") as content:
            wanted = ["data", "label", *(["normal"] if normals else [])]
            missing = [name for name in wanted if not isinstance(content.get(name), h5py.Dataset)]
            if missing:
                raise ConfigError(
                    f"{file}: no {' and no '.join(missing)} in it: expected the arrays {' and '.join(wanted)}."
                )
            points, label, *normal = (_read_array(file, content[name]) for name in wanted)
    except ConfigError:
        raise
    except Exception as error:  # h5py raises whatever a damaged byte leads to
        raise ConfigError(f"{file}: cannot be read as HDF5 ({_one_line(error)}). Fetch it again.") from error
    _check_shapes(file, points, label)
    if normals:
        if normal[0].shape != points.shape or normal[0].dtype.kind != "f":
            raise ConfigError(f"{file}: normal is {normal[0].dtype} {normal[0].shape}: expected floats {points.shape}.")
        points = np.concatenate([points, normal[0]], axis=-1)
    points, label = points.astype(np.float32, copy=False), label.reshape(-1)
    _check_records(file, points, label, names)
    return Clouds(points, label.astype(np.int32))


def _read_array(file: pathlib.Path, array: h5py.Dataset) -> np.ndarray:
    """The array, if the file holds all of it: HDF5 fills in zeros for what it lacks, of any size."""
    stored, size = array.id.get_storage_size(), array.size * array.dtype.itemsize
    if array.chunks:
        whole = math.prod(-(-n // step) for n, step in zip(array.shape, array.chunks, strict=True))
        complete = array.id.get_num_chunks() == whole and size <= stored * LARGEST_PACKING
    else:
        complete = stored >= size
    if not complete:
        raise ConfigError(
            f"{file}: {array.name} is cut off: expected {array.dtype} {array.shape}, got {stored} bytes. "
            "Fetch it again."
        )
    return array[()]


def _check_shapes(file: pathlib.Path, points: np.ndarray, label: np.ndarray) -> None:
    if points.ndim != 3 or points.shape[2] != 3 or not points.shape[1] or points.dtype.kind != "f":
        raise ConfigError(f"{file}: data is {points.dtype} {points.shape}: expected floats (clouds, points, 3).")
    if label.shape not in ((len(points), 1), (len(points),)) or label.dtype.kind not in "iu":
        raise ConfigError(
            f"{file}: label is {label.dtype} {label.shape}: expected integers ({len(points)}, 1), one for each cloud."
        )


def _check_records(file: pathlib.Path, points: np.ndarray, label: np.ndarray, names: tuple[str, ...]) -> None:
    wrong = np.flatnonzero((label < 0) | (label >= len(names)))
    if len(wrong):
        raise ConfigError(
            f"{file}: record {wrong[0]} has label {label[wrong[0]]}: expected 0..{len(names) - 1}, "
            f"the {len(names)} lines of shape_names.txt."
        )
    with np.errstate(invalid="ignore"):
        total = points.sum(dtype=np.float64)
    if not np.isfinite(total):  # one pass without a copy; only then look for the record
        record = np.flatnonzero(~np.isfinite(points).all((1, 2)))[0]
        raise ConfigError(f"{file}: record {record} ({names[label[record]]}) has coordinates that are not finite.")


def _join(parts: list[Clouds]) -> Clouds:
    if not parts:
        return Clouds(np.empty((0, 0, 3), np.float32), np.empty(0, np.int32))
    points, label = zip(*((part.points, part.label) for part in parts), strict=True)
    return Clouds(np.concatenate(points), np.concatenate(label))


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
