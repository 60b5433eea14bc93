# SPDX-License-Identifier: Apache-2.0
"""What the curves of a training say: pure functions of arrays in the order of training.

Accuracies and other scores are fractions in [0, 1]. Nothing is clipped: a loss that jumps by 3 has a convergence of -2.
"""

from typing import NamedTuple

import numpy as np

RECENT = 10
"""Epochs that stability looks back on; all of them where there are fewer."""
LOG_RANGE = 20.0
"""A curve whose largest value is so many times its smallest is drawn on a logarithmic axis."""
CONFIDENCE = 1.96
"""Standard errors on either side of a mean: 95 % of a normal distribution."""
SETTLED = 3
"""Evaluations at the end whose mean a verdict is about, so that a single one does not decide."""
LOW, GAP, WIDE_GAP = 0.7, 0.05, 0.15
"""A verdict's limits: an accuracy in training below LOW is underfitting, a gap above GAP overfitting."""
LOSS_RISE, LOSS_FALL = 1.1, 0.9
"""The same for losses: above LOSS_RISE of its minimum is overfitting, above LOSS_FALL of the first underfitting."""


class Verdict(NamedTuple):
    """One word, and the numbers behind it."""

    word: str
    reason: str


UNKNOWN = Verdict("unknown", "fewer than two values of train and held out to compare")


def stability(scores: np.ndarray) -> float:
    """1 - the population standard deviation of the last ten."""
    return 1 - float(np.std(scores[-RECENT:])) if len(scores) else np.nan


def convergence(losses: np.ndarray) -> float:
    """1 - |last - the one before|; NaN for a single loss."""
    return 1 - abs(float(losses[-1] - losses[-2])) if len(losses) > 1 else np.nan


def generalization(train: float, held_out: float) -> float:
    """1 - |train - held out|."""
    return 1 - abs(train - held_out)


def improvement(scores: np.ndarray) -> float:
    """Last - first."""
    return float(scores[-1] - scores[0]) if len(scores) else np.nan


def overfitting(train: float, held_out: float) -> float:
    """max(0, train - held out); NaN where either is."""
    return float(np.maximum(0.0, train - held_out))


def trend(x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """The least-squares polynomial through the finite points at every x; None for fewer than three.

    Its degree is a third of their number, at most 3: less bends would hide the course, more would follow the noise.
    """
    real = np.isfinite(y)
    if real.sum() < 3 or np.ptp(x[real]) == 0:
        return None
    return np.polynomial.Polynomial.fit(x[real], y[real], deg=min(3, max(1, int(real.sum()) // 3)))(x)


def rolling(values: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of the last `window` finite values at each place, and the 95 % confidence band of that mean.

    Returns:
        mean, low, high: NaN where there is no value, the band also where there is only one.
    """
    rows = np.full((3, len(values)), np.nan)
    for end in range(1, len(values) + 1):
        seen = values[max(0, end - window) : end]
        seen = seen[np.isfinite(seen)]
        if len(seen):
            error = CONFIDENCE * np.std(seen, ddof=1) / np.sqrt(len(seen)) if len(seen) > 1 else np.nan
            rows[0, end - 1] = np.mean(seen)
            rows[1:, end - 1] = np.mean(seen) - error, np.mean(seen) + error
    return rows[0], rows[1], rows[2]


def wants_log(*curves: np.ndarray) -> bool:
    """Whether the curves, all above zero, span so much that a linear axis would hide their end."""
    values = np.concatenate([curve[np.isfinite(curve)] for curve in curves] or [np.zeros(0)])
    return bool(len(values) and values.min() > 0 and values.max() / values.min() >= LOG_RANGE)


def rate_drops(rates: np.ndarray) -> list[int]:
    """Places where a learning rate that was constant falls to half or less; a smooth decay has none."""
    flat = np.isclose(rates[1:-1], rates[:-2], rtol=0.01)
    return (2 + np.flatnonzero(flat & (rates[2:] <= 0.5 * rates[1:-1]))).tolist()


def fit_by_score(train: np.ndarray, held_out: np.ndarray) -> Verdict:
    """Over- or underfitting by two scores that were measured at the same times; higher is better."""
    both = np.isfinite(train) & np.isfinite(held_out)
    if not both.any():
        return UNKNOWN
    a, b = (float(np.mean(scores[both][-SETTLED:])) for scores in (train, held_out))
    reason = f"train {a:.1%}, held out {b:.1%}, gap {a - b:+.1%} (mean of the last {min(SETTLED, both.sum())})"
    if a - b > WIDE_GAP:
        return Verdict("overfitting", reason)
    if a < LOW:
        return Verdict("underfitting", reason)
    return Verdict("slight overfitting" if a - b > GAP else "good fit", reason)


def fit_by_loss(train: np.ndarray, held_out: np.ndarray) -> Verdict:
    """Over- or underfitting by two losses that were measured at the same times; unknown where one is not positive."""
    both = (train > 0) & (held_out > 0) & np.isfinite(train) & np.isfinite(held_out)
    train, held_out = train[both], held_out[both]
    if len(train) < 2:
        return UNKNOWN
    rise, fall = held_out[-1] / held_out.min(), train[-1] / train[0]
    reason = f"held out {rise:.2f} x its minimum, train {fall:.2f} x its first"
    if rise > LOSS_RISE and np.argmin(held_out) < len(held_out) - 1 and train[-1] < held_out[-1]:
        return Verdict("overfitting", reason)
    return Verdict("underfitting" if fall > LOSS_FALL else "good fit", reason)
