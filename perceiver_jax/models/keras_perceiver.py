# SPDX-License-Identifier: Apache-2.0
"""The Perceiver of Keras' example "Image classification with Perceiver" (Salama 2021), exactly.

It is not the paper's: both skips of a cross-attend add the *normalised* latents; its attention has one head, a learned
scale instead of 1 / sqrt(width) and no output projection; each head of the self-attention is `latent_dim` wide; layer
norms have the epsilon 1e-6; GELU is exact; the classifier ends in dropout on the logits. (The layer that the example
names `key` is the value and the other way round: Keras' `Attention` wants [query, value, key].) Keys and values of the
image are projected once for all iterations, whose weights are shared.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Shaped

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.attention import (
    Projection,
    attend,
    attention_weights,
    merge_heads,
    sow_weights,
    split_heads,
)
from perceiver_jax.models.blocks import Latents, repeat
from perceiver_jax.models.dropout import AttentionDropout
from perceiver_jax.models.image_adapters import ImageAdapter
from perceiver_jax.models.placed import by_example
from perceiver_jax.models.target import platform

EPSILON = 1e-6
LATENT_STDDEV = 0.05  # Keras' "random_normal"

KERNEL = nn.initializers.glorot_uniform()


def norm(dtype: Any, name: str | None) -> nn.LayerNorm:
    """Keras' layer norm of the example."""
    return nn.LayerNorm(EPSILON, dtype=dtype, name=name)


def dense(features: int, dtype: Any, name: str | None) -> nn.Dense:
    """Keras' dense layer, as it is initialised there."""
    return nn.Dense(features, kernel_init=KERNEL, dtype=dtype, name=name)


class FeedForward(nn.Module):
    """Dense layers, exact GELU after all but the last, dropout at the end."""

    units: Sequence[int]
    dropout_rate: float
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Float[Array, "*batch channels"], train: bool) -> Float[Array, "*batch outputs"]:
        *hidden, last = self.units
        for index, units in enumerate(hidden):
            inputs = nn.gelu(by_example(dense(units, self.dtype, f"dense_{index}")(inputs)), approximate=False)
        outputs = by_example(dense(last, self.dtype, f"dense_{len(hidden)}")(inputs))
        return nn.Dropout(self.dropout_rate, deterministic=not train)(outputs)


def dropped_attention(
    query: Array, key: Array, value: Array, dropout: AttentionDropout, path: str, train: bool
) -> Array:
    """`attend`, with dropout on the attention weights where it acts: on the dense path, which alone holds them."""
    if not train or not dropout.rate:
        return attend(query, key, value, path=path)
    weights = dropout(attention_weights(query, key).astype(value.dtype))
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


class KerasCrossAttend(nn.Module):
    """Norm, one-headed attention with a learned scale, skip, norm, feed-forward, skip; skips add what is normalised."""

    units: Sequence[int]
    dropout_rate: float
    attention_dropout_rate: float
    attention_path: str
    dtype: Any

    def setup(self):
        self.data_norm, self.norm, self.ffn_norm = (norm(self.dtype, None) for _ in range(3))
        self.query, self.key, self.value = (dense(self.units[-1], self.dtype, None) for _ in range(3))
        self.scale = self.param("scale", nn.initializers.ones, (), jnp.float32)
        self.ffn = FeedForward(self.units, self.dropout_rate, self.dtype)
        self.dropout = AttentionDropout(self.attention_dropout_rate)

    def project(self, data: Float[Array, "batch length channels"]) -> tuple[Array, Array]:
        """Keys and values of the data, (batch, length, 1, channels)."""
        data = self.data_norm(by_example(data))
        return split_heads(self.key(data), 1), split_heads(self.value(data), 1)

    def __call__(self, latents: Latents, projected: tuple[Array, Array], train: bool) -> Latents:
        latents = self.norm(by_example(latents))
        scale = self.scale * latents.shape[-1] ** 0.5  # `attend` divides by the root
        query = split_heads(self.query(latents), 1) * scale.astype(self.dtype)
        sow_weights(self, query, projected[0])
        attended = by_example(dropped_attention(query, *projected, self.dropout, self.attention_path, train))
        attended = self.ffn_norm(merge_heads(attended) + latents)
        return self.ffn(attended, train) + attended


class KerasSelfAttend(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)); every head is as wide as the latents."""

    num_heads: int
    units: Sequence[int]
    dropout_rate: float
    attention_dropout_rate: float
    attention_path: str
    dtype: Any

    @nn.compact
    def __call__(self, latents: Latents, train: bool) -> Latents:
        latents = by_example(latents)
        latents = latents + by_example(self._attention(norm(self.dtype, "norm")(latents), train))
        ffn = FeedForward(self.units, self.dropout_rate, self.dtype, name="ffn")
        return latents + ffn(norm(self.dtype, "ffn_norm")(latents), train)

    def _attention(self, latents: Latents, train: bool) -> Latents:
        """On CPU head by head: contiguous products, without transposed copies, and weights that stay in the cache."""
        dim, heads = latents.shape[-1], self.num_heads
        dropout = AttentionDropout(self.attention_dropout_rate)
        parts = heads if platform() == "cpu" else 1
        kernel, bias = Projection(3 * heads * dim, KERNEL, name="query_key_value")(dim)
        out, out_bias = Projection(dim, KERNEL, name="out")(heads * dim)
        kernels, biases = (jnp.split(x.astype(self.dtype), 3 * parts, axis=-1) for x in (kernel, bias))
        total, seen = out_bias.astype(self.dtype), []
        for part, out_kernel in enumerate(jnp.split(out.astype(self.dtype), parts)):
            query, key, value = (
                split_heads(latents @ kernels[i] + biases[i], heads // parts) for i in range(part, 3 * parts, parts)
            )
            seen.append((query, key))
            attended = dropped_attention(query, key, value, dropout, self.attention_path, train)
            total = total + merge_heads(attended) @ out_kernel
        sow_weights(self, *(jnp.concatenate(parts, axis=2) for parts in zip(*seen, strict=True)))
        return total


class KerasPerceiver(nn.Module):
    """Patches to logits in float32.

    Attributes:
        adapter: gives `latent_dim` channels: projected patches plus learned positions.
        num_latents, latent_dim: the example's `latent_dim` and `projection_dim`.
        num_heads: of the self-attention.
        num_blocks: self-attention layers of an iteration.
        num_iterations: of a cross-attend and its layers, with the same weights.
        ffn_units: widths of the feed-forward networks; the last is latent_dim.
        classifier_units: hidden widths of the classifier.
        dropout_rate: after every feed-forward network and on the logits.
        attention_dropout_rate: on the weights of every attention.
        attention: path of `attend`.
    """

    adapter: ImageAdapter
    num_classes: int
    num_latents: int = 256
    latent_dim: int = 256
    num_heads: int = 8
    num_blocks: int = 4
    num_iterations: int = 2
    ffn_units: Sequence[int] = (256, 256)
    classifier_units: Sequence[int] = (256,)
    dropout_rate: float = 0.2
    attention_dropout_rate: float = 0.1
    attention: str = "auto"
    dtype: Any = jnp.float32

    def setup(self):
        if not self.ffn_units or self.ffn_units[-1] != self.latent_dim:
            raise ConfigError(f"ffn_units={self.ffn_units}: expected the last to be latent_dim={self.latent_dim}.")
        shape = (self.num_latents, self.latent_dim)
        self.latents = self.param("latents", nn.initializers.normal(LATENT_STDDEV), shape, jnp.float32)
        rates = (self.dropout_rate, self.attention_dropout_rate, self.attention, self.dtype)
        self.cross_attend = KerasCrossAttend(self.ffn_units, *rates)
        self.layers = KerasSelfAttend(self.num_heads, self.ffn_units, *rates)
        self.classifier = FeedForward((*self.classifier_units, self.num_classes), self.dropout_rate, jnp.float32)

    def __call__(
        self, inputs: Shaped[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch num_classes"]:
        """Logits of images."""
        data = self.adapter(inputs).astype(self.dtype)
        projected = self.cross_attend.project(data)
        latents = jnp.broadcast_to(self.latents, (data.shape[0], *self.latents.shape)).astype(self.dtype)

        def iterate(self, latents, projected):
            return self.attend_to_themselves(self.cross_attend(latents, projected, train), train)

        return self.classify(repeat(iterate, self.num_iterations, self, latents, projected), train)

    def classify(self, latents: Latents, train: bool = False) -> Float[Array, "batch num_classes"]:
        """Logits of the mean latent."""
        return self.classifier(latents.astype(jnp.float32).mean(axis=1), train)

    def attend_to_themselves(self, latents: Latents, train: bool) -> Latents:
        """The self-attention layers of an iteration."""
        scan = nn.scan(
            lambda layer, latents, _: (layer(latents, train), None),
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            length=self.num_blocks,
        )
        return scan(self.layers, latents, None)[0]

    def notes(self, shape: Sequence[int]) -> list[str]:
        """The sizes, as the example prints them, for images (height, width, channels)."""
        height, width, channels = shape
        side = self.adapter.patch_size
        patches = (height // side) * (width // side)
        return [
            f"Image size: {height} X {width} = {height * width}",
            f"Patch size: {side} X {side} = {side**2}",
            f"Patches per image: {patches}",
            f"Elements per patch ({channels} channels): {side**2 * channels}",
            f"Latent array shape: {self.num_latents} X {self.latent_dim}",
            f"Data array shape: {patches} X {self.latent_dim}",
        ]
