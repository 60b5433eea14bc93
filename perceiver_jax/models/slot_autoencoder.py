# SPDX-License-Identifier: Apache-2.0
"""The object discovery model of Slot Attention (Locatello et al. 2020, appendix E.3): encoder, slots, decoder.

Encoders give one vector for each place of a grid, with its position; a decoder shows each slot alone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Shaped, UInt8

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.broadcast_decoders import GLOROT, SoftPositions
from perceiver_jax.models.convolutions import Convolution
from perceiver_jax.models.fields import MOST_ROUNDS, check_numbers
from perceiver_jax.models.image_adapters import windows
from perceiver_jax.models.placed import by_example
from perceiver_jax.models.slot_attention import NORM_EPSILON, SlotAttention, Slots


class Decomposed(NamedTuple):
    """What the autoencoder gives: an image taken apart.

    Attributes:
        image: the reconstruction, from -1 to 1 where it is good.
        recons, masks: colours and share of every slot (`broadcast_decoders.Scene`).
        slots: the slots.
        attention: of every iteration, each slot's share of each place of the encoder's grid.
    """

    image: Float[Array, "batch height width colors"]
    recons: Float[Array, "batch num_slots height width colors"]
    masks: Float[Array, "batch num_slots height width 1"]
    slots: Slots
    attention: Float[Array, "batch num_iterations num_slots rows columns"]


class ConvolutionEncoder(nn.Module):
    """5 x 5 convolutions with ReLU.

    Attributes:
        num_channels: of each.
        strides: of each; the published ones are (1, 1, 1, 1), for set prediction (1, 2, 2, 1).
        dtype: of the convolutions.
    """

    num_channels: int = 64
    strides: Sequence[int] = (1, 1, 1, 1)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width colors"]
    ) -> Float[Array, "batch rows columns channels"]:
        check_numbers("model.encoder", num_channels=self.num_channels, strides=self.strides)
        for layer, stride in enumerate(self.strides):
            convolution = Convolution(
                self.num_channels, 5, stride, kernel_init=GLOROT, dtype=self.dtype, name=f"layer_{layer}"
            )
            images = by_example(nn.relu(convolution(images)))
        return images


class PatchEncoder(nn.Module):
    """An MLP on each patch, by itself or with what is around it.

    Attributes:
        patch_size: pixels of its side.
        context: how many pixels around the patch the MLP sees too; about an object's radius, so that all of an
            object's patches can say which object they are of.
        num_channels, num_layers: of its layers, each with ReLU.
        dtype: of the products.
    """

    patch_size: int = 4
    context: int = 0
    num_channels: int = 128
    num_layers: int = 2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width colors"]
    ) -> Float[Array, "batch rows columns channels"]:
        check_numbers("model.encoder", patch_size=self.patch_size, num_channels=self.num_channels)
        check_numbers("model.encoder", most=MOST_ROUNDS, num_layers=self.num_layers)
        check_numbers("model.encoder", least=0, most=max(images.shape[1:3]), context=self.context)
        hidden = windows(images, self.patch_size, self.context)
        for layer in range(self.num_layers):
            dense = nn.Dense(self.num_channels, kernel_init=GLOROT, dtype=self.dtype, name=f"layer_{layer}")
            hidden = by_example(nn.relu(dense(hidden)))
        return hidden


class SlotAutoencoder(nn.Module):
    """Images (batch, height, width, 3), uint8 or float from 0 to 255, to slots and back.

    Attributes:
        feature_dim: of the inputs that slot attention gets; a layer norm and an MLP of this width make them.
    """

    encoder: nn.Module
    slot_attention: SlotAttention
    decoder: nn.Module
    feature_dim: int = 64

    @nn.compact
    def __call__(
        self,
        inputs: Shaped[Array, "batch height width colors"],
        *,
        num_slots: int | None = None,
        num_iterations: int | None = None,
        noise: Slots | None = None,
    ) -> Decomposed:
        """Take apart; arguments as for `SlotAttention`.

        Raises:
            ConfigError: the image has another size than the decoder's.
        """
        if inputs.shape[1:3] != (self.decoder.image_size,) * 2:
            raise ConfigError(
                f"images of {inputs.shape[1]} x {inputs.shape[2]} pixels: the decoder makes "
                f"{self.decoder.image_size} x {self.decoder.image_size}. Set config.model.decoder.image_size or the "
                "size of the data."
            )
        check_numbers("model", feature_dim=self.feature_dim)
        features = placed_features(self.encoder(centered(inputs)), self.feature_dim, self.slot_attention.dtype)
        found = grouped(self.slot_attention, features, num_slots=num_slots, num_iterations=num_iterations, noise=noise)
        return Decomposed(*self.decoder(found.slots), *found)


def placed_features(
    grid: Float[Array, "batch rows columns channels"], feature_dim: int, dtype: Any
) -> Float[Array, "batch rows columns feature_dim"]:
    """What slot attention gets: each place with its position, normed, through an MLP; within a compact method.

    Positions and norm are float32, the products of `dtype`.
    """
    features = nn.LayerNorm(NORM_EPSILON, name="norm")(SoftPositions(name="positions")(grid))
    hidden = nn.Dense(feature_dim, kernel_init=GLOROT, dtype=dtype, name="mlp_hidden")(features)
    return by_example(
        nn.Dense(feature_dim, kernel_init=GLOROT, dtype=dtype, name="mlp_out")(by_example(nn.relu(hidden)))
    )


def grouped(
    slot_attention: SlotAttention, features: Float[Array, "batch rows columns channels"], *args: Any, **options: Any
) -> Any:
    """What slot attention makes of a grid; its attention (batch, num_iterations, num_slots, rows, columns)."""
    batch, rows, columns, channels = features.shape
    found = slot_attention(features.reshape(batch, rows * columns, channels), *args, **options)
    return found._replace(attention=found.attention.reshape(*found.attention.shape[:3], rows, columns))


def centered(images: Shaped[Array, "*batch colors"]) -> Float[Array, "*batch colors"]:
    """0 .. 255 to -1 .. 1, the range the reconstruction is compared in."""
    return images.astype(jnp.float32) / 127.5 - 1


def as_pixels(images: Float[Array | np.ndarray, "*batch colors"]) -> UInt8[Array, "*batch colors"]:
    """-1 .. 1 to 0 .. 255, the other way round; what lies outside is cut off."""
    return (jnp.clip(images, -1, 1) * 127.5 + 128).astype(jnp.uint8)
