# SPDX-License-Identifier: Apache-2.0
import numpy as np

from perceiver_jax.figures.codes import BAR, GAP, HEIGHT, WIDTH, sheet, thumbnail


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


def test_a_row_for_each_image_with_its_reconstruction_and_masks():
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    masks = np.stack([np.ones((2, 32, 32, 1)), np.zeros((2, 32, 32, 1))], 1)
    drawn = sheet(images, images / 127.5 - 1, masks)
    assert drawn.shape == (2 * 64 + GAP, 4 * 64 + 3 * GAP, 3) and drawn.dtype == np.uint8
    step = 64 + GAP
    for row in range(2):
        first, second, third, fourth = (drawn[row * step :, k * step :][:64:2, :64:2] for k in range(4))
        np.testing.assert_array_equal(first, images[row])
        np.testing.assert_array_equal(second, images[row])
        assert (third == 255).all() and not fourth.any()
