# SPDX-License-Identifier: Apache-2.0
"""Which examples make batch i: pure functions of (seed, i), whatever the processes, devices and workers."""

import dataclasses
import functools

import numpy as np

from perceiver_jax.data import randomness
from perceiver_jax.data.buckets import Buckets
from perceiver_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Plan:
    """Training batches without end: whole epochs, reshuffled each; what is left over of one sits out.

    With `buckets` a batch holds examples of about the same length; who sits out and the order of the batches are
    random all the same.

    Raises:
        ConfigError: the batch is larger than the set.
    """

    num_examples: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    buckets: Buckets | None = None

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
        return _batches(self, self.epoch(i))[i % self.steps_per_epoch]

    def length(self, i: int) -> int | None:
        """The length batch i is padded to, where lengths vary."""
        return self.buckets and self.buckets.length(self.ids(i))


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationPlan:
    """Batches that hold each of the `chosen` exactly once, in order; the last is filled up with id -1."""

    chosen: np.ndarray
    batch_size: int
    buckets: Buckets | None = None

    @property
    def num_batches(self) -> int:
        return -(-len(self.chosen) // self.batch_size)

    def ids(self, i: int) -> np.ndarray:
        """Global example ids of batch i, int64 (batch_size,), -1 for padding."""
        rows = self.chosen[i * self.batch_size : (i + 1) * self.batch_size]
        return np.pad(rows, (0, self.batch_size - len(rows)), constant_values=-1)

    def length(self, i: int) -> int | None:
        """The length batch i is padded to, where lengths vary."""
        return self.buckets and self.buckets.length(self.ids(i))


def evaluation_plan(
    num_examples: int, batch_size: int, num_chosen: int | None = None, buckets: Buckets | None = None
) -> EvaluationPlan:
    """Plan over all examples, or over `num_chosen` random ones, always the same; by bucket where there are any."""
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} for the evaluation: expected at least 1.")
    chosen = np.arange(num_examples)
    if num_chosen is not None and num_chosen < num_examples:
        chosen = np.sort(randomness.permutation(num_examples, 0, "evaluation")[:num_chosen])
    return EvaluationPlan(buckets.sort(chosen) if buckets else chosen, batch_size, buckets)


@functools.lru_cache(maxsize=2)
def _batches(plan: Plan, epoch: int) -> np.ndarray:
    """The epoch's ids, (steps, batch_size); two are kept because prefetching runs ahead over the end of an epoch."""
    steps, n = plan.steps_per_epoch, plan.num_examples
    ids = randomness.permutation(n, plan.seed, "order", epoch) if plan.shuffle else np.arange(n)
    ids = ids[: steps * plan.batch_size]
    if plan.buckets is not None:
        ids = plan.buckets.sort(ids)
    batches = ids.reshape(steps, plan.batch_size)
    if plan.buckets is not None and plan.shuffle:
        batches = batches[randomness.permutation(steps, plan.seed, "batches", epoch)]
    batches.flags.writeable = False
    return batches
