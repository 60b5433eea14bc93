# SPDX-License-Identifier: Apache-2.0
"""Windows of images: within the image, of the area and aspect asked for; resized as PIL does."""

import numpy as np
import pytest
from PIL import Image

from perceiver_jax.data import crops, randomness

KEYS = randomness.keys(0, "test", np.arange(2000))


def test_random_windows():
    windows = np.array([crops.random_window(300, 400, (224, 224), key, 0.08) for key in KEYS])
    top, left, height, width = windows.T
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 300).all() and (left + width <= 400).all()
    area, aspect = height * width / (300 * 400), width / height
    assert area.min() > 0.078 and area.max() > 0.9
    assert 0.74 < aspect.min() < 0.76 and 1.32 < aspect.max() < 1.35
    assert 0.3 < np.quantile(area, 0.5) < 0.54  # uniform, but for the largest, which seldom fit
    free = np.stack([top / np.maximum(300 - height, 1), left / np.maximum(400 - width, 1)])
    assert abs(np.corrcoef(free)[0, 1]) < 0.1 and 0.46 < free.mean() < 0.54


def test_the_same_key_the_same_window_and_the_centre_where_none_fits():
    one, again = (crops.random_window(300, 400, (8, 8), KEYS[3], 0.08) for _ in range(2))
    assert one == again
    assert crops.random_window(4, 400, (8, 8), KEYS[3], 0.99, 0.5) == crops.central_window(4, 400, (8, 8), 0.5)


@pytest.mark.parametrize(
    ("image", "size", "share", "window"),
    [
        ((500, 375), (224, 224), 224 / 256, (86, 24, 328, 328)),  # as DeepMind's code
        ((6, 12), (6, 6), 1.0, (0, 3, 6, 6)),
        ((10, 40), (5, 10), 1.0, (0, 10, 10, 20)),
        ((1, 1), (8, 8), 0.1, (0, 0, 1, 1)),
    ],
)
def test_central_windows(image, size, share, window):
    assert crops.central_window(*image, size, share) == window


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_window_is_cut_out_and_resized(channels):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, channels)).astype(np.uint8)
    cut = [Image.fromarray(np.ascontiguousarray(image[2:14, 5:21, k])) for k in range(channels)]
    expected = np.stack([np.asarray(plane.resize((8, 6), Image.Resampling.BICUBIC)) for plane in cut], -1)
    np.testing.assert_array_equal(crops.framed(image, (2, 5, 12, 16), (6, 8)), expected)
    floats = crops.framed(image.astype(np.float32), (2, 5, 12, 16), (6, 8))
    np.testing.assert_allclose(np.clip(floats, 0, 255), expected, atol=2)
    np.testing.assert_array_equal(crops.framed(image, (3, 4, 5, 6), (5, 6)), image[3:8, 4:10])
