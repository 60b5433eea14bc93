# SPDX-License-Identifier: Apache-2.0
"""The set prediction model of Slot Attention (Locatello et al. 2020, section 4.2): encoder, slots, an MLP on each.

What comes before the MLP is that of `slot_autoencoder`.
"""

from typing import NamedTuple

from flax import linen as nn
from jaxtyping import Array, Float, Shaped

from perceiver_jax.models.broadcast_decoders import GLOROT
from perceiver_jax.models.fields import check_numbers
from perceiver_jax.models.slot_attention import SlotAttention, Slots
from perceiver_jax.models.slot_autoencoder import centered, grouped, placed_features


class PredictedSet(NamedTuple):
    """What the slots say.

    Attributes:
        properties: of the object each slot stands for, from 0 to 1; the last is the confidence that there is one.
        slots: the slots.
        attention: of every iteration, each slot's share of each place of the encoder's grid.
    """

    properties: Float[Array, "batch num_slots num_columns"]
    slots: Slots
    attention: Float[Array, "batch num_iterations num_slots rows columns"]


class SetPredictor(nn.Module):
    """Images (batch, height, width, 3), uint8 or float from 0 to 255, to a set of property vectors.

    Attributes:
        num_columns: of a property vector.
        feature_dim: as in `SlotAutoencoder`.
        head_dim: hidden width of the MLP.
    """

    encoder: nn.Module
    slot_attention: SlotAttention
    num_columns: int
    feature_dim: int = 64
    head_dim: int = 64

    @nn.compact
    def __call__(
        self,
        inputs: Shaped[Array, "batch height width colors"],
        *,
        num_slots: int | None = None,
        num_iterations: int | None = None,
        noise: Slots | None = None,
    ) -> PredictedSet:
        """Predict; arguments as for `SlotAttention`."""
        check_numbers("model", feature_dim=self.feature_dim, head_dim=self.head_dim)
        features = placed_features(self.encoder(centered(inputs)), self.feature_dim, self.slot_attention.dtype)
        found = grouped(self.slot_attention, features, num_slots=num_slots, num_iterations=num_iterations, noise=noise)
        hidden = nn.relu(nn.Dense(self.head_dim, kernel_init=GLOROT, name="head_hidden")(found.slots))
        properties = nn.sigmoid(nn.Dense(self.num_columns, kernel_init=GLOROT, name="head_out")(hidden))
        return PredictedSet(properties, *found)
