# SPDX-License-Identifier: Apache-2.0
"""The Perceiver (Jaegle et al. 2021, https://arxiv.org/abs/2103.03206): latents that attend to an input.

A stage is a cross-attend and its latent blocks. Many neighbouring stages with the same weights are one scan, so
that compile time grows with the number of distinct stages alone, and keys and values of the input are
projected once for all of them. Layers live in `blocks`, adapters in `adapters`, attention in `attention`.
"""

import itertools
from collections.abc import Hashable, Iterable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Shaped

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.attention import CHUNK_SIZE, PATHS, mesh_axis, resolve_path
from perceiver_jax.models.blocks import (
    CrossAttend,
    LatentBlock,
    Latents,
    SelfAttend,
    rematerialize,
    repeat,
)
from perceiver_jax.models.positions import LATENT_STDDEV
from perceiver_jax.models.target import platform

SHARING = ("all", "after_first", "none")
WIDTHS = ("inputs", "latents")
POOLINGS = ("mean", "latent")
MOST_BLOCKS = 10_000  # more are a typing error that would take minutes to list


class PerceiverEncoder(nn.Module):
    """Inputs (batch, length, channels) of any length to latents (batch, num_latents, latent_dim).

    Attributes:
        num_latents, latent_dim: size of the latent array.
        num_cross_attends: how often the latents attend to the input; divides num_blocks.
        num_blocks: latent blocks in all, num_blocks / num_cross_attends after each cross-attend.
        num_self_attends_per_block: layers of a block.
        num_cross_attend_heads, num_self_attend_heads: heads; divide the widths.
        cross_attend_widening_factor, self_attend_widening_factor: hidden width of the MLPs over latent_dim.
        cross_attend_width: width of query, key and value of a cross-attend: that of the "inputs"
            (DeepMind's rule) or of the "latents".
        share_cross_attends: "after_first" is the paper's (first apart, later ones shared); "all", "none".
        share_blocks: "all" is the paper's by its count of parameters; "after_first", "none".
        dropout_rate: on the output of every attention and MLP, in training.
        exact_gelu: erf instead of DeepMind's tanh approximation.
        remat: recompute each layer in the backward pass: memory of one layer, a third more time.
        attention, chunk_size: path of `attend` and keys a chunk.
        dtype: of products and activations; parameters, norms and softmax are float32.
    """

    num_latents: int
    latent_dim: int
    num_cross_attends: int = 1
    num_blocks: int = 1
    num_self_attends_per_block: int = 6
    num_cross_attend_heads: int = 1
    num_self_attend_heads: int = 8
    cross_attend_widening_factor: int = 1
    self_attend_widening_factor: int = 1
    cross_attend_width: str = "inputs"
    share_cross_attends: str = "after_first"
    share_blocks: str = "all"
    dropout_rate: float = 0.0
    exact_gelu: bool = False
    remat: bool = False
    attention: str = "auto"
    chunk_size: int = CHUNK_SIZE
    dtype: Any = jnp.float32

    def setup(self):
        raise_problems(encoder_problems(self))
        shape = (self.num_latents, self.latent_dim)
        self.latents = self.param("latents", nn.initializers.truncated_normal(LATENT_STDDEV), shape, jnp.float32)
        self.cross_attends = [self._cross_attend() for _ in sorted(set(self._crosses()))]
        self.blocks = [self._block() for _ in sorted(set(self._blocks()))]

    def __call__(
        self,
        inputs: Float[Array, "batch length channels"],
        mask: Shaped[Array, "batch length"] | None = None,
        *,
        train: bool = False,
    ) -> Latents:
        """Encode.

        Args:
            inputs: any length; the latents do not depend on their order.
            mask: 1 for real inputs, 0 for padding; None means all are real.
            train: apply dropout, with the random stream "dropout".

        Raises:
            ConfigError: the fields do not fit each other or the channels of the inputs; all problems at once.
        """
        raise_problems(encoder_problems(self, inputs.shape[-1]))
        mask = None if mask is None else mask.astype(bool)
        projected = [cross_attend.project(inputs) for cross_attend in self.cross_attends]
        latents = jnp.broadcast_to(self.latents, (inputs.shape[0], *self.latents.shape)).astype(self.dtype)
        for stage, times in runs(self.stages()):
            latents = self._repeat_stage(stage, times, latents, projected, mask, train)
        return latents

    def attention_paths(self, length: int, channels: int) -> tuple[str, str]:
        """The paths that the cross-attends to inputs of this shape and the self-attention take on this device."""
        width = self.latent_dim if self.cross_attend_width == "latents" else channels
        device = {"backend": platform(), "dtype": self.dtype}
        cross_head, split = width // self.num_cross_attend_heads, mesh_axis(length) is not None
        cross = resolve_path(self.attention, length=length, head_dim=cross_head, split=split, **device)
        latent_width = self.latent_dim // self.num_self_attend_heads
        return cross, resolve_path(self.attention, length=self.num_latents, head_dim=latent_width, **device)

    def _repeat_stage(self, stage, times, latents, projected, mask, train):
        cross, blocks = stage

        def attend(self, latents, inputs, mask):
            step = rematerialize(lambda module, *arrays: module(*arrays, train), self.remat)
            latents = step(self.cross_attends[cross], latents, inputs, mask)
            for block, times in runs(blocks):
                latents = repeat(lambda module, x: module(x, train), times, self.blocks[block], latents)
            return latents

        return repeat(attend, times, self, latents, projected[cross], mask)

    def _crosses(self) -> list[int]:
        return weights_of(self.share_cross_attends, self.num_cross_attends)

    def _blocks(self) -> list[int]:
        return weights_of(self.share_blocks, self.num_blocks)

    def stages(self) -> list[tuple[int, tuple[int, ...]]]:
        """The weights each stage uses: its cross-attend and its blocks."""
        blocks, each = self._blocks(), self.num_blocks // self.num_cross_attends
        return [(cross, tuple(blocks[i * each : (i + 1) * each])) for i, cross in enumerate(self._crosses())]

    def _cross_attend(self) -> CrossAttend:
        return CrossAttend(
            num_heads=self.num_cross_attend_heads,
            width=self.latent_dim if self.cross_attend_width == "latents" else None,
            widening_factor=self.cross_attend_widening_factor,
            long=True,
            **self._shared_fields(),
        )

    def _block(self) -> LatentBlock:
        layer = SelfAttend(
            num_heads=self.num_self_attend_heads,
            widening_factor=self.self_attend_widening_factor,
            **self._shared_fields(),
            parent=None,
        )
        return LatentBlock(self.num_self_attends_per_block, layer, self.remat)

    def _shared_fields(self) -> dict[str, Any]:
        return dict(
            exact_gelu=self.exact_gelu,
            dropout_rate=self.dropout_rate,
            attention_path=self.attention,
            chunk_size=self.chunk_size,
            dtype=self.dtype,
        )


class Perceiver(nn.Module):
    """Adapter, encoder, pooled latents, linear classifier in float32.

    Attributes:
        adapter: inputs to (batch, length, channels).
        encoder: a PerceiverEncoder.
        num_classes: width of the logits.
        pooling: "mean" over the latents, as in the paper, or the first "latent", a class token.
        zero_head: start the classifier from zero, as DeepMind's projection decoder does.
    """

    adapter: nn.Module
    encoder: PerceiverEncoder
    num_classes: int
    pooling: str = "mean"
    zero_head: bool = False

    def setup(self):
        if self.pooling not in POOLINGS:
            raise ConfigError(f"pooling={self.pooling!r} is unknown: expected one of {', '.join(POOLINGS)}.")
        kernel = nn.initializers.zeros if self.zero_head else nn.initializers.lecun_normal()
        self.head = nn.Dense(self.num_classes, kernel_init=kernel)

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
        """Logits of the pooled latents."""
        latents = latents.astype(jnp.float32)
        return self.head(latents[:, 0] if self.pooling == "latent" else latents.mean(axis=1))


def weights_of(sharing: str, number: int) -> list[int]:
    """Which weights each of `number` repeated modules uses: [0, 0, 0], [0, 1, 1] or [0, 1, 2]."""
    last = {"all": 0, "after_first": 1, "none": number - 1}[sharing]
    return [min(i, last) for i in range(number)]


def runs(items: Iterable[Hashable]) -> list[tuple[Any, int]]:
    """Equal neighbours, counted: [a, b, b] gives [(a, 1), (b, 2)]."""
    return [(item, len(list(equal))) for item, equal in itertools.groupby(items)]


def raise_problems(problems: list[str]) -> None:
    """Raise one ConfigError that names all problems, if there are any."""
    if problems:
        raise ConfigError(" ".join(problems))


def encoder_problems(encoder: PerceiverEncoder, input_channels: int | None = None) -> list[str]:
    """What is wrong with the fields of an encoder, and with them for inputs of `input_channels` if given."""
    return [*_choice_problems(encoder), *_count_problems(encoder), *_head_problems(encoder, input_channels)]


def _choice_problems(encoder: PerceiverEncoder) -> list[str]:
    choices = {
        "cross_attend_width": WIDTHS,
        "share_cross_attends": SHARING,
        "share_blocks": SHARING,
        "attention": PATHS,
    }
    return [
        f"{name}={getattr(encoder, name)!r} is unknown: expected one of {', '.join(known)}."
        for name, known in choices.items()
        if getattr(encoder, name) not in known
    ]


def _count_problems(encoder: PerceiverEncoder) -> list[str]:
    counts = [name for name in PerceiverEncoder.__annotations__ if name.startswith("num_")]
    counts += ["latent_dim", "chunk_size", "cross_attend_widening_factor", "self_attend_widening_factor"]
    problems = [
        f"{name}={getattr(encoder, name)}: expected at least 1." for name in counts if getattr(encoder, name) < 1
    ]
    if not 0 <= encoder.dropout_rate < 1:
        problems.append(f"dropout_rate={encoder.dropout_rate}: expected at least 0 and less than 1.")
    blocks, crosses = encoder.num_blocks, encoder.num_cross_attends
    if blocks > MOST_BLOCKS:
        problems.append(f"num_blocks={blocks}: expected at most {MOST_BLOCKS:,}.")
    if crosses > 0 and blocks % crosses:
        problems.append(
            f"num_blocks={blocks} does not split over num_cross_attends={crosses}: "
            f"expected a multiple, e.g. {crosses * (blocks // crosses + 1)}."
        )
    return problems


def _head_problems(encoder: PerceiverEncoder, input_channels: int | None) -> list[str]:
    latents = encoder.cross_attend_width == "latents"
    cross_width = encoder.latent_dim if latents else input_channels
    widths = {
        "num_self_attend_heads": ("latent_dim", encoder.latent_dim),
        "num_cross_attend_heads": ("latent_dim" if latents else "the channels of the inputs", cross_width),
    }
    return [
        f"{name}={getattr(encoder, name)} does not divide {what}={width}: choose a divisor"
        + (", or cross_attend_width='latents'." if what.startswith("the") else ".")
        for name, (what, width) in widths.items()
        if width is not None and getattr(encoder, name) > 0 and width % getattr(encoder, name)
    ]
