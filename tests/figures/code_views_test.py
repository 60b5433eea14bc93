# SPDX-License-Identifier: Apache-2.0
import numpy as np

from perceiver_jax.figures import code_views
from perceiver_jax.figures.images import TITLE


def test_a_row_for_each_image_a_column_for_each_part():
    images, masks = np.zeros((2, 8, 8, 3), np.uint8), np.linspace(0, 1, 2 * 3 * 64).reshape(2, 3, 8, 8)
    axes = code_views.decompositions(images, images + 9, masks).axes
    assert [axis.get_title() for axis in axes[:5]] == [
        "input",
        "reconstruction",
        *(f"slot {k} mask" for k in (1, 2, 3)),
    ]
    shown = [axis.images[0] for axis in axes]
    assert len(shown) == 10 and {image.get_cmap().name for image in (*shown[2:5], *shown[7:])} == {"viridis"}
    np.testing.assert_array_equal(shown[9].get_array(), masks[1, 2])
    assert (shown[6].get_array() == 9).all()


def test_a_histogram_for_each_codebook_the_most_used_first():
    counts = np.array([[1, 5, 0], [2, 2, 2]])
    first, second = code_views.use_of_codes(counts, ["one", "two"]).axes
    assert [bar.get_height() for bar in first.patches] == [5, 1, 0] and second.get_title() == "two"


def test_swapped_images_stand_by_slot_and_block():
    values = 40 * np.arange(6).reshape(2, 3)
    swapped = np.broadcast_to(values[:, :, None, None, None], (2, 3, 96, 96, 3)).astype(np.uint8)
    sheet = code_views.swaps(np.full((96, 96, 3), 50, np.uint8), np.full((96, 96, 3), 60, np.uint8), swapped)
    cell = 96 + TITLE
    assert sheet.shape == (3 * cell + code_views.LINE, 3 * 96, 3)
    assert sheet[cell - 1, 10, 0] == 50 and sheet[cell - 1, 100, 0] == 60
    for (slot, block), value in np.ndenumerate(values):
        assert sheet[cell + code_views.LINE + (slot + 1) * cell - 1, block * 96 + 50, 0] == value
