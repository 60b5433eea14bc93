# SPDX-License-Identifier: Apache-2.0
"""Which examples make batch i: pure functions of (seed, i), whatever the processes, devices and workers."""

import dataclasses
import functools

import numpy as np

from perceiver_jax.data import randomness
from perceiver_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Plan:
    """Training batches without end: whole epochs, reshuffled each; what is left over of one sits out.

    Raises:
        ConfigError: the batch is larger than the set.
    """

    num_examples: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True

    def __post_init__(self):
        if self.batch_size < 1:
            raise ConfigError(f"batch_size={self.batch_size}: expected at least 1.")
        if self.num_examples < self.batch_size:
            raise ConfigError(
                f"batch_size={self.batch_size} is more than the {self.num_examples} examples of the training "
                f"split. Use batch_size={max(1, self.num_examples)} or less."
            )

    @property
    def steps_per_epoch(self) -> int:
        return self.num_examples // self.batch_size

    def epoch(self, i: int) -> int:
        """The epoch that batch i belongs to, from 0."""
        return i // self.steps_per_epoch

    def ids(self, i: int) -> np.ndarray:
        """Global example ids of batch i, int64 (batch_size,)."""
        start = i % self.steps_per_epoch * self.batch_size
        if not self.shuffle:
            return np.arange(start, start + self.batch_size)
        return _order(self.num_examples, self.seed, self.epoch(i))[start : start + self.batch_size]


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationPlan:
    """Batches that hold each of the `chosen` exactly once, in order; the last is filled up with id -1."""

    chosen: np.ndarray
    batch_size: int

    @property
    def num_batches(self) -> int:
        return -(-len(self.chosen) // self.batch_size)

    def ids(self, i: int) -> np.ndarray:
        """Global example ids of batch i, int64 (batch_size,), -1 for padding."""
        rows = self.chosen[i * self.batch_size : (i + 1) * self.batch_size]
        return np.pad(rows, (0, self.batch_size - len(rows)), constant_values=-1)


def evaluation_plan(num_examples: int, batch_size: int, num_chosen: int | None = None) -> EvaluationPlan:
    """Plan over all examples, or over `num_chosen` random ones, always the same."""
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} for the evaluation: expected at least 1.")
    if num_chosen is None or num_chosen >= num_examples:
        return EvaluationPlan(np.arange(num_examples), batch_size)
    chosen = randomness.permutation(num_examples, 0, "evaluation")[:num_chosen]
    return EvaluationPlan(np.sort(chosen), batch_size)


@functools.lru_cache(maxsize=2)
def _order(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """The epoch's order; two are kept because prefetching runs ahead over the end of an epoch."""
    order = randomness.permutation(num_examples, seed, "order", epoch)
    order.flags.writeable = False
    return order
