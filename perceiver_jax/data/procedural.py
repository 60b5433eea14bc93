# SPDX-License-Identifier: Apache-2.0
"""Sets that are made on the fly: nothing is stored, and a split is as large as its field says."""

import dataclasses
from typing import Any

from perceiver_jax.errors import ConfigError

SIZES = ("num_train", "num_validation", "num_test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Procedural:
    """The splits of a set whose example i follows from `set_seed` and i.

    Attributes:
        num_train, num_validation, num_test: sizes of the splits; nothing is stored.
        set_seed: of the set; the run's `seed` is that of the augmentation, where there is one.
    """

    num_train: int
    num_validation: int
    num_test: int
    set_seed: int = 0

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(size.removeprefix("num_") for size in SIZES)

    def num_examples(self, split: str) -> int:
        return getattr(self, f"num_{split}")


def check_counts(source: Any, *names: str) -> None:
    """Raises ConfigError where the size of a split, or another of these fields, is below 1."""
    for name in (*SIZES, *names):
        if getattr(source, name) < 1:
            raise ConfigError(f"{name}={getattr(source, name)}: expected at least 1.")
