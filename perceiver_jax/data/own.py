# SPDX-License-Identifier: Apache-2.0
"""Your own examples as sources: of one shape, e.g. images, and sequences of any length.

`factory` names a function, `FILE.py:NAME` or `package.module:NAME`; what it gives is for `own_objects`.
"""

import dataclasses

import numpy as np

from perceiver_jax.data.image_set import channel_statistics
from perceiver_jax.data.images import ImageAugmentation
from perceiver_jax.data.own_objects import Examples, read_own
from perceiver_jax.data.read_once import LabelledSplits
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.data.splits import check_fraction
from perceiver_jax.errors import ConfigError

FRACTIONS = ("validation_fraction", "test_fraction")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnExamples(LabelledSplits, ImageAugmentation):
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

    def __post_init__(self):
        super().__post_init__()
        for name in FRACTIONS:
            check_fraction(self, name)

    @property
    def spec(self) -> Spec:
        names, splits, statistics = self._read()
        first = splits["train"].inputs[0]
        shape = self.shape(first.shape) if first.ndim == 3 else first.shape
        arrays = {"input": ArraySpec(shape, first.dtype.name), "label": ArraySpec((), "int32")}
        return Spec(arrays, names, *statistics)

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        content, ids = self._read()[1][split], np.asarray(ids)
        inputs = np.stack([content.inputs[i] for i in ids])
        inputs = self.apply(inputs, ids, epoch) if inputs.ndim == 4 else inputs
        return {"input": inputs, "label": content.label[ids]}

    def _content(self):
        """(class names, splits, (mean, std) of images in the training split)."""
        fractions = {"test": self.test_fraction, "validation": self.validation_fraction}
        names, splits = read_own(self.factory, fractions, self.split_seed)
        self._check(splits)
        inputs = splits["train"].inputs
        statistics = channel_statistics(np.stack(inputs)) if inputs[0].ndim == 3 else ((), ())
        return names, splits, statistics

    def _check(self, splits: dict[str, Examples]) -> None:
        first = splits["train"].inputs[0]
        for split, part in splits.items():
            for i, array in enumerate(part.inputs):
                if (array.shape, array.dtype) != (first.shape, first.dtype):
                    raise ConfigError(
                        f"{self.factory}: example {i} of {split} has shape {array.shape} and type {array.dtype}: "
                        f"expected {first.shape} and {first.dtype} as the first. Data of any length are own_sequences."
                    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnSequences(LabelledSplits):
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
        for name in FRACTIONS:
            check_fraction(self, name)
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
    def padded_lengths(self) -> tuple[int, ...]:
        """The lengths batches may have, ascending, the last the longest."""
        longest = self._read()[2]
        return tuple(sorted({-(-longest * k // self.num_lengths) for k in range(1, self.num_lengths + 1)}))

    def lengths(self, split: str) -> np.ndarray:
        """Length of every example of the split, int32."""
        return np.array([len(sequence) for sequence in self._read()[1][split].inputs], np.int32)

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        _, splits, longest = self._read()
        content, ids = splits[split], np.asarray(ids)
        inputs = np.zeros((len(ids), longest, content.inputs[0].shape[1]), np.float32)
        mask = np.zeros((len(ids), longest), np.float32)
        for row, i in enumerate(ids):
            sequence = content.inputs[i]
            inputs[row, : len(sequence)], mask[row, : len(sequence)] = sequence, 1
        return {"input": inputs, "mask": mask, "label": content.label[ids]}

    def _content(self) -> tuple[tuple[str, ...], dict[str, Examples], int]:
        """(class names, splits, the longest length)."""
        fractions = {"test": self.test_fraction, "validation": self.validation_fraction}
        names, splits = read_own(self.factory, fractions, self.split_seed)
        channels = (1, *splits["train"].inputs[0].shape)[-1]
        for split, part in splits.items():
            for i, array in enumerate(part.inputs):
                if array.ndim != 2 or array.shape[1] != channels:
                    raise ConfigError(
                        f"{self.factory}: example {i} of {split} has shape {array.shape}: expected (length, "
                        f"{channels})."
                    )
                part.inputs[i] = array[: self.max_length].astype(np.float32)
        longest = max(len(array) for part in splits.values() for array in part.inputs)
        return names, splits, longest
