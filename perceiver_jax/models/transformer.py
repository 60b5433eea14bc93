# SPDX-License-Identifier: Apache-2.0
"""A causal transformer over tokens, and what samples from it one token at a time.

Pre-norm with residuals and a last norm. A learned vector stands before the first token, so that what comes out at
position t depends on the tokens before t alone and on the context, which every layer attends to where there is one.
Embedding the tokens and reading logits off is the caller's.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.attention import (
    MLP,
    CrossAttention,
    InputProjection,
    KeysValues,
    attend,
    merge_heads,
    project_heads,
)
from perceiver_jax.models.norms import layer_norm
from perceiver_jax.models.placed import by_example
from perceiver_jax.models.positions import LATENT_STDDEV

GREEDY = float(np.finfo(np.float32).tiny)
"""A temperature at which `sample` takes the likeliest token."""
TOKEN_INIT = nn.initializers.truncated_normal(LATENT_STDDEV)

Tokens = Float[Array, "batch length dim"]
Context = Float[Array, "batch context_length channels"]


class Cache(NamedTuple):
    """What sampling remembers of the tokens so far, a row for each layer.

    Attributes:
        key, value: zero where nothing has been written.
        context: projected once, where there is a context.
    """

    key: Float[Array, "layers batch length heads head_dim"]
    value: Float[Array, "layers batch length heads head_dim"]
    context: KeysValues | None


class CausalSelfAttention(nn.Module):
    """Each token attends to itself and those before it."""

    num_heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: Tokens, past: tuple[Array, Array] | None = None, index: Any = None):
        """The tokens, or, given the keys and values of the `past`, the one at `index`; also its keys and values."""
        query, key, value = project_heads(inputs, self.num_heads, self.dtype)
        if past is None:
            attended = attend(query, key, value, causal=True)
        else:
            keys, values = (
                jax.lax.dynamic_update_slice_in_dim(old, new, index, axis=1)
                for old, new in zip(past, (key, value), strict=True)
            )
            written = jnp.broadcast_to(jnp.arange(keys.shape[1]) <= index, keys.shape[:2])
            attended = attend(query, keys, values, written, path="dense")
        out = nn.Dense(inputs.shape[-1], dtype=self.dtype, name="out")(merge_heads(attended))
        return out, (key, value)


class CausalLayer(nn.Module):
    """x + attention(LN(x)), x + cross-attention(LN(x), LN(context)), x + MLP(LN(x))."""

    dim: int
    num_heads: int
    widening_factor: int
    dropout_rate: float
    attends_to_context: bool
    dtype: Any

    def setup(self):
        self.norm, self.mlp_norm = layer_norm(self.dtype), layer_norm(self.dtype)
        self.attention = CausalSelfAttention(self.num_heads, dtype=self.dtype)
        self.mlp = MLP(self.widening_factor, dtype=self.dtype)
        self.dropout = nn.Dropout(self.dropout_rate)
        if self.attends_to_context:
            self.context = InputProjection(self.num_heads, self.dim, dtype=self.dtype)
            self.cross_norm = layer_norm(self.dtype)
            self.cross_attention = CrossAttention(dtype=self.dtype)

    def project(self, context: Context) -> KeysValues:
        """Keys and values of a context."""
        return self.context(context)

    def __call__(self, tokens: Tokens, context: KeysValues | None, train: bool, past=None, index=None):
        dropout = functools.partial(self.dropout, deterministic=not train)
        tokens = by_example(tokens)
        attended, written = self.attention(self.norm(tokens), past, index)
        tokens = by_example(tokens + dropout(attended))
        if self.attends_to_context:
            tokens = by_example(tokens + dropout(self.cross_attention(self.cross_norm(tokens), context)))
        return by_example(tokens + dropout(self.mlp(self.mlp_norm(tokens)))), written


class Transformer(nn.Module):
    """Embedded tokens (batch, length, dim) to one vector for each, which knows the tokens before it alone.

    Attributes:
        shape: of the tokens, first axis outermost, e.g. (slots, blocks) or (tokens,); each axis has learned positions,
            which add up.
        dim: of the tokens.
        attends_to_context: whether there is a context.
        dtype: of the products; norms, softmax and parameters are float32.
    """

    shape: tuple[int, ...]
    dim: int = 256
    num_layers: int = 4
    num_heads: int = 8
    widening_factor: int = 4
    dropout_rate: float = 0.1
    attends_to_context: bool = False
    dtype: Any = jnp.float32

    def setup(self):
        if self.dim % self.num_heads:
            raise ConfigError(f"dim={self.dim} does not split into num_heads={self.num_heads}. Use a multiple.")
        self.first = self.param("first", TOKEN_INIT, (self.dim,), jnp.float32)
        self.axes = [
            self.param(f"positions_{axis}", TOKEN_INIT, (size, self.dim), jnp.float32)
            for axis, size in enumerate(self.shape)
        ]
        self.layers = CausalLayer(
            self.dim, self.num_heads, self.widening_factor, self.dropout_rate, self.attends_to_context, self.dtype
        )
        self.norm = layer_norm(jnp.float32)
        self.dropout = nn.Dropout(self.dropout_rate)

    @property
    def length(self) -> int:
        """How many tokens there are."""
        return math.prod(self.shape)

    def __call__(self, embedded: Tokens, context: Context | None = None, *, train: bool = False) -> Tokens:
        """All tokens at once; row t of the result depends on the rows before t."""
        first = jnp.broadcast_to(self.first, (len(embedded), 1, self.dim))
        tokens = jnp.concatenate([first, embedded[:, :-1]], 1) + self._positions()
        self._check(context)

        def layer(layer, tokens, _):
            projected = None if context is None else layer.project(context)
            return layer(tokens, projected, train)[0], None

        tokens = self.dropout(tokens, deterministic=not train).astype(self.dtype)
        return self.norm(self._scan(layer)(self.layers, tokens, None)[0])

    def start(self, batch_size: int, context: Context | None = None) -> Cache:
        """What `step` needs before the first token."""
        shape = (self.num_layers, batch_size, self.length, self.num_heads, self.dim // self.num_heads)
        self._check(context)
        if context is not None:
            project = self._scan(lambda layer, nothing, _: (nothing, layer.project(context)))
            context = project(self.layers, None, None)[1]
        return Cache(jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype), context)

    def step(
        self, embedded: Float[Array, "batch dim"], cache: Cache, index: Int[Array, ""]
    ) -> tuple[Float[Array, "batch dim"], Cache]:
        """Row `index` of what `__call__` gives, from the token before it; at index 0 that is not read."""
        before = jnp.where(index == 0, self.first, embedded)
        tokens = (before + self._positions()[index])[:, None].astype(self.dtype)

        def layer(layer, tokens, row):
            return layer(tokens, row.context, False, (row.key, row.value), index)

        tokens, new = self._scan(layer)(self.layers, tokens, cache)
        key, value = (
            jax.lax.dynamic_update_slice_in_dim(old, row, index, axis=2)
            for old, row in zip((cache.key, cache.value), new, strict=True)
        )
        return self.norm(tokens)[:, 0], Cache(key, value, cache.context)

    def _check(self, context: Context | None) -> None:
        if (context is None) == self.attends_to_context:
            raise ValueError(f"attends_to_context={self.attends_to_context}, but the context is {type(context)}")

    def _positions(self) -> Float[Array, "length dim"]:
        grids = jnp.meshgrid(*(jnp.arange(size) for size in self.shape), indexing="ij")
        return sum(table[grid.reshape(-1)] for table, grid in zip(self.axes, grids, strict=True))

    def _scan(self, layer: Callable) -> Callable:
        return nn.scan(
            layer, variable_axes={"params": 0}, split_rngs={"params": True, "dropout": True}, length=self.num_layers
        )


def sample(
    step: Callable[[Array, Any, Array], tuple[Array, Any]],
    cache: Any,
    keys: Key[Array, "batch"],
    length: int,
    *,
    temperature: float | Float[Array, ""] = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Int[Array, "batch length"]:
    """Token after token, each drawn from its logits; a row depends on its own key and cache alone.

    Args:
        step: (tokens before (batch,), cache, index) -> (logits (batch, vocabulary), cache); at index 0 the tokens are
            zeros that mean nothing.
        cache: what the first step is given.
        keys: one for each row, (batch,).
        temperature: more than 0; `GREEDY` takes the likeliest.
        top_k, top_p: see `likeliest`; the temperature comes first.
    """

    def draw(carry, index):
        before, cache = carry
        logits, cache = step(before, cache, index)
        logits = likeliest((logits - logits.max(-1, keepdims=True)) / temperature, top_k, top_p)
        drawn = jax.vmap(lambda key, row: jax.random.categorical(jax.random.fold_in(key, index), row))(keys, logits)
        return (drawn.astype(jnp.int32), cache), drawn.astype(jnp.int32)

    first = jnp.zeros(len(keys), jnp.int32)
    return jax.lax.scan(draw, (first, cache), jnp.arange(length))[1].T


def likeliest(
    logits: Float[Array, "batch vocabulary"], top_k: int | None = None, top_p: float | None = None
) -> Float[Array, "batch vocabulary"]:
    """The logits, minus infinity but for the `top_k` largest, and of these the fewest that have `top_p` of the whole.

    Holtzman et al. 2020, https://arxiv.org/abs/1904.09751 (top-p); the largest always stays, None leaves all.
    """
    if top_k is None and top_p is None:
        return logits
    order = jnp.argsort(-logits, axis=-1, stable=True)
    ranked = jnp.take_along_axis(logits, order, -1)
    kept = jnp.arange(logits.shape[-1]) < (logits.shape[-1] if top_k is None else top_k)
    kept = jnp.broadcast_to(kept, logits.shape)
    if top_p is not None and top_p < 1:  # the shares of all may sum to less, by rounding
        shares = jax.nn.softmax(jnp.where(kept, ranked, -jnp.inf), -1)
        kept &= shares.cumsum(-1) - shares < top_p
    kept = jnp.put_along_axis(jnp.zeros_like(kept), order, kept, -1, inplace=False)
    return jnp.where(kept, logits, -jnp.inf)
