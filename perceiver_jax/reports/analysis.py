# SPDX-License-Identifier: Apache-2.0
"""What the predictions of a classifier say beyond its accuracy: scores, calibration, confusions, mistakes."""

import dataclasses
from typing import Any

import numpy as np

from perceiver_jax.metrics.calibration import calibration_bins, calibration_errors

MOST_CONFUSED, MISTAKES = 10, 12


@dataclasses.dataclass(frozen=True)
class Predictions:
    """One entry per example.

    Attributes:
        id: of the example in its split.
        label: the true class.
        predicted: the class of the highest logit.
        confidence: its probability; 0 where the model gave no number.
    """

    id: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray

    @classmethod
    def of(cls, rows: dict[str, np.ndarray], labels: np.ndarray) -> "Predictions":
        """From `logits`, `probabilities` and `id` of all examples, and the classes of the split."""
        confidence = rows["probabilities"].max(-1).astype(np.float64)
        confidence = np.clip(np.nan_to_num(confidence, nan=0.0), 0, 1)
        return cls(rows["id"], labels[rows["id"]], rows["logits"].argmax(-1), confidence)

    @property
    def correct(self) -> np.ndarray:
        """Whether each is right."""
        return (self.predicted == self.label) & (self.confidence > 0)


def analyze(predictions: Predictions, class_names: tuple[str, ...]) -> dict[str, Any]:
    """JSON-able: `scores` by scikit-learn, `ece`, `mce`, `calibration`, `most_confused` and `mistakes`."""
    bins = calibration_bins(predictions.confidence, predictions.correct)
    expected, largest = calibration_errors(bins)
    return {
        **_scores(predictions),
        "mean_confidence": float(predictions.confidence.mean()),
        "ece": expected,
        "mce": largest,
        "calibration": bins,
        "most_confused": _most_confused(predictions, class_names),
        "mistakes": _mistakes(predictions, class_names),
    }


def _scores(predictions: Predictions) -> dict[str, float]:
    """Over the classes that occur."""
    from sklearn import metrics  # here: costs a second

    true, predicted = predictions.label, predictions.predicted
    present = np.unique(true)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        true, predicted, labels=present, average="macro", zero_division=0
    )
    kappa = metrics.cohen_kappa_score(true, predicted) if len(np.union1d(true, predicted)) > 1 else 1.0
    scores = {"balanced_accuracy": recall, "macro_precision": precision, "macro_f1": f1, "cohen_kappa": kappa}
    return {name: float(value) for name, value in scores.items()}


def _most_confused(predictions: Predictions, class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Pairs of a true and another predicted class by how often they occur, with the share of the true class."""
    wrong = predictions.label != predictions.predicted
    pairs = np.stack([predictions.label[wrong], predictions.predicted[wrong]], axis=1)
    found, count = np.unique(pairs, axis=0, return_counts=True)
    support = np.bincount(predictions.label, minlength=len(class_names))
    order = np.argsort(-count, kind="stable")[:MOST_CONFUSED]
    return [
        {
            "true": class_names[found[k, 0]],
            "predicted": class_names[found[k, 1]],
            "count": int(count[k]),
            "share": float(count[k] / support[found[k, 0]]),
        }
        for k in order
    ]


def _mistakes(predictions: Predictions, class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The wrong predictions of highest confidence."""
    wrong = np.flatnonzero(predictions.label != predictions.predicted)
    order = wrong[np.argsort(-predictions.confidence[wrong], kind="stable")][:MISTAKES]
    return [
        {
            "id": int(predictions.id[k]),
            "true": class_names[predictions.label[k]],
            "predicted": class_names[predictions.predicted[k]],
            "confidence": float(predictions.confidence[k]),
        }
        for k in order
    ]
