# SPDX-License-Identifier: Apache-2.0
"""The three figures of slots: what is in which cell, files in any format, shapes of one image and of many."""

import numpy as np
import pytest
from PIL import Image

from perceiver_jax.errors import ConfigError
from perceiver_jax.figures import slots
from perceiver_jax.figures.slot_views import cut_out, shares

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
MASKS = RNG.dirichlet(np.ones(3), (2, 16, 16)).transpose(0, 3, 1, 2)[..., None].astype(np.float32)
RECONS = RNG.uniform(-1, 1, (2, 3, 16, 16, 3)).astype(np.float32)
ATTENTION = RNG.dirichlet(np.ones(3), (2, 2, 8, 8)).transpose(0, 1, 4, 2, 3).astype(np.float32)


def cells(figure):
    """The pictures in the figure, in the order of rows."""
    return [np.asarray(image.get_array()) for image in figure.axes[0].get_images()]


def words(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("recons", [RECONS, RECONS[:, 0]], ids=["slots", "whole"])
def test_results_have_a_row_for_each_image(recons, tmp_path):
    figure = slots.visualize_slots(IMAGES, recons, MASKS, save_path=tmp_path / "results.png")
    shown = cells(figure)
    assert len(shown) == 2 * (3 + 3)
    np.testing.assert_array_equal(shown[6], IMAGES[1])
    if recons.ndim == 5:
        whole = 127.5 * ((MASKS * RECONS).sum(1) + 1)
        np.testing.assert_allclose(shown[7], whole[1], atol=1.01)
    assert words(figure)[:6] == ["image", "reconstruction", "masks", "slot 1", "slot 2", "slot 3"]
    picture = np.asarray(Image.open(tmp_path / "results.png").convert("L"))
    assert picture.min() < 100 and picture.max() == 255 and min(picture.shape) > 200


def test_each_slot_with_pixels_is_numbered():
    """Where it has most; a slot without pixels is not."""
    masks = np.zeros((1, 3, 16, 16), np.float32)
    masks[0, 0, :, :8], masks[0, 2, :, 8:] = 1, 1
    figure = slots.visualize_slots(IMAGES[:1], IMAGES[:1], masks)
    found = {text.get_text(): text.get_position() for text in figure.axes[0].texts[6:]}
    assert set(found) == {"1", "3"} and 2 < found["1"][0] < 2.5 < found["3"][0] < 3


@pytest.mark.parametrize("attention", [ATTENTION, ATTENTION[0]], ids=["many", "one"])
def test_attention_has_a_row_for_each_iteration(attention):
    figure = slots.visualize_attention_evolution(attention)
    assert len(cells(figure)) == attention.size // (8 * 8 * 3) * 4
    assert words(figure)[4:6] == ["iteration 1", "iteration 2"]
    painted = slots.visualize_attention_evolution(ATTENTION[:1], images=IMAGES[:1])
    assert cells(painted)[0].shape == (16, 16, 3) and len(painted.axes) == 2  # with the scale


def test_a_decomposition_goes_slot_by_slot(tmp_path):
    figure = slots.visualize_slot_decomposition(IMAGES[0], RECONS[0], MASKS[0], save_path=str(tmp_path / "d.svg"))
    assert (tmp_path / "d.svg").read_bytes().startswith(b"<?xml")
    shown = cells(figure)
    assert len(shown) == 4 + 3 * 3
    np.testing.assert_array_equal(shown[0], IMAGES[0])
    np.testing.assert_allclose(shown[2][..., 0], np.abs(shown[1].astype(int) - shown[0]).mean(-1), atol=1)
    np.testing.assert_array_equal(np.stack(shown[10:]), cut_out(IMAGES[0][None], shares(MASKS[0])))


@pytest.mark.parametrize(
    ("name", "said"), [("x.gif", "expected some of png, svg, pdf"), ("no/x.png", "cannot be written")]
)
def test_a_file_that_cannot_be_is_named(name, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        slots.visualize_slots(IMAGES, RECONS, MASKS, tmp_path / name)
