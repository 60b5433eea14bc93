# SPDX-License-Identifier: Apache-2.0
"""How far a classifier's confidence, its highest probability, is its accuracy (Guo et al. 2017, section 2)."""

import numpy as np
from jaxtyping import Bool, Float

NUM_BINS = 15


def calibration_bins(
    confidence: Float[np.ndarray, "examples"], correct: Bool[np.ndarray, "examples"], num_bins: int = NUM_BINS
) -> list[dict[str, float | int | None]]:
    """Bins (low, high] of equal width from 0 to 1: `low`, `high`, `count`, and their mean `confidence` and `accuracy`.

    The means of an empty bin are None.
    """
    edges = np.linspace(0, 1, num_bins + 1)
    place = np.searchsorted(edges[1:-1], confidence)
    count = np.bincount(place, minlength=num_bins)
    sums = {"confidence": confidence, "accuracy": correct}
    sums = {name: np.bincount(place, weights=values, minlength=num_bins) for name, values in sums.items()}
    return [
        {
            "low": float(edges[k]),
            "high": float(edges[k + 1]),
            "count": int(count[k]),
            **{name: float(total[k] / count[k]) if count[k] else None for name, total in sums.items()},
        }
        for k in range(num_bins)
    ]


def calibration_errors(bins: list[dict[str, float | int | None]]) -> tuple[float, float]:
    """The mean over examples (expected calibration error, ECE) and the largest of |accuracy - confidence| of a bin."""
    filled = [row for row in bins if row["count"]]
    gaps = [abs(row["accuracy"] - row["confidence"]) for row in filled]
    total = sum(row["count"] for row in filled)
    expected = sum(gap * row["count"] for gap, row in zip(gaps, filled, strict=True)) / max(total, 1)
    return expected, max(gaps, default=0.0)
