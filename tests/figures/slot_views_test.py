# SPDX-License-Identifier: Apache-2.0
"""Pixels of slots worked out by hand: colours, shares, whole sheets."""

import numpy as np
import pytest

from perceiver_jax.figures import slot_views
from perceiver_jax.figures.images import TITLE

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
HALVES = np.stack(
    [np.broadcast_to(np.arange(32) < 16, (2, 32, 32)), np.broadcast_to(np.arange(32) >= 16, (2, 32, 32))], 1
)
MASKS = HALVES[..., None].astype(np.float32)


def test_sixteen_slots_have_sixteen_colours():
    colours = slot_views.slot_colours(18)
    assert len(np.unique(colours[:16], axis=0)) == 16 and (colours[16:] == colours[:2]).all()


def test_floating_point_is_from_minus_one_to_one():
    found = slot_views.pixels(np.array([-2.0, -1, 0, 1, 2]).reshape(1, 5, 1))
    assert found.tolist() == [[[value] * 3 for value in (0, 0, 128, 255, 255)]]


def test_slots_show_their_part_on_white_and_make_the_image_together():
    parts = slot_views.shares(MASKS)
    cut = slot_views.cut_out(IMAGES[:, None], parts)
    for slot in (0, 1):
        np.testing.assert_array_equal(cut[:, slot][HALVES[:, slot]], IMAGES[HALVES[:, slot]])
        assert (cut[:, slot][~HALVES[:, slot]] == 255).all()
    np.testing.assert_array_equal(slot_views.mixture(IMAGES[:, None], parts), IMAGES)
    quarter = slot_views.mixture(
        np.stack([0 * IMAGES, 0 * IMAGES + 200], 1), np.full((2, 2, 32, 32), [[[[0.75]], [[0.25]]]])
    )
    assert (quarter == 50).all()


def test_masks_are_painted_in_the_colours_of_the_slots():
    blue, red = slot_views.slot_colours(2)
    found = slot_views.painted(IMAGES, slot_views.shares(MASKS), opacity=1.0)
    assert (found[:, :, :16] == blue).all() and (found[:, :, 16:] == red).all()
    tint = slot_views.tinted(slot_views.shares(MASKS))
    assert (tint[:, 0, :, :16] == blue).all() and (tint[:, 0, :, 16:] == 255).all()


def test_a_grid_that_does_not_divide_the_image_is_spread_over_it():
    assert slot_views.resized(np.arange(3)[None], 1, 8).tolist() == [[0, 0, 0, 1, 1, 1, 2, 2]]


@pytest.mark.parametrize("num_slots", [2, 3])
def test_sheets_hold_every_image_and_slot(num_slots):
    masks = np.concatenate([MASKS, 0 * MASKS[:, :1]], 1)[:, :num_slots]
    recons = IMAGES[:, None].repeat(num_slots, 1).astype(np.float32) / 127.5 - 1
    found = slot_views.sheet(IMAGES, recons[:, 0], recons, masks)
    side = 2 * 34  # enlarged, with a frame
    assert found.shape == (2 * (side + TITLE), (3 + num_slots) * side, 3)
    cell = found[side + 2 * TITLE + 2 :, 2 : side - 2]
    np.testing.assert_array_equal(cell[:64:2, :64:2], IMAGES[1])
    frames = found[TITLE, 3 * side + 1 :: side]
    np.testing.assert_array_equal(frames, slot_views.slot_colours(num_slots))


def test_attention_has_a_row_for_each_iteration():
    attention = np.random.default_rng(1).dirichlet(np.ones(4), (2, 3, 8, 8)).transpose(0, 1, 4, 2, 3)
    found = slot_views.attention_sheet(IMAGES, attention.astype(np.float32))
    assert found.shape == (6 * (68 + TITLE), 5 * 68, 3)
    names = found.reshape(6, 68 + TITLE, 5, 68, 3)[:, :TITLE]
    assert (names[:, :, 0] < 255).any((1, 2, 3)).all() and not (names[1:, :, 1:] < 255).any()
