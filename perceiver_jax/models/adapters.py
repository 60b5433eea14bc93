# SPDX-License-Identifier: Apache-2.0
"""Adapters: one interface, inputs of a modality -> (batch, length, channels), so that an encoder knows none.

An adapter owns the position encoding and joins it to the features, [features | positions], as published. Those of
images are in `image_adapters`.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Shaped

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.positions import grid_positions


class PointAdapter(nn.Module):
    """Point clouds: the first channels of a point are its coordinates, all others are features.

    With `coordinates_as_features` the coordinates are data too; Fourier positions hold them raw already.
    """

    positions: nn.Module
    coordinates_as_features: bool = False
    coordinate_dims: int = 3

    def __call__(self, inputs: Shaped[Array, "..."]) -> Float[Array, "batch length channels"]:
        _check_points(inputs, self.coordinate_dims)
        coordinates = inputs[..., : self.coordinate_dims]
        features = inputs if self.coordinates_as_features else inputs[..., self.coordinate_dims :]
        return join(features, self.positions(coordinates))


class SequenceAdapter(nn.Module):
    """Sequences (batch, length, channels) of up to `max_length`; an index has one position in all.

    `num_channels` is what is expected of them; None takes any number.
    """

    positions: nn.Module
    max_length: int
    num_channels: int | None = None

    def __call__(self, inputs: Shaped[Array, "..."]) -> Float[Array, "batch length channels"]:
        check_float(inputs, "a sequence")
        if inputs.ndim != 3 or self.num_channels not in (None, inputs.shape[2]):
            channels = self.num_channels or "channels"
            raise ConfigError(f"a sequence has shape {inputs.shape}: expected (batch, length, {channels}).")
        _check_length(inputs.shape[1], self.max_length)
        return join(inputs, _index_positions(self.positions, self.max_length, inputs.shape[1]))


class TokenAdapter(nn.Module):
    """Sequences (batch, length) of whole numbers below `vocabulary_size`, each embedded in `embed_dim` channels.

    The embedding starts as a truncated normal of deviation 1: layer norm over [embedding | positions] then weighs both
    alike.
    """

    positions: nn.Module
    max_length: int
    vocabulary_size: int
    embed_dim: int = 64

    @nn.compact
    def __call__(self, inputs: Shaped[Array, "..."]) -> Float[Array, "batch length channels"]:
        if inputs.ndim != 2 or not jnp.issubdtype(inputs.dtype, jnp.integer):
            raise ConfigError(
                f"tokens have shape {inputs.shape} and type {inputs.dtype}: expected (batch, length), whole numbers."
            )
        _check_length(inputs.shape[1], self.max_length)
        initializer = nn.initializers.truncated_normal(1.0)
        embedded = nn.Embed(self.vocabulary_size, self.embed_dim, embedding_init=initializer, name="embed")(inputs)
        return join(embedded, _index_positions(self.positions, self.max_length, inputs.shape[1]))


def _index_positions(positions: nn.Module, max_length: int, length: int) -> Float[Array, "length channels"]:
    """Of the first `length` indices: a step's position does not depend on how many follow."""
    return positions(grid_positions((max_length,)))[:length]


def _check_length(length: int, max_length: int) -> None:
    if length > max_length:
        raise ConfigError(
            f"a sequence has length {length}: expected at most max_length={max_length}. "
            "Raise max_length or cut the sequence."
        )


def join(
    features: Float[Array, "batch length features"], positions: Float[Array, "*batch_or_none length channels"]
) -> Float[Array, "batch length joined"]:
    """[features | positions]; one set of positions may serve the whole batch."""
    positions = jnp.broadcast_to(positions, (*features.shape[:2], positions.shape[-1]))
    return jnp.concatenate([features, positions.astype(features.dtype)], axis=-1)


def check_float(inputs: Array, what: str) -> None:
    """Raises ConfigError for integers."""
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise ConfigError(f"{what} has type {inputs.dtype}: expected floating point. Scale or embed it first.")


def _check_points(inputs: Array, dims: int) -> None:
    check_float(inputs, "a point cloud")
    if inputs.ndim != 3 or inputs.shape[-1] < dims:
        raise ConfigError(
            f"a batch of point clouds has shape {inputs.shape}: "
            f"expected (batch, points, {dims} coordinates + features)."
        )
    if inputs.shape[1] == dims < inputs.shape[2]:
        raise ConfigError(
            f"a batch of point clouds has shape {inputs.shape}: expected (batch, points, {dims} + features), "
            f"got what looks like (batch, {dims}, points). Swap the last two axes."
        )
