# SPDX-License-Identifier: Apache-2.0
"""Attention over chunks of keys: scores held for one chunk at a time, forward and backward.

After Rabe & Staats 2021 and Dao et al. 2022 (algorithms 1, 4): the forward pass keeps the output and one number for
each query, from which the backward pass recomputes the weights of a chunk. Keys and values of a chunk may be made of a
source when it is its turn, so that they are never held, and the source may lie split over an axis of the ambient mesh:
each device then goes over its own part, and what the parts amount to is combined in float32.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

MASKED = -1e30  # score of a masked key: finite, so that exp and differences stay finite
SHARE_EPSILON = 1e-8
"""Added to every share of queries that compete, so that one without a key takes the plain mean (Google's code)."""

Load = Callable[[Any, Any], tuple[Array, Array]]
"""(chunk of the source, type of the queries) -> its keys and values (batch, heads, dim, keys)."""


class Walk(NamedTuple):
    """How one goes over the keys.

    Attributes:
        size: keys a chunk; the last one has what is left.
        over: what the softmax goes over, "keys" or "queries".
        load: makes the keys and values of a chunk.
        length_axis: of the arrays of the source.
        mesh_axis: of the ambient mesh, over which the length is split; None where every device holds all of it.
    """

    size: int
    over: str
    load: Load
    length_axis: int
    mesh_axis: str | None


def chunked_attend(
    query: Float[Array, "batch queries heads dim"],
    key: Float[Array, "batch keys heads dim"],
    value: Float[Array, "batch keys heads value_dim"],
    mask: Bool[Array, "batch keys"] | None,
    chunk_size: int,
    over: str = "keys",
    mesh_axis: str | None = None,
) -> Float[Array, "batch queries heads value_dim"]:
    """As `attention.attend`, with memory for `chunk_size` keys.

    Inside, keys and values have the layout (batch, heads, dim, keys), in which CPU products are fastest.
    """
    source = tuple(x.transpose(0, 2, 3, 1) for x in (key, value))
    load = {"keys": _as_they_are, "queries": _values_in_float32}[over]
    attended = _attend(query.swapaxes(1, 2), source, mask, Walk(chunk_size, over, load, 3, mesh_axis))
    return attended.swapaxes(1, 2).astype(value.dtype)


def streamed_attend(
    query: Float[Array, "batch queries heads dim"],
    inputs: Float[Array, "batch keys channels"],
    mask: Bool[Array, "batch keys"] | None,
    chunk_size: int,
    load: Load,
    over: str = "keys",
    mesh_axis: str | None = None,
) -> Float[Array, "batch queries heads value_dim"]:
    """`chunked_attend` to keys and values of one head that `load` makes of the inputs of a chunk.

    Over keys several heads share them; queries that compete have one head.
    """
    batch, num_queries, heads, dim = query.shape
    walk = Walk(chunk_size, over, load, 1, mesh_axis)
    attended = _attend(query.reshape(batch, 1, num_queries * heads, dim), inputs, mask, walk)
    return attended.reshape(batch, num_queries, heads, -1)


def _as_they_are(source: tuple[Array, Array], dtype: Any) -> tuple[Array, Array]:
    return source


def _values_in_float32(source: tuple[Array, Array], dtype: Any) -> tuple[Array, Array]:
    return source[0], source[1].astype(jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _attend(query, source, mask, walk):
    return _forward(query, source, mask, walk)[0]


def _forward(query, source, mask, walk):
    softmax = SOFTMAX[walk.over]

    def part(query, source, mask):
        def add(carry, start, size):
            key, value, seen = _chunk(source, mask, query, walk, start, size)
            return softmax.add(carry, _scores(query, key), seen, value)

        value_dim = jax.eval_shape(lambda: _chunk(source, mask, query, walk, 0, 1)[1]).shape[2]
        rows = query.shape[:3]
        carry = jnp.full(rows, MASKED), jnp.zeros(rows), jnp.zeros((*rows, value_dim))
        return softmax.combined(*_over_chunks(add, carry, source, walk), walk.mesh_axis)

    output, kept = _on_mesh(part, walk, P(), P())(query, source, mask)
    output = output.astype(query.dtype)
    return output, (query, source, mask, output, kept)


def _backward(walk, saved, gradient):
    query, source, mask, output, kept = saved
    softmax, scale = SOFTMAX[walk.over], query.shape[-1] ** -0.5
    mean = _product("bhqd,bhqd->bhq", gradient, output)[..., None]

    def part(query, source, mask, gradient, mean, kept):
        def add(carry, start, size):
            d_query, d_source = carry
            (key, value), pull = jax.vjp(lambda chunk: walk.load(chunk, query.dtype), _slice(source, walk, start, size))
            seen = _seen(mask, start, size)
            weights, pull_weights = softmax.weights(_scores(query, key), seen, kept)
            d_weights = _product("bhqd,bhdk->bhqk", gradient.astype(value.dtype), value)
            d_scores = (pull_weights(d_weights - mean) * scale).astype(query.dtype)
            d_query += _product("bhqk,bhdk->bhqd", d_scores, key)
            d_key = _product("bhqk,bhqd->bhdk", d_scores, query).astype(key.dtype)
            d_value = _product("bhqk,bhqd->bhdk", weights.astype(value.dtype), gradient.astype(value.dtype))
            (d_chunk,) = pull((d_key, d_value.astype(value.dtype)))
            return d_query, _store(d_source, d_chunk, walk, start)

        carry = jnp.zeros(query.shape), jax.tree.map(jnp.zeros_like, source)
        d_query, d_source = _over_chunks(add, carry, source, walk)
        return _added(d_query, walk.mesh_axis), d_source

    d_query, d_source = _on_mesh(part, walk, P(), _split(walk))(query, source, mask, gradient, mean, kept)
    return d_query.astype(query.dtype), d_source, None


_attend.defvjp(_forward, _backward)


class _OverKeys:
    """The online softmax; kept is the log-sum-exp of the scores of each query."""

    @staticmethod
    def add(carry, scores, seen, value):
        top, total, summed = carry
        scores = _where(seen, scores, MASKED)
        new_top = jnp.maximum(top, scores.max(-1))
        weights = _where(seen, jnp.exp(scores - new_top[..., None]), 0)
        decay = jnp.exp(top - new_top)
        part = _product("bhqk,bhdk->bhqd", weights.astype(value.dtype), value)
        return new_top, total * decay + weights.sum(-1), summed * decay[..., None] + part

    @staticmethod
    def combined(top, total, summed, mesh_axis):
        if mesh_axis is not None:
            highest = jax.lax.pmax(top, mesh_axis)
            decay = jnp.exp(top - highest)
            total, summed = _added((total * decay, summed * decay[..., None]), mesh_axis)
            top = highest
        empty = total == 0
        total = jnp.where(empty, 1, total)
        return summed / total[..., None], jnp.where(empty, -MASKED, top + jnp.log(total))

    @staticmethod
    def weights(scores, seen, log_sum):
        weights = _where(seen, jnp.exp(_where(seen, scores, MASKED) - log_sum[..., None]), 0)
        return weights, lambda d_weights: weights * d_weights


class _OverQueries:
    """Queries that compete for each key; kept is the sum of each one's shares."""

    @staticmethod
    def add(carry, scores, seen, value):
        top, total, summed = carry
        shares = _where(seen, jax.nn.softmax(scores, -2) + SHARE_EPSILON, 0)
        return top, total + shares.sum(-1), summed + _product("bhqk,bhdk->bhqd", shares, value)

    @staticmethod
    def combined(_, total, summed, mesh_axis):
        total, summed = _added((total, summed), mesh_axis)
        total = jnp.where(total > 0, total, 1)
        return summed / total[..., None], total

    @staticmethod
    def weights(scores, seen, total):
        shares = jax.nn.softmax(scores, -2)

        def pull(d_weights):
            d_shares = _where(seen, d_weights / total[..., None], 0)
            return shares * (d_shares - (shares * d_shares).sum(-2, keepdims=True))

        return _where(seen, (shares + SHARE_EPSILON) / total[..., None], 0), pull


SOFTMAX = {"keys": _OverKeys, "queries": _OverQueries}


def _over_chunks(add: Callable, carry: Any, source: Any, walk: Walk) -> Any:
    """add(carry, start, size) of every chunk, one after the other."""
    length = jax.tree.leaves(source)[0].shape[walk.length_axis]
    size = min(walk.size, length)
    rest = length % size
    starts = jnp.arange(0, length - rest, size)
    carry, _ = jax.lax.scan(lambda carry, start: (add(carry, start, size), None), carry, starts)
    return add(carry, length - rest, rest) if rest else carry


def _on_mesh(part: Callable, walk: Walk, *out_specs: P) -> Callable:
    """part(query, source, mask, ...) on each device's part of the length; what follows is the same on all."""
    if walk.mesh_axis is None:
        return part
    mask = P(None, walk.mesh_axis)

    def on_mesh(query, source, mask_or_none, *rest):
        in_specs = (P(), _split(walk), mask, *(P() for _ in rest))
        mapped = jax.shard_map(
            part, in_specs=in_specs, out_specs=out_specs, axis_names={walk.mesh_axis}, check_vma=False
        )
        return mapped(query, source, mask_or_none, *rest)

    return on_mesh


def _split(walk: Walk) -> P:
    return P(*(None for _ in range(walk.length_axis)), walk.mesh_axis)


def _added(values: Any, mesh_axis: str | None) -> Any:
    return values if mesh_axis is None else jax.lax.psum(values, mesh_axis)


def _chunk(source: Any, mask: Array | None, query: Array, walk: Walk, start: Any, size: int):
    return *walk.load(_slice(source, walk, start, size), query.dtype), _seen(mask, start, size)


def _scores(query: Array, key: Array) -> Array:
    return _product("bhqd,bhdk->bhqk", query, key) * query.shape[-1] ** -0.5


def _seen(mask: Array | None, start: Any, size: int) -> Array | None:
    return None if mask is None else jax.lax.dynamic_slice_in_dim(mask, start, size, 1)[:, None, None, :]


def _where(seen: Array | None, values: Array, other: float) -> Array:
    return values if seen is None else jnp.where(seen, values, other)


def _slice(source: Any, walk: Walk, start: Any, size: int) -> Any:
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, size, walk.length_axis), source)


def _store(source: Any, part: Any, walk: Walk, start: Any) -> Any:
    return jax.tree.map(
        lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y.astype(x.dtype), start, walk.length_axis), source, part
    )


def _product(equation: str, left: Array, right: Array) -> Array:
    return jnp.einsum(equation, left, right, preferred_element_type=jnp.float32)
