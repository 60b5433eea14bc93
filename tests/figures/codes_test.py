# SPDX-License-Identifier: Apache-2.0
import numpy as np

from perceiver_jax.figures.codes import BAR, GAP, HEIGHT, LINE, WIDTH, swaps, thumbnail, use_of_codes
from perceiver_jax.figures.images import TITLE


def test_a_strip_for_each_codebook_sorted_by_use():
    image = thumbnail(np.array([[1.0, 0, 3, 0], [1, 1, 1, 1]]))
    assert image.shape == (2 * HEIGHT + GAP, WIDTH, 3) and image.dtype == np.uint8
    bars = (image == BAR).all(-1)
    quarter = WIDTH // 4
    first = bars[:HEIGHT, quarter // 2 :: quarter].sum(0)
    assert first[0] > 2.5 * first[1] > 0 and not first[2:].any()
    assert len(set(bars[HEIGHT + GAP :].sum(0))) == 1


def test_unused_codebooks_are_empty():
    assert not (thumbnail(np.zeros((1, 4))) == BAR).all(-1).any()


def test_a_histogram_for_each_codebook_the_most_used_first():
    counts = np.array([[1, 5, 0], [2, 2, 2]])
    first, second = use_of_codes(counts, ["one", "two"]).axes
    assert [bar.get_height() for bar in first.patches] == [5, 1, 0] and second.get_title() == "two"


def test_swapped_images_stand_by_slot_and_block():
    values = 40 * np.arange(6).reshape(2, 3)
    swapped = np.broadcast_to(values[:, :, None, None, None], (2, 3, 96, 96, 3)).astype(np.uint8)
    sheet = swaps(np.full((96, 96, 3), 50, np.uint8), np.full((96, 96, 3), 60, np.uint8), swapped)
    cell = 96 + TITLE
    assert sheet.shape == (3 * cell + LINE, 3 * 96, 3)
    assert sheet[cell - 1, 10, 0] == 50 and sheet[cell - 1, 100, 0] == 60
    for (slot, block), value in np.ndenumerate(values):
        assert sheet[cell + LINE + (slot + 1) * cell - 1, block * 96 + 50, 0] == value
