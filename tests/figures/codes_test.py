# SPDX-License-Identifier: Apache-2.0
import numpy as np

from perceiver_jax.figures.codes import BAR, GAP, HEIGHT, WIDTH, thumbnail


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
