# SPDX-License-Identifier: Apache-2.0
"""Time series of the UCR/UEA archive: NAME_TRAIN.ts and, beside it, NAME_TEST.ts (`ts_format` reads one file).

Any number of channels, any lengths, missing values. Channels are standardised by the training split; a missing value is
interpolated in time.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from perceiver_jax.data import randomness
from perceiver_jax.data.sequences import Content, Ragged, StoredSequences
from perceiver_jax.data.spec import Spec
from perceiver_jax.data.splits import check_fraction, stratified
from perceiver_jax.data.ts_format import TsFile, read_ts
from perceiver_jax.errors import ConfigError

ADDRESS = "https://www.timeseriesclassification.com/aeon-toolkit/{name}.zip"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimeSeries(StoredSequences):
    """Sequences of `.ts` files, read into memory at the first use.

    Attributes:
        path: the training file, or a folder with one NAME_TRAIN.ts.
        validation_fraction: share of each class of the training file that becomes the validation split; at least one
            example.
        split_seed: chooses which.
        jitter: standard deviation of the noise that is added in training, in those of the channel.
        scale: in training each channel of an example is multiplied by a random factor in [1 - scale, 1 + scale].
        dropped_steps: share of the steps that are left out, by the mask, in training.

    Raises:
        ConfigError: at the first use: no such file, or one is broken.
    """

    path: str
    validation_fraction: float = 0.1
    split_seed: int = 0
    jitter: float = 0.0
    scale: float = 0.0
    dropped_steps: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        check_fraction(self, "validation_fraction")
        if self.jitter < 0:
            raise ConfigError(f"jitter={self.jitter}: expected 0 or more.")
        for name in ("scale", "dropped_steps"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: expected 0 or more, and less than 1.")

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        batch = super().load(split, ids, epoch)
        return batch if epoch is None else batch | self._augmented(batch, np.asarray(ids), epoch)

    def prepare(self, inputs: np.ndarray, spec: Spec) -> np.ndarray:
        """One sequence (length, channels), standardised by the training split; NaN is interpolated."""
        return standardized([inputs], np.array(spec.mean, np.float32), np.array(spec.std, np.float32))[0]

    def _augmented(self, batch: dict[str, np.ndarray], ids: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
        """Uniform numbers only: the first of them are the same in a longer batch."""
        sequence, mask = batch["sequence"], batch["mask"]

        def key(stream):
            return randomness.keys(self.seed, stream, ids, epoch)

        if self.scale:
            factors = randomness.uniform(key("scale"), (1, sequence.shape[2]), 1 - self.scale, 1 + self.scale)
            sequence = sequence * factors
        if self.jitter:
            limit = self.jitter * 3**0.5
            sequence = sequence + randomness.uniform(key("jitter"), sequence.shape[1:], -limit, limit) * mask[..., None]
        if self.dropped_steps:
            kept = mask & (randomness.uniform(key("drop"), mask.shape[1:]) >= self.dropped_steps)
            mask = np.where(kept.any(1, keepdims=True), kept, mask)
        return {"sequence": sequence, "mask": mask}

    def _find(self) -> Content:
        train_file = find_train_file(pathlib.Path(self.path).expanduser())
        train = read_ts(train_file)
        chosen = self._validation(np.asarray(train.label))
        mean, std = statistics([sequence for sequence, out in zip(train.sequences, chosen, strict=True) if not out])
        stored = Ragged.of(standardized(train.sequences, mean, std), train.label)
        splits = {"train": stored.select(~chosen), "validation": stored.select(chosen)}
        test_file = train_file.with_name(train_file.name.replace("_TRAIN", "_TEST"))
        if test_file.exists():
            test = read_ts(test_file)
            splits["test"] = Ragged.of(standardized(test.sequences, mean, std), _labels(test, train, test_file))
        splits = {split: part for split, part in splits.items() if len(part.label)}
        return Content(train.class_names, splits, tuple(mean.tolist()), tuple(std.tolist()))

    def _validation(self, label: np.ndarray) -> np.ndarray:
        """Marks the cases of the validation split: one at least, if the fraction is not 0."""
        fraction = self.validation_fraction
        if fraction:
            fraction = max(fraction, 0.51 / np.bincount(label).max())
        return stratified(label, fraction, self.split_seed)


def find_train_file(path: pathlib.Path) -> pathlib.Path:
    """The training file that `path` is or that lies in it.

    Raises:
        ConfigError: there is none, or there are several.
    """
    if path.is_file():
        return path
    found = sorted(path.glob("*_TRAIN.ts"))
    if len(found) != 1:
        got = ", ".join(file.name for file in found) or "none" if path.is_dir() else "no such folder"
        raise ConfigError(
            f"{path}: expected a folder with one NAME_TRAIN.ts and, beside it, NAME_TEST.ts, got {got}. Fetch a set "
            f"from {ADDRESS.format(name=path.name or 'NAME')} and set --config.data.path to its folder or file."
        )
    return found[0]


def statistics(sequences: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over all values that are there, float32; 0 and 1 without any."""
    values = np.concatenate(sequences).astype(np.float64)
    there = ~np.isnan(values)
    count = np.maximum(there.sum(0), 1)
    mean = np.where(there, values, 0).sum(0) / count
    std = np.sqrt((np.where(there, values - mean, 0) ** 2).sum(0) / count)
    return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def standardized(sequences: Sequence[np.ndarray], mean: np.ndarray, std: np.ndarray) -> list[np.ndarray]:
    """Mean 0 and deviation 1, missing values interpolated in time; a channel without any is 0."""
    return [np.apply_along_axis(_filled, 0, (sequence - mean) / std) for sequence in sequences]


def _filled(channel: np.ndarray) -> np.ndarray:
    missing = np.isnan(channel)
    if not missing.any():
        return channel
    if missing.all():
        return np.zeros_like(channel)
    steps = np.arange(len(channel))
    return np.interp(steps, steps[~missing], channel[~missing]).astype(np.float32)


def _labels(test: TsFile, train: TsFile, file: pathlib.Path) -> np.ndarray:
    """The labels of the test file as those of the training file, by name; checks that the two belong together."""
    channels = test.sequences[0].shape[1], train.sequences[0].shape[1]
    if channels[0] != channels[1]:
        raise ConfigError(f"{file}: has {channels[0]} channels, the training file {channels[1]}. Fetch both again.")
    known = {train.class_names[label] for label in train.label}
    names = [test.class_names[label] for label in test.label]
    if lacking := sorted(set(names) - known):
        raise ConfigError(
            f"{file}: class {lacking[0]!r} is not in the training file: expected {', '.join(sorted(known))}. "
            "Remove its cases, or add some for training."
        )
    return np.array([train.class_names.index(name) for name in names], np.int32)
