# SPDX-License-Identifier: Apache-2.0
"""What a model is timed on: random batches of a spec, and a stand-in for a data set that is not on this machine."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from perceiver_jax import registry
from perceiver_jax.data.spec import Spec

NUM_CLASSES, CLOUDS_PER_CLASS = 40, 16
IMAGES = 1000  # in a file
NUM_EXAMPLES = 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomArrays:
    """A source of random numbers in the shapes of `like`, a spec as a dict; it reads nothing and holds nothing."""

    like: Mapping[str, Any]
    seed: int = 0

    @property
    def spec(self) -> Spec:
        return Spec.from_dict(self.like)

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "validation", "test")

    def num_examples(self, split: str) -> int:
        return NUM_EXAMPLES

    def labels(self, split: str) -> np.ndarray:
        return np.zeros(NUM_EXAMPLES, np.int32)

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        random = np.random.default_rng(self.seed)
        return {name: self._array(name, (len(ids), *array.shape), random) for name, array in self.spec.arrays.items()}

    def _array(self, name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        dtype = np.dtype(self.spec.arrays[name].dtype)
        if name == "mask":
            return np.ones(shape, dtype)
        if dtype.kind == "f":
            return random.uniform(-1, 1, shape).astype(dtype)
        high = len(self.spec.class_names) if name == "label" else 256 if dtype == np.uint8 else 2
        return random.integers(0, high, shape).astype(dtype)

    def batch(self, batch_size: int) -> dict[str, np.ndarray]:
        """A batch as the pipeline gives it."""
        ids = np.arange(batch_size, dtype=np.int32)
        return self.load("train", ids, 0) | {"weight": np.ones(batch_size, np.float32), "id": ids}


def register_random_arrays() -> None:
    """Makes the source a config may name, `random`, in this process."""
    registry.PARTS["data"]["random"] = registry.Part(RandomArrays, (RandomArrays,), ("seed",))


def on_random_arrays(config: Mapping[str, Any], spec: Spec) -> dict[str, Any]:
    """The config with its data section replaced by random arrays of the same shapes and classes."""
    return {**config, "data": {"name": "random", "like": spec.to_dict()}}


def on_available_data(config: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The config, on random examples in an official layout in `folder` where it asks for a set that is not there.

    Nothing is downloaded. A path that is there is used, whatever is wrong with it.

    Returns:
        (config, what was replaced, a sentence each).
    """
    data = config["data"]
    if data["name"] not in ("modelnet", "images") or Path(data["path"]).expanduser().exists():
        return dict(config), []
    if data["name"] == "images":
        note = f"{data['path']} is not there: {_write_images(folder, Path(data['path']).name)} in its place."
        return {**config, "data": {**data, "path": str(folder)}}, [note]
    num_points = max(data["num_points"], data["num_evaluation_points"] or 0)
    _write_clouds(folder, num_points)
    note = (
        f"{data['path']} is not there: random clouds in its place, {NUM_CLASSES * CLOUDS_PER_CLASS} of {num_points:,} "
        f"points in {NUM_CLASSES} classes, read by the same code."
    )
    return {**config, "data": {**data, "path": str(folder)}}, [note]


def _write_images(folder: Path, like: str) -> str:
    """CIFAR-10 or CIFAR-100 in the binary version, by the name of the missing folder; says what."""
    num_classes, label_bytes = (100, 2) if like.startswith("cifar-100") else (10, 1)
    names, train, test = {
        10: ("batches.meta.txt", [f"data_batch_{k}.bin" for k in range(1, 6)], "test_batch.bin"),
        100: ("fine_label_names.txt", ["train.bin"], "test.bin"),
    }[num_classes]
    (folder / names).write_text("".join(f"class_{index}\n" for index in range(num_classes)))
    random = np.random.default_rng(0)
    label = np.repeat(np.arange(num_classes, dtype=np.uint8), IMAGES // num_classes)
    for file in [*train, test]:
        records = random.integers(0, 256, (len(label), label_bytes + 3072)).astype(np.uint8)
        records[:, :label_bytes] = label[:, None]
        (folder / file).write_bytes(records.tobytes())
    return f"random images, {len(label) * len(train):,} of 32 x 32 pixels in {num_classes} classes,"


def _write_clouds(folder: Path, num_points: int) -> None:
    """The HDF5 layout that `data.modelnet` reads."""
    random = np.random.default_rng(0)
    for split, clouds_per_class in (("train", CLOUDS_PER_CLASS), ("test", 1)):
        label = np.repeat(np.arange(NUM_CLASSES, dtype=np.uint8), clouds_per_class)
        name = f"ply_data_{split}0.h5"
        with h5py.File(folder / name, "w") as file:
            for array in ("data", "normal"):
                file[array] = random.uniform(-1, 1, (len(label), num_points, 3)).astype(np.float32)
            file["label"] = label[:, None]
        (folder / f"{split}_files.txt").write_text(f"{name}\n")
    names = [f"class_{index}" for index in range(NUM_CLASSES)]
    (folder / "shape_names.txt").write_text("\n".join(names) + "\n")
