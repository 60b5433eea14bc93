# SPDX-License-Identifier: Apache-2.0
"""Decoders of slots (Watters et al. 2019, https://arxiv.org/abs/1901.07017): each slot alone to colours and an alpha.

A slot is repeated at every place of a grid, gets the place's position added and becomes a picture with four channels;
a softmax of the fourth over the slots says which slot shows a pixel (Locatello et al. 2020, appendix E.3).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.convolutions import BroadcastConvolution, Convolution
from perceiver_jax.models.fields import MOST_ROUNDS, check_numbers
from perceiver_jax.models.placed import by_example
from perceiver_jax.models.positions import fourier_features, grid_positions

GLOROT = nn.initializers.glorot_uniform()
COLORS = 3


class Scene(NamedTuple):
    """What the slots show.

    Attributes:
        image: the mixture, in the units of the input the model is trained on.
        recons: the picture of every slot.
        masks: the share of every slot in every pixel; they sum to 1 over the slots.
    """

    image: Float[Array, "batch height width colors"]
    recons: Float[Array, "batch num_slots height width colors"]
    masks: Float[Array, "batch num_slots height width 1"]


class SoftPositions(nn.Module):
    """Adds a linear map of (y, x, 1 - y, 1 - x), each from 0 to 1 inclusive, to the places of a grid."""

    @nn.compact
    def __call__(
        self, grid: Float[Array, "*batch height width channels"]
    ) -> Float[Array, "*batch height width channels"]:
        height, width, channels = grid.shape[-3:]
        return grid + nn.Dense(channels, kernel_init=GLOROT, name="project")(soft_positions(height, width))


def soft_positions(height: int, width: int) -> Float[np.ndarray, "height width 4"]:
    """(y, x, 1 - y, 1 - x) of every place."""
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    return np.stack([y, x, 1 - y, 1 - x], -1).astype(np.float32)


class ConvolutionDecoder(nn.Module):
    """Transposed convolutions from a small grid up to the image, or plain ones on the whole image.

    Attributes:
        image_size: height and width of the image.
        strides: of the 5 x 5 transposed convolutions; the grid is image_size over their product. The published
            decoders: (2, 2, 2, 2, 1) for 128 pixels, (2, 2, 2, 1) for 64, (1, 1, 1) for 35.
        num_channels: of all layers but the last, which is 3 x 3.
        dtype: of the convolutions.
    """

    image_size: int
    strides: Sequence[int] = (2, 2, 2, 2, 1)
    num_channels: int = 64
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, slots: Float[Array, "batch num_slots slot_dim"]) -> Scene:
        check_numbers("model.decoder", num_channels=self.num_channels, strides=self.strides)
        size, left = divmod(self.image_size, math.prod(self.strides))
        if left or not self.strides:
            raise ConfigError(
                f"the decoder's strides {tuple(self.strides)} do not divide image_size={self.image_size}: choose "
                "one or more whose product does."
            )
        batch, num_slots, slot_dim = slots.shape
        positions = SoftPositions(name="positions")(jnp.zeros((size, size, slot_dim)))
        like = {"kernel_init": TRANSPOSED_GLOROT, "dtype": self.dtype}
        first, *strides = self.strides
        grid = BroadcastConvolution(self.num_channels, 5, first, name="layer_0", **like)(
            slots.reshape(batch * num_slots, slot_dim), positions
        )
        like["transposed"] = True
        for layer, stride in enumerate(strides, 1):
            grid = Convolution(self.num_channels, 5, stride, name=f"layer_{layer}", **like)(nn.relu(by_example(grid)))
        grid = by_example(Convolution(COLORS + 1, 3, name="out", **like)(nn.relu(by_example(grid))))
        grid = grid.reshape(batch, num_slots, *grid.shape[1:])
        return mixture(grid[..., :COLORS], grid[..., COLORS:])


class PixelDecoder(nn.Module):
    """The same MLP at every place, which may be a patch of pixels: all work is large products.

    Attributes:
        image_size: height and width of the image.
        patch_size: pixels of a place's side.
        fourier_bands: frequencies of a place's position, up to the grid's; 0 is the soft positions alone, whose edges
            take long to become sharp.
        num_channels, num_layers: of the hidden layers.
        dtype: of the products.
    """

    image_size: int
    patch_size: int = 1
    fourier_bands: int = 0
    num_channels: int = 128
    num_layers: int = 3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, slots: Float[Array, "batch num_slots slot_dim"]) -> Scene:
        check_numbers("model.decoder", patch_size=self.patch_size, num_channels=self.num_channels)
        check_numbers("model.decoder", most=MOST_ROUNDS, num_layers=self.num_layers)
        check_numbers("model.decoder", least=0, fourier_bands=self.fourier_bands)
        places, left = divmod(self.image_size, self.patch_size)
        if left:
            raise ConfigError(
                f"the decoder's patch_size={self.patch_size} does not divide image_size={self.image_size}: choose one "
                "that does."
            )
        dense = {"kernel_init": GLOROT, "dtype": self.dtype}
        # The first layer is linear before its ReLU: slots and positions go through it apart, and only the sum is large.
        from_slots = by_example(nn.Dense(self.num_channels, name="slots", **dense)(by_example(slots)))[:, :, None]
        positions = place_positions(places, self.fourier_bands).astype(self.dtype).reshape(places**2, -1)
        hidden = nn.relu(from_slots + nn.Dense(self.num_channels, use_bias=False, name="positions", **dense)(positions))
        batch, num_slots = slots.shape[:2]
        hidden = by_example(hidden)
        hidden = hidden.reshape(-1, self.num_channels)  # one product for all, which the CPU does at its full rate
        for layer in range(self.num_layers - 1):
            hidden = by_example(nn.relu(nn.Dense(self.num_channels, name=f"layer_{layer}", **dense)(hidden)))
        planes = nn.Dense((COLORS + 1) * self.patch_size**2, name="out", **dense)(hidden)
        planes = by_example(planes.reshape(batch, num_slots, places**2, COLORS + 1, self.patch_size**2))
        # Planes of one colour are mixed as they are; rearranged are the image and what is asked for of each slot.
        scene = mixture(planes[..., :COLORS, :], planes[..., COLORS:, :])
        return Scene(*(_pixels(array, places, self.patch_size) for array in scene))


def place_positions(places: int, fourier_bands: int) -> Float[Array, "places places channels"]:
    """Soft positions of a grid's places and, where there are bands, sines and cosines up to the grid's frequency."""
    soft = jnp.asarray(soft_positions(places, places))
    if not fourier_bands:
        return soft
    waves = fourier_features(grid_positions((places, places)), fourier_bands, places, include_positions=False)
    return jnp.concatenate([soft, waves], -1)


def mixture(colors: Float[Array, "batch num_slots ..."], alphas: Float[Array, "batch num_slots ..."]) -> Scene:
    """Colours and alpha logits of each slot to the scene, in float32."""
    recons, masks = colors.astype(jnp.float32), jax.nn.softmax(alphas.astype(jnp.float32), axis=1)
    return Scene((recons * masks).sum(1), recons, masks)


def _pixels(
    planes: Float[Array, "*batch places channels pixels"], places: int, size: int
) -> Float[Array, "*batch height width channels"]:
    """Places of size x size pixels to an image."""
    *batch, _, channels, _ = planes.shape
    grid = jnp.moveaxis(planes.reshape(*batch, places, places, channels, size, size), (-2, -1), (-4, -2))
    return grid.reshape(*batch, places * size, places * size, channels)


TRANSPOSED_GLOROT = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform", in_axis=-1, out_axis=-2)
"""Glorot's for kernels (height, width, out, in)."""
