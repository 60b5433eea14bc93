# SPDX-License-Identifier: Apache-2.0
"""Sheets of images show every pixel of every image."""

import numpy as np
import pytest

from perceiver_jax.figures.images import CELL, TITLE, contact_sheet, displayable

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3)).astype(np.uint8)


def test_every_image_stands_in_its_cell():
    sheet = contact_sheet(IMAGES, [str(k) for k in range(7)], columns=3)
    assert sheet.shape == (3 * (CELL + TITLE), 3 * CELL, 3)
    cell = sheet[CELL + 2 * TITLE : 2 * (CELL + TITLE), CELL : 2 * CELL]  # of image 4
    np.testing.assert_array_equal(cell[:: CELL // 8, :: CELL // 8], IMAGES[4])
    assert (sheet[2 * (CELL + TITLE) :, CELL:] == 255).all() and (sheet[:TITLE, :CELL] < 255).any()
    with pytest.raises(ValueError, match="7 images, 1 titles"):
        contact_sheet(IMAGES, ["a"])


def test_grey_and_floats():
    assert displayable(IMAGES[..., :1]).shape == (7, 8, 8, 3)
    shown = displayable(IMAGES.astype(np.float32) / 7 - 3)
    assert shown.dtype == np.uint8 and shown.min() == 0 and shown.max() == 255
