# SPDX-License-Identifier: Apache-2.0
"""Maps lie where their inputs are: patches, borders, permuted pixels; objects by their share of an input."""

import numpy as np

from perceiver_jax.figures.attention_views import ImageView, TextView

RNG = np.random.default_rng(0)


def test_a_patch_has_the_value_of_its_input():
    view = ImageView(np.zeros((1, 4, 6, 3), np.uint8), (2, 3), 2)
    values = np.arange(6.0)
    expected = [[values[row // 2 * 3 + column // 2] for column in range(6)] for row in range(4)]
    np.testing.assert_array_equal(view.pixels(values), expected)


def test_a_last_patch_may_reach_over_the_border():
    view = ImageView(np.zeros((1, 5, 5, 1), np.uint8), (2, 2), 4)
    np.testing.assert_array_equal(view.pixels(np.arange(4.0))[[0, 4]], [[0, 0, 0, 0, 1], [2, 2, 2, 2, 3]])


def test_permuted_pixels_and_their_maps_return_to_their_places():
    picture = RNG.integers(0, 255, (2, 4, 4, 3), np.uint8)
    order = RNG.permutation(16)
    permuted = picture.reshape(2, 16, 3)[:, order].reshape(picture.shape)
    view = ImageView(permuted, (4, 4), 1, order)
    np.testing.assert_array_equal(view.images, picture)
    brightness = picture[0, ..., 0].ravel().astype(float)
    np.testing.assert_array_equal(view.pixels(brightness[order]), picture[0, ..., 0])


def test_an_object_counts_by_its_share_of_each_input():
    objects = np.zeros((1, 4, 4), bool)
    objects[0, :2, :3] = True
    view = ImageView(np.zeros((1, 4, 4, 3), np.uint8), (2, 2), 2)
    np.testing.assert_allclose(view.on_inputs(objects), [[1, 0.5, 0, 0]])


def test_lines_of_text_are_as_many_as_there_is_room_for():
    view = TextView(["x" * 1000, "abc"], letters=10, lines=4)
    assert (view.letters, view.lines, len(view.texts[0])) == (10, 4, 40)
