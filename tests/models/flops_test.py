# SPDX-License-Identifier: Apache-2.0
"""The formula against XLA's own count, on models without a scan (XLA counts the body of a scan once)."""

import jax
import jax.numpy as jnp
import pytest

from perceiver_jax.models.adapters import PointAdapter
from perceiver_jax.models.decoders import PerceiverIO, QueryDecoder
from perceiver_jax.models.flops import decoder_flops, encoder_flops, training_flops
from perceiver_jax.models.image_adapters import ConvolutionAdapter, ImageAdapter
from perceiver_jax.models.perceiver import Perceiver, PerceiverEncoder
from perceiver_jax.models.positions import FourierPositions, LearnedPositions

LENGTH, CHANNELS = 256, 99


def encoder(**fields):
    defaults = dict(num_latents=64, latent_dim=128, num_self_attends_per_block=1, num_self_attend_heads=4)
    return PerceiverEncoder(**defaults | dict(attention="dense", cross_attend_width="latents") | fields, parent=None)


def xla_flops(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


@pytest.mark.parametrize(
    "fields",
    [{}, {"cross_attend_width": "inputs"}, {"cross_attend_widening_factor": 2, "self_attend_widening_factor": 4}],
)
def test_forward_is_within_four_percent_of_xla(fields):
    """XLA also counts norms, softmax and GELU, which the formula leaves out on purpose."""
    model = encoder(**fields)
    inputs = jnp.ones((1, LENGTH, CHANNELS))
    variables = model.init(jax.random.key(0), inputs)
    counted = xla_flops(model.apply, variables, inputs)
    assert sum(encoder_flops(model, LENGTH, CHANNELS)) == pytest.approx(counted, rel=0.04)
    assert sum(encoder_flops(model, LENGTH, CHANNELS)) < counted


def test_training_step_is_within_five_percent_of_xla():
    model = Perceiver(PointAdapter(FourierPositions(16, 32.0)), encoder(), num_classes=10)
    points = jnp.ones((1, LENGTH, 3))
    variables = model.init(jax.random.key(0), points)
    counted = xla_flops(jax.grad(lambda v: model.apply(v, points, train=True).sum()), variables)
    assert training_flops(model, (LENGTH, 3), LENGTH, CHANNELS) == pytest.approx(counted, rel=0.05)


@pytest.mark.parametrize("width", ["latents", "inputs"])
def test_at_the_published_size_a_training_step_is_within_two_percent_of_xla(width):
    """Before XLA compiles it, so that nothing of that size is computed; the model of ModelNet40 with one layer."""
    published = encoder(num_latents=512, latent_dim=1024, num_self_attend_heads=8, cross_attend_width=width)
    model = Perceiver(PointAdapter(FourierPositions(64, 2240.0)), published, num_classes=40)
    counted = xla_training_flops(model, (1, 2048, 3))
    assert training_flops(model, (2048, 3), 2048, 387) == pytest.approx(counted, rel=0.02)


def xla_training_flops(model, shape):
    """Of a step for one example of a batch, before XLA compiles it: nothing is computed."""
    inputs = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)

    def step(params, rest, inputs):
        outputs = model.apply({"params": params, **rest}, inputs, train=True, mutable=["batch_stats"])
        return outputs[0].sum()

    rest = {name: value for name, value in variables.items() if name != "params"}
    lowered = jax.jit(jax.grad(step)).lower(variables["params"], rest, inputs)
    return lowered.cost_analysis()["flops"] / shape[0]


@pytest.mark.parametrize(
    ("adapter", "length", "channels"),
    [
        (ImageAdapter(LearnedPositions(32 * 32, 128), num_channels=64, position_channels=64), 1024, 128),
        (ImageAdapter(LearnedPositions(8 * 8, 128), patch_size=4), 64, 176),
        (ConvolutionAdapter(FourierPositions(16, 8.0)), 64, 130),
        (ConvolutionAdapter(FourierPositions(16, 8.0), num_layers=2), 4, 130),
    ],
)
def test_adapters_that_learn_are_counted(adapter, length, channels):
    """With a decoder. What the inputs of the encoder are made of then needs a gradient, and so do they."""
    own = encoder(num_latents=128, latent_dim=512, cross_attend_width="latents")
    model = PerceiverIO(adapter, own, QueryDecoder(num_decode_heads=4, parent=None), num_classes=10)
    counted = xla_training_flops(model, (32, 32, 32, 3))
    assert training_flops(model, (32, 32, 3), length, channels) == pytest.approx(counted, rel=0.01)


def test_the_decoder_is_within_two_percent_of_xla():
    own, decoder = encoder(num_latents=128, latent_dim=512), QueryDecoder(num_decode_heads=4, parent=None)
    model = PerceiverIO(PointAdapter(FourierPositions(4, 8.0)), own, decoder, num_classes=10)
    latents = jax.ShapeDtypeStruct((4, 128, 512), jnp.float32)
    variables = jax.eval_shape(lambda key: model.init(key, jnp.zeros((4, 16, 3))), jax.random.key(0))
    classify = jax.jit(lambda variables, latents: model.apply(variables, latents, method="classify"))
    counted = classify.lower(variables, latents).cost_analysis()["flops"] / 4
    assert decoder_flops(model) + 2 * 512 * 10 == pytest.approx(counted, rel=0.02)


def test_shared_stages_project_the_input_once():
    once, twice = (encoder(num_cross_attends=n, num_blocks=n, share_cross_attends="all") for n in (1, 2))
    apart = encoder(num_cross_attends=2, num_blocks=2, share_cross_attends="none")
    projection, rest = encoder_flops(once, LENGTH, CHANNELS)
    assert encoder_flops(twice, LENGTH, CHANNELS) == (projection, 2 * rest)
    assert encoder_flops(apart, LENGTH, CHANNELS) == (2 * projection, 2 * rest)


def test_latent_part_does_not_depend_on_the_length():
    wide = encoder(num_self_attends_per_block=6)
    cross = encoder_flops(wide, 2048, CHANNELS)[1] - encoder_flops(wide, 512, CHANNELS)[1]
    assert cross == 4 * 64 * (2048 - 512) * 128  # scores and weighted sum, nothing else
