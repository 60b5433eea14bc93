# SPDX-License-Identifier: Apache-2.0
"""Labels of a set that came without a header to check them against: names for them, and what must hold of them."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from perceiver_jax.errors import ConfigError


def numbered(labels: Iterable[np.ndarray], where: object) -> tuple[str, ...]:
    """Names for classes that have none: their numbers, up to the largest label of any split.

    Raises:
        ConfigError: these would be more classes than there are examples.
    """
    label = np.concatenate(list(labels))
    highest = int(label.max(initial=0))
    if highest >= max(len(label), 1):
        raise ConfigError(
            f"{where}: has the label {highest}, but {len(label)} examples: expected classes numbered from 0."
        )
    return tuple(str(k) for k in range(highest + 1))


def check_labels(labels: Mapping[str, np.ndarray], names: Sequence[str], where: object) -> None:
    """Raises ConfigError where labels are out of range or a class is one that training lacks.

    Args:
        labels: of each split, "train" among them.
        where: the file, folder or factory they are from.
    """
    train = labels["train"]
    if not len(train):
        raise ConfigError(f"{where}: the training split is empty: expected at least one example.")
    highest = int(train.max())
    if train.min() == 1 and len(np.unique(train)) == highest:
        raise ConfigError(f"{where}: train has labels from 1 to {highest}: expected 0 to {highest - 1}. Subtract 1.")
    for split, label in labels.items():
        low, high = int(label.min(initial=0)), int(label.max(initial=0))
        if low < 0 or high >= len(names):
            raise ConfigError(f"{where}: {split} has labels from {low} to {high}: expected 0 to {len(names) - 1}.")
    trained = set(np.unique(train))
    for split, label in labels.items():
        if unseen := sorted(set(np.unique(label)) - trained):
            missing = ", ".join(names[k] for k in unseen)
            raise ConfigError(f"{where}: {split} has classes that train lacks: {missing}.")
