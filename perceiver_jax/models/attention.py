# SPDX-License-Identifier: Apache-2.0
"""Attention: `attend` on three paths, and the layers made of it (Jaegle et al. 2021, section 3.1).

The layers are attention and MLP alone; norms and residuals live in `blocks`. All softmax is float32.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.chunked import MASKED, SHARE_EPSILON, chunked_attend, streamed_attend
from perceiver_jax.models.norms import NormParameters, normalize
from perceiver_jax.models.placed import by_example
from perceiver_jax.models.target import platform

PATHS = ("auto", "dense", "fused", "chunked")
WEIGHTS = "attention_weights"
"""What `sow_weights` calls them."""
CHUNK_SIZE = 1024
CHUNKED_FROM = {"cpu": 1024}  # keys from which chunks pay, by backend; measured on CPU
CHUNKED_FROM_ELSEWHERE = 16384  # where the scores of a dense path begin to fill an accelerator's memory
MESH_AXIS = "sequence"
"""Of the mesh: a long input lies split over it."""


def cudnn_supports(backend: str, dtype: Any, head_dim: int) -> bool:
    """Whether cuDNN's fused attention takes this: a GPU, half precision, heads of 8, 16, ... 128 channels."""
    return backend == "gpu" and np.dtype(dtype).itemsize == 2 and head_dim % 8 == 0 and head_dim <= 128


def resolve_path(
    path: str, *, backend: str, dtype: Any, length: int, head_dim: int, over: str = "keys", split: bool = False
) -> str:
    """The path that `path` means for `length` keys: itself, or for "auto" the fastest known one.

    auto is fused where cuDNN takes it, else chunked over long inputs (on CPU from 1,024 keys on; where a few queries
    compete, and their shares are smaller than keys and values, from 16,384), else dense.

    Args:
        over: as in `attend`; no fused path has queries that compete.
        split: the keys lie split over devices, which no fused path can combine.

    Raises:
        ConfigError: an unknown path, or one that cannot.
    """
    if path not in PATHS:
        raise ConfigError(f"attention path {path!r} is unknown: expected one of {', '.join(PATHS)}.")
    if path == "fused" and (split or over == "queries"):
        what = "keys that mesh.sequence splits over devices" if split else "queries that compete (slot attention)"
        raise ConfigError(f"attention path 'fused' cannot do {what}: use dense, chunked or auto.")
    if path != "auto":
        return path
    if cudnn_supports(backend, dtype, head_dim) and over == "keys" and not split:
        return "fused"
    least = CHUNKED_FROM.get(backend, CHUNKED_FROM_ELSEWHERE) if over == "keys" else CHUNKED_FROM_ELSEWHERE
    return "chunked" if length >= least else "dense"


def attend(
    query: Float[Array, "batch queries heads dim"],
    key: Float[Array, "batch keys heads dim"],
    value: Float[Array, "batch keys heads value_dim"],
    mask: Bool[Array, "batch keys"] | None = None,
    *,
    over: str = "keys",
    causal: bool = False,
    path: str = "auto",
    chunk_size: int = CHUNK_SIZE,
    long: bool = False,
) -> Float[Array, "batch queries heads value_dim"]:
    """softmax(query key^T / sqrt(dim)) value over the real keys; zero, with zero gradients, without any.

    Args:
        query, key, value: projected inputs, heads apart. The fused path wants dim == value_dim.
        mask: True marks a real key; None means all are.
        over: what the softmax goes over: "keys", or "queries", which then compete for each key, and each takes the mean
            of the values by its shares (slot attention; in float32, dense or chunked).
        causal: query i sees the keys 0 .. i alone; not on the chunked path.
        path: "dense" holds all scores; "fused" is jax.nn.dot_product_attention, by cuDNN where it can;
            "chunked" goes over `chunk_size` keys at a time and recomputes scores backward;
            "auto" is what `resolve_path` says.
        chunk_size: keys a chunk.
        long: keys and values are of an input that lies split over the axis `sequence` of the ambient mesh where that
            has one; the chunked path then combines the devices' parts in float32, XLA those of the dense one.

    Raises:
        ConfigError: an unknown path, one that cannot do what is asked, or an input that the mesh does not divide.
    """
    backend, head_dim = platform(), query.shape[-1]
    length = 0 if causal and path == "auto" else key.shape[1]  # what no length makes chunked
    axis = mesh_axis(length) if long else None
    device = {"backend": backend, "dtype": query.dtype, "head_dim": head_dim}
    path = resolve_path(path, length=length, over=over, split=axis is not None, **device)
    if path == "dense":
        return _competing(query, key, value, mask) if over == "queries" else _dense(query, key, value, mask, causal)
    if path == "fused":
        implementation = "cudnn" if cudnn_supports(backend, query.dtype, head_dim) else "xla"
        return _fused(query, key, value, mask, causal, implementation)
    if causal:
        raise ConfigError("causal attention has no chunked path: use dense, fused or auto.")
    return chunked_attend(query, key, value, mask, chunk_size, over, axis)


def mesh_axis(length: int) -> str | None:
    """The axis of the ambient mesh that a long input lies split over; None where no mesh splits it.

    Raises:
        ConfigError: the axis does not divide the length.
    """
    parts = jax.sharding.get_abstract_mesh().shape.get(MESH_AXIS, 1)
    if length % parts:
        raise ConfigError(
            f"mesh.sequence={parts} does not divide an input of {length:,} elements: expected a divisor of it. "
            "Use another mesh.sequence, or inputs of a multiple of it."
        )
    return MESH_AXIS if parts > 1 else None


def attention_weights(
    query: Float[Array, "batch queries heads dim"],
    key: Float[Array, "batch keys heads dim"],
    mask: Bool[Array, "batch keys"] | None = None,
    *,
    over: str = "keys",
    causal: bool = False,
) -> Float[Array, "batch heads queries keys"]:
    """The float32 softmax of `attend`; over keys, a row without real keys is all zero, over queries, a masked key."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
    scores = scores * query.shape[-1] ** -0.5
    axis = {"keys": -1, "queries": -2}[over]
    mask = None if mask is None else mask[:, None, None, :]
    if causal:
        past = jnp.tri(*scores.shape[-2:], dtype=bool)
        mask = past if mask is None else mask & past
    if mask is None:
        return jax.nn.softmax(scores, axis)
    return jnp.where(mask, jax.nn.softmax(jnp.where(mask, scores, MASKED), axis), 0)


def sow_weights(module: nn.Module, query: Array, key: Array, mask: Array | None = None) -> None:
    """Leaves the weights in the collection "intermediates", where that is mutable; elsewhere it computes nothing."""
    if module.is_mutable_collection("intermediates"):
        module.sow("intermediates", WEIGHTS, attention_weights(query, key, mask))


def _dense(query: Array, key: Array, value: Array, mask: Array | None, causal: bool) -> Array:
    weights = attention_weights(query, key, mask, causal=causal).astype(value.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


def _competing(query: Array, key: Array, value: Array, mask: Array | None) -> Array:
    """Means of the values, weighted by each query's share of each key (Locatello et al. 2020, algorithm 1)."""
    shares = attention_weights(query, key, mask, over="queries") + SHARE_EPSILON
    if mask is not None:
        shares = jnp.where(mask[:, None, None, :], shares, 0)
    total = shares.sum(-1, keepdims=True)
    weights = jnp.where(total > 0, shares / jnp.where(total > 0, total, 1), 0)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value.astype(jnp.float32)).astype(value.dtype)


def _fused(query: Array, key: Array, value: Array, mask: Array | None, causal: bool, implementation: str) -> Array:
    if mask is None:
        return jax.nn.dot_product_attention(query, key, value, is_causal=causal, implementation=implementation)
    seen = jnp.broadcast_to(mask[:, None, :], (mask.shape[0], query.shape[1], mask.shape[1]))
    seen = seen & jnp.tri(*seen.shape[1:], dtype=bool) if causal else seen
    attended = jax.nn.dot_product_attention(query, key, value, mask=seen[:, None], implementation=implementation)
    return jnp.where(seen.any(2)[:, :, None, None], attended, 0)


class Projection(nn.Module):
    """Kernel and bias of a dense layer, unapplied, so that several can be merged into one product."""

    features: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, channels: int) -> tuple[Float[Array, "channels features"], Float[Array, "features"]]:
        kernel = self.param("kernel", self.kernel_init, (channels, self.features), jnp.float32)
        return kernel, self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)


class KeysValues(NamedTuple):
    """Projected inputs of a cross-attention, shared by every stage that attends with the same weights.

    In the layout of chunked attention, which long inputs take; `as_heads` gives `attend`'s.
    """

    key: Float[Array, "batch heads dim length"]
    value: Float[Array, "batch heads dim length"]

    def as_heads(self) -> tuple[Float[Array, "batch length heads dim"], Float[Array, "batch length heads dim"]]:
        """For `attend`; where that transposes back, XLA drops both."""
        return self.key.transpose(0, 3, 1, 2), self.value.transpose(0, 3, 1, 2)

    def keys(self) -> Float[Array, "batch length heads dim"]:
        """The keys."""
        return self.as_heads()[0]

    @property
    def query_shape(self) -> tuple[int, int]:
        """Heads and channels of the queries."""
        return self.key.shape[1:3]

    def attended(
        self, query: Float[Array, "batch queries heads dim"], mask: Array | None, **how: Any
    ) -> Float[Array, "batch queries heads dim"]:
        """`attend`, which is told how."""
        return attend(query, *self.as_heads(), mask, **how)


class Streamed(NamedTuple):
    """Inputs whose keys and values are never held: queries go to the inputs, and what they find, through the kernels.

    (x K) q = x (K q), and the mean of x V is the mean of x, times V. So each head attends to the normalised inputs
    themselves, which are normalised chunk by chunk, and a long input costs no memory but its own, no product for its
    projections and, where it needs no gradient, none for that of keys and values. The bias of the keys adds the same to
    all scores of a query and changes nothing.
    """

    inputs: Float[Array, "batch length channels"]
    key: Float[Array, "channels heads dim"]
    value: Float[Array, "channels heads dim"]
    value_bias: Float[Array, "heads dim"]

    def keys(self) -> Float[Array, "batch length heads dim"]:
        """The keys, but for what adds the same to all scores of a query; for looking at weights."""
        return jnp.einsum("blc,chd->blhd", normalize(self.inputs), self.key)

    @property
    def query_shape(self) -> tuple[int, int]:
        """Heads and channels of the queries."""
        return self.key.shape[1:]

    def attended(
        self, query: Float[Array, "batch queries heads dim"], mask: Array | None, **how: Any
    ) -> Float[Array, "batch queries heads dim"]:
        """As of `KeysValues`, but always chunked."""
        axis = mesh_axis(self.inputs.shape[1]) if how["long"] else None
        scale = (self.key.shape[0] / query.shape[-1]) ** 0.5  # the root of the channels is divided by
        key, value = (kernel.astype(query.dtype) for kernel in (self.key * scale, self.value))
        query = jnp.einsum("bqhd,chd->bqhc", query, key)
        found = streamed_attend(query, self.inputs, mask, how["chunk_size"], _normalized, mesh_axis=axis)
        bias = self.value_bias.astype(query.dtype)
        bias = bias if mask is None else jnp.where(mask.any(1)[:, None, None, None], bias, 0)
        return jnp.einsum("bqhc,chd->bqhd", found, value) + bias


def _normalized(chunk: Float[Array, "batch keys channels"], dtype: Any) -> tuple[Array, Array]:
    """Keys and values of a chunk: both the normalised inputs."""
    normalized = normalize(chunk).astype(dtype).swapaxes(1, 2)[:, None]
    return normalized, normalized


class InputProjection(nn.Module):
    """Keys and values of inputs, by layer norm and projection.

    Scale and bias of the norm are folded into the kernels: their gradients then cost no product over the inputs.
    `width` None means the channels of the inputs.
    """

    num_heads: int
    width: int | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch length channels"], *, stream: bool = False) -> KeysValues | Streamed:
        """Held, or with `stream` not."""
        channels = inputs.shape[-1]
        width = self.width or channels
        scale, offset = NormParameters(name="norm")(channels)
        folded = {}
        for name in ("key", "value"):
            kernel, bias = Projection(width, name=name)(channels)
            folded[name] = scale[:, None] * kernel, offset @ kernel + bias
        if not stream:
            normalized = normalize(inputs).astype(self.dtype)
            return KeysValues(*(self._projected(normalized, *folded[name]) for name in ("key", "value")))
        (key, _), (value, bias) = (map(self._headed, folded[name]) for name in ("key", "value"))
        return Streamed(inputs, key, value, bias)

    def _headed(self, parameter: Array) -> Array:
        return parameter.reshape(*parameter.shape[:-1], self.num_heads, -1)

    def _projected(self, normalized: Array, kernel: Array, bias: Array) -> Array:
        projected = transposed_product(normalized, kernel.astype(self.dtype))
        projected = projected + bias.astype(self.dtype)[:, None]
        return projected.reshape(projected.shape[0], self.num_heads, -1, projected.shape[-1])


def streams(
    path: str,
    inputs: Float[Array, "batch length channels"],
    *,
    num_heads: int,
    width: int,
    dtype: Any,
    long: bool,
    over: str = "keys",
) -> bool:
    """Whether keys and values are not held: where attention is chunked and all heads of raw inputs are no wider."""
    length, channels = inputs.shape[1:]
    device = {"backend": platform(), "dtype": dtype, "head_dim": width // num_heads}
    split = long and mesh_axis(length) is not None
    path = resolve_path(path, length=length, over=over, split=split, **device)
    return path == "chunked" and channels * num_heads <= width


def transposed_product(
    inputs: Float[Array, "batch length channels"], kernel: Float[Array, "channels features"]
) -> Float[Array, "batch features length"]:
    """(inputs @ kernel) transposed; one product for each example where that saves moving the result.

    On CPU moving the features of a long input costs as much as half the product; copies of the kernel, one for each
    example, are smaller. GPU and TPU write the one large product in either layout.
    """
    if platform() == "cpu" and inputs.shape[1] >= kernel.shape[1]:
        kernels = jnp.broadcast_to(kernel.T, (inputs.shape[0], *kernel.T.shape))
        return jnp.einsum("bfc,blc->bfl", kernels, inputs)
    return (inputs @ kernel).swapaxes(1, 2)


class CrossAttention(nn.Module):
    """Multi-head attention of latents to inputs projected before; `long` as in `attend`."""

    attention_path: str = "auto"
    chunk_size: int = CHUNK_SIZE
    long: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        latents: Float[Array, "batch num_latents latent_dim"],
        inputs: KeysValues | Streamed,
        mask: Bool[Array, "batch length"] | None = None,
    ) -> Float[Array, "batch num_latents latent_dim"]:
        heads, dim = inputs.query_shape
        query = split_heads(by_example(nn.Dense(heads * dim, dtype=self.dtype, name="query")(latents)), heads)
        sow_weights(self, query, inputs.keys(), mask)
        how = {"path": self.attention_path, "chunk_size": self.chunk_size, "long": self.long}
        attended = inputs.attended(query, mask, **how)
        return nn.Dense(latents.shape[-1], dtype=self.dtype, name="out")(merge_heads(attended))


class SelfAttention(nn.Module):
    """Multi-head self-attention; query, key and value are separate parameters applied as one product."""

    num_heads: int
    attention_path: str = "auto"
    chunk_size: int = CHUNK_SIZE
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch length channels"]) -> Float[Array, "batch length channels"]:
        query, key, value = project_heads(inputs, self.num_heads, self.dtype)
        sow_weights(self, query, key)
        attended = attend(query, key, value, path=self.attention_path, chunk_size=self.chunk_size)
        return nn.Dense(inputs.shape[-1], dtype=self.dtype, name="out")(merge_heads(attended))


def project_heads(
    inputs: Float[Array, "batch length channels"], num_heads: int, dtype: Any
) -> list[Float[Array, "batch length heads dim"]]:
    """Query, key and value of the inputs, with the parameters of the compact module that calls, as one product.

    Kernels are stacked on an axis of their own: along that of the features, which `mesh.tensor` splits, they would have
    to move between devices.
    """
    width = inputs.shape[-1]
    projections = [Projection(width, name=name)(width) for name in ("query", "key", "value")]
    kernel, bias = (jnp.stack(parts, -2).astype(dtype) for parts in zip(*projections, strict=True))
    merged = jnp.einsum("blc,cpf->blpf", inputs.astype(dtype), kernel) + bias
    return [split_heads(part.squeeze(-2), num_heads) for part in jnp.split(merged, 3, axis=-2)]


class MLP(nn.Module):
    """Linear, GELU, Linear. GELU is DeepMind's tanh approximation, or with `exact_gelu` the erf one."""

    widening_factor: int = 1
    exact_gelu: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        hidden = by_example(dense(self.widening_factor * inputs.shape[-1], name="hidden")(inputs))
        return dense(inputs.shape[-1], name="out")(nn.gelu(hidden, approximate=not self.exact_gelu))


def split_heads(
    merged: Float[Array, "batch length channels"], num_heads: int
) -> Float[Array, "batch length heads dim"]:
    """Cut the channels into heads, head-major."""
    return merged.reshape(*merged.shape[:-1], num_heads, -1)


def merge_heads(heads: Float[Array, "batch length heads dim"]) -> Float[Array, "batch length channels"]:
    """Undo `split_heads`."""
    return heads.reshape(*heads.shape[:-2], -1)
