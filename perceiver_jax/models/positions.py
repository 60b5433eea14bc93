# SPDX-License-Identifier: Apache-2.0
"""Position encodings: Fourier features of coordinates, and a learned table (Jaegle et al. 2021, section 3.2).

Both modules share one interface, coordinates "... length dims" -> "... length channels", so that an adapter
takes either. How the coordinates come about (the input's own, a grid, an index) is the adapter's business.
"""

import functools
import math
from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from perceiver_jax.errors import ConfigError

# Series of sin(pi x) / x and cos(pi x) in x^2, highest power first; what is left out is below 1e-8 for |x| <= 1/2.
SINE = [(-1) ** n * math.pi ** (2 * n + 1) / math.factorial(2 * n + 1) for n in reversed(range(7))]
COSINE = [(-1) ** n * math.pi ** (2 * n) / math.factorial(2 * n) for n in reversed(range(8))]

LATENT_STDDEV = 0.02  # of learned positions and latents: truncated normal, as published


def grid_positions(shape: Sequence[int]) -> Float[Array, "..."]:
    """Coordinates (*shape, len(shape)) of a regular grid: -1 to 1 inclusive along each axis, row first."""
    axes = [jnp.linspace(-1.0, 1.0, size, dtype=jnp.float32) for size in shape]
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)


def fourier_features(
    coordinates: Float[Array, "*batch dims"],
    num_bands: int,
    max_resolution: float | int | Sequence[float | int],
    include_positions: bool = True,
) -> Float[Array, "*batch channels"]:
    """Sines and cosines of the coordinates in `num_bands` frequencies per dimension, in float32.

    The frequencies f are linearly spaced from 1 to max_resolution / 2 inclusive; features are sin(pi f x) and
    cos(pi f x). Channels are [coordinates | all sines | all cosines], sines and cosines by dimension, then
    by band.

    Args:
        coordinates: positions, usually in [-1, 1].
        num_bands: frequencies per dimension.
        max_resolution: sampling rate, one for all dimensions or one each; the top band is half of it.
        include_positions: put the raw coordinates first.

    Raises:
        ConfigError: a negative number of bands; max_resolution has neither one value nor one for each dimension.
    """
    if num_bands < 0:
        raise ConfigError(f"fourier_bands={num_bands}: expected at least 0.")
    dims = coordinates.shape[-1]
    resolutions = jnp.asarray(max_resolution, jnp.float32)
    if resolutions.size not in (1, dims):
        raise ConfigError(
            f"max_resolution has {resolutions.size} values: expected 1 or {dims}, one for each coordinate of "
            f"{coordinates.shape}. Give one number or {dims} of them."
        )
    resolutions = jnp.broadcast_to(resolutions.reshape(-1), (dims,))
    coordinates = coordinates.astype(jnp.float32)
    bands = jnp.linspace(jnp.ones(dims), resolutions / 2, num_bands, axis=-1, dtype=jnp.float32)
    half_turns = coordinates[..., None] * bands
    half_turns = half_turns.reshape(*coordinates.shape[:-1], dims * num_bands)
    raw = [coordinates] if include_positions else []
    return jnp.concatenate([*raw, *sin_cos_pi(half_turns)], axis=-1)


def sin_cos_pi(half_turns: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """sin(pi x), cos(pi x) to 2e-7, also for large x, where float32 rounds the product pi x.

    The whole half turns come off first, which is exact; the rest is a power series on [-1/2, 1/2]: a tenth of the time
    of XLA's sine and cosine on CPU.
    """
    whole = jnp.round(half_turns)
    rest = half_turns - whole
    sign = 1 - 2 * (whole - 2 * jnp.floor(whole / 2))
    square = rest * rest
    sine, cosine = (functools.reduce(lambda sum, c: sum * square + c, series) for series in (SINE, COSINE))
    return sign * rest * sine, sign * cosine


class FourierPositions(nn.Module):
    """Fourier features without parameters; 2 * dims * fourier_bands channels, plus dims raw ones."""

    fourier_bands: int
    max_resolution: float | int | Sequence[float | int]
    include_positions: bool = True

    def __call__(self, coordinates: Float[Array, "*batch length dims"]) -> Float[Array, "*batch length channels"]:
        return fourier_features(coordinates, self.fourier_bands, self.max_resolution, self.include_positions)


class LearnedPositions(nn.Module):
    """A trainable row for each index; reads nothing of the coordinates but how many there are."""

    length: int
    dim: int

    @nn.compact
    def __call__(self, coordinates: Float[Array, "*batch length dims"]) -> Float[Array, "*batch length channels"]:
        if coordinates.shape[-2] != self.length:
            raise ConfigError(
                f"learned positions are for length {self.length}: got length {coordinates.shape[-2]}. "
                "Set length to the longest input, or use Fourier positions."
            )
        table = self.param(
            "table", nn.initializers.truncated_normal(LATENT_STDDEV), (self.length, self.dim), jnp.float32
        )
        return jnp.broadcast_to(table, (*coordinates.shape[:-2], self.length, self.dim))
