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
from jaxtyping import Array, Float

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.attention import CHUNK_SIZE, PATHS, attend, attention_weights

INITIALIZERS = ("shared_gaussian", "slot_gaussian", "learned", "learned_noise")
GRADIENTS = ("full", "implicit", "bilevel")
NORM_EPSILON = 1e-3
GLOROT = nn.initializers.glorot_uniform()

Slots = Float[Array, "batch num_slots slot_dim"]


class Grouped(NamedTuple):
    """What slot attention gives.

    Attributes:
        slots: after the last iteration.
        attention: of every iteration, each slot's share of each input, which sum to 1 over the slots.
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
        attention, chunk_size: path of `attend` and keys a chunk; only fused there is none.
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
        self.input_norm = nn.LayerNorm(NORM_EPSILON)
        self.key = nn.Dense(self.slot_dim, use_bias=False, kernel_init=GLOROT, dtype=self.dtype)
        self.value = nn.Dense(self.slot_dim, use_bias=False, kernel_init=GLOROT, dtype=self.dtype)
        self.first = FirstSlots(self.num_slots, self.slot_dim, self.initializer)
        self.update = self._make_update()

    @nn.nowrap
    def _make_update(self) -> nn.Module:
        return SlotUpdate(self.mlp_dim, self.attention, self.chunk_size)

    def __call__(
        self,
        inputs: Float[Array, "batch length channels"],
        *,
        num_slots: int | None = None,
        num_iterations: int | None = None,
        noise: Slots | None = None,
        settle: Callable[[Slots], Slots] = lambda slots: slots,
    ) -> Grouped:
        """Group.

        Args:
            num_slots, num_iterations: instead of the fields, at any time; a number of slots only where they share what
                they begin with.
            noise: standard normal, instead of a draw.
            settle: what becomes of the slots at the end of each iteration.

        Raises:
            ConfigError: another number of slots than there are learned ones.
        """
        inputs = self.input_norm(inputs)
        key, value = self.key(inputs)[:, :, None], self.value(inputs)[:, :, None]
        slots = first = self.first(len(inputs), num_slots, noise)
        maps, times = [], self.num_iterations if num_iterations is None else num_iterations
        for iteration in range(times):
            if iteration == times - 1 and self.gradient != "full":
                slots = jax.lax.stop_gradient(slots)
                if self.gradient == "bilevel":
                    slots = slots + first - jax.lax.stop_gradient(first)
            updated, shares = self.update(slots, key, value)
            slots = settle(updated)
            maps.append(shares)
        return Grouped(slots, jnp.stack(maps, 1))


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
    def __call__(
        self, slots: Slots, key: Float[Array, "batch length 1 dim"], value: Float[Array, "batch length 1 dim"]
    ) -> tuple[Slots, Float[Array, "batch num_slots length"]]:
        attended, shares = looked(slots, key, value, self.attention, self.chunk_size)
        slots = GRU(name="gru")(slots, attended)
        hidden = nn.Dense(self.mlp_dim, kernel_init=GLOROT, name="mlp_hidden")(
            nn.LayerNorm(NORM_EPSILON, name="mlp_norm")(slots)
        )
        return slots + nn.Dense(slots.shape[-1], kernel_init=GLOROT, name="mlp_out")(nn.relu(hidden)), shares


def looked(
    slots: Slots,
    key: Float[Array, "batch length 1 dim"],
    value: Float[Array, "batch length 1 dim"],
    path: str,
    chunk_size: int,
) -> tuple[Slots, Float[Array, "batch num_slots length"]]:
    """What each slot sees of the inputs, and its share of each; within a compact method."""
    query = nn.Dense(slots.shape[-1], use_bias=False, kernel_init=GLOROT, name="query")
    query = query(nn.LayerNorm(NORM_EPSILON, name="norm")(slots))[:, :, None]
    shares = attention_weights(query, key, over="queries")[:, 0]
    attended = attend(query, key, value, over="queries", path=path, chunk_size=chunk_size, long=True)
    return attended[:, :, 0].astype(jnp.float32), shares


class GRU(nn.Module):
    """Gated recurrent unit, reset after the recurrent product and with a bias on either side, as cuDNN's and Keras'.

    z, r = sigmoid(W x + b + U h + c); n = tanh(W x + b + r (U h + c)); h <- z h + (1 - z) n.
    """

    @nn.compact
    def __call__(
        self, state: Float[Array, "*batch dim"], inputs: Float[Array, "*batch channels"]
    ) -> Float[Array, "*batch dim"]:
        width = state.shape[-1]
        from_inputs = nn.Dense(3 * width, kernel_init=GLOROT, name="inputs")(inputs)
        from_state = nn.Dense(3 * width, kernel_init=nn.initializers.orthogonal(), name="state")(state)
        (z_in, r_in, n_in), (z, r, n) = jnp.split(from_inputs, 3, -1), jnp.split(from_state, 3, -1)
        keep, reset = nn.sigmoid(z_in + z), nn.sigmoid(r_in + r)
        return keep * state + (1 - keep) * jnp.tanh(n_in + reset * n)


def slot_problems(module: nn.Module) -> list[str]:
    """What is wrong with the fields of slot attention, a sentence each."""
    problems = [
        f"model.{name}={getattr(module, name)}: expected at least 1."
        for name in ("num_slots", "slot_dim", "num_iterations", "mlp_dim", "chunk_size")
        if getattr(module, name) < 1
    ]
    paths = tuple(path for path in PATHS if path != "fused")
    for name, known in (("initializer", INITIALIZERS), ("gradient", GRADIENTS), ("attention", paths)):
        if getattr(module, name) not in known:
            problems.append(f"model.{name}={getattr(module, name)!r}: expected one of {', '.join(known)}.")
    return problems
