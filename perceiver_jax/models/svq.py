# SPDX-License-Identifier: Apache-2.0
"""Semantic vector quantisation (Wu et al. 2024, https://arxiv.org/abs/2402.01203, section 3): images as codes of slots.

Encoder, block slot attention with a quantiser, and a decoder. The prior over the codes is a model of its own.
"""

import functools
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from jaxtyping import Array, Float, Key, Shaped

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.block_slot_attention import BlockSlotAttention
from perceiver_jax.models.fields import check_numbers
from perceiver_jax.models.image_decoders import Images
from perceiver_jax.models.quantizer import DEAD_BELOW, EMA_DECAY, Indices, Slots, SoftPrototypes, VectorQuantizer
from perceiver_jax.models.slot_autoencoder import centered, grouped, placed_features
from perceiver_jax.models.transformer import GREEDY

QUANTIZERS = {"vq": VectorQuantizer, "soft": SoftPrototypes}

Masks = Float[Array, "batch num_slots height width 1"]


class Coded(NamedTuple):
    """What the autoencoder gives.

    Attributes:
        recon: the image in training, from -1 to 1; a decoder of tokens has seen the true tokens before each, unlike in
            `SVQ.decode`.
        masks: share of every slot in every pixel: the decoder's, or where it has none, those of the last attention.
        slots: of codes.
        unquantized: what they were made of.
        indices: of the codes.
        attention: of every iteration, each slot's share of each place of the encoder's grid.
        losses: name -> the decoder's part of the loss of every example.
        commitment: mean squared distance of the slots of every example to their codes.
    """

    recon: Images
    masks: Masks
    slots: Slots
    unquantized: Slots
    indices: Indices
    attention: Float[Array, "batch num_iterations num_slots rows columns"]
    losses: dict[str, Float[Array, "batch"]]
    commitment: Float[Array, "batch"]


class SVQ(nn.Module):
    """Images (batch, height, width, 3), uint8 or float from 0 to 255, to codes and back.

    Attributes:
        decoder: of `image_decoders`.
        feature_dim: of the inputs that slot attention gets; a layer norm and an MLP of this width make them.
        codebook_size: codes of each block.
        quantize: "vq", or "soft" for mixtures of prototypes instead of codes.
        commitment_weight: of the distance of the slots to their codes in the loss.
        continuous_steps: of training, at its start, in which slots go on as they are while the codes follow ("vq").
        ema_decay: of the means that codes are ("vq").
        dead_below: share of its even use below which a code is made anew from the batch; 0 keeps all ("vq").
    """

    encoder: nn.Module
    slot_attention: BlockSlotAttention
    decoder: nn.Module
    feature_dim: int = 64
    codebook_size: int = 512
    quantize: str = "vq"
    commitment_weight: float = 50.0
    continuous_steps: int = 0
    ema_decay: float = EMA_DECAY
    dead_below: float = DEAD_BELOW

    def setup(self):
        if self.quantize not in QUANTIZERS:
            raise ConfigError(f"model.quantize={self.quantize!r}: expected one of {', '.join(QUANTIZERS)}.")
        if not (0 <= self.ema_decay < 1 and 0 <= self.dead_below < 1):
            raise ConfigError(
                f"model.ema_decay={self.ema_decay}, model.dead_below={self.dead_below}: expected at least 0, below 1."
            )
        check_numbers("model", feature_dim=self.feature_dim)
        slots = self.slot_attention
        self.quantizer = QUANTIZERS[self.quantize](
            slots.num_blocks, self.codebook_size, slots.slot_dim, self.continuous_steps
        )
        self.features = GridFeatures(self.feature_dim, slots.dtype)

    def __call__(self, inputs: Shaped[Array, "batch height width colors"], *, train: bool = False) -> Coded:
        """Take apart into codes and put together again."""
        images = centered(inputs)
        quantize = functools.partial(self.quantizer, train=train)
        parsed = grouped(self.slot_attention, self.features(self.encoder(images)), quantize)
        slots, indices, commitment = parsed.quantized
        decoded = self.decoder(slots, images, train)
        masks = enlarged(parsed.attention[:, -1], images.shape[1:3]) if decoded.masks is None else decoded.masks
        found = (slots, parsed.unquantized, indices, parsed.attention)
        return Coded(decoded.image, masks, *found, decoded.losses, commitment)

    def encode(self, inputs: Shaped[Array, "batch height width colors"]) -> tuple[Slots, Indices, Masks]:
        """Slots, their codes and masks of images."""
        coded = self(inputs)
        return coded.slots, coded.indices, coded.masks

    def lookup(self, indices: Indices) -> Slots:
        """The slots that are made of these codes: exactly those that `encode` gives with them."""
        return self.quantizer.lookup(indices)

    def decode(self, slots: Slots, rng: Key[Array, "..."], temperature: float | Float[Array, ""] = GREEDY) -> Images:
        """Images of the slots alone; see `TransformerDecoder.generate`."""
        return self.decoder.generate(slots, rng, temperature)


class GridFeatures(nn.Module):
    """`placed_features` as a module, which `setup` can hold."""

    feature_dim: int
    dtype: Any

    @nn.compact
    def __call__(
        self, grid: Float[Array, "batch rows columns channels"]
    ) -> Float[Array, "batch rows columns feature_dim"]:
        return placed_features(grid, self.feature_dim, self.dtype)


def enlarged(maps: Float[Array, "batch num_slots rows columns"], size: tuple[int, int]) -> Masks:
    """Shares of the encoder's places as shares of pixels, between the places by a straight line."""
    return jax.image.resize(maps, (*maps.shape[:2], *size), "linear")[..., None]
