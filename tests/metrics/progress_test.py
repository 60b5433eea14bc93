# SPDX-License-Identifier: Apache-2.0
"""The numbers of the dashboard against their formulas, worked out by hand or by another library."""

import math
import statistics

import numpy as np
import pytest

from perceiver_jax.metrics import progress

SCORES = np.asarray([0.1, 0.5, 0.7, 0.72, 0.75, 0.74, 0.76, 0.78, 0.77, 0.8, 0.79, 0.81])


def test_the_five_metrics_are_their_formulas():
    assert progress.stability(SCORES) == pytest.approx(1 - statistics.pstdev(SCORES[2:].tolist()))
    assert progress.stability(SCORES[:2]) == pytest.approx(1 - 0.2)  # fewer than ten: all of them
    assert progress.convergence(np.asarray([9.0, 1.0, 0.7])) == pytest.approx(0.7)
    assert progress.generalization(0.9, 0.7) == pytest.approx(0.8) == progress.generalization(0.7, 0.9)
    assert progress.improvement(SCORES) == pytest.approx(0.71)
    assert progress.overfitting(0.9, 0.7) == pytest.approx(0.2) and progress.overfitting(0.7, 0.9) == 0


def test_they_are_raw_and_nan_where_there_is_nothing():
    assert progress.convergence(np.asarray([4.0, 1.0])) == -2  # not clipped
    assert progress.improvement(SCORES[::-1]) == pytest.approx(-0.71)
    assert math.isnan(progress.convergence(np.asarray([4.0]))) and math.isnan(progress.stability(np.zeros(0)))
    assert math.isnan(progress.overfitting(math.nan, 0.5))


def test_a_trend_is_the_polynomial_itself_and_leaves_holes_out():
    x = np.arange(12.0)
    y = 0.3 + 0.2 * x - 0.05 * x**2 + 0.001 * x**3
    with_hole = np.where(x == 4, np.nan, y)
    np.testing.assert_allclose(progress.trend(x, with_hole), y, atol=1e-9)
    np.testing.assert_allclose(progress.trend(x[:3], np.asarray([1.0, 3.0, 5.0])), [1, 3, 5])
    assert progress.trend(x[:2], y[:2]) is None
    assert progress.trend(np.zeros(5), np.ones(5)) is None


def test_rolling_mean_and_band():
    values = np.asarray([1.0, 3.0, np.nan, 5.0, 9.0])
    mean, low, high = progress.rolling(values, 3)
    np.testing.assert_allclose(mean, [1, 2, 2, 4, 7])
    half = [1.96 * statistics.stdev(seen) / math.sqrt(2) for seen in ([1, 3], [1, 3], [3, 5], [5, 9])]
    np.testing.assert_allclose(high[1:] - mean[1:], half)
    np.testing.assert_allclose(mean[1:] - low[1:], half)
    assert math.isnan(low[0]) and math.isnan(high[0])
    assert np.isnan(progress.rolling(np.full(2, np.nan), 3)).all()


def test_a_logarithmic_axis_is_for_wide_positive_curves():
    assert progress.wants_log(np.asarray([2.0, 0.1, np.nan]), np.asarray([3.0]))
    assert not progress.wants_log(np.asarray([2.0, 0.2]))
    assert not progress.wants_log(np.asarray([2.0, 0.0])) and not progress.wants_log()


def test_rate_drops_are_steps_and_no_decay():
    steps = np.asarray([1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 5e-5])
    assert progress.rate_drops(steps) == [3, 5]
    cosine = 0.5 * (1 + np.cos(np.linspace(0, np.pi, 50)))
    assert progress.rate_drops(np.concatenate([np.linspace(0, 1, 9), cosine])) == []
    assert progress.rate_drops(np.asarray([1e-3])) == []


@pytest.mark.parametrize(
    ("train", "held_out", "word"),
    [
        (0.99, 0.70, "overfitting"),
        (0.92, 0.84, "slight overfitting"),
        (0.92, 0.90, "good fit"),
        (0.85, 0.95, "good fit"),
        (0.40, 0.39, "underfitting"),
        (0.60, 0.30, "overfitting"),
        (np.nan, 0.30, "unknown"),
    ],
)
def test_the_verdict_by_scores(train, held_out, word):
    assert progress.fit_by_score(np.full(4, train), np.full(4, held_out)).word == word


@pytest.mark.parametrize(
    ("train", "held_out", "word"),
    [
        ([2.0, 1.0, 0.5, 0.2], [2.0, 1.2, 1.0, 1.4], "overfitting"),
        ([2.0, 1.0, 0.5, 0.2], [2.0, 1.2, 1.0, 0.9], "good fit"),
        ([2.0, 1.99, 1.98, 1.97], [2.0, 2.0, 2.0, 2.0], "underfitting"),
        ([2.0, np.nan], [2.0, 1.0], "unknown"),
    ],
)
def test_the_verdict_by_losses(train, held_out, word):
    assert progress.fit_by_loss(np.asarray(train), np.asarray(held_out)).word == word
