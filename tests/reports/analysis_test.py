# SPDX-License-Identifier: Apache-2.0
"""What predictions say: scores by hand, the pairs and mistakes in their order."""

import json

import numpy as np
import pytest

from perceiver_jax.reports.analysis import Predictions, analyze

NAMES = ("cat", "dog", "고양이")
LABELS = np.array([0, 0, 0, 1, 1, 0])
PREDICTED = np.array([0, 2, 2, 1, 0, 0])
CONFIDENCE = np.array([0.9, 0.8, 0.95, 0.7, 0.6, 0.5])


def rows():
    """Logits whose highest is as chosen, in the order of ids 0 to 5."""
    logits = np.full((6, 3), -5.0, np.float32)
    logits[np.arange(6), PREDICTED] = 1
    probabilities = np.full((6, 3), 0.01, np.float32)
    probabilities[np.arange(6), PREDICTED] = CONFIDENCE
    return {"id": np.arange(6), "logits": logits, "probabilities": probabilities}


def test_pairs_and_mistakes_come_in_order():
    found = analyze(Predictions.of(rows(), LABELS), NAMES)
    assert found["most_confused"] == [
        {"true": "cat", "predicted": "고양이", "count": 2, "share": 0.5},
        {"true": "dog", "predicted": "cat", "count": 1, "share": 0.5},
    ]
    assert [(row["id"], row["true"], row["predicted"]) for row in found["mistakes"]] == [
        (2, "cat", "고양이"),
        (1, "cat", "고양이"),
        (4, "dog", "cat"),
    ]
    assert json.loads(json.dumps(found)) == found


def test_scores_by_hand():
    found = analyze(Predictions.of(rows(), LABELS), NAMES)
    assert found["balanced_accuracy"] == pytest.approx((2 / 4 + 1 / 2) / 2)  # of the classes that occur
    assert found["macro_f1"] == pytest.approx((2 * 2 / (2 * 2 + 1 + 2) + 2 / 3) / 2)
    assert found["cohen_kappa"] == pytest.approx((3 / 6 - (4 * 3 + 2 * 1) / 36) / (1 - (4 * 3 + 2 * 1) / 36))
    assert found["mean_confidence"] == pytest.approx(CONFIDENCE.mean())


def test_labels_go_by_id_and_what_is_no_number_is_wrong():
    broken = rows()
    broken["probabilities"][0] = np.nan
    shuffled = {name: values[[3, 0]] for name, values in broken.items()}
    predictions = Predictions.of(shuffled, LABELS)
    assert predictions.label.tolist() == [1, 0] and predictions.correct.tolist() == [True, False]


def test_one_class_and_no_mistake():
    same = Predictions(np.arange(2), np.zeros(2, int), np.zeros(2, int), np.ones(2))
    found = analyze(same, NAMES)
    assert (found["mistakes"], found["most_confused"], found["ece"], found["cohen_kappa"]) == ([], [], 0, 1)
