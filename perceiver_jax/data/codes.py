# SPDX-License-Identifier: Apache-2.0
"""Images as the codes of their slots, made once and kept in a file: what a prior over codes is trained on.

PATH/KEY.npz has an array (examples, slots, blocks) for each split; KEY says what made the codes of which data.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.data import randomness
from perceiver_jax.data.read_once import ReadOnce
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.data.splits import SPLITS
from perceiver_jax.errors import ConfigError
from perceiver_jax.files import read_arrays

ORDERS = ("learned", "sorted", "permuted")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Codes(ReadOnce):
    """Codes by example.

    Attributes:
        path: folder of the file.
        key: its name, without the ending.
        order: of the slots, which mean the same image in any: "learned" as they come, which says something where each
            slot begins with a vector of its own; "sorted" by their codes, the first block first; "permuted" anew in
            every epoch, and in evaluation as they come.
        seed: of the permutations.

    Raises:
        ConfigError: no such order; later, where the file is missing or damaged.
    """

    path: str = ""
    key: str = ""
    order: str = "learned"
    seed: int = 0

    def __post_init__(self):
        if self.order not in ORDERS:
            raise ConfigError(f"order={self.order!r}: expected one of {', '.join(ORDERS)}.")

    @property
    def spec(self) -> Spec:
        return Spec({"codes": ArraySpec(self._read()["train"].shape[1:], "int32")})

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if split in self._read())

    def num_examples(self, split: str) -> int:
        return len(self._read()[split])

    def labels(self, split: str) -> np.ndarray:
        """There are no classes."""
        return np.zeros(self.num_examples(split), np.int32)

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        codes = self._read()[split][ids].astype(np.int32)
        if self.order == "permuted" and epoch is not None:
            numbers = randomness.uniform(randomness.keys(self.seed, "slots", ids, epoch), codes.shape[1:2])
            codes = np.take_along_axis(codes, np.argsort(numbers, axis=1)[..., None], axis=1)
        return {"codes": sorted_slots(codes) if self.order == "sorted" else codes}

    def _content(self) -> dict[str, np.ndarray]:
        if not self.key:
            raise ConfigError("codes are made of another run's images: --config.init_from=RUN of configs/svq.py.")
        codes = read(Path(self.path) / f"{self.key}.npz")
        if codes is None:
            raise ConfigError(
                f"{self.path}/{self.key}.npz is missing or damaged: the training command makes these codes anew."
            )
        return codes


def sorted_slots(codes: np.ndarray) -> np.ndarray:
    """The slots of each example in the order of their codes, (examples, slots, blocks)."""
    order = np.stack([np.lexsort(example.T[::-1]) for example in codes])
    return np.take_along_axis(codes, order[..., None], axis=1)


def read(file: Path) -> dict[str, np.ndarray] | None:
    """The codes of each split; None where the file is not there or not what `packed` gave."""
    try:
        codes = read_arrays(file)
    except ConfigError:
        return None
    shapes = {array.shape[1:] for array in codes.values()}
    whole = "train" in codes and set(codes) <= set(SPLITS) and len(shapes) == 1 and len(*shapes) == 2
    return codes if whole and all(array.dtype == np.uint16 for array in codes.values()) else None


def packed(codes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What a file holds of the codes of each split."""
    return {split: np.asarray(array).astype(np.uint16) for split, array in codes.items()}
