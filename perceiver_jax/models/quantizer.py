# SPDX-License-Identifier: Apache-2.0
"""Slots as discrete codes (Wu et al. 2024, https://arxiv.org/abs/2402.01203, section 3): blocks and their codebooks.

A slot is cut into blocks; each block has a codebook of its own, shared by all slots, and becomes its nearest code. The
codes are no parameters: they follow the means of the blocks that chose them (van den Oord et al. 2017,
https://arxiv.org/abs/1711.00937, appendix A.1), once in each train step and from the whole batch. Codes that are hardly
used are made anew from the batch. `SoftPrototypes` is the same without discrete codes, to compare with.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.norms import normalize

CODEBOOK = "codebook"
"""The collection of variables that holds the codes."""
PROGRESS = "progress"
"""The collection of variables that count train steps."""
EMA_DECAY = 0.99
"""Of the counts and sums whose ratio is a code, unless a model has another."""
DEAD_BELOW = 0.1
"""Share of its even use below which a code is made anew; with Wu et al.'s own numbers, 160 vectors and 64 codes, their
absolute threshold of 1 is a share of 0.4, which with 128 vectors and 512 codes would condemn nearly all. A default."""
REVIVED_SHARE = 2
"""A new code begins with so many times the use below which it is dead; log(2) / (1 - decay) = 70 steps to be used."""
NOISE = 0.01
"""Norm of what sets a new code apart from the block it is copied from."""
BINS_PER_CODE = 8
"""Of each level of the reservoir from which codes are made anew."""
LEVELS = 4
"""Of the reservoir; each gets a sixteenth of the slots of the one before. With 16 codes or more, of any number of slots
up to 10^6 as many as there are codes are alone in their bin, or nine tenths of fewer slots. A bin takes 4 * slot_dim
bytes, all together 17 MB with 64 codes and 2,048 channels, 4 MB with 512 and 64."""
LEVEL_BITS = 4
"""Of a hash that must be zero for a slot to go up a level."""
LEAST_COUNT = 1e-6
"""A code that was used less stays where it is."""

Slots = Float[Array, "batch num_slots slot_dim"]
Blocks = Float[Array, "batch num_slots num_blocks block_dim"]
Indices = Int[Array, "batch num_slots num_blocks"]


class Quantized(NamedTuple):
    """Slots made of codes.

    Attributes:
        slots: as they go on, with the gradient of the slots that came in.
        indices: of the codes.
        commitment: of every example, the mean squared distance of its slots to their codes, which do not feel it.
    """

    slots: Slots
    indices: Indices
    commitment: Float[Array, "batch"]


class VectorQuantizer(nn.Module):
    """Each block becomes its nearest code, with a straight-through gradient.

    Attributes:
        num_blocks: of a slot.
        codebook_size: codes of a block.
        continuous_steps: of training, at its start, in which slots go on as they are while the codes follow them.
    """

    num_blocks: int
    codebook_size: int
    slot_dim: int
    continuous_steps: int = 0

    def setup(self):
        check_blocks(self.num_blocks, self.slot_dim, self.codebook_size)
        self.steps = self.variable(PROGRESS, "steps", jnp.zeros, (), jnp.int32)
        shape = (self.num_blocks, self.codebook_size, self.slot_dim // self.num_blocks)
        self.codes = self.variable(CODEBOOK, "codes", self._first, shape)
        # Nothing has been used yet: the first step takes all codes from its batch.
        self.counts = self.variable(CODEBOOK, "counts", jnp.zeros, shape[:2], jnp.float32)
        self.sums = self.variable(CODEBOOK, "sums", jnp.zeros, shape, jnp.float32)

    def __call__(self, slots: Slots, train: bool = False) -> Quantized:
        """The nearest codes; in training with `continuous_steps` the slots themselves at first."""
        slots = slots.astype(jnp.float32)
        indices = nearest(split_blocks(jax.lax.stop_gradient(slots), self.num_blocks), self.codes.value)
        codes = self.lookup(indices)
        # In this order the value is exactly the code, as `lookup` gives it.
        through = codes + (slots - jax.lax.stop_gradient(slots))
        if train:
            through = jnp.where(self.steps.value < self.continuous_steps, slots, through)
        return Quantized(through, indices, jnp.square(slots - codes).mean((1, 2)))

    def lookup(self, indices: Indices) -> Slots:
        """The slots that are made of these codes."""
        return take_codes(self.codes.value, indices)

    def _first(self, shape: tuple[int, ...]) -> Array:
        return jax.random.normal(self.make_rng("params"), shape, jnp.float32)


class SoftPrototypes(nn.Module):
    """Each block becomes a mixture of learned prototypes (SysBinder, Singh et al. 2023, section 3.3).

    An MLP makes the prototypes of learned vectors; a block attends to those of its codebook. `indices` are of the
    largest shares, and `lookup` gives these prototypes alone, which is not what the mixture was. Unlike in the authors'
    code (github.com/singhgautam/sysbinder) each block has an MLP of its own, and prototypes are mixed as they are.
    """

    num_blocks: int
    codebook_size: int
    slot_dim: int
    continuous_steps: int = 0

    def setup(self):
        check_blocks(self.num_blocks, self.slot_dim, self.codebook_size)
        dim = self.slot_dim // self.num_blocks
        self.memory = self.param("memory", nn.initializers.normal(1.0), (self.num_blocks, self.codebook_size, dim))
        per_block = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "in_axes": 0, "out_axes": 0}
        self.mlp = nn.vmap(PrototypeMLP, **per_block)()  # the authors' is the same for all blocks

    def __call__(self, slots: Slots, train: bool = False) -> Quantized:
        """The mixtures."""
        del train
        blocks, prototypes = split_blocks(slots.astype(jnp.float32), self.num_blocks), self.mlp(self.memory)
        scores = jnp.einsum("bsmd,mpd->bsmp", normalize(blocks), normalize(prototypes)) * blocks.shape[-1] ** -0.5
        # The authors mix normed prototypes; these keep their length, as codes do.
        mixed = jnp.einsum("bsmp,mpd->bsmd", jax.nn.softmax(scores), prototypes)
        indices = jnp.argmax(scores, -1).astype(jnp.int32)
        return Quantized(mixed.reshape(slots.shape), indices, jnp.zeros(len(slots)))

    def lookup(self, indices: Indices) -> Slots:
        """The prototypes themselves."""
        return take_codes(self.mlp(self.memory), indices)


class PrototypeMLP(nn.Module):
    """Four layers, the hidden ones four times as wide."""

    @nn.compact
    def __call__(self, memory: Float[Array, "codebook_size block_dim"]) -> Float[Array, "codebook_size block_dim"]:
        dim, hidden = memory.shape[-1], memory
        for _ in range(3):
            hidden = nn.relu(nn.Dense(4 * dim)(hidden))
        return nn.Dense(dim)(hidden)


def check_blocks(num_blocks: int, slot_dim: int, codebook_size: int = 1) -> None:
    """ConfigError unless the blocks divide the slot."""
    if num_blocks < 1 or codebook_size < 1:
        raise ConfigError(f"num_blocks={num_blocks}, codebook_size={codebook_size}: expected at least 1 of each.")
    if slot_dim % num_blocks:
        raise ConfigError(
            f"num_blocks={num_blocks} does not divide slot_dim={slot_dim}: each block of a slot has a codebook of its "
            f"own. Set config.model.slot_dim to a multiple of {num_blocks}, or another number of blocks."
        )


def split_blocks(slots: Slots, num_blocks: int) -> Blocks:
    """Cut the channels into blocks."""
    return slots.reshape(*slots.shape[:-1], num_blocks, -1)


def nearest(blocks: Blocks, codes: Float[Array, "num_blocks codebook_size block_dim"]) -> Indices:
    """The code of the own codebook at the least Euclidean distance, in float32; the first of equal ones."""
    inner = jnp.einsum("bsmd,mpd->bsmp", blocks, codes, precision=jax.lax.Precision.HIGHEST)
    return jnp.argmin(jnp.square(codes).sum(-1) - 2 * inner, -1).astype(jnp.int32)


def take_codes(codes: Float[Array, "num_blocks codebook_size block_dim"], indices: Indices) -> Slots:
    """codes[m, indices[..., m]] of every block m, as slots."""
    chosen = codes[jnp.arange(codes.shape[0]), indices]
    return chosen.reshape(*indices.shape[:-1], -1)


def code_use(
    indices: Indices, codebook_size: int, real: Bool[Array, "batch"]
) -> Float[Array, "num_blocks codebook_size"]:
    """How often each code was chosen in the real examples."""
    return place_use(indices, codebook_size, real).sum(0)


def place_use(
    indices: Indices, codebook_size: int, real: Bool[Array, "batch"]
) -> Float[Array, "num_slots num_blocks codebook_size"]:
    """How often each code was chosen at each place, in the real examples."""
    return (jax.nn.one_hot(indices, codebook_size) * real[:, None, None, None]).sum(0)


def codebook_sums(
    slots: Slots,
    indices: Indices,
    codebook_size: int,
    real: Bool[Array, "batch"],
    ids: Int[Array, "batch"],
    step: int | Int[Array, ""],
) -> dict[str, Array]:
    """What `next_codebook` needs to know of a batch; parts of a batch add up to the whole.

    The reservoir has bins into which slots are put by a hash: a bin with one slot holds it, however the batch was split
    up. The others hold sums that are of no use.

    Args:
        slots: before quantisation.
        real: which examples are no padding.
        step: the number of the train step, with which the slots that share a bin change.
    """
    blocks = split_blocks(jax.lax.stop_gradient(slots).astype(jnp.float32), indices.shape[-1])
    chosen = jax.nn.one_hot(indices, codebook_size) * real[:, None, None, None]
    num_bins = LEVELS * BINS_PER_CODE * codebook_size
    place = ids.astype(jnp.uint32)[:, None] * slots.shape[1] + jnp.arange(slots.shape[1], dtype=jnp.uint32)
    place = place + hashed(jnp.asarray(step, jnp.uint32))
    bins = jnp.where(real[:, None], reservoir_bins(place, codebook_size), num_bins).reshape(-1)
    rows = blocks.reshape(-1, *blocks.shape[2:])
    return {
        "counts": chosen.sum((0, 1)),
        "vectors": jnp.einsum("bsmp,bsmd->mpd", chosen, blocks, precision=jax.lax.Precision.HIGHEST),
        "bins": jax.ops.segment_sum(rows, bins, num_bins),
        "held": jax.ops.segment_sum(jnp.ones(len(rows)), bins, num_bins),
    }


def reservoir_bins(places: UInt32[Array, "*shape"], codebook_size: int) -> UInt32[Array, "*shape"]:
    """The bin of each place: its level, which a sixteenth of those of the level before reach, and one of its bins.

    Of one level alone no bin would hold a single slot once there are many more slots than bins.
    """
    drawn = hashed(places)
    highest = [hashed(~drawn) < 2 ** (32 - LEVEL_BITS * level) for level in range(1, LEVELS)]
    level = sum(reached.astype(jnp.uint32) for reached in highest)
    size = BINS_PER_CODE * codebook_size
    return level * size + drawn % size


def next_codebook(
    codebook: dict[str, Any],
    sums: dict[str, Array],
    rng: PRNGKeyArray,
    *,
    ema_decay: float = EMA_DECAY,
    dead_below: float = DEAD_BELOW,
) -> dict[str, Any]:
    """Codes, counts and sums after a step whose `codebook_sums` these are; see `SVQ` for the decay and the dead."""
    counts = ema_decay * codebook["counts"] + (1 - ema_decay) * sums["counts"]
    totals = ema_decay * codebook["sums"] + (1 - ema_decay) * sums["vectors"]
    means = totals / jnp.maximum(counts, LEAST_COUNT)[..., None]
    codes = jnp.where(counts[..., None] > LEAST_COUNT, means, codebook["codes"])
    even = sums["counts"].sum(1, keepdims=True) / counts.shape[1]
    fresh, found = _candidates(sums, counts < dead_below * even, rng)
    counts = jnp.where(found, REVIVED_SHARE * dead_below * even, counts)
    codes = jnp.where(found[..., None], fresh, codes)
    totals = jnp.where(found[..., None], counts[..., None] * fresh, totals)
    return {"codes": codes, "counts": counts, "sums": totals}


def _candidates(
    sums: dict[str, Array], dead: Bool[Array, "num_blocks codebook_size"], rng: PRNGKeyArray
) -> tuple[Float[Array, "num_blocks codebook_size block_dim"], Bool[Array, "num_blocks codebook_size"]]:
    """A block of the batch for each dead code, a different one for each, and which codes got one."""

    def of_block(dead: Array, bins: Array, key: Array) -> tuple[Array, Array]:
        drawn, noise = jax.random.split(key)
        single = sums["held"] == 1
        order = jnp.argsort(jnp.where(single, jax.random.uniform(drawn, single.shape), 2.0))
        rank = jnp.cumsum(dead) - 1
        moved = jax.random.normal(noise, (len(dead), bins.shape[-1])) * NOISE * bins.shape[-1] ** -0.5
        return bins[order[rank]] + moved, dead & (rank < single.sum())

    keys = jax.random.split(rng, len(dead))
    return jax.vmap(of_block, (0, 1, 0))(dead, sums["bins"], keys)


def hashed(numbers: Array) -> Array:
    """Well-mixed bits of uint32 (the end of MurmurHash3)."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        numbers = (numbers ^ (numbers >> shift)) * jnp.uint32(factor)
    return numbers ^ (numbers >> 16)
