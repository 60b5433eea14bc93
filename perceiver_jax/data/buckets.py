# SPDX-License-Identifier: Apache-2.0
"""Length buckets: which examples share a batch, and to which length it is padded.

Examples are never kept apart: those of a bucket stand side by side, so that most batches lie in one bucket and a few
reach over into the next. The number of buckets bounds the number of shapes that are compiled.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Buckets:
    """The lengths of a split's examples, and the lengths that batches may have.

    Attributes:
        lengths: int (examples,), none above the last of `padded`.
        padded: ascending; the last is the longest length of the set.
    """

    lengths: np.ndarray
    padded: tuple[int, ...]

    def sort(self, ids: np.ndarray) -> np.ndarray:
        """The ids by bucket, in their order within one."""
        return ids[np.argsort(np.searchsorted(self.padded, self.lengths[ids]), kind="stable")]

    def length(self, ids: np.ndarray) -> int:
        """The length that a batch of these is padded to; ids below 0 are nobody."""
        longest = self.lengths[ids[ids >= 0]].max()
        return int(self.padded[np.searchsorted(self.padded, longest)])


def padded_lengths(lengths: np.ndarray, num_buckets: int, longest: int) -> tuple[int, ...]:
    """Up to `num_buckets` lengths that divide the examples evenly; the last is `longest`."""
    shares = np.arange(1, num_buckets) / num_buckets
    cuts = np.quantile(lengths, shares, method="higher")
    return tuple(sorted({*(int(cut) for cut in cuts if cut < longest), longest}))
