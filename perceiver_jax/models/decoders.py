# SPDX-License-Identifier: Apache-2.0
"""Perceiver IO (Jaegle et al. 2021b, https://arxiv.org/abs/2107.14795): queries that attend to the latents."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Shaped

from perceiver_jax.models.attention import CHUNK_SIZE, KeysValues, Streamed
from perceiver_jax.models.blocks import CrossAttend, Latents
from perceiver_jax.models.perceiver import PerceiverEncoder
from perceiver_jax.models.placed import by_example
from perceiver_jax.models.positions import LATENT_STDDEV


class Decode(CrossAttend):
    """A cross-attend that may leave out the residual of its queries, as some published decoders do."""

    query_residual: bool

    def __call__(
        self,
        queries: Float[Array, "batch num_queries query_dim"],
        inputs: KeysValues | Streamed,
        mask: Bool[Array, "batch num_latents"] | None,
        train: bool,
    ) -> Float[Array, "batch num_queries query_dim"]:
        if self.query_residual:
            return super().__call__(queries, inputs, mask, train)
        attended = by_example(self.attention(self.norm(by_example(queries)), inputs, mask))
        return by_example(attended + self.mlp(self.mlp_norm(attended)))


class QueryDecoder(nn.Module):
    """Queries (batch, num_queries, query_dim) of any number to as many outputs of the same width; never drops out.

    Attributes:
        num_decode_heads: of the cross-attend, whose queries, keys and values have the width of the latents.
        decode_widening_factor: hidden width of its MLP over that of the queries.
        query_residual: add the queries to what they attended to.
        exact_gelu, attention, chunk_size, dtype: as in PerceiverEncoder.
    """

    num_decode_heads: int = 1
    decode_widening_factor: int = 1
    query_residual: bool = True
    exact_gelu: bool = False
    attention: str = "auto"
    chunk_size: int = CHUNK_SIZE
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, queries: Float[Array, "batch num_queries query_dim"], latents: Latents
    ) -> Float[Array, "batch num_queries query_dim"]:
        decode = Decode(
            num_heads=self.num_decode_heads,
            width=None,
            widening_factor=self.decode_widening_factor,
            exact_gelu=self.exact_gelu,
            dropout_rate=0.0,
            attention_path=self.attention,
            chunk_size=self.chunk_size,
            long=False,
            dtype=self.dtype,
            query_residual=self.query_residual,
            name="cross_attend",
        )
        return decode(queries.astype(self.dtype), decode.project(latents), None, False)


class PerceiverIO(nn.Module):
    """Adapter, encoder, one learned query that attends to the latents, linear classifier in float32.

    Attributes:
        query_dim: width of the query; None is that of the latents.
    """

    adapter: nn.Module
    encoder: PerceiverEncoder
    decoder: QueryDecoder
    num_classes: int
    query_dim: int | None = None

    def setup(self):
        shape = (1, self.query_dim or self.encoder.latent_dim)
        self.query = self.param("query", nn.initializers.truncated_normal(LATENT_STDDEV), shape, jnp.float32)
        self.head = nn.Dense(self.num_classes)

    def __call__(
        self,
        inputs: Shaped[Array, "batch ..."],
        mask: Shaped[Array, "batch length"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "batch num_classes"]:
        """Logits in float32 of inputs as the adapter takes them; `mask` as for PerceiverEncoder."""
        return self.classify(self.encoder(self.adapter(inputs), mask, train=train))

    def classify(self, latents: Latents) -> Float[Array, "batch num_classes"]:
        """Logits of what the query finds in the latents."""
        decoded = self.decoder(jnp.broadcast_to(self.query, (latents.shape[0], *self.query.shape)), latents)
        return self.head(decoded[:, 0].astype(jnp.float32))
