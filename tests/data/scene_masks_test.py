# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from perceiver_jax.data.scene_masks import fitted, measured, numbered, objects_of, renumbered
from perceiver_jax.data.scenes import ATTRIBUTES, Shapes
from perceiver_jax.errors import ConfigError


def test_later_masks_hide_earlier_ones():
    masks = np.zeros((3, 2, 4), np.uint8)
    masks[0, :, :2], masks[1, :, 1:3], masks[2, 1, 3] = 255, 1, 255
    np.testing.assert_array_equal(numbered(masks), [[1, 2, 2, 0], [1, 2, 2, 3]])


def test_objects_of_numbers_or_of_planes():
    np.testing.assert_array_equal(renumbered(np.int64([[0, 7], [255, 7]])), [[0, 1], [2, 1]])
    planes = list(np.eye(4, dtype=bool)[:, None])
    np.testing.assert_array_equal(objects_of(planes, 1, "a"), [[0, 1, 2, 3]])
    np.testing.assert_array_equal(objects_of([planes[0], planes[1] & False, planes[2]], 0, "a"), [[1, 0, 2, 0]])
    np.testing.assert_array_equal(objects_of([~planes[0] & False], 0, "a"), [[0, 0, 0, 0]])


def test_a_background_may_leave_out_edges_and_no_more():
    planes = np.zeros((2, 1, 40), bool)
    planes[1, 0, :20], planes[0, 0, 22:] = True, True
    assert objects_of(list(planes), 1, "a").sum() == 20
    planes[0, 0, 22] = False
    with pytest.raises(ConfigError, match="b: no background in the first 1 of 2 masks: they leave open 15% of the pix"):
        objects_of(list(planes), 1, "b")


@pytest.mark.parametrize("size", [24, 128])
def test_sizes_are_changed_as_tensorflow_does(size):
    """`jax.image.resize` without antialiasing puts pixels where `tf.image.resize` does."""
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    cut = image[4:52, 10:58]
    expected = jax.image.resize(cut.astype(np.float32), (size, size, 3), "linear", antialias=False)
    assert np.abs(fitted(image, (4, 52, 10, 58), size, True) - np.asarray(expected)).max() <= 1
    nearest = jax.image.resize(cut[..., 0], (size, size), "nearest")
    np.testing.assert_array_equal(fitted(image[..., 0], (4, 52, 10, 58), size, False), nearest)


def test_the_middle_is_taken_where_no_crop_is_named():
    image = np.arange(24, dtype=np.uint8).reshape(4, 6)
    np.testing.assert_array_equal(fitted(image, (), None, True), image[:, 1:5])


def test_what_is_measured_agrees_with_what_was_drawn():
    batch = Shapes(size=128, max_objects=3, min_objects=3).load("test", np.arange(20), None)
    columns = {name: ATTRIBUTES.index(name) for name in ATTRIBUTES}
    for image, objects, attributes in zip(batch["image"], batch["objects"], batch["attributes"], strict=True):
        found = measured(image, objects, 4)
        assert found.shape == (4, len(ATTRIBUTES)) and not found[3].any()
        for row, drawn in zip(found, attributes, strict=False):
            if drawn[columns["visible"]] < 1:
                continue
            assert row[0] == 1 and row[columns["visible"]] == 1
            np.testing.assert_allclose(row[6:9], drawn[6:9], atol=1 / 255)
            if drawn[columns["shape"]] < 2:  # a triangle's middle is not that of its pixels
                np.testing.assert_allclose(row[2:5], drawn[2:5], atol=0.02)
