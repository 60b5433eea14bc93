# SPDX-License-Identifier: Apache-2.0
"""Figures of confidence show what is in the numbers, also where nothing is wrong or all is."""

import numpy as np
import pytest

from perceiver_jax.figures import canvas, confidence

BINS = [
    {"low": 0.0, "high": 0.5, "count": 0, "accuracy": None, "confidence": None},
    {"low": 0.5, "high": 1.0, "count": 4, "accuracy": 0.75, "confidence": 0.8},
]
SURE = np.array([0.9, 0.8, 0.8, 0.7])
RIGHT = np.array([True, True, False, True])


def test_right_and_wrong_are_counted_apart():
    figure = confidence.histogram(SURE, RIGHT)
    right, wrong = figure.axes
    counts = [sum(patch.get_height() for patch in axes.patches) for axes in (right, wrong)]
    assert counts == [3, 1]
    assert right.get_title(loc="left") == "right: 3 of 4 (75.00 %)"


def test_accuracy_stands_at_its_confidence():
    left, right = confidence.analysis(SURE, RIGHT, BINS, 0.05).axes
    points = next(line for line in left.lines if line.get_label() == "at its mean confidence")
    assert (list(points.get_xdata()), list(points.get_ydata())) == ([0.8], [0.75])
    assert left.get_title() == "expected calibration error 5.00 % (2 bins; examples above)"
    curve = right.lines[0]  # the two that are equally sure enter together
    np.testing.assert_allclose(curve.get_xdata(), [25, 75, 100])
    np.testing.assert_allclose(curve.get_ydata(), [1, 2 / 3, 0.75])


def test_the_interval_agrees_with_wilson():
    """n = 4, 3 right: 0.301 to 0.954 (Wilson 1927)."""
    low, high = confidence._interval(np.array([0.75]), np.array([4]))
    assert (low[0], high[0]) == (pytest.approx(0.3006, abs=1e-4), pytest.approx(0.9544, abs=1e-4))


@pytest.mark.parametrize("right", [True, False])
def test_all_right_and_all_wrong(right):
    bins = [BINS[0], BINS[1] | {"accuracy": float(right)}]
    for figure in (
        confidence.histogram(SURE, np.full(4, right)),
        confidence.analysis(SURE, np.full(4, right), bins, 0.2),
    ):
        assert canvas.rendered(figure, "svg").startswith(b"<?xml")
