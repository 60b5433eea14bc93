# SPDX-License-Identifier: Apache-2.0
"""A split that a set lacks, carved from another one class by class."""

import numpy as np

from perceiver_jax.data import randomness


def stratified(label: np.ndarray, fraction: float, seed: int, stream: str = "validation") -> np.ndarray:
    """Marks `fraction` of each class, rounded, and never all of it; bool (examples,)."""
    chosen = np.zeros(len(label), bool)
    order = randomness.permutation(len(label), seed, stream)
    for k in np.unique(label):
        members = order[label[order] == k]
        chosen[members[: min(round(fraction * len(members)), len(members) - 1)]] = True
    return chosen
