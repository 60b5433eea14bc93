# SPDX-License-Identifier: Apache-2.0
"""Floating-point operations of a Perceiver by formula, a multiply and an add counted apart.

Only matrix products are counted, and only those that are needed: keys and values of an input that is attended to again
with the same weights are projected once, and positions that a batch shares are projected once for all of it, which is
left out. XLA's own count is no substitute, since it counts the body of a scan once.
"""

import math
from collections.abc import Sequence

from flax import linen as nn

from perceiver_jax.models.adapters import TokenAdapter
from perceiver_jax.models.decoders import PerceiverIO
from perceiver_jax.models.image_adapters import ConvolutionAdapter, ImageAdapter
from perceiver_jax.models.perceiver import Perceiver, PerceiverEncoder
from perceiver_jax.models.positions import LearnedPositions


def encoder_flops(encoder: PerceiverEncoder, length: int, channels: int) -> tuple[float, float]:
    """FLOPs of one forward pass for one example: (projection of the inputs to keys and values, everything else)."""
    num, dim = encoder.num_latents, encoder.latent_dim
    width = dim if encoder.cross_attend_width == "latents" else channels
    distinct = {"all": 1, "after_first": min(2, encoder.num_cross_attends), "none": encoder.num_cross_attends}
    projection = distinct[encoder.share_cross_attends] * 4 * length * channels * width
    cross = 4 * num * dim * width + 4 * num * length * width + 4 * encoder.cross_attend_widening_factor * num * dim**2
    layer = 8 * num * dim**2 + 4 * num**2 * dim + 4 * encoder.self_attend_widening_factor * num * dim**2
    layers = encoder.num_blocks * encoder.num_self_attends_per_block
    return float(projection), float(encoder.num_cross_attends * cross + layers * layer)


def decoder_flops(model: PerceiverIO) -> float:
    """FLOPs of the one query of a forward pass for one example, the classifier not counted."""
    num, dim, decoder = model.encoder.num_latents, model.encoder.latent_dim, model.decoder
    query = model.query_dim or dim
    attention = 4 * num * dim**2 + 4 * query * dim + 4 * num * dim
    return float(attention + 4 * decoder.decode_widening_factor * query**2)


def adapter_flops(adapter: nn.Module, shape: Sequence[int]) -> float:
    """FLOPs of an adapter in a training step for one example of this shape, whose first product needs no gradient."""
    if isinstance(adapter, ImageAdapter) and adapter.num_channels is not None:
        return 2.0 * 2 * math.prod(shape) * adapter.num_channels  # each pixel is in one patch
    if not isinstance(adapter, ConvolutionAdapter):
        return 0.0
    *grid, channels = shape
    total = 0.0
    for layer in range(adapter.num_layers):
        grid = [math.ceil(size / 2) for size in grid]
        total += (3 if layer else 2) * 2 * math.prod(grid) * 7 * 7 * channels * adapter.num_channels
        grid, channels = [math.ceil(size / 2) for size in grid], adapter.num_channels
    return total


def has_parameters(adapter: nn.Module) -> bool:
    """Whether an adapter learns, so that what it gives needs a gradient."""
    projects = isinstance(adapter, ImageAdapter) and (adapter.num_channels or adapter.position_channels) is not None
    learned = isinstance(adapter.positions, LearnedPositions)
    return projects or learned or isinstance(adapter, ConvolutionAdapter | TokenAdapter)


def training_flops(model: Perceiver | PerceiverIO, shape: Sequence[int], length: int, channels: int) -> float:
    """FLOPs of a training step for one example: backward costs twice forward, but the inputs need no gradient.

    Args:
        shape: of an example.
        length, channels: of what the adapter gives to the encoder.
    """
    projection, rest = encoder_flops(model.encoder, length, channels)
    decoded = isinstance(model, PerceiverIO)
    width = model.query_dim or model.encoder.latent_dim if decoded else model.encoder.latent_dim
    head = 2.0 * width * model.num_classes + (decoder_flops(model) if decoded else 0.0)
    projected = (3 if has_parameters(model.adapter) else 2) * projection
    return adapter_flops(model.adapter, shape) + projected + 3 * (rest + head)
