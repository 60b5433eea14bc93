# SPDX-License-Identifier: Apache-2.0
"""Layer norm as in DeepMind's code: epsilon 1e-5, statistics in float32; whole, without parameters, or they alone."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

LAYER_NORM_EPSILON = 1e-5


def layer_norm(dtype: Any, name: str | None = None) -> nn.LayerNorm:
    """Statistics in float32, result in `dtype`; fast variance, since any other doubles XLA's work on CPU."""
    return nn.LayerNorm(LAYER_NORM_EPSILON, dtype=dtype, name=name)


def normalize(
    inputs: Float[Array, "*batch channels"], epsilon: float = LAYER_NORM_EPSILON
) -> Float[Array, "*batch channels"]:
    """A layer norm without scale and bias, in float32."""
    inputs = inputs.astype(jnp.float32)
    norm = nn.LayerNorm(epsilon, use_bias=False, use_scale=False, parent=None)
    return norm.apply({}, inputs)


class NormParameters(nn.Module):
    """Scale and bias of a layer norm, unapplied."""

    @nn.compact
    def __call__(self, channels: int) -> tuple[Float[Array, "channels"], Float[Array, "channels"]]:
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        return scale, self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
