# SPDX-License-Identifier: Apache-2.0
"""Scenes prepared once as .npy files, a folder for each split, and read by id: memory holds what a batch needs."""

import contextlib
import dataclasses
import io
import itertools
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from perceiver_jax.data.properties import Property, num_columns
from perceiver_jax.data.read_once import ReadOnce
from perceiver_jax.data.scene_masks import Scene, fitted
from perceiver_jax.data.scenes import ATTRIBUTES
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.data.splits import SPLITS
from perceiver_jax.errors import ConfigError

TYPES = {"image": "uint8", "objects": "uint8", "attributes": "float32", "properties": "float32"}
KNOWN = ({"image"}, {"image", "objects", "attributes"}, {"image", "objects", "attributes", "properties"})


def write(folder: pathlib.Path, scenes: Iterable[tuple[str, Scene]]) -> None:
    """Writes (split, scene), each split in one run, into an empty folder; all scenes have the same shapes."""
    for split, run in itertools.groupby(scenes, key=lambda scene: scene[0]):
        (folder / split).mkdir()
        _write_split(folder / split, (scene for _, scene in run))


def _write_split(folder: pathlib.Path, scenes: Iterator[Scene]) -> None:
    first = next(scenes)
    arrays = {name: array for name, array in first._asdict().items() if array is not None}
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(open(folder / f"{name}.npy", "wb")) for name in arrays}
        for name, array in arrays.items():
            files[name].write(_header(array, 0))
        count = 0
        for scene in itertools.chain([first], scenes):
            count += 1
            for name, file in files.items():
                file.write(getattr(scene, name).tobytes())
        for name, array in arrays.items():
            files[name].seek(0)
            files[name].write(_header(array, count))


def _header(row: np.ndarray, count: int) -> bytes:
    """Of .npy; NumPy leaves room for any count, so that its length does not depend on it."""
    stream = io.BytesIO()
    shape = {"shape": (count, *row.shape), "fortran_order": False, "descr": np.lib.format.dtype_to_descr(row.dtype)}
    np.lib.format.write_array_header_1_0(stream, shape)
    return stream.getvalue()


def read(folder: pathlib.Path) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of every split, mapped and not read.

    Raises:
        ConfigError: they are not what `write` leaves.
    """
    splits = {}
    try:
        for split in filter(lambda split: (folder / split).is_dir(), SPLITS):
            files = sorted((folder / split).glob("*.npy"))
            splits[split] = {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in files}
    except Exception as error:  # NumPy's reader of headers raises whatever a damaged byte leads to
        raise _damaged(folder, " ".join(str(error).split())[:120]) from error
    if "train" not in splits:
        raise _damaged(folder, "it has no training split")
    shapes = [{name: array.shape[1:] for name, array in arrays.items()} for arrays in splits.values()]
    if any(not _whole(arrays) for arrays in splits.values()) or any(shape != shapes[0] for shape in shapes):
        raise _damaged(folder, "its arrays do not fit each other")
    return splits


def _whole(arrays: dict[str, np.ndarray]) -> bool:
    """Whether the arrays of a split belong together."""
    if set(arrays) not in KNOWN:
        return False
    image = arrays["image"]
    wanted = {"image": (len(image), *image.shape[1:3], 3), "objects": image.shape[:3]}
    rows = len(image), *np.shape(arrays.get("attributes"))[1:2]
    wanted |= {name: (*rows, *np.shape(arrays.get(name))[2:][:1]) for name in ("attributes", "properties")}
    wanted["attributes"] = (*rows, len(ATTRIBUTES))
    return all(
        array.dtype.name == TYPES[name] and array.shape == wanted[name] and array.size for name, array in arrays.items()
    )


def _damaged(folder: pathlib.Path, reason: str) -> ConfigError:
    return ConfigError(f"{folder}: the prepared set is damaged ({reason}). Delete it and run again.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredScenes(ReadOnce):
    """What sources of prepared scenes share; a subclass says where they lie in `_prepared`.

    The arrays are those of `scenes`; without masks there is only `image`, and `properties` where the subclass knows
    them. Columns of `attributes` that a set does not give are measured in the masks, or 0 (`scene_masks.measured`).

    Attributes:
        path: of the files.
        image_size: height and width in pixels; None keeps those of the files.
        prepared_path: where the prepared files go; default `path`.prepared or, where that cannot be written,
            perceiver_jax in the user's cache folder.
        seed: not used; a scene is never augmented.
    """

    path: str
    image_size: int | None = None
    prepared_path: str = ""
    seed: int = 0

    def __post_init__(self):
        if self.image_size is not None and self.image_size < 1:
            raise ConfigError(f"image_size={self.image_size}: expected at least 1, or None for that of the files.")

    @property
    def spec(self) -> Spec:
        arrays = self._read()["train"]
        spec = Spec({name: ArraySpec(arrays[name].shape[1:], TYPES[name]) for name in TYPES if name in arrays})
        if "properties" not in spec.arrays:
            return spec
        if spec.arrays["properties"].shape[1] != num_columns(self._properties()):
            raise _damaged(self._prepared(), "its properties are those of another set")
        return dataclasses.replace(spec, properties=self._properties())

    def _properties(self) -> tuple[Property, ...]:
        """What the columns of `properties` are, where the set has any."""
        return ()

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._read())

    def num_examples(self, split: str) -> int:
        return len(self._read()[split]["image"])

    def labels(self, split: str) -> np.ndarray:
        """How many objects each image has; 0 where nobody knows."""
        arrays = self._read()[split]
        if "attributes" not in arrays:
            return np.zeros(len(arrays["image"]), np.int32)
        return arrays["attributes"][:, :, 0].sum(1).astype(np.int32)

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        arrays, ids = self._read()[split], np.asarray(ids)
        batch = {name: np.asarray(arrays[name][ids]) for name in TYPES if name in arrays}
        if "objects" in batch:
            most = arrays["attributes"].shape[1]
            numbers = [batch[name] for name in ("attributes", "properties") if name in batch]
            if batch["objects"].max(initial=0) > most or not all(np.isfinite(array).all() for array in numbers):
                raise _damaged(self._prepared(), f"{split} holds what no scene of up to {most} objects has")
        return batch

    def prepare(self, inputs: np.ndarray, spec: Spec) -> np.ndarray:
        """Cut and resized as the images of the set were, but for one that has the size that the model sees."""
        shape = spec.arrays["image"].shape
        return inputs if inputs.shape == shape else fitted(inputs, self._window(*inputs.shape[:2]), shape[0], True)

    def _window(self, height: int, width: int) -> Sequence[int]:
        """Rows and columns that are used of an image; empty for the largest square in the middle."""
        return ()

    def _prepared(self) -> pathlib.Path:
        """The folder that `write` filled."""
        raise NotImplementedError

    def _content(self) -> dict[str, dict[str, np.ndarray]]:
        return read(self._prepared())
