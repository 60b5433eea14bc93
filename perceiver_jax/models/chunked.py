# SPDX-License-Identifier: Apache-2.0
"""Attention over chunks of keys: online softmax, scores held for one chunk at a time, forward and backward.

After Rabe & Staats 2021 and Dao et al. 2022 (algorithms 1, 4): the forward pass keeps the output and the
log-sum-exp of the scores of each query; the backward pass recomputes the weights of a chunk from them.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

MASKED = -1e30  # score of a masked key: finite, so that exp and differences stay finite


def chunked_attend(
    query: Float[Array, "batch queries heads dim"],
    key: Float[Array, "batch keys heads dim"],
    value: Float[Array, "batch keys heads value_dim"],
    mask: Bool[Array, "batch keys"] | None,
    chunk_size: int,
) -> Float[Array, "batch queries heads value_dim"]:
    """As `attention.attend`, with memory for `chunk_size` keys; keys are padded to a multiple of it, masked.

    Inside, keys and values have the layout (batch, heads, dim, keys), in which CPU products are fastest.
    """
    length = key.shape[1]
    chunk_size = min(chunk_size, length)
    padding = math.ceil(length / chunk_size) * chunk_size - length
    if padding and mask is None:
        mask = jnp.ones(key.shape[:2], bool)
    key, value = (_pad(x.transpose(0, 2, 3, 1), padding) for x in (key, value))
    mask = None if mask is None else _pad(mask, padding)
    return _attend(query.swapaxes(1, 2), key, value, mask, chunk_size).swapaxes(1, 2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(query, key, value, mask, chunk_size):
    return _forward(query, key, value, mask, chunk_size)[0]


def _forward(query, key, value, mask, chunk_size):
    def accumulate(carry, start):
        top, total, summed = carry
        scores = _scores(query, key, mask, start, chunk_size)
        new_top = jnp.maximum(top, scores.max(-1))
        weights = _masked(jnp.exp(scores - new_top[..., None]), mask, start, chunk_size)
        decay = jnp.exp(top - new_top)
        part = _product("bhqk,bhdk->bhqd", weights.astype(value.dtype), _chunk(value, start, chunk_size))
        return (new_top, total * decay + weights.sum(-1), summed * decay[..., None] + part), None

    rows = query.shape[:3]
    carry = jnp.full(rows, MASKED), jnp.zeros(rows), jnp.zeros((*rows, value.shape[2]))
    (top, total, summed), _ = jax.lax.scan(accumulate, carry, _starts(key, chunk_size))
    empty = total == 0
    total = jnp.where(empty, 1, total)
    output = (summed / total[..., None]).astype(query.dtype)
    log_sum = jnp.where(empty, -MASKED, top + jnp.log(total))
    return output, (query, key, value, mask, output, log_sum)


def _backward(chunk_size, saved, gradient):
    query, key, value, mask, output, log_sum = saved
    scale = query.shape[-1] ** -0.5
    mean = _product("bhqd,bhqd->bhq", gradient, output)

    def accumulate(carry, start):
        d_query, d_key, d_value = carry
        scores = _scores(query, key, mask, start, chunk_size)
        weights = _masked(jnp.exp(scores - log_sum[..., None]), mask, start, chunk_size)
        d_weights = _product("bhqd,bhdk->bhqk", gradient, _chunk(value, start, chunk_size))
        d_scores = (weights * (d_weights - mean[..., None]) * scale).astype(query.dtype)
        d_query += _product("bhqk,bhdk->bhqd", d_scores, _chunk(key, start, chunk_size))
        d_key = _store(d_key, _product("bhqk,bhqd->bhdk", d_scores, query), start)
        weights = weights.astype(gradient.dtype)
        d_value = _store(d_value, _product("bhqk,bhqd->bhdk", weights, gradient), start)
        return (d_query, d_key, d_value), None

    carry = jnp.zeros(query.shape), jnp.zeros_like(key), jnp.zeros_like(value)
    (d_query, d_key, d_value), _ = jax.lax.scan(accumulate, carry, _starts(key, chunk_size))
    return d_query.astype(query.dtype), d_key, d_value, None


_attend.defvjp(_forward, _backward)


def _product(equation: str, left: Array, right: Array) -> Array:
    return jnp.einsum(equation, left, right, preferred_element_type=jnp.float32)


def _scores(query: Array, key: Array, mask: Array | None, start: Array, size: int) -> Array:
    scores = _product("bhqd,bhdk->bhqk", query, _chunk(key, start, size)) * query.shape[-1] ** -0.5
    return _masked(scores, mask, start, size, MASKED)


def _masked(scores: Array, mask: Array | None, start: Array, size: int, other: float = 0.0) -> Array:
    if mask is None:
        return scores
    return jnp.where(_chunk(mask, start, size)[:, None, None, :], scores, other)


def _starts(key: Array, size: int) -> Array:
    return jnp.arange(0, key.shape[-1], size)


def _chunk(array: Array, start: Array, size: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(array, start, size, axis=-1)


def _store(array: Array, part: Array, start: Array) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(array, part.astype(array.dtype), start, axis=-1)


def _pad(array: Array, padding: int) -> Array:
    return jnp.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, padding)]) if padding else array
