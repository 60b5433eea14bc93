# SPDX-License-Identifier: Apache-2.0
"""Adapters of images: order of inputs and channels, patches, normalisation, batch statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.models.image_adapters import ConvolutionAdapter, ImageAdapter, space_to_depth
from perceiver_jax.models.positions import FourierPositions, LearnedPositions, grid_positions

FOURIER = FourierPositions(4, 16.0)
IMAGE = jax.random.uniform(jax.random.key(0), (2, 4, 6, 3), minval=-1)


def test_pixels():
    output = ImageAdapter(FOURIER).apply({}, IMAGE)
    assert output.shape == (2, 24, 3 + 2 + 2 * 2 * 4)
    np.testing.assert_array_equal(output[..., :3], IMAGE.reshape(2, 24, 3))
    np.testing.assert_array_equal(output[1, :, 3:5], grid_positions((4, 6)).reshape(24, 2))


def test_patches_hold_their_pixels_row_by_row():
    patches = space_to_depth(IMAGE, 2)
    assert patches.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(patches[0, 1, 2], IMAGE[0, 2:4, 4:6].reshape(12))
    output = ImageAdapter(FOURIER, patch_size=2).apply({}, IMAGE)
    np.testing.assert_array_equal(output[0, 5, :12], patches[0, 1, 2])
    np.testing.assert_array_equal(output[0, :, 12:14], grid_positions((2, 3)).reshape(6, 2))


def test_normalises_by_channel():
    pixels = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3)), jnp.uint8)
    mean, std = (100.0, 120.0, 140.0), (10.0, 20.0, 40.0)
    output = ImageAdapter(FOURIER, mean=mean, std=std).apply({}, pixels)
    expected = (pixels.reshape(2, 24, 3) - np.asarray(mean)) / np.asarray(std)
    np.testing.assert_allclose(output[..., :3], expected, rtol=1e-6, atol=1e-6)


def test_positions_are_added_where_widths_agree():
    adapter = ImageAdapter(
        LearnedPositions(6, 5), patch_size=2, num_channels=7, position_channels=7, add_positions=True
    )
    variables = adapter.init(jax.random.key(0), IMAGE)
    params = variables["params"]
    project = params["project"]["kernel"], params["project_positions"]["kernel"]
    expected = space_to_depth(IMAGE, 2).reshape(2, 6, 12) @ project[0] + params["positions"]["table"] @ project[1]
    np.testing.assert_allclose(adapter.apply(variables, IMAGE), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="positions of 5 channels cannot be added to features of 3"):
        ImageAdapter(LearnedPositions(24, 5), add_positions=True).init(jax.random.key(0), IMAGE)


def test_batch_statistics_are_those_of_the_batch_where_they_may_change():
    adapter = ConvolutionAdapter(FOURIER, num_channels=4)
    image = 5 * jax.random.normal(jax.random.key(1), (3, 16, 16, 3))
    variables = adapter.init(jax.random.key(0), image)
    trained, updated = adapter.apply(variables, image, mutable=["batch_stats"])
    assert trained.shape == (3, 16, 4 + 2 + 2 * 2 * 4)
    mean = updated["batch_stats"]["norm_0"]["mean"]
    evaluated = adapter.apply(variables, image)
    assert np.abs(mean).max() > 0 and not np.allclose(trained[..., :4], evaluated[..., :4])
    update = jax.jit(lambda stats: adapter.apply({**variables, **stats}, image, mutable=["batch_stats"])[1])
    for _ in range(100):
        updated = update(updated)
    settled = adapter.apply({**variables, **updated}, image)
    np.testing.assert_allclose(settled[..., :4], trained[..., :4], atol=0.05)


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({}, (2, 3, 32, 32), "Move the channels last"),
        ({}, (32, 32), r"expected \(batch, height, width, channels\)"),
        ({"mean": (0.0,), "std": (1.0,)}, (2, 8, 8, 3), "expected 1 channels, as mean and std have"),
        ({"patch_size": 3}, (2, 8, 6, 3), "patch_size=3 does not divide an image of 8 x 6 pixels"),
    ],
)
def test_wrong_shapes(fields, shape, message):
    with pytest.raises(ValueError, match=message):
        ImageAdapter(FOURIER, **fields).apply({}, jnp.zeros(shape))


def test_whole_numbers_need_statistics():
    with pytest.raises(ValueError, match="type uint8: expected floating point"):
        ImageAdapter(FOURIER).apply({}, jnp.zeros((2, 8, 8, 3), jnp.uint8))
