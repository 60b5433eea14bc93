# SPDX-License-Identifier: Apache-2.0
"""ModelNet, or any set of point clouds in the HDF5 layout of `modelnet40_ply_hdf5_2048` (Qi et al. 2017).

The layout: `train_files.txt` and `test_files.txt` list HDF5 files by a path of which the last part counts,
each with `data` (clouds, points, 3) and `label` (clouds, 1) or (clouds,); `shape_names.txt` has the class
names by label. The official set has no validation part: one is carved from the training part, class by class.
"""

import dataclasses
import pathlib
import threading

import h5py
import numpy as np

from perceiver_jax.data import randomness
from perceiver_jax.data.points import PointAugmentation, random_subset
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError

ADDRESS = "https://shapenet.cs.stanford.edu/media/modelnet40_ply_hdf5_2048.zip"
COMMAND = "python -m perceiver_jax.main --config=configs/modelnet40.py --config.data.path={path}"
LISTS = {"train": "train_files.txt", "test": "test_files.txt"}
FILES = {"train": "ply_data_train*.h5", "test": "ply_data_test*.h5"}  # where there are no lists

_READING = threading.Lock()  # the files are read once, also when several threads ask first


@dataclasses.dataclass(frozen=True)
class Clouds:
    """The clouds of one split, float32 (clouds, points, 3), and their labels, int32 (clouds,)."""

    points: np.ndarray
    label: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelNet(PointAugmentation):
    """Clouds from HDF5 files, read into memory at the first use; pickles without them.

    Attributes:
        path: the folder with the files, or the one above it. It is only read.
        num_points: points used of each cloud: the first ones, in training too unless `resample`.
        num_evaluation_points: points used in evaluation, if not `num_points`; the Perceiver takes any number.
        resample: another random subset of the stored points for each cloud and epoch.
        validation_fraction: share of each class of the training part that becomes the validation split.
        split_seed: chooses which.

    Raises:
        ConfigError: at the first use: nothing there, a broken file or record, or too few points stored.
    """

    path: str
    num_points: int = 2048
    num_evaluation_points: int | None = None
    resample: bool = False
    validation_fraction: float = 0.1
    split_seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        if self.num_points < 1:
            raise ConfigError(f"num_points={self.num_points}: expected at least 1.")
        if self.num_evaluation_points is not None and self.num_evaluation_points < 1:
            raise ConfigError(f"num_evaluation_points={self.num_evaluation_points}: expected at least 1, or None.")
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError(f"validation_fraction={self.validation_fraction}: expected 0 or more, and less than 1.")

    @property
    def spec(self) -> Spec:
        arrays = {"points": ArraySpec((self.num_points, 3), "float32"), "label": ArraySpec((), "int32")}
        longest = max(self.num_points, self.num_evaluation_points or 0)
        varies = self.num_evaluation_points not in (None, self.num_points)
        return Spec(arrays, class_names=self._read()[0], max_length=longest if varies else None)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._read()[1])

    def num_examples(self, split: str) -> int:
        return len(self._read()[1][split].label)

    def labels(self, split: str) -> np.ndarray:
        return self._read()[1][split].label

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        clouds, ids = self._read()[1][split], np.asarray(ids)
        stored = clouds.points.shape[1]
        if epoch is None:
            points = clouds.points[ids, : self.num_evaluation_points or self.num_points]
        elif stored == self.num_points or not self.resample:
            points = clouds.points[ids, : self.num_points]
        else:
            key = randomness.keys(self.seed, "subset", ids, epoch)
            rows = ids[:, None] * stored + random_subset(stored, self.num_points, key)
            points = clouds.points.reshape(-1, 3).take(rows, axis=0)
        return {"points": self.apply(points, ids, epoch), "label": clouds.label[ids]}

    def _read(self) -> tuple[tuple[str, ...], dict[str, Clouds]]:
        """(class names, splits)."""
        with _READING:
            if "_content" not in self.__dict__:
                names, train, test = read_hdf5(find_folder(self.path))
                self._check_size(train.points.shape[1])
                held_out = stratified(train.label, self.validation_fraction, self.split_seed)
                parts = {"train": _rows(train, ~held_out), "validation": _rows(train, held_out), "test": test}
                self.__dict__["_content"] = names, {k: part for k, part in parts.items() if len(part.label)}
            return self.__dict__["_content"]

    def _check_size(self, stored: int) -> None:
        for name in ("num_points", "num_evaluation_points"):
            if stored < (getattr(self, name) or 0):
                raise ConfigError(
                    f"{name}={getattr(self, name)}: the clouds in {self.path} have {stored} points. "
                    f"Set --config.data.{name}={stored} or less."
                )

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_content"}


def find_folder(path: str | pathlib.Path) -> pathlib.Path:
    """The folder of the layout: `path` itself or the only one right below it.

    Raises:
        ConfigError: there is none, or more than one.
    """
    path = pathlib.Path(path).expanduser()
    inside = sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
    found = [p for p in [path, *inside] if (p / LISTS["train"]).is_file() or any(p.glob(FILES["train"]))]
    if not found:
        problem = "no ModelNet HDF5 files here" if path.is_dir() else "no such folder"
        raise ConfigError(
            f"{path}: {problem}. Fetch {ADDRESS} , unpack it into {path} and run: {COMMAND.format(path=path)}"
        )
    if len(found) > 1 and found[0] != path:
        raise ConfigError(
            f"{path}: holds several sets: {', '.join(p.name for p in found)}. Set the path to one of them."
        )
    return found[0]


def read_hdf5(folder: pathlib.Path) -> tuple[tuple[str, ...], Clouds, Clouds]:
    """Class names, official training part and test part of a folder in the layout, checked.

    Raises:
        ConfigError: names the file and the record that is wrong.
    """
    listed = {split: _files(folder, split) for split in LISTS}
    names = _class_names(folder)
    parts = {split: [_read_file(file, names) for file in files] for split, files in listed.items()}
    pairs = [pair for split in LISTS for pair in zip(parts[split], listed[split], strict=True)]
    sizes = {part.points.shape[1]: file for part, file in pairs}
    if len(sizes) > 1:
        found = ", ".join(f"{size} in {file.name}" for size, file in sizes.items())
        raise ConfigError(f"{folder}: clouds of different size ({found}): expected one number of points in all files.")
    train, test = (_join(parts[split]) for split in ("train", "test"))
    for split, part in (("train", train), ("test", test)):
        if not len(part.label):
            raise ConfigError(f"{folder}: the {split} split is empty: expected at least one cloud in {LISTS[split]}.")
    if unseen := sorted(set(test.label.tolist()) - set(train.label.tolist())):
        missing = ", ".join(names[k] for k in unseen)
        raise ConfigError(f"{folder}: the test split has classes that the training split lacks: {missing}.")
    return names, train, test


def stratified(label: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Marks `fraction` of each class, rounded, and never all of it; bool (clouds,)."""
    chosen = np.zeros(len(label), bool)
    order = randomness.permutation(len(label), seed, "validation")
    for k in np.unique(label):
        members = order[label[order] == k]
        chosen[members[: min(round(fraction * len(members)), len(members) - 1)]] = True
    return chosen


def _files(folder: pathlib.Path, split: str) -> list[pathlib.Path]:
    listing = folder / LISTS[split]
    if not listing.is_file():
        files = sorted(folder.glob(FILES[split]))
        if not files:
            raise ConfigError(f"{folder}: neither {LISTS[split]} nor {FILES[split]}: the {split} split is not there.")
        return files
    names = [line.strip().replace("\\", "/").rsplit("/", 1)[-1] for line in listing.read_text().splitlines()]
    files = [folder / name for name in names if name]
    for number, file in enumerate(files, 1):
        if not file.is_file():
            raise ConfigError(f"{listing}: entry {number}, {file.name}, is not in {folder}. Unpack the set again.")
    return files


def _class_names(folder: pathlib.Path) -> tuple[str, ...]:
    file = folder / "shape_names.txt"
    if not file.is_file():
        raise ConfigError(f"{file} is missing: expected the class names, one a line, by label.")
    names = tuple(line.strip() for line in file.read_text().splitlines() if line.strip())
    if not names or len(set(names)) < len(names):
        raise ConfigError(
            f"{file}: expected different class names, one a line, got {len(names)}, {len(set(names))} different."
        )
    return names


def _read_file(file: pathlib.Path, names: tuple[str, ...]) -> Clouds:
    try:
        with h5py.File(file, "r") as content:
            missing = [name for name in ("data", "label") if not isinstance(content.get(name), h5py.Dataset)]
            if missing:
                raise ConfigError(f"{file}: no {' and no '.join(missing)} in it: expected the arrays data and label.")
            points, label = content["data"][()], content["label"][()]
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read as HDF5 ({_one_line(error)}). Fetch it again.") from error
    _check_shapes(file, points, label)
    points, label = points.astype(np.float32, copy=False), label.reshape(-1)
    _check_records(file, points, label, names)
    return Clouds(points, label.astype(np.int32))


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


def _rows(clouds: Clouds, chosen: np.ndarray) -> Clouds:
    return clouds if chosen.all() else Clouds(clouds.points[chosen], clouds.label[chosen])


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
