# SPDX-License-Identifier: Apache-2.0
"""Curves: one look for a name in all panels, a band where there is a spread."""

import numpy as np

from perceiver_jax.figures import canvas
from perceiver_jax.figures.curves import Curve, figure

X = np.arange(3.0)
FALLING, FLAT = Curve(X, np.array([10.0, 1.0, 0.1]), np.zeros(3)), Curve(X, np.ones(3), np.full(3, 0.1))


def test_lines_bands_and_axes():
    result = figure({"loss": [FALLING, None], "accuracy": [FALLING, FLAT]}, ["one", "$two$"], "epoch")
    loss, accuracy = result.axes
    assert [len(axes.lines) for axes in (loss, accuracy)] == [1, 2]
    assert loss.lines[0].get_color() == accuracy.lines[0].get_color() != accuracy.lines[1].get_color()
    assert len(accuracy.collections) == 1 and len(loss.collections) == 0
    assert [text.get_text() for text in result.legends[0].get_texts()] == ["one", "$two$"]
    assert canvas.rendered(result, "pdf").startswith(b"%PDF")


def test_the_axis_is_logarithmic_only_where_that_helps():
    def scale(*values):
        curves = [Curve(X, np.array(row), np.zeros(3)) for row in values]
        return figure({"loss": curves}, ["a"], "").axes[0].get_yscale()

    assert scale([10.0, 1.0, 0.1]) == "log"
    assert scale([3.0, 2.0, 1.0]) == scale([10.0, 1.0, 0.0]) == scale([np.nan, np.nan, np.nan]) == "linear"
    assert scale([10.0, np.nan, 0.1]) == "log"
