# SPDX-License-Identifier: Apache-2.0
"""A set that is described and not read: for what is built of shapes and sizes alone, where the data need not be."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from perceiver_jax.data.spec import ArraySpec, Spec


@dataclasses.dataclass(frozen=True)
class StandIn:
    """A `Source` whose examples are zeros.

    Attributes:
        sizes: examples of each split.
    """

    spec: Spec
    sizes: Mapping[str, int]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.sizes)

    def num_examples(self, split: str) -> int:
        """Size of a split."""
        return self.sizes[split]

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        """Zeros of the spec's shapes."""
        return {name: np.zeros((len(ids), *array.shape), array.dtype) for name, array in self.spec.arrays.items()}

    def labels(self, split: str) -> np.ndarray:
        """All of the first class."""
        return np.zeros(self.sizes[split], np.int32)


Describe = Callable[[Mapping[str, Any]], StandIn]
"""From the `data` section of a config to what stands in for it."""


def images(num_classes: int, **sizes: int) -> Describe:
    """RGB images of the section's size; of splits of these sizes, with classes of which only the number is known."""
    return lambda data: _labelled("image", (data["image_size"],) * 2 + (3,), "uint8", num_classes, sizes)


def clouds(num_classes: int, **sizes: int) -> Describe:
    """Clouds of the section's number of points; as `images`."""
    return lambda data: _labelled(
        "points", (data["num_points"], 6 if data["normals"] else 3), "float32", num_classes, sizes
    )


def _labelled(name: str, shape: tuple[int, ...], dtype: str, num_classes: int, sizes: Mapping[str, int]) -> StandIn:
    arrays = {name: ArraySpec(shape, dtype), "label": ArraySpec((), "int32")}
    names = tuple(f"class {index}" for index in range(num_classes))
    return StandIn(Spec(arrays, names, mean=(0.0,) * shape[-1], std=(1.0,) * shape[-1]), sizes)
