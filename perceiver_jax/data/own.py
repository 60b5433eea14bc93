# SPDX-License-Identifier: Apache-2.0
"""Your own examples, from any Python object with `__len__` and `__getitem__`.

`factory` names a function, `FILE.py:NAME` or `package.module:NAME`. Called with "train", "validation" or "test" it
returns the examples of that split, or None where there are none: those of validation and test are then taken from
train. An example is a dict: `input`, an array; `label`, an integer from 0; and for sequences, if you like, `mask`, 1
for each real step. Class names are the attribute `class_names` of what is returned for "train", or numbers.
"""

import dataclasses
import importlib
import importlib.util
import pathlib
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from perceiver_jax.data.image_arrays import numbered
from perceiver_jax.data.image_set import channel_statistics
from perceiver_jax.data.images import ImageAugmentation
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.data.splits import stratified
from perceiver_jax.errors import ConfigError

SPLITS = ("train", "validation", "test")
_READING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Examples:
    """Inputs of one split, each an array, and their labels, int32."""

    inputs: list[np.ndarray]
    label: np.ndarray

    def rows(self, chosen: np.ndarray) -> "Examples":
        """Those that are marked."""
        return Examples([self.inputs[i] for i in np.flatnonzero(chosen)], self.label[chosen])


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnExamples(ImageAugmentation):
    """Examples of one shape, read into memory at the first use; images (height, width, channels) are augmented.

    Attributes:
        factory: see above.
        validation_fraction, test_fraction: share of each class taken from train where the factory returns None.
        split_seed: chooses which.

    Raises:
        ConfigError: at the first use: nothing to import, or an example that is wrong.
    """

    factory: str
    validation_fraction: float = 0.1
    test_fraction: float = 0.2
    split_seed: int = 0

    @property
    def spec(self) -> Spec:
        names, splits, statistics = self._read()
        first = splits["train"].inputs[0]
        shape = first.shape
        if first.ndim == 3 and self.image_size:
            shape = (self.image_size, self.image_size, shape[2])
        arrays = {"input": ArraySpec(shape, first.dtype.name), "label": ArraySpec((), "int32")}
        return Spec(arrays, names, *statistics)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._read()[1])

    def num_examples(self, split: str) -> int:
        return len(self._read()[1][split].label)

    def labels(self, split: str) -> np.ndarray:
        return self._read()[1][split].label

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        content, ids = self._read()[1][split], np.asarray(ids)
        inputs = np.stack([content.inputs[i] for i in ids])
        inputs = self.apply(inputs, ids, epoch) if inputs.ndim == 4 else inputs
        return {"input": inputs, "label": content.label[ids]}

    def _read(self):
        """(class names, splits, (mean, std) of images in the training split)."""
        with _READING:
            if "_content" not in self.__dict__:
                fractions = {"test": self.test_fraction, "validation": self.validation_fraction}
                names, splits = read_own(self.factory, fractions, self.split_seed)
                self._check(splits)
                inputs = splits["train"].inputs
                statistics = channel_statistics(np.stack(inputs)) if inputs[0].ndim == 3 else ((), ())
                self.__dict__["_content"] = names, splits, statistics
            return self.__dict__["_content"]

    def _check(self, splits: dict[str, Examples]) -> None:
        first = splits["train"].inputs[0]
        for split, part in splits.items():
            for i, array in enumerate(part.inputs):
                if (array.shape, array.dtype) != (first.shape, first.dtype):
                    raise ConfigError(
                        f"{self.factory}: example {i} of {split} has shape {array.shape} and type {array.dtype}: "
                        f"expected {first.shape} and {first.dtype} as the first. Data of any length are own_sequences."
                    )

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_content"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnSequences:
    """Sequences (length, channels) of any length, padded with zeros to the longest; `mask` is 1 for real steps.

    Attributes:
        factory, validation_fraction, test_fraction, split_seed: as in OwnExamples.
        max_length: longer ones are cut; None keeps all.
        num_lengths: how many lengths batches are padded to, evenly spaced.
        seed: of nothing here.
    """

    factory: str
    max_length: int | None = None
    num_lengths: int = 4
    validation_fraction: float = 0.1
    test_fraction: float = 0.2
    split_seed: int = 0
    seed: int = 0

    def __post_init__(self):
        for name in ("max_length", "num_lengths"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: expected at least 1.")

    @property
    def spec(self) -> Spec:
        names, splits, longest = self._read()
        arrays = {
            "input": ArraySpec((longest, splits["train"].inputs[0].shape[1]), "float32"),
            "mask": ArraySpec((longest,), "float32"),
            "label": ArraySpec((), "int32"),
        }
        return Spec(arrays, names, max_length=longest)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._read()[1])

    @property
    def padded_lengths(self) -> tuple[int, ...]:
        """The lengths batches may have, ascending, the last the longest."""
        longest = self._read()[2]
        return tuple(sorted({-(-longest * k // self.num_lengths) for k in range(1, self.num_lengths + 1)}))

    def lengths(self, split: str) -> np.ndarray:
        """Length of every example of the split, int32."""
        return np.array([len(sequence) for sequence in self._read()[1][split].inputs], np.int32)

    def num_examples(self, split: str) -> int:
        return len(self._read()[1][split].label)

    def labels(self, split: str) -> np.ndarray:
        return self._read()[1][split].label

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        _, splits, longest = self._read()
        content, ids = splits[split], np.asarray(ids)
        inputs = np.zeros((len(ids), longest, content.inputs[0].shape[1]), np.float32)
        mask = np.zeros((len(ids), longest), np.float32)
        for row, i in enumerate(ids):
            sequence = content.inputs[i]
            inputs[row, : len(sequence)], mask[row, : len(sequence)] = sequence, 1
        return {"input": inputs, "mask": mask, "label": content.label[ids]}

    def _read(self) -> tuple[tuple[str, ...], dict[str, Examples], int]:
        """(class names, splits, the longest length)."""
        with _READING:
            if "_content" not in self.__dict__:
                fractions = {"test": self.test_fraction, "validation": self.validation_fraction}
                names, splits = read_own(self.factory, fractions, self.split_seed)
                channels = splits["train"].inputs[0].shape[-1]
                for split, part in splits.items():
                    for i, array in enumerate(part.inputs):
                        if array.ndim != 2 or array.shape[1] != channels or not len(array):
                            raise ConfigError(
                                f"{self.factory}: example {i} of {split} has shape {array.shape}: expected (length, "
                                f"{channels}) with a length of at least 1."
                            )
                        part.inputs[i] = array[: self.max_length].astype(np.float32)
                longest = max(len(array) for part in splits.values() for array in part.inputs)
                self.__dict__["_content"] = names, splits, longest
            return self.__dict__["_content"]

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_content"}


def read_own(factory: str, fractions: dict[str, float], split_seed: int) -> tuple[tuple[str, ...], dict[str, Examples]]:
    """Class names and splits of a factory's examples, those of `fractions` taken from train where it has none.

    Raises:
        ConfigError: names the example that is wrong.
    """
    make = find_factory(factory)
    objects = {split: make(split) for split in SPLITS}
    if objects["train"] is None or not len(objects["train"]):
        raise ConfigError(f"{factory}: has no examples for 'train': expected at least one.")
    splits = {
        split: _examples(examples, f"{factory}: example {{}} of {split}")
        for split, examples in objects.items()
        if examples is not None and len(examples)
    }
    names = tuple(map(str, getattr(objects["train"], "class_names", ()))) or numbered(splits["train"].label)
    for split, part in splits.items():
        if part.label.max() >= len(names):
            raise ConfigError(f"{factory}: {split} has the label {part.label.max()}: expected 0 to {len(names) - 1}.")
    for split, fraction in fractions.items():
        if split not in splits and fraction:
            chosen = stratified(splits["train"].label, fraction, split_seed, split)
            splits |= {split: splits["train"].rows(chosen), "train": splits["train"].rows(~chosen)}
    return names, {split: splits[split] for split in SPLITS if split in splits and len(splits[split].label)}


def find_factory(name: str) -> Callable[[str], Any]:
    """The function that `FILE.py:NAME` or `package.module:NAME` names.

    Raises:
        ConfigError: it cannot be imported.
    """
    place, _, attribute = name.rpartition(":")
    try:
        if place.endswith(".py"):
            file = pathlib.Path(place).expanduser()
            spec = importlib.util.spec_from_file_location(file.stem, file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
        return getattr(module, attribute)
    except (ImportError, OSError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"factory={name!r} cannot be imported ({' '.join(str(error).split())}). Write FILE.py:NAME or module:NAME."
        ) from error


def _examples(examples: Any, where: str) -> Examples:
    inputs, labels = [], []
    for i in range(len(examples)):
        example = examples[i]
        if not isinstance(example, dict) or not {"input", "label"} <= example.keys():
            got = ", ".join(map(str, example)) if isinstance(example, dict) else type(example).__name__
            raise ConfigError(f"{where.format(i)}: expected a dict with input and label, got {got}.")
        array, label = np.asarray(example["input"]), np.asarray(example["label"])
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        if "mask" in example:
            array = array[np.asarray(example["mask"]).astype(bool)]
        if label.shape != () or label.dtype.kind not in "iu" or label < 0:
            raise ConfigError(f"{where.format(i)}: its label is {example['label']!r}: expected an integer from 0.")
        if array.dtype.kind not in "iuf" or (array.dtype.kind == "f" and not np.isfinite(array).all()):
            raise ConfigError(f"{where.format(i)}: its input is not all finite numbers ({array.dtype}).")
        inputs.append(array)
        labels.append(int(label))
    return Examples(inputs, np.array(labels, np.int32))
