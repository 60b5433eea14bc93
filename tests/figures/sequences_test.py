# SPDX-License-Identifier: Apache-2.0
"""Sheets of curves and texts: a cell for each example, padding is not drawn, any characters."""

import numpy as np
import pytest

from perceiver_jax.figures.sequences import curve_sheet, text_sheet


def test_what_stands_in_the_padding_is_not_drawn():
    sequences, mask = np.zeros((3, 20, 2), np.float32), np.arange(20) < np.array([[5], [20], [12]])
    sequences[:, :5] = 1
    sheet = curve_sheet(sequences, mask, ["a", "b", "c"], columns=2, dpi=40)
    assert sheet.shape == (144, 240, 3) and sheet.dtype == np.uint8
    sequences[~mask] = 1000
    np.testing.assert_array_equal(curve_sheet(sequences, mask, ["a", "b", "c"], columns=2, dpi=40), sheet)
    sequences[1, 7] = 5
    assert not np.array_equal(curve_sheet(sequences, mask, ["a", "b", "c"], columns=2, dpi=40), sheet)


def test_texts_with_any_characters():
    sheet = text_sheet(["costs $5 and $6_x$", "word " * 200], ["one$", "two"], columns=2, dpi=40)
    assert sheet.shape == (72, 240, 3) and sheet.min() < 100


def test_a_title_for_each():
    with pytest.raises(ValueError, match="1 examples, 2 titles"):
        text_sheet(["x"], ["a", "b"])
