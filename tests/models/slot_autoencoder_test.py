# SPDX-License-Identifier: Apache-2.0
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.block_slot_attention import BlockSlotAttention
from perceiver_jax.models.broadcast_decoders import ConvolutionDecoder, PixelDecoder
from perceiver_jax.models.image_adapters import space_to_depth, windows
from perceiver_jax.models.image_decoders import SceneDecoder
from perceiver_jax.models.set_predictor import SetPredictor
from perceiver_jax.models.slot_attention import SlotAttention
from perceiver_jax.models.slot_autoencoder import ConvolutionEncoder, PatchEncoder, SlotAutoencoder, as_pixels, centered
from perceiver_jax.models.svq import SVQ

RNGS = {"params": jax.random.key(0), "slots": jax.random.key(1)}


def test_the_published_clevr6_model_has_as_many_parameters():
    model = SlotAutoencoder(ConvolutionEncoder(), SlotAttention(), ConvolutionDecoder(128))
    variables = jax.eval_shape(lambda: model.init(RNGS, jnp.zeros((1, 128, 128, 3))))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 890_308


@pytest.fixture(scope="module")
def small():
    model = SlotAutoencoder(PatchEncoder(4, 16), SlotAttention(3, 16, mlp_dim=16), PixelDecoder(16, 2, 16), 16)
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8))
    return model, model.init(RNGS, images), images


def test_parts_fit_together(small):
    model, variables, images = small
    out = model.apply(variables, images, rngs=RNGS)
    assert out.image.shape == (2, 16, 16, 3) and out.attention.shape == (2, 3, 3, 4, 4)
    assert out.slots.shape == (2, 3, 16)
    np.testing.assert_allclose(out.masks.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(out.image, (out.recons * out.masks).sum(1), atol=1e-6)
    more = model.apply(variables, images, num_slots=5, num_iterations=1, rngs=RNGS)
    assert more.masks.shape == (2, 5, 16, 16, 1) and more.attention.shape[1] == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_of_all_places_are_of_the_model_s_type(dtype):
    """Two of the encoder and two of the features, before slots."""
    like = {"dtype": jnp.dtype(dtype), "parent": None}
    encoder, decoder = PatchEncoder(4, num_channels=8, **like), PixelDecoder(16, 4, num_channels=8, **like)
    slots = SlotAttention(3, 8, mlp_dim=8, **like)
    coded = BlockSlotAttention(3, 8, mlp_dim=8, num_blocks=2, **like)
    for model in (
        SlotAutoencoder(encoder, slots, decoder, 8),
        SetPredictor(encoder, slots, 4, 8),
        SVQ(encoder, coded, SceneDecoder(decoder), 8),
    ):
        traced = str(jax.make_jaxpr(lambda images, model=model: model.init(RNGS, images))(jnp.zeros((2, 16, 16, 3))))
        products = re.findall(r":(\w+)\[2,4,4,8\] = dot_general", traced)
        assert products == [{"float32": "f32", "bfloat16": "bf16"}[dtype]] * 4


def test_a_slot_is_decoded_by_itself_place_by_place(small):
    """The pixel decoder equals its MLP on (slot, position) of every place, cut out by hand."""
    decoder = PixelDecoder(6, 2, num_channels=8, num_layers=2)
    slots = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 4)), jnp.float32)
    variables = decoder.init(jax.random.key(0), slots)
    out, p = decoder.apply(variables, slots), variables["params"]
    y, x = 1, 2
    place = np.array([y / 2, x / 2, 1 - y / 2, 1 - x / 2], np.float32)
    hidden = np.maximum(slots[0] @ p["slots"]["kernel"] + p["slots"]["bias"] + place @ p["positions"]["kernel"], 0)
    hidden = np.maximum(hidden @ p["layer_0"]["kernel"] + p["layer_0"]["bias"], 0)
    planes = (hidden @ p["out"]["kernel"] + p["out"]["bias"]).reshape(2, 4, 2, 2)
    patch = planes.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(out.recons[0, :, 2:4, 4:6], patch[..., :3], atol=1e-5)
    alpha = np.exp(patch[..., 3:])
    np.testing.assert_allclose(out.masks[0, :, 2:4, 4:6], alpha / alpha.sum(0), atol=1e-5)


def test_a_patch_is_seen_with_its_surroundings():
    """Windows equal a slice of the image padded with its edge; without context they are the patches."""
    image = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype(np.float32)
    padded = np.pad(image, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="edge")
    cut = np.asarray(windows(jnp.asarray(image), 4, 3)).reshape(2, 2, 3, 10, 10, 3)
    np.testing.assert_array_equal(cut[:, 1, 2], padded[:, 4:14, 8:18])
    np.testing.assert_array_equal(windows(jnp.asarray(image), 4, 0), space_to_depth(jnp.asarray(image), 4))


@pytest.mark.parametrize(("size", "strides"), [(32, (2, 2, 1)), (35, (1, 1, 1)), (64, (2, 2, 2, 1))])
def test_convolution_decoders_reach_every_published_size(size, strides):
    decoder = ConvolutionDecoder(size, strides, num_channels=8)
    slots = jnp.zeros((1, 2, 8))
    shapes = jax.eval_shape(lambda: decoder.init_with_output(jax.random.key(0), slots)[0])
    assert shapes.image.shape == (1, size, size, 3) and shapes.masks.shape == (1, 2, size, size, 1)


def test_sizes_that_do_not_fit_are_named(small):
    model, variables, _ = small
    with pytest.raises(ConfigError, match="images of 8 x 8 pixels: the decoder makes 16 x 16"):
        model.apply(variables, jnp.zeros((1, 8, 8, 3), np.uint8), rngs=RNGS)
    with pytest.raises(ConfigError, match=r"strides \(2, 2\) do not divide image_size=35"):
        ConvolutionDecoder(35, (2, 2)).init(jax.random.key(0), jnp.zeros((1, 2, 8)))
    with pytest.raises(ConfigError, match="patch_size=3 does not divide image_size=16"):
        PixelDecoder(16, 3).init(jax.random.key(0), jnp.zeros((1, 2, 8)))
    for context in (0, 2):
        with pytest.raises(ConfigError, match="patch_size=4 does not divide an image of 8 x 10 pixels"):
            windows(jnp.zeros((1, 8, 10, 3)), 4, context)


def test_images_are_centered():
    np.testing.assert_allclose(centered(jnp.array([[0, 127, 255]], jnp.uint8)), [[-1, 127 / 127.5 - 1, 1]], atol=1e-6)


def test_pixels_go_there_and_back():
    """And are rounded and cut off."""
    assert as_pixels(jnp.array([[-1.5, -1.0, 0.0, 1.0, 1.5]])).tolist() == [[0, 0, 128, 255, 255]]
    every = np.arange(256, dtype=np.uint8)[:, None]
    np.testing.assert_array_equal(as_pixels(centered(jnp.asarray(every))), every)
