# SPDX-License-Identifier: Apache-2.0
"""Adapters of images: pixels or patches, by themselves or projected, or the output of a convolution, with positions.

The three preprocessors of Perceiver IO (Jaegle et al. 2021b, appendix A) are `ImageAdapter` on pixels with Fourier
positions; on pixels with `num_channels`, learned positions and `position_channels`; and `ConvolutionAdapter`.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Shaped

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.adapters import check_float, join
from perceiver_jax.models.positions import grid_positions

BATCH_NORM_MOMENTUM, BATCH_NORM_EPSILON = 0.9, 1e-5  # DeepMind's


class ImageAdapter(nn.Module):
    """Images (batch, height, width, channels), or any grid with channels last: one input for each pixel or patch.

    Attributes:
        patch_size: 1, or sides of square patches of an image, each one input: its pixels row by row.
        num_channels: project pixels or patches to this width; None leaves them as they are.
        position_channels: project positions to this width; None leaves them as they are.
        add_positions: add positions to the features instead of joining them.
        mean, std: of each channel, in the units of the image, which is normalised by them; () does nothing.
    """

    positions: nn.Module
    patch_size: int = 1
    num_channels: int | None = None
    position_channels: int | None = None
    add_positions: bool = False
    mean: Sequence[float] = ()
    std: Sequence[float] = ()

    @nn.compact
    def __call__(self, inputs: Shaped[Array, "..."]) -> Float[Array, "batch length channels"]:
        pixels = normalized_image(inputs, self.mean, self.std)
        if self.patch_size > 1:
            pixels = space_to_depth(pixels, self.patch_size)
        features, positions = _flat(pixels), self.positions(_coordinates(pixels))
        if self.num_channels is not None:
            features = nn.Dense(self.num_channels, name="project")(features)
        if self.position_channels is not None:
            positions = nn.Dense(self.position_channels, name="project_positions")(positions)
        if not self.add_positions:
            return join(features, positions)
        if features.shape[-1] != positions.shape[-1]:
            raise ConfigError(
                f"positions of {positions.shape[-1]} channels cannot be added to features of {features.shape[-1]}: set "
                "num_channels and position_channels to the same width, or add_positions=False."
            )
        return features + positions


class ConvolutionAdapter(nn.Module):
    """7 x 7 convolution of stride 2, batch norm, ReLU, 3 x 3 max pooling of stride 2: a quarter of height and width.

    Where the collection "batch_stats" is mutable, the batch's own statistics are used and their moving average kept;
    elsewhere that average is used.

    Attributes:
        num_channels: of the convolution.
        num_layers: how often.
        mean, std: as in ImageAdapter.
    """

    positions: nn.Module
    num_channels: int = 64
    num_layers: int = 1
    mean: Sequence[float] = ()
    std: Sequence[float] = ()

    @nn.compact
    def __call__(self, inputs: Shaped[Array, "batch height width channels"]) -> Float[Array, "batch length joined"]:
        pixels = normalized_image(inputs, self.mean, self.std)
        stored = not self.is_mutable_collection("batch_stats")
        for layer in range(self.num_layers):
            pixels = nn.Conv(self.num_channels, (7, 7), 2, use_bias=False, name=f"convolution_{layer}")(pixels)
            norm = nn.BatchNorm(stored, momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=f"norm_{layer}")
            pixels = nn.max_pool(nn.relu(norm(pixels)), (3, 3), (2, 2), "SAME")
        return join(_flat(pixels), self.positions(_coordinates(pixels)))


def normalized_image(
    inputs: Shaped[Array, "batch ..."], mean: Sequence[float], std: Sequence[float]
) -> Float[Array, "batch ..."]:
    """(image - mean) / std by channel in float32, also of uint8; the image itself without mean."""
    _check_image(inputs, len(mean))
    if not mean:
        return inputs
    return (inputs.astype(jnp.float32) - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)


def space_to_depth(
    image: Float[Array, "batch height width channels"], size: int
) -> Float[Array, "batch rows columns features"]:
    """Square patches, not overlapping; the features of a patch are its pixels row by row, channels last."""
    batch, height, width, channels = image.shape
    _check_patches(image, size)
    patches = image.reshape(batch, height // size, size, width // size, size, channels)
    return patches.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // size, width // size, size * size * channels)


def depth_to_space(
    patches: Float[Array, "*batch rows columns features"], size: int
) -> Float[Array, "*batch height width channels"]:
    """Undo `space_to_depth`."""
    *batch, rows, columns, features = patches.shape
    pixels = patches.reshape(*batch, rows, columns, size, size, features // size**2)
    pixels = jnp.moveaxis(pixels, -3, -4)  # rows, size, columns, size
    return pixels.reshape(*batch, rows * size, columns * size, features // size**2)


def windows(
    image: Float[Array, "batch height width channels"], size: int, context: int
) -> Float[Array, "batch rows columns features"]:
    """As `space_to_depth`, with `context` pixels around each patch; beyond the image its edge is repeated."""
    _check_patches(image, size)
    if not context:
        return space_to_depth(image, size)
    rows, columns = (length // size for length in image.shape[1:3])
    image = jnp.pad(image, ((0, 0), (context, context), (context, context), (0, 0)), mode="edge")
    strips = jnp.stack([image[:, row * size : (row + 1) * size + 2 * context] for row in range(rows)], 1)
    cut = [strips[:, :, :, column * size : (column + 1) * size + 2 * context] for column in range(columns)]
    return jnp.stack(cut, 2).reshape(len(image), rows, columns, -1)


def _check_patches(image: Array, size: int) -> None:
    height, width = image.shape[1:3]
    if height % size or width % size:
        raise ConfigError(
            f"patch_size={size} does not divide an image of {height} x {width} pixels: choose a divisor of both."
        )


def _flat(grid: Float[Array, "batch *grid channels"]) -> Float[Array, "batch length channels"]:
    return grid.reshape(grid.shape[0], math.prod(grid.shape[1:-1]), grid.shape[-1])


def _coordinates(grid: Float[Array, "batch *grid channels"]) -> Float[Array, "length dims"]:
    shape = grid.shape[1:-1]
    return grid_positions(shape).reshape(math.prod(shape), len(shape))


def _check_image(inputs: Array, num_channels: int) -> None:
    if not num_channels:
        check_float(inputs, "an image")
    if inputs.ndim < 3:
        raise ConfigError(f"an image has shape {inputs.shape}: expected (batch, height, width, channels).")
    if inputs.ndim == 4 and inputs.shape[1] in (1, 3) and inputs.shape[-1] > 4:
        raise ConfigError(
            f"an image batch has shape {inputs.shape}: expected (batch, height, width, channels), "
            "got what looks like (batch, channels, height, width). Move the channels last."
        )
    if num_channels not in (0, inputs.shape[-1]):
        raise ConfigError(f"an image has shape {inputs.shape}: expected {num_channels} channels, as mean and std have.")
