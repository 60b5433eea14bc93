# SPDX-License-Identifier: Apache-2.0
"""Sequences of any length in memory: how they are stored, cut, put into buckets and given out as padded rows.

The readers `timeseries` and `text` stand on it; files and formats are theirs.
"""

import dataclasses
import logging
import multiprocessing
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from perceiver_jax.data.buckets import padded_lengths
from perceiver_jax.data.read_once import LabelledSplits
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Ragged:
    """Sequences with their labels, one after the other in one array.

    Attributes:
        values: (elements of all sequences, ...).
        ends: (sequences,), where each ends in `values`.
        label: (sequences,) int32.
    """

    values: np.ndarray
    ends: np.ndarray
    label: np.ndarray

    @classmethod
    def of(cls, sequences: Sequence[np.ndarray], label: Sequence[int] | np.ndarray) -> "Ragged":
        """From one array a sequence."""
        ends = np.cumsum([len(sequence) for sequence in sequences])
        return cls(np.concatenate(sequences), ends, np.asarray(label, np.int32))

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.ends, prepend=0).astype(np.int32)

    def rows(self, ids: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """The sequences `ids`, the first `longest` elements of each, zeros behind them; and their mask, bool."""
        lengths = np.minimum(self.lengths[ids], longest)
        steps = np.arange(lengths.max())
        mask = steps < lengths[:, None]
        starts = self.ends[ids] - self.lengths[ids]
        values = self.values[np.where(mask, starts[:, None] + steps, 0)]
        return values * mask.reshape(*mask.shape, *[1] * (values.ndim - 2)), mask

    def select(self, chosen: np.ndarray) -> "Ragged":
        """The sequences that are chosen, bool (sequences,)."""
        keep = np.repeat(chosen, self.lengths)
        return Ragged(self.values[keep], np.cumsum(self.lengths[chosen]), self.label[chosen])


@dataclasses.dataclass(frozen=True)
class Content:
    """What a reader found.

    Attributes:
        splits: name -> sequences; without those that are empty.
        mean, std: of each channel, already taken out of the sequences.
    """

    class_names: tuple[str, ...]
    splits: Mapping[str, Ragged]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredSequences(LabelledSplits):
    """Sequences that a reader, `_find`, brings into memory at the first use; pickles without them.

    Attributes:
        max_length: longer sequences are cut, which is said once; None is the longest of the set.
        num_buckets: batches are padded to one of so many lengths; each is a shape to compile.
        seed: of a run; nothing here depends on it.

    Raises:
        ConfigError: a length or a number of buckets below 1.
    """

    max_length: int | None = None
    num_buckets: int = 1
    seed: int = 0

    array: ClassVar[str] = "sequence"
    """Name of the sequences in a batch."""

    def __post_init__(self):
        check_lengths(self.max_length, self.num_buckets)

    def _find(self) -> Content:
        """Reads the set."""
        raise NotImplementedError

    @property
    def spec(self) -> Spec:
        content = self._read()
        values = content.splits["train"].values
        longest = self._longest()
        arrays = {
            self.array: ArraySpec((longest, *values.shape[1:]), values.dtype.name),
            "mask": ArraySpec((longest,), "bool"),
            "label": ArraySpec((), "int32"),
        }
        return Spec(arrays, content.class_names, content.mean, content.std, max_length=longest)

    @property
    def padded_lengths(self) -> tuple[int, ...]:
        return padded_lengths(self.lengths("train"), self.num_buckets, self._longest())

    def lengths(self, split: str) -> np.ndarray:
        return np.minimum(self._read().splits[split].lengths, self._longest())

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        sequences = self._read().splits[split]
        values, mask = sequences.rows(np.asarray(ids), self._longest())
        return {self.array: values, "mask": mask, "label": sequences.label[ids]}

    def _longest(self) -> int:
        return self.max_length or max(int(part.lengths.max()) for part in self._read().splits.values())

    def _content(self) -> Content:
        content = self._find()
        self._say_what_is_cut(content)
        return content

    def _parts(self) -> Mapping[str, Ragged]:
        return self._read().splits

    def _say_what_is_cut(self, content: Content) -> None:
        if self.max_length is None or multiprocessing.parent_process() is not None:  # a data worker: said already
            return
        lengths = np.concatenate([part.lengths for part in content.splits.values()])
        if cut := int((lengths > self.max_length).sum()):
            LOG.warning(
                "%d of %d sequences are longer than max_length=%d (the longest: %d) and are cut",
                *(cut, len(lengths), self.max_length, lengths.max()),
            )


def check_lengths(max_length: int | None, num_buckets: int) -> None:
    """Raises ConfigError where one of them is below 1."""
    if max_length is not None and max_length < 1:
        raise ConfigError(f"max_length={max_length}: expected at least 1, or None for the longest of the set.")
    if num_buckets < 1:
        raise ConfigError(f"num_buckets={num_buckets}: expected at least 1.")
