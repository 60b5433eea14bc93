# SPDX-License-Identifier: Apache-2.0
"""Slot attention (Locatello et al. 2020, https://arxiv.org/abs/2006.15055, algorithm 1): slots compete for inputs.

As Google's code: one head, layer norms of epsilon 1e-3, Glorot kernels, projections without bias. Two ways to
differentiate through the iterations are from later work and off by default.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.attention import CHUNK_SIZE, PATHS, attend, attention_weights, mesh_axis, streams
from perceiver_jax.models.chunked import streamed_attend
from perceiver_jax.models.fields import MOST_ROUNDS, MOST_SLOTS, number_problems
from perceiver_jax.models.norms import NormParameters, normalize
from perceiver_jax.models.placed import by_example

INITIALIZERS = ("shared_gaussian", "slot_gaussian", "learned", "learned_noise")
GRADIENTS = ("full", "implicit", "bilevel")
NORM_EPSILON = 1e-3
GLOROT = nn.initializers.glorot_uniform()

Slots = Float[Array, "batch num_slots slot_dim"]


class Grouped(NamedTuple):
    """What slot attention gives.

    Attributes:
        slots: after the last iteration.
        attention: of every iteration, each slot's share of each input, which sum to 1 over the slots; 0 of padding.
    """

    slots: Slots
    attention: Float[Array, "batch num_iterations num_slots length"]


class SlotAttention(nn.Module):
    """Inputs (batch, length, channels) to slots; the noise of the first slots comes from the random stream "slots".

    Attributes:
        num_slots, slot_dim: slots and their channels.
        num_iterations: rounds of attention.
        mlp_dim: hidden width of the residual MLP.
        initializer: the first slots: "shared_gaussian" is the paper's (one mean and deviation for all, drawn anew for
            every image); "slot_gaussian" has a mean and deviation for each slot; "learned" a vector for each;
            "learned_noise" the same plus unit noise times a learned deviation that all share.
        gradient: "full" goes through all iterations; "implicit" through the last alone, the others run without (Chang
            et al. 2022, https://arxiv.org/abs/2207.00787, first-order); "bilevel" also gives the first slots the
            gradient of the slots that enter the last iteration (Jia et al. 2023, https://arxiv.org/abs/2210.08990).
        attention, chunk_size: path of `attend` and keys a chunk; only fused there is none. Where it is chunked, and
            inputs have no more channels than slots, keys and values are not held.
        dtype: of keys and values; slots, softmax and norms are float32.
    """

    num_slots: int = 7
    slot_dim: int = 64
    num_iterations: int = 3
    mlp_dim: int = 128
    initializer: str = "shared_gaussian"
    gradient: str = "full"
    attention: str = "auto"
    chunk_size: int = CHUNK_SIZE
    dtype: Any = jnp.float32

    def setup(self):
        problems = slot_problems(self)
        if problems:
            raise ConfigError(" ".join(problems))
        self.input_norm = NormParameters()
        self.key, self.value = Kernel(self.slot_dim), Kernel(self.slot_dim)
        self.first = FirstSlots(self.num_slots, self.slot_dim, self.initializer)
        self.update = self._make_update()

    @nn.nowrap
    def _make_update(self) -> nn.Module:
        return SlotUpdate(self.mlp_dim, self.attention, self.chunk_size)

    def __call__(
        self,
        inputs: Float[Array, "batch length channels"],
        mask: Bool[Array, "batch length"] | None = None,
        *,
        num_slots: int | None = None,
        num_iterations: int | None = None,
        noise: Slots | None = None,
        settle: Callable[[Slots], Slots] = lambda slots: slots,
    ) -> Grouped:
        """Group.

        Args:
            mask: True for real inputs, False for padding; None means all are real.
            num_slots, num_iterations: instead of the fields, at any time; a number of slots only where they share what
                they begin with.
            noise: standard normal, instead of a draw.
            settle: what becomes of the slots at the end of each iteration.

        Raises:
            ConfigError: another number of slots than there are learned ones.
        """
        seen = self.project(by_example(inputs), mask)
        slots = first = by_example(self.first(len(inputs), num_slots, noise))
        maps, times = [], self.num_iterations if num_iterations is None else num_iterations
        for iteration in range(times):
            if iteration == times - 1 and self.gradient != "full":
                slots = jax.lax.stop_gradient(slots)
                if self.gradient == "bilevel":
                    slots = slots + (first - jax.lax.stop_gradient(first))  # adds zero
            updated, shares = self.update(slots, seen)
            slots = by_example(settle(updated))
            maps.append(shares)
        return Grouped(slots, jnp.stack(maps, 1))

    def project(
        self, inputs: Float[Array, "batch length channels"], mask: Bool[Array, "batch length"] | None = None
    ) -> "Seen":
        """What slots look at, with keys and values held or not."""
        channels, dtype = inputs.shape[-1], self.dtype
        scale, offset = self.input_norm(channels)
        kernels = self.key(channels), self.value(channels)
        how = {"num_heads": 1, "width": self.slot_dim, "dtype": dtype, "long": True, "over": "queries"}
        if streams(self.attention, inputs, **how):
            return StreamedInputs(
                inputs, *(with_offset(scale, offset, kernel).astype(dtype) for kernel in kernels), mask
            )
        normalized = (normalize(inputs, NORM_EPSILON) * scale + offset).astype(dtype)
        return HeldInputs(*(by_example(normalized @ kernel.astype(dtype)) for kernel in kernels), mask)


class Kernel(nn.Module):
    """That of a projection without bias, unapplied."""

    features: int

    @nn.compact
    def __call__(self, channels: int) -> Float[Array, "channels features"]:
        return self.param("kernel", GLOROT, (channels, self.features), jnp.float32)


class HeldInputs(NamedTuple):
    """Keys and values of all inputs."""

    key: Float[Array, "batch length dim"]
    value: Float[Array, "batch length dim"]
    mask: Bool[Array, "batch length"] | None = None

    def attended(self, query: Slots, path: str, chunk_size: int) -> Slots:
        """What each slot finds."""
        how = {"over": "queries", "path": path, "chunk_size": chunk_size, "long": True}
        return attend(query[:, :, None], self.key[:, :, None], self.value[:, :, None], self.mask, **how)[:, :, 0]

    def shares(self, query: Slots) -> Float[Array, "batch num_slots length"]:
        """Each slot's share of each input."""
        return attention_weights(query[:, :, None], self.key[:, :, None], self.mask, over="queries")[:, 0]


class StreamedInputs(NamedTuple):
    """Inputs whose keys and values are never held, as `attention.Streamed`, but that biases of keys count.

    They differ between slots, which compete; so normalised inputs get one more channel, always 1, and kernels a row for
    it.
    """

    inputs: Float[Array, "batch length channels"]
    key: Float[Array, "channels_and_one dim"]
    value: Float[Array, "channels_and_one dim"]
    mask: Bool[Array, "batch length"] | None = None

    def attended(self, query: Slots, path: str, chunk_size: int) -> Slots:
        """What each slot finds; always chunked."""
        axis = mesh_axis(self.inputs.shape[1])
        found = streamed_attend(self._through(query), self.inputs, self.mask, chunk_size, _with_one, "queries", axis)
        return found[:, :, 0].astype(self.value.dtype) @ self.value

    def shares(self, query: Slots) -> Float[Array, "batch num_slots length"]:
        """Each slot's share of each input."""
        key, _ = _with_one(self.inputs, self.key.dtype)
        return attention_weights(self._through(query), key.transpose(0, 3, 1, 2), self.mask, over="queries")[:, 0]

    def _through(self, query: Slots) -> Float[Array, "batch num_slots 1 channels_and_one"]:
        """The query through the kernel of the keys; the root of its new number of channels is divided by."""
        scale = (self.key.shape[0] / query.shape[-1]) ** 0.5
        return (query.astype(self.key.dtype) @ (self.key * scale).T)[:, :, None]


Seen = HeldInputs | StreamedInputs


def with_offset(
    scale: Float[Array, "channels"], offset: Float[Array, "channels"], kernel: Float[Array, "channels dim"]
) -> Float[Array, "channels_and_one dim"]:
    """(x scale + offset) kernel as [x, 1] times what is returned."""
    return jnp.concatenate([scale[:, None] * kernel, (offset @ kernel)[None]])


def _with_one(chunk: Float[Array, "batch keys channels"], dtype: Any) -> tuple[Array, Array]:
    """Keys and, in float32, values of a chunk: the normalised inputs and a channel of ones."""
    normalized = normalize(chunk, NORM_EPSILON)
    values = jnp.concatenate([normalized, jnp.ones_like(normalized[..., :1])], -1).swapaxes(1, 2)[:, None]
    return values.astype(dtype), values


class FirstSlots(nn.Module):
    """What the slots begin with."""

    num_slots: int
    slot_dim: int
    initializer: str

    @nn.compact
    def __call__(self, batch_size: int, num_slots: int | None, noise: Array | None) -> Slots:
        shared, num_slots = self.initializer == "shared_gaussian", self.num_slots if num_slots is None else num_slots
        if not shared and num_slots != self.num_slots:
            raise ConfigError(
                f"num_slots={num_slots}: the model has {self.num_slots} slots of their own (initializer="
                f"{self.initializer!r}). Only slots that share one Gaussian (initializer='shared_gaussian') can be "
                "more or fewer than in training."
            )
        shape = (1, 1 if shared else self.num_slots, self.slot_dim)
        mean = self.param("mean", GLOROT, shape, jnp.float32)
        if self.initializer == "learned":
            return jnp.broadcast_to(mean, (batch_size, *shape[1:]))
        if self.initializer == "learned_noise":
            shape = (1, 1, self.slot_dim)
        deviation = jnp.exp(self.param("log_deviation", GLOROT, shape, jnp.float32))
        if noise is None:
            noise = jax.random.normal(self.make_rng("slots"), (batch_size, num_slots, self.slot_dim))
        return mean + deviation * noise


class SlotUpdate(nn.Module):
    """One iteration: attention, GRU, residual MLP."""

    mlp_dim: int
    attention: str
    chunk_size: int

    @nn.compact
    def __call__(self, slots: Slots, seen: Seen) -> tuple[Slots, Float[Array, "batch num_slots length"]]:
        attended, shares = looked(slots, seen, self.attention, self.chunk_size)
        slots = by_example(GRU(name="gru")(slots, attended))
        hidden = nn.Dense(self.mlp_dim, kernel_init=GLOROT, name="mlp_hidden")(
            nn.LayerNorm(NORM_EPSILON, name="mlp_norm")(slots)
        )
        out = nn.Dense(slots.shape[-1], kernel_init=GLOROT, name="mlp_out")
        return by_example(slots + out(nn.relu(by_example(hidden)))), shares


def looked(
    slots: Slots, seen: Seen, path: str, chunk_size: int
) -> tuple[Slots, Float[Array, "batch num_slots length"]]:
    """What each slot sees of the inputs, and its share of each; within a compact method."""
    query = nn.Dense(slots.shape[-1], use_bias=False, kernel_init=GLOROT, name="query")
    query = by_example(query(nn.LayerNorm(NORM_EPSILON, name="norm")(slots)))
    return by_example(seen.attended(query, path, chunk_size).astype(jnp.float32)), seen.shares(query)


class GRU(nn.Module):
    """Gated recurrent unit, reset after the recurrent product and with a bias on either side, as cuDNN's and Keras'.

    z, r = sigmoid(W x + b + U h + c); n = tanh(W x + b + r (U h + c)); h <- z h + (1 - z) n.
    """

    @nn.compact
    def __call__(
        self, state: Float[Array, "*batch dim"], inputs: Float[Array, "*batch channels"]
    ) -> Float[Array, "*batch dim"]:
        width = state.shape[-1]
        from_inputs = by_example(nn.Dense(3 * width, kernel_init=GLOROT, name="inputs")(inputs))
        from_state = by_example(nn.Dense(3 * width, kernel_init=nn.initializers.orthogonal(), name="state")(state))
        (z_in, r_in, n_in), (z, r, n) = jnp.split(from_inputs, 3, -1), jnp.split(from_state, 3, -1)
        keep, reset = nn.sigmoid(z_in + z), nn.sigmoid(r_in + r)
        return keep * state + (1 - keep) * jnp.tanh(n_in + reset * n)


def slot_problems(module: nn.Module) -> list[str]:
    """What is wrong with the fields of slot attention, a sentence each."""
    sizes = {name: getattr(module, name) for name in ("slot_dim", "mlp_dim", "chunk_size")}
    problems = number_problems("model", most=MOST_SLOTS, num_slots=module.num_slots)
    problems += number_problems("model", **sizes)
    problems += number_problems("model", most=MOST_ROUNDS, num_iterations=module.num_iterations)
    paths = tuple(path for path in PATHS if path != "fused")
    for name, known in (("initializer", INITIALIZERS), ("gradient", GRADIENTS), ("attention", paths)):
        if getattr(module, name) not in known:
            problems.append(f"model.{name}={getattr(module, name)!r}: expected one of {', '.join(known)}.")
    return problems
