# SPDX-License-Identifier: Apache-2.0
"""Images that stay in their files, for sets that are too large for memory: read one by one when they are needed."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class ImagesById:
    """The images of one split, in the place of `cifar.LabelledImages`.

    Attributes:
        read: number -> image (height, width, channels) uint8, of any size.
        number: of each row, (images,).
        label: of each row, int32 (images,).
    """

    read: Callable[[int], np.ndarray]
    number: np.ndarray
    label: np.ndarray

    shape = None
    """Of each image: not known."""

    @classmethod
    def all(cls, read: Callable[[int], np.ndarray], label: Sequence[int] | np.ndarray) -> "ImagesById":
        """Of images numbered from 0, with these labels."""
        return cls(read, np.arange(len(label)), np.asarray(label, np.int32))

    def images(self, ids: np.ndarray) -> list[np.ndarray]:
        """Those of these rows."""
        return [self.read(int(i)) for i in self.number[ids]]

    def select(self, chosen: np.ndarray) -> "ImagesById":
        """Those that are marked."""
        return ImagesById(self.read, self.number[chosen], self.label[chosen])
