# SPDX-License-Identifier: Apache-2.0
"""Calibration by another formula and by scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from perceiver_jax.metrics.calibration import calibration_bins, calibration_errors

RANDOM = np.random.default_rng(0)
CONFIDENCE = np.concatenate([1 - 0.9 * RANDOM.beta(1, 6, 997), [1.0, 1 / 15, 0.4]])
CORRECT = RANDOM.random(1000) < CONFIDENCE**1.5


def test_bins_agree_with_scikit_learn():
    accuracy, confidence = calibration_curve(CORRECT, CONFIDENCE, n_bins=15)
    filled = [row for row in calibration_bins(CONFIDENCE, CORRECT) if row["count"]]
    np.testing.assert_allclose([row["accuracy"] for row in filled], accuracy)
    np.testing.assert_allclose([row["confidence"] for row in filled], confidence)
    assert sum(row["count"] for row in filled) == 1000


def test_the_error_agrees_with_a_loop_over_examples():
    """|sum of (right - confidence)| in each bin (low, high], over all examples: Guo et al. 2017, equation 3."""
    gaps, largest = {}, {}
    for sure, right in zip(CONFIDENCE, CORRECT, strict=True):
        place = next(k for k in range(15) if sure <= (k + 1) / 15 + 1e-12)
        gaps[place] = gaps.get(place, 0.0) + float(right) - sure
        largest[place] = largest.get(place, 0) + 1
    expected, worst = calibration_errors(calibration_bins(CONFIDENCE, CORRECT))
    assert expected == pytest.approx(sum(map(abs, gaps.values())) / 1000)
    assert worst == pytest.approx(max(abs(gaps[k]) / largest[k] for k in gaps))


def test_the_ends_and_empty_bins():
    bins = calibration_bins(np.array([0.0, 1.0, 1.0]), np.array([False, True, False]), num_bins=2)
    assert [row["count"] for row in bins] == [1, 2] and bins[1]["accuracy"] == 0.5
    assert calibration_errors(bins) == (pytest.approx(1 / 3), 0.5)
    empty = calibration_bins(np.zeros(0), np.zeros(0, bool))
    assert {row["accuracy"] for row in empty} == {None} and calibration_errors(empty) == (0, 0)
