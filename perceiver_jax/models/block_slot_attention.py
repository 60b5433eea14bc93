# SPDX-License-Identifier: Apache-2.0
"""Slot attention whose slots consist of blocks (SysBinder, Singh et al. 2023, https://arxiv.org/abs/2211.01177).

Queries, keys and values see whole slots; GRU and MLP keep the blocks apart, each with parameters of its own. After each
iteration the slots are quantised, and the next one begins with their codes (Wu et al. 2024, section 3).
"""

from collections.abc import Callable
from typing import NamedTuple

from flax import linen as nn
from jaxtyping import Array, Float

from perceiver_jax.models.quantizer import Blocks, Quantized, Slots, check_blocks, split_blocks
from perceiver_jax.models.slot_attention import GLOROT, GRU, NORM_EPSILON, Seen, SlotAttention, looked


class Parsed(NamedTuple):
    """What block slot attention gives.

    Attributes:
        quantized: the slots after the last iteration.
        unquantized: what they were made of.
        attention: of every iteration, each slot's share of each input, which sum to 1 over the slots.
    """

    quantized: Quantized
    unquantized: Slots
    attention: Float[Array, "batch num_iterations num_slots length"]


class BlockSlotAttention(SlotAttention):
    """Inputs (batch, length, channels) to slots of codes.

    Attributes:
        mlp_dim: hidden width of the MLP of each block.
        num_blocks: of a slot.
    """

    num_slots: int = 4
    mlp_dim: int = 64
    initializer: str = "learned"
    num_blocks: int = 4

    def setup(self):
        check_blocks(self.num_blocks, self.slot_dim)
        super().setup()

    @nn.nowrap
    def _make_update(self) -> nn.Module:
        return BlockSlotUpdate(self.num_blocks, self.mlp_dim, self.attention, self.chunk_size)

    def __call__(self, inputs: Float[Array, "batch length channels"], quantize: Callable[[Slots], Quantized]) -> Parsed:
        """Group, and quantise at the end of each iteration."""
        settled = []

        def settle(slots: Slots) -> Slots:
            settled.append((quantize(slots), slots))
            return settled[-1][0].slots

        attention = super().__call__(inputs, settle=settle).attention
        return Parsed(*settled[-1], attention)


class BlockSlotUpdate(nn.Module):
    """One iteration: attention of whole slots, then GRU and residual MLP of each block."""

    num_blocks: int
    mlp_dim: int
    attention: str
    chunk_size: int

    @nn.compact
    def __call__(self, slots: Slots, seen: Seen) -> tuple[Slots, Float[Array, "batch num_slots length"]]:
        attended, shares = looked(slots, seen, self.attention, self.chunk_size)
        blocks = (split_blocks(part, self.num_blocks) for part in (slots, attended))
        return BlockUpdate(self.mlp_dim, name="blocks")(*blocks).reshape(slots.shape), shares


class BlockUpdate(nn.Module):
    """GRU and residual MLP, the same for all slots, with other parameters for each block."""

    mlp_dim: int

    @nn.compact
    def __call__(self, blocks: Blocks, attended: Blocks) -> Blocks:
        of_each_block = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "in_axes": -2, "out_axes": -2}
        blocks = nn.vmap(GRU, **of_each_block)(name="gru")(blocks, attended)
        return blocks + nn.vmap(BlockMLP, **of_each_block)(self.mlp_dim, name="mlp")(blocks)


class BlockMLP(nn.Module):
    """Norm, hidden layer with ReLU, and back."""

    mlp_dim: int

    @nn.compact
    def __call__(self, block: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
        hidden = nn.Dense(self.mlp_dim, kernel_init=GLOROT, name="hidden")(nn.LayerNorm(NORM_EPSILON)(block))
        return nn.Dense(block.shape[-1], kernel_init=GLOROT, name="out")(nn.relu(hidden))
