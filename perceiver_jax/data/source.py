# SPDX-License-Identifier: Apache-2.0
"""The one interface every data set has. How to add one: CONTRIBUTING.md."""

from typing import Protocol, runtime_checkable

import numpy as np

from perceiver_jax.data.spec import Spec


@runtime_checkable
class Source(Protocol):
    """Examples by id, a whole batch at a time.

    A source is built from fields alone, reads files at the first use, may be used from several threads, and
    pickles without its arrays (data workers are spawned).
    """

    @property
    def spec(self) -> Spec:
        """Arrays of one example, class names, and what else a model is built from."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits with at least one example, e.g. ("train", "validation", "test")."""

    def num_examples(self, split: str) -> int:
        """Size of the split; ids run from 0."""

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        """The examples `ids`, rows in that order, keys and types as in `spec.arrays`.

        `epoch` None: as evaluated, without augmentation. Else augmented by numbers that follow from the
        source's seed, the epoch and the example's id only, so that neither batch, nor process, nor worker
        changes an example.
        """

    def labels(self, split: str) -> np.ndarray:
        """Class of every example of the split, int32."""


@runtime_checkable
class Preparing(Protocol):
    """A source whose examples are changed after they were read; `data.inputs` gives the others to the model as read."""

    def prepare(self, inputs: np.ndarray, spec: Spec) -> np.ndarray:
        """One input, as a user has it, as `load` would give it in evaluation; reads no file of the set.

        Args:
            spec: of the set that the run was trained on.
        """


@runtime_checkable
class VariableLength(Source, Protocol):
    """A source of sequences: batches are made of similar lengths, and padded to one of a few.

    `spec.max_length` is the longest; arrays whose first axis has that size in the spec vary with the length. `load`
    pads them to the longest of its rows, or more, with zeros; one of them is `mask`, 1 for real.
    """

    @property
    def padded_lengths(self) -> tuple[int, ...]:
        """The lengths batches may have, ascending, the last `spec.max_length`; each is a shape to compile."""

    def lengths(self, split: str) -> np.ndarray:
        """Length of every example of the split, int32, not above `spec.max_length`."""


@runtime_checkable
class Pictured(Source, Protocol):
    """A source that can say, for whoever draws its examples, more of them than a model sees."""

    def pictured(self, split: str, ids: np.ndarray) -> dict[str, np.ndarray]:
        """Some of these, as `load` gives the examples in evaluation.

        `pixel_order` (pixels,): which pixel of the picture each one of the array is, row by row; `object` (examples,
        height, width) bool: where the object is, in the array's own order of pixels.
        """
