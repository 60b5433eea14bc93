# SPDX-License-Identifier: Apache-2.0
"""Models: adapters of inputs, the Perceiver, attention. They know nothing of data, metrics or training."""

from collections.abc import Sequence
from typing import Any

STACK = "layers"  # name of every scanned stack of layers


def stacked_axes(path: Sequence[str]) -> int:
    """How many leading axes of the parameter at `path` are stacked layers: one for each "layers" in it."""
    return sum(part == STACK for part in path)


def build(size: str, **fields: Any):
    """A Perceiver for sequences: `models.sizes.build` says which sizes and fields there are."""
    from perceiver_jax.models import sizes  # which needs this package to be there

    return sizes.build(size, **fields)
