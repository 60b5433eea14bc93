# SPDX-License-Identifier: Apache-2.0
"""The prior over the codes of an image (Wu et al. 2024, https://arxiv.org/abs/2402.01203, section 3.3).

A causal transformer over slots x blocks, the blocks of a slot one after the other. Each block has embeddings and an
output layer of its own, so that only codes of the block at hand can follow: the flat vocabulary of all blocks, masked.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key

from perceiver_jax.models.fields import check_numbers
from perceiver_jax.models.transformer import TOKEN_INIT, Cache, Transformer, sample

Codes = Int[Array, "batch num_slots num_blocks"]


class CodePrior(nn.Module):
    """Codes (batch, num_slots, num_blocks) to the logits of each, given those before it.

    Attributes:
        codebook_size: codes of each block; of a run, what the one has that it begins with.
        dim, num_layers, num_heads, widening_factor, dropout_rate, dtype: of the transformer.
    """

    num_slots: int
    num_blocks: int
    codebook_size: int = 0
    dim: int = 256
    num_layers: int = 4
    num_heads: int = 8
    widening_factor: int = 4
    dropout_rate: float = 0.1
    dtype: Any = jnp.float32

    def setup(self):
        counts = ("codebook_size", "dim", "num_layers", "num_heads", "widening_factor")
        check_numbers("model", **{name: getattr(self, name) for name in counts})
        size, dim = self.codebook_size, self.dim
        self.embeddings = self.param("embeddings", TOKEN_INIT, (self.num_blocks, size, dim), jnp.float32)
        self.heads = self.param("heads", TOKEN_INIT, (self.num_blocks, dim, size), jnp.float32)
        self.biases = self.param("biases", nn.initializers.zeros, (self.num_blocks, size), jnp.float32)
        self.transformer = Transformer(
            (self.num_slots, self.num_blocks),
            self.dim,
            self.num_layers,
            self.num_heads,
            self.widening_factor,
            self.dropout_rate,
            dtype=self.dtype,
        )

    def __call__(
        self, codes: Codes, *, train: bool = False
    ) -> Float[Array, "batch num_slots num_blocks codebook_size"]:
        """All logits at once."""
        embedded = self.embeddings[jnp.arange(self.num_blocks), codes].reshape(len(codes), -1, self.dim)
        hidden = self.transformer(embedded, train=train).reshape(*codes.shape, self.dim)
        return jnp.einsum("bsmd,mdp->bsmp", hidden, self.heads) + self.biases

    def start(self, batch_size: int) -> Cache:
        """What `step` needs before the first code."""
        return self.transformer.start(batch_size)

    def step(
        self, codes: Int[Array, "batch"], cache: Cache, index: Int[Array, ""]
    ) -> tuple[Float[Array, "batch codebook_size"], Cache]:
        """Logits of the code at `index`, given the one before it."""
        block = index % self.num_blocks
        hidden, cache = self.transformer.step(self.embeddings[block - 1, codes], cache, index)
        return hidden @ self.heads[block] + self.biases[block], cache


def sample_codes(prior: CodePrior, params: Any, keys: Key[Array, "batch"], **how: Any) -> Codes:
    """Codes of new images, one for each key; `how` as for `transformer.sample`."""

    def step(codes: Array, cache: Cache, index: Array) -> tuple[Array, Cache]:
        return prior.apply({"params": params}, codes, cache, index, method="step")

    cache = prior.apply({"params": params}, len(keys), method="start")
    drawn = sample(step, cache, keys, prior.num_slots * prior.num_blocks, **how)
    return drawn.reshape(len(keys), prior.num_slots, prior.num_blocks)
