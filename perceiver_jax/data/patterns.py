# SPDX-License-Identifier: Apache-2.0
"""Patterned sequences, the set that is always there: example i follows from the set_seed and i.

A class is a waveform. All channels of an example follow it at one frequency and phase, each with an amplitude of its
own, under noise. Lengths are spread evenly on a logarithmic scale: many short ones and few long ones, as
in most collections.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from perceiver_jax.data import randomness
from perceiver_jax.data.buckets import padded_lengths
from perceiver_jax.data.procedural import Procedural, check_counts
from perceiver_jax.data.sequences import check_lengths
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError

PERIODS = (8.0, 32.0)  # shortest and longest, in steps
AMPLITUDES = (0.5, 1.5)
TURN = np.float32(2 * np.pi)

Waveform = Callable[[np.ndarray], np.ndarray]  # of the number of cycles gone by; its standard deviation is about 0.7

WAVEFORMS: dict[str, Waveform] = {
    "sine": lambda cycles: np.sin(TURN * cycles),
    "square": lambda cycles: np.where(cycles % 1 < 0.5, np.float32(0.7), np.float32(-0.7)),
    "sawtooth": lambda cycles: 2 * (cycles % 1) - 1,
    "pulse": lambda cycles: np.where(cycles % 1 < 0.15, np.float32(1.6), np.float32(-0.3)),
    "beats": lambda cycles: np.sin(TURN * cycles) * np.sin(TURN / 8 * cycles) * np.float32(1.4),
    "triangle": lambda cycles: 4 * np.abs(cycles % 1 - 0.5) - 1,
    "ramp_down": lambda cycles: 1 - 2 * (cycles % 1),
    "two_tones": lambda cycles: (np.sin(TURN * cycles) + np.sin(3 * TURN * cycles)) * np.float32(0.7),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patterns(Procedural):
    """Sequences of `num_channels` channels, classes in turn (the class of example i is i modulo their number).

    Attributes:
        num_train, num_validation, num_test, set_seed: as in Procedural; the run's `seed` changes nothing.
        min_length: of the sequences that are made.
        longest: the same.
        max_length: what is kept of a sequence; None is all.
        num_channels: features of a step.
        num_classes: the first so many of WAVEFORMS.
        noise: standard deviation that is added to every value; the waveforms have about 0.7.
        num_buckets: batches are padded to one of so many lengths; each is a shape to compile.

    Raises:
        ConfigError: a size or range is impossible.
    """

    num_train: int = 5000
    num_validation: int = 500
    num_test: int = 1000
    min_length: int = 50
    longest: int = 200
    max_length: int | None = None
    num_channels: int = 64
    num_classes: int = 5
    noise: float = 0.3
    num_buckets: int = 6
    seed: int = 0

    def __post_init__(self):
        check_lengths(self.max_length, self.num_buckets)
        check_counts(self, "min_length", "num_channels")
        if self.longest < self.min_length:
            raise ConfigError(f"longest={self.longest}: expected at least min_length={self.min_length}.")
        if not 2 <= self.num_classes <= len(WAVEFORMS):
            raise ConfigError(f"num_classes={self.num_classes}: expected 2 to {len(WAVEFORMS)}.")
        if self.noise < 0:
            raise ConfigError(f"noise={self.noise}: expected 0 or more.")

    @property
    def spec(self) -> Spec:
        longest = self._kept()
        arrays = {
            "sequence": ArraySpec((longest, self.num_channels), "float32"),
            "mask": ArraySpec((longest,), "bool"),
            "label": ArraySpec((), "int32"),
        }
        return Spec(arrays, class_names=tuple(WAVEFORMS)[: self.num_classes], max_length=longest)

    def labels(self, split: str) -> np.ndarray:
        return (np.arange(self.num_examples(split)) % self.num_classes).astype(np.int32)

    @property
    def padded_lengths(self) -> tuple[int, ...]:
        return padded_lengths(self.lengths("train"), self.num_buckets, self._kept())

    def lengths(self, split: str) -> np.ndarray:
        return self._lengths(split, np.arange(self.num_examples(split)))

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        ids = np.asarray(ids)
        label, lengths = (ids % self.num_classes).astype(np.int32), self._lengths(split, ids)
        mask = np.arange(lengths.max()) < lengths[:, None]
        sequence = self._waves(split, ids, label, mask.shape[1])
        # Uniform numbers: the first of them are the same however many are drawn.
        limit = self.noise * 3**0.5
        sequence += randomness.uniform(self._key(split, "noise", ids), sequence.shape[1:], -limit, limit)
        return {"sequence": sequence * mask[..., None], "mask": mask, "label": label}

    def _waves(self, split: str, ids: np.ndarray, label: np.ndarray, length: int) -> np.ndarray:
        start, speed = randomness.uniform(self._key(split, "waves", ids), (2,)).T
        low, high = PERIODS
        cycles = np.arange(length, dtype=np.float32) / (low * (high / low) ** speed)[:, None]
        cycles += start[:, None] * np.float32(8)  # of one beat
        waves = np.empty(cycles.shape, np.float32)
        for k, wave in enumerate(tuple(WAVEFORMS.values())[: self.num_classes]):
            waves[label == k] = wave(cycles[label == k])
        amplitudes = randomness.uniform(self._key(split, "amplitudes", ids), (self.num_channels,), *AMPLITUDES)
        return waves[:, :, None] * amplitudes[:, None]

    def _lengths(self, split: str, ids: np.ndarray) -> np.ndarray:
        share = randomness.uniform(self._key(split, "length", ids), (1,))[:, 0].astype(np.float64)
        lengths = self.min_length * ((self.longest + 1) / self.min_length) ** share
        return np.minimum(lengths.astype(np.int32), self._kept())

    def _kept(self) -> int:
        return min(self.longest, self.max_length or self.longest)

    def _key(self, split: str, stream: str, ids: np.ndarray) -> np.ndarray:
        return randomness.keys(self.set_seed, f"patterns {split} {stream}", ids)
