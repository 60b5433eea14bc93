# SPDX-License-Identifier: Apache-2.0
"""A split that a set lacks, carved from its training part class by class."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from perceiver_jax.data import randomness
from perceiver_jax.errors import ConfigError

SPLITS = ("train", "validation", "test")


def carved(splits: Mapping[str, Any], fractions: Mapping[str, float], seed: int) -> dict[str, Any]:
    """The splits that have examples; one that is lacking takes its fraction of each class of the training part.

    Args:
        splits: each with the `label` of its examples, and `select`, which gives those that are marked.
        fractions: of the splits that may be lacking, in the order in which they are carved.
    """
    splits = dict(splits)
    for name, fraction in fractions.items():
        if name not in splits:
            train = splits["train"]
            chosen = stratified(train.label, fraction, seed, name)
            splits |= {"train": train.select(~chosen), name: train.select(chosen)}
    return {name: splits[name] for name in SPLITS if name in splits and len(splits[name].label)}


def stratified(label: np.ndarray, fraction: float, seed: int, stream: str = "validation") -> np.ndarray:
    """Marks `fraction` of each class, rounded, and never all of it; bool (examples,)."""
    chosen = np.zeros(len(label), bool)
    order = randomness.permutation(len(label), seed, stream)
    for k in np.unique(label):
        members = order[label[order] == k]
        chosen[members[: min(round(fraction * len(members)), len(members) - 1)]] = True
    return chosen


def check_fraction(source: Any, name: str, *, zero: bool = True) -> None:
    """Raises ConfigError where this field is no share of a class: it never takes all of it.

    Args:
        zero: whether it may be 0, which leaves the split out.
    """
    value = getattr(source, name)
    if not (0 <= value < 1 and (zero or value > 0)):
        raise ConfigError(f"{name}={value}: expected {'0 or more' if zero else 'more than 0'}, and less than 1.")
