# SPDX-License-Identifier: Apache-2.0
"""RandAugment: every operation beside PIL's, and an example depends on its key alone."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from perceiver_jax.data import rand_augment as ra
from perceiver_jax.data import randomness
from perceiver_jax.errors import ConfigError

HEIGHT, WIDTH = 28, 56  # 1/8 and 1/4 of 224
RANDOM = np.random.default_rng(0)
NOISE = RANDOM.integers(0, 256, (2, HEIGHT, WIDTH, 3))
RAMP = np.linspace(40, 180, WIDTH)[None, None, :, None] + RANDOM.integers(-20, 20, (2, HEIGHT, WIDTH, 3))
IMAGES = np.concatenate([NOISE, RAMP]).astype(np.uint8)
NUMBERS = np.array([[0.2, 0.1, 0.9], [0.7, 0.5, 0.5], [0.3, 0.99, 0.0], [0.9, 0.0, 0.3]], np.float32)


def affine(image, matrix):
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=(128,) * 3)


def shear(image, x, y):
    """About the middle of the first pixel, where PIL's origin is its corner."""
    return affine(image, (1, x, -x / 2, y, 1, -y / 2))


def box(image, strength, numbers):
    image, middle = image.copy(), (int(numbers[2] * WIDTH), int(numbers[1] * HEIGHT))
    half = int(40 / 8 * 2 * strength), int(40 / 8 * strength)
    (left, top), (right, bottom) = ([m + sign * h for m, h in zip(middle, half, strict=True)] for sign in (-1, 1))
    if half[1]:
        ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill=(128,) * 3)
    return image


def enhanced(kind):
    return lambda image, strength, numbers, sign: kind(image).enhance(1.8 * strength + 0.1)


PIL = {
    "auto_contrast": lambda image, strength, numbers, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, strength, numbers, sign: ImageOps.equalize(image),
    "invert": lambda image, strength, numbers, sign: ImageOps.invert(image),
    "rotate": lambda image, strength, numbers, sign: image.rotate(sign * 30 * strength, fillcolor=(128,) * 3),
    "posterize": lambda image, strength, numbers, sign: ImageOps.posterize(image, max(int(4 * strength), 1)),
    "solarize": lambda image, strength, numbers, sign: ImageOps.solarize(image, int(256 * strength)),
    "color": enhanced(ImageEnhance.Color),
    "contrast": enhanced(ImageEnhance.Contrast),
    "brightness": enhanced(ImageEnhance.Brightness),
    "sharpness": enhanced(ImageEnhance.Sharpness),
    "shear_x": lambda image, strength, numbers, sign: shear(image, sign * 0.3 * strength, 0),
    "shear_y": lambda image, strength, numbers, sign: shear(image, 0, sign * 0.3 * strength),
    "translate_x": lambda image, strength, numbers, sign: affine(image, (1, 0, sign * 25 * strength, 0, 1, 0)),
    "translate_y": lambda image, strength, numbers, sign: affine(image, (1, 0, 0, 0, 1, sign * 12.5 * strength)),
    "cutout": lambda image, strength, numbers, sign: box(image, strength, numbers),
    "solarize_add": lambda image, strength, numbers, sign: image.point(
        lambda x: min(x + int(110 * strength), 255) if x < 128 else x
    ),
}


def test_all_sixteen():
    assert set(ra.OPERATIONS) == set(PIL) and len(PIL) == 16


@pytest.mark.parametrize("strength", [0.11, 0.53, 0.8, 0.97])  # no pixel moves by a half
@pytest.mark.parametrize("name", PIL)
def test_equals_pil(name, strength):
    """To the pixel; blends may round the other way, and turned pixels lie on the edge between two."""
    before = IMAGES.copy()
    out = ra.OPERATIONS[name](IMAGES, strength, NUMBERS)
    assert out.shape == IMAGES.shape and out.dtype == np.uint8
    np.testing.assert_array_equal(IMAGES, before)
    for image, numbers, got in zip(IMAGES, NUMBERS, out, strict=True):
        sign = -1 if numbers[0] < 0.5 else 1
        expected = np.asarray(PIL[name](Image.fromarray(image), strength, numbers, sign)).astype(int)
        blends = name in ("color", "contrast", "brightness", "sharpness")
        off = np.abs(got - expected) > (1 if blends else 0)
        assert off.mean() <= (0.02 if name in ("rotate", "shear_x", "shear_y") else 0), (name, off.mean())


def test_a_strength_of_a_half_leaves_four_alone():
    for name in ("color", "contrast", "brightness", "sharpness"):
        np.testing.assert_array_equal(ra.OPERATIONS[name](IMAGES, 0.5, NUMBERS), IMAGES)


def test_flat_images_stay_whole():
    flat = np.full((1, 8, 8, 3), 77, np.uint8)
    for name in ("auto_contrast", "equalize"):
        np.testing.assert_array_equal(ra.OPERATIONS[name](flat, 0.5, NUMBERS[:1]), flat)


def test_grey_images_are_the_same_in_every_channel():
    grey = IMAGES[..., :1]
    key = randomness.keys(0, "test", np.arange(4))
    three = ra.rand_augment(np.repeat(grey, 3, axis=3), key, 4, 9.0)
    np.testing.assert_array_equal(ra.rand_augment(grey, key, 4, 9.0), three[..., :1])


def test_an_example_depends_on_its_key_alone():
    key = randomness.keys(0, "test", np.arange(64))
    images = np.repeat(IMAGES, 16, axis=0)
    whole = ra.rand_augment(images, key, 4, 5.0)
    np.testing.assert_array_equal(ra.rand_augment(images[5:9], key[5:9], 4, 5.0), whole[5:9])
    changed = (whole != images).any((1, 2, 3))
    assert changed.mean() > 0.9
    assert len({bytes(image) for image in whole[:16]}) > 12  # of one image, by sixteen keys


def test_operations_are_drawn_evenly():
    images = np.repeat(IMAGES[2:3, :8, :8], 4000, axis=0)
    once = ra.rand_augment(images, randomness.keys(0, "test", np.arange(4000)), 1, 10.0)
    inverted = (once == 255 - images).all((1, 2, 3)).mean()
    assert 0.045 < inverted < 0.08  # 1/16, by `invert` alone


def test_only_bytes_of_one_or_three_channels():
    for images in (IMAGES.astype(np.float32), np.repeat(IMAGES, 2, axis=3)):
        with pytest.raises(ConfigError, match="expected uint8 with 1 or 3"):
            ra.rand_augment(images, randomness.keys(0, "test", np.arange(4)), 1, 5.0)
