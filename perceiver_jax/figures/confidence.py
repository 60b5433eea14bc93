# SPDX-License-Identifier: Apache-2.0
"""Confidence of a classifier: how it is distributed, and how often it is right at which confidence."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from perceiver_jax.figures import canvas

RIGHT, WRONG = canvas.COLOURS[:2]
NUM_BINS = 40
Z = 1.96  # of the normal distribution: 95 %


def histogram(confidence: Float[np.ndarray, "examples"], correct: Bool[np.ndarray, "examples"]) -> Any:
    """How many examples have which confidence, right ones above wrong ones, each on a scale of its own."""
    figure = canvas.new(7, 5)
    parts = {"right": (correct, RIGHT), "wrong": (~correct, WRONG)}
    for axes, (name, (chosen, colour)) in zip(figure.subplots(2, 1, sharex=True), parts.items(), strict=True):
        axes.hist(confidence[chosen], bins=NUM_BINS, range=(0, 1), color=colour, edgecolor="white", linewidth=0.3)
        share = f"{chosen.sum():,} of {len(chosen):,} ({100 * chosen.mean():.2f} %)"
        if chosen.any():
            mean = confidence[chosen].mean()
            axes.axvline(mean, color="black", linestyle="--", linewidth=1, label=f"mean {mean:.3f}")
            axes.legend(loc="upper left", frameon=False)
        axes.set_title(f"{name}: {share}", fontsize=10, loc="left")
        axes.set(xlim=(0, 1), ylabel="examples")
        axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("confidence: the highest probability")
    return figure


def analysis(
    confidence: Float[np.ndarray, "examples"], correct: Bool[np.ndarray, "examples"], bins: list[dict], ece: float
) -> Any:
    """Accuracy by confidence with intervals of 95 %, and accuracy of the examples it is most sure of."""
    figure = canvas.new(11, 4.9)
    left, right = figure.subplots(1, 2)
    _reliability(left, bins, ece)
    _coverage(right, confidence, correct)
    return figure


def _reliability(axes: Any, bins: list[dict], ece: float) -> None:
    """Guo et al. 2017, figure 1."""
    filled = [row for row in bins if row["count"]]
    centre, width = [(row["low"] + row["high"]) / 2 for row in filled], bins[0]["high"] - bins[0]["low"]
    accuracy, count = (np.array([row[name] for row in filled]) for name in ("accuracy", "count"))
    axes.bar(centre, accuracy, width, color=RIGHT, alpha=0.25, edgecolor=RIGHT, label="accuracy in the bin")
    axes.errorbar(
        centre,
        accuracy,
        np.abs(_interval(accuracy, count) - accuracy),
        fmt="none",
        ecolor="0.35",
        elinewidth=1,
        capsize=2,
    )
    axes.plot([row["confidence"] for row in filled], accuracy, "o", color=RIGHT, label="at its mean confidence")
    axes.plot([0, 1], [0, 1], "--", color="black", linewidth=1, label="as sure as it is right")
    for x, n in zip(centre, count, strict=True):
        axes.text(x, 1.035, f"{n:,}" if n < 10**5 else f"{n:.0e}", ha="center", va="bottom", fontsize=6.5)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
    axes.set_title(
        f"expected calibration error {100 * ece:.2f} % ({len(bins)} bins; examples above)", fontsize=10, pad=16
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False, fontsize=8)


def _interval(accuracy: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Wilson's interval of a share, (2, bins)."""
    centre = (accuracy + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * np.sqrt(accuracy * (1 - accuracy) / count + (Z / (2 * count)) ** 2)
    return np.stack([np.minimum(centre - half, accuracy), np.maximum(centre + half, accuracy)])


def _coverage(axes: Any, confidence: np.ndarray, correct: np.ndarray) -> None:
    """Equally sure examples enter together, so that the curve does not depend on their order."""
    order = np.argsort(-confidence, kind="stable")
    kept, right = np.arange(1, len(order) + 1), np.cumsum(correct[order])
    last = np.append(np.diff(confidence[order]) != 0, True)
    accuracy = right[last] / kept[last]
    axes.plot(100 * kept[last] / len(order), accuracy, color=RIGHT, marker="o" if last.sum() < 20 else None)
    axes.axhline(correct.mean(), color="black", linestyle="--", linewidth=1, label=f"all: {100 * correct.mean():.2f} %")
    axes.set(xlim=(0, 101), xlabel="examples kept, the most confident first (%)", ylabel="accuracy of those kept")
    low = min(accuracy.min(), correct.mean())
    axes.set_ylim(max(0, low - 0.1 * (1 - low) - 0.01), 1 + 0.05 * (1 - low) + 0.002)
    axes.set_title("accuracy if it may leave out what it is unsure of", fontsize=10)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False, fontsize=8)
