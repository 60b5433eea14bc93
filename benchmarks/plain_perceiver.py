# SPDX-License-Identifier: Apache-2.0
"""The same Perceiver as one would write it first in Flax linen: `--peer=plain`.

`nn.MultiHeadDotProductAttention`, a Python loop over the layers, keys and values projected anew at each stage. Weights
are shared as the config says, so sizes and results agree with ours; the trainer around it is ours.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Shaped

from benchmarks.jax_steps import JaxSteps
from perceiver_jax.models.norms import LAYER_NORM_EPSILON
from perceiver_jax.models.perceiver import Perceiver, PerceiverEncoder, weights_of
from perceiver_jax.tasks.base import Task


class PlainLayer(nn.Module):
    """x + attention(LN(x), LN(context)), then x + MLP(LN(x)); without a context x attends to itself."""

    num_heads: int
    width: int
    widening_factor: int
    exact_gelu: bool
    dropout_rate: float
    dtype: Any

    @nn.compact
    def __call__(self, latents: Array, context: Array | None, mask: Array | None, train: bool) -> Array:
        def norm(x: Array, name: str) -> Array:
            return nn.LayerNorm(LAYER_NORM_EPSILON, dtype=self.dtype, name=name)(x)

        dim, dropout = latents.shape[-1], nn.Dropout(self.dropout_rate, deterministic=not train)
        query = norm(latents, "norm")
        attended = nn.MultiHeadDotProductAttention(
            self.num_heads, qkv_features=self.width, out_features=dim, dtype=self.dtype, name="attention"
        )(query, query if context is None else norm(context, "context_norm"), mask=mask)
        latents = latents + dropout(attended)
        hidden = nn.Dense(self.widening_factor * dim, dtype=self.dtype, name="hidden")(norm(latents, "mlp_norm"))
        hidden = nn.gelu(hidden, approximate=not self.exact_gelu)
        return latents + dropout(nn.Dense(dim, dtype=self.dtype, name="out")(hidden))


class PlainPerceiver(nn.Module):
    """Adapter, stages, pooled latents, classifier.

    Attributes:
        encoder: read for its sizes alone.
    """

    adapter: nn.Module
    encoder: PerceiverEncoder
    num_classes: int
    pooling: str = "mean"

    @nn.compact
    def __call__(
        self,
        inputs: Shaped[Array, "batch ..."],
        mask: Shaped[Array, "batch length"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "batch num_classes"]:
        sizes = self.encoder
        inputs = self.adapter(inputs).astype(sizes.dtype)
        mask = None if mask is None else mask.astype(bool)[:, None, None, :]
        shape = (sizes.num_latents, sizes.latent_dim)
        latents = self.param("latents", nn.initializers.truncated_normal(0.02), shape).astype(sizes.dtype)
        latents = jnp.broadcast_to(latents, (inputs.shape[0], *shape))
        crosses, blocks = self._crosses(inputs.shape[-1]), self._blocks()
        each = sizes.num_blocks // sizes.num_cross_attends
        block_of = weights_of(sizes.share_blocks, sizes.num_blocks)
        for stage, cross in enumerate(weights_of(sizes.share_cross_attends, sizes.num_cross_attends)):
            latents = crosses[cross](latents, inputs, mask, train)
            for block in block_of[stage * each : (stage + 1) * each]:
                for layer in blocks[block]:
                    latents = layer(latents, None, None, train)
        latents = latents.astype(jnp.float32)
        pooled = latents[:, 0] if self.pooling == "latent" else latents.mean(axis=1)
        return nn.Dense(self.num_classes, name="head")(pooled)

    def _crosses(self, channels: int) -> list[PlainLayer]:
        sizes = self.encoder
        width = sizes.latent_dim if sizes.cross_attend_width == "latents" else channels
        numbers = sorted(set(weights_of(sizes.share_cross_attends, sizes.num_cross_attends)))
        heads, widening = sizes.num_cross_attend_heads, sizes.cross_attend_widening_factor
        return [self._layer(heads, width, widening, f"cross_{i}") for i in numbers]

    def _blocks(self) -> list[list[PlainLayer]]:
        sizes = self.encoder
        numbers = sorted(set(weights_of(sizes.share_blocks, sizes.num_blocks)))
        heads, widening = sizes.num_self_attend_heads, sizes.self_attend_widening_factor
        return [
            [
                self._layer(heads, sizes.latent_dim, widening, f"block_{i}_layer_{j}")
                for j in range(sizes.num_self_attends_per_block)
            ]
            for i in numbers
        ]

    def _layer(self, heads: int, width: int, widening_factor: int, name: str) -> PlainLayer:
        sizes = self.encoder
        return PlainLayer(
            heads, width, widening_factor, sizes.exact_gelu, sizes.dropout_rate, dtype=sizes.dtype, name=name
        )


def plain_model(model: Perceiver) -> PlainPerceiver:
    """The plain model of the same sizes."""
    return PlainPerceiver(model.adapter, model.encoder, model.num_classes, model.pooling)


class PlainSteps(JaxSteps):
    """The same task and training step with the plain model."""

    def make_task(self, task: Task) -> Task:
        return dataclasses.replace(task, model=plain_model(task.model))
