# SPDX-License-Identifier: Apache-2.0
"""Augmentation of images: each step against a slow formula; nothing depends on the batch, all on the epoch."""

import numpy as np
import pytest

from perceiver_jax.data import crops, randomness
from perceiver_jax.data.images import ImageAugmentation, pixel_order, resample, shift
from perceiver_jax.data.rand_augment import rand_augment
from perceiver_jax.errors import ConfigError

IMAGES = np.random.default_rng(0).integers(0, 256, (24, 9, 7, 3)).astype(np.uint8)
IDS = np.arange(24)
FIELDS = {"crop_padding": 2, "flip": True, "image_size": 12, "zoom": 0.3, "permutation_seed": 1}
FIELDS |= {"rand_augment_layers": 3, "min_crop_area": 0.1, "central_crop": 0.9}
ALL = ImageAugmentation(**FIELDS)


def same(a, b):
    return np.array([np.array_equal(x, y) for x, y in zip(a, b, strict=True)])


def test_off_by_default():
    np.testing.assert_array_equal(ImageAugmentation().apply(IMAGES, IDS, 0), IMAGES)


def test_an_example_depends_on_epoch_and_id_alone():
    whole = ALL.apply(IMAGES, IDS, 3)
    assert whole.shape == (24, 12, 12, 3) and whole.dtype == np.uint8
    np.testing.assert_array_equal(ALL.apply(IMAGES[5:8], IDS[5:8], 3), whole[5:8])
    assert not same(ALL.apply(IMAGES, IDS, 4), whole).any()
    assert not same(ALL.apply(IMAGES, IDS + 100, 3), whole).any()
    other = ImageAugmentation(**FIELDS, seed=9)
    assert not same(other.apply(IMAGES, IDS, 3), whole).any()


@pytest.mark.parametrize(
    "field", [{"crop_padding": 2}, {"flip": True}, {"zoom": 0.3}, {"rand_augment_layers": 2}, {"min_crop_area": 0.2}]
)
def test_evaluation_is_not_augmented(field):
    source = ImageAugmentation(**field)
    np.testing.assert_array_equal(source.apply(IMAGES, IDS, None), IMAGES)
    assert not same(source.apply(IMAGES, IDS, 0), IMAGES).all()


def test_resizing_and_permuting_act_in_evaluation_too():
    resized = ImageAugmentation(image_size=12).apply(IMAGES, IDS, None)
    permuted = ImageAugmentation(image_size=12, permutation_seed=1).apply(IMAGES, IDS, None)
    order = pixel_order(144, 1, "")
    np.testing.assert_array_equal(permuted.reshape(24, 144, 3), resized.reshape(24, 144, 3)[:, order])


def test_crops_are_windows_of_the_padded_image():
    padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)))
    cropped = ImageAugmentation(crop_padding=2).apply(IMAGES, IDS, 0)
    places = [
        next((y, x) for y in range(5) for x in range(5) if np.array_equal(whole[y : y + 9, x : x + 7], image))
        for image, whole in zip(cropped, padded, strict=True)
    ]
    assert {y for y, _ in places} == {x for _, x in places} == set(range(5))


def test_shifts_leave_zeros():
    moved = shift(IMAGES[:2], np.array([[1, -2], [0, 0]]))
    np.testing.assert_array_equal(moved[0, :-1, 2:], IMAGES[0, 1:, :-2])
    assert not moved[0, -1].any() and not moved[0, :, :2].any()
    np.testing.assert_array_equal(moved[1], IMAGES[1])


def test_flips_half():
    images = np.random.default_rng(1).integers(0, 256, (2000, 2, 3, 1)).astype(np.uint8)
    flipped = ImageAugmentation(flip=True).apply(images, np.arange(2000), 0)
    mirrored = same(flipped, images[:, :, ::-1])
    assert (mirrored | same(flipped, images)).all() and 0.46 < mirrored.mean() < 0.54


def test_windows_are_of_the_stored_image():
    """In evaluation the centre, in training another place each epoch, of the size asked for or of their own."""
    central = ImageAugmentation(central_crop=0.5).apply(IMAGES, IDS, None)
    windows = [crops.framed(image, (3, 2, 4, 3), (9, 7)) for image in IMAGES]
    np.testing.assert_array_equal(central, np.stack(windows))
    np.testing.assert_array_equal(ImageAugmentation(central_crop=0.5).apply(IMAGES, IDS, 0), central)
    random = ImageAugmentation(min_crop_area=0.1, image_size=5)
    assert random.apply(IMAGES, IDS, 0).shape == (24, 5, 5, 3)
    assert not same(random.apply(IMAGES, IDS, 0), random.apply(IMAGES, IDS, 1)).any()


def test_images_of_different_sizes_come_to_one():
    ragged = [image[: 5 + i % 4] for i, image in enumerate(IMAGES)]
    out = ImageAugmentation(image_size=5, flip=True).apply(ragged, IDS, None)
    np.testing.assert_array_equal(out[0], ImageAugmentation(image_size=5).apply([ragged[0]], IDS[:1], None)[0])
    np.testing.assert_array_equal(out[0], crops.framed(ragged[0], (0, 1, 5, 5), (5, 5)))


def test_rand_augment_comes_after_the_flip():
    flipped = ImageAugmentation(flip=True).apply(IMAGES, IDS, 3)
    both = ImageAugmentation(flip=True, rand_augment_layers=2, rand_augment_magnitude=7.0).apply(IMAGES, IDS, 3)
    expected = rand_augment(flipped, randomness.keys(0, "rand_augment", IDS, 3), 2, 7.0)
    np.testing.assert_array_equal(both, expected)


def bilinear(image, y, x):
    """The value between the pixels, mirrored beyond the border; one pixel at a time."""

    def at(row, column):
        height, width = image.shape[:2]
        row, column = row % (2 * height), column % (2 * width)
        return image[min(row, 2 * height - 1 - row), min(column, 2 * width - 1 - column)].astype(float)

    top, left = int(np.floor(y)), int(np.floor(x))
    up = (1 - (x - left)) * at(top, left) + (x - left) * at(top, left + 1)
    down = (1 - (x - left)) * at(top + 1, left) + (x - left) * at(top + 1, left + 1)
    return (1 - (y - top)) * up + (y - top) * down


def test_zoom_equals_the_formula():
    factors = np.array([[1.2, 0.7], [0.5, 1.9]], np.float32)
    zoomed = resample(IMAGES[:2].astype(np.float32), (9, 7), factors)
    for image, out, (high, wide) in zip(IMAGES, zoomed, factors.tolist(), strict=False):
        expected = [[bilinear(image, high * (i - 4) + 4, wide * (j - 3) + 3) for j in range(7)] for i in range(9)]
        np.testing.assert_allclose(out, expected, atol=1e-3)


def test_resizing_equals_jax():
    import jax

    expected = jax.image.resize(IMAGES.astype(np.float32), (24, 18, 14, 3), "bilinear", antialias=False)
    np.testing.assert_allclose(
        resample(IMAGES.astype(np.float32), (18, 14), np.ones((24, 2), np.float32)), expected, atol=1e-3
    )


def test_a_bad_order_is_named(tmp_path):
    file = tmp_path / "order.npy"
    source = ImageAugmentation(permutation_file=str(file))
    with pytest.raises(ConfigError, match="permutation_file=.*cannot be read"):
        source.apply(IMAGES, IDS, None)
    for order, message in ((np.arange(62), "shape .62,.* expected 63 integers"), (np.zeros(63, int), "each of 0..62")):
        np.save(file, order)
        with pytest.raises(ConfigError, match=message):
            source.apply(IMAGES, IDS, None)
    np.save(file, np.arange(63)[::-1])
    np.testing.assert_array_equal(source.apply(IMAGES, IDS, None), IMAGES[:, ::-1, ::-1])


def test_all_wrong_fields_are_named_at_once():
    wrong = {"image_size": 0, "crop_padding": -1, "zoom": 1.5, "permutation_seed": 0, "permutation_file": "x"}
    with pytest.raises(ConfigError, match=r"image_size=0.*crop_padding=-1.*zoom=1.5.*both set"):
        ImageAugmentation(**wrong)
    wrong = {"min_crop_area": 0, "central_crop": 2, "rand_augment_layers": -1, "rand_augment_magnitude": 11.0}
    with pytest.raises(ConfigError, match=r"min_crop_area=0: .*central_crop=2: .*layers=-1: .*magnitude=11.0: "):
        ImageAugmentation(**wrong)
