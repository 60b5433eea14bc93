# SPDX-License-Identifier: Apache-2.0
"""A discrete VAE of images (Ramesh et al. 2021, https://arxiv.org/abs/2102.12092; the small one of SLATE, Singh et al.
2022, https://arxiv.org/abs/2110.11405): each patch of 4 x 4 pixels is one token of a vocabulary.

Trained with the Gumbel softmax, whose temperature falls on half a cosine wave from `HOT` to `COLD`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray

from perceiver_jax.models.broadcast_decoders import COLORS
from perceiver_jax.models.convolutions import Convolution
from perceiver_jax.models.image_adapters import depth_to_space, space_to_depth

PATCH = 4
HOT, COLD = 1.0, 0.1
HE = nn.initializers.he_uniform()
"""Of layers before a ReLU, as SLATE's."""

Images = Float[Array, "batch height width colors"]
Grid = Float[Array, "batch rows columns vocabulary"]


class DVAE(nn.Module):
    """Images from -1 to 1 to the logits of their tokens, and tokens to images.

    Attributes:
        vocab_size: of the tokens.
        num_channels: of the hidden layers.
        dtype: of the products.
    """

    vocab_size: int
    num_channels: int = 64
    dtype: Any = jnp.float32

    def setup(self):
        self.encoder = [self._layer(self.num_channels) for _ in range(7)]
        self.logits = nn.Dense(self.vocab_size, dtype=self.dtype)
        self.embed = self._layer(self.num_channels)
        self.stages = [self._stage() for _ in range(2)]
        self.out = nn.Dense(COLORS, dtype=self.dtype)

    def encode(self, images: Images) -> Grid:
        """Log-probabilities of the token of each patch; a layer on the patch, six on each place."""
        hidden = space_to_depth(images, PATCH).astype(self.dtype)
        for layer in self.encoder:
            hidden = nn.relu(layer(hidden))
        return jax.nn.log_softmax(self.logits(hidden).astype(jnp.float32))

    def decode(self, tokens: Grid) -> Images:
        """From shares of the vocabulary, or one-hot tokens."""
        hidden = nn.relu(self.embed(tokens.astype(self.dtype)))
        for stage in self.stages:
            for layer in stage:
                hidden = nn.relu(layer(hidden))
            hidden = depth_to_space(hidden, 2)
        return self.out(hidden).astype(jnp.float32)

    def decode_tokens(self, tokens: Int[Array, "batch rows columns"]) -> Images:
        """From the tokens themselves."""
        return self.decode(jax.nn.one_hot(tokens, self.vocab_size))

    def _layer(self, num_channels: int, size: int = 1) -> nn.Module:
        if size == 1:
            return nn.Dense(num_channels, kernel_init=HE, dtype=self.dtype)
        return Convolution(num_channels, size, kernel_init=HE, dtype=self.dtype)

    def _stage(self) -> list[nn.Module]:
        """Twice the resolution: what follows is depth to space."""
        width = self.num_channels
        return [self._layer(width, 3), self._layer(width), self._layer(width), self._layer(4 * width)]


def gumbel_softmax(rng: PRNGKeyArray, logits: Grid, temperature: Float[Array, ""]) -> Grid:
    """Shares that are nearly one-hot where the temperature is low (Jang et al. 2017, Maddison et al. 2017)."""
    return jax.nn.softmax((logits + jax.random.gumbel(rng, logits.shape)) / temperature)


def temperature_at(step: Array, num_steps: int) -> Float[Array, ""]:
    """From `HOT` to `COLD` within `num_steps`."""
    progress = jnp.clip(step / num_steps, 0, 1)
    return COLD + (HOT - COLD) * (1 + jnp.cos(jnp.pi * progress)) / 2
