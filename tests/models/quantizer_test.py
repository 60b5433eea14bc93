# SPDX-License-Identifier: Apache-2.0
"""The quantiser: nearest codes by brute force, the moving averages by hand, revival, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.quantizer import (
    CODEBOOK,
    DEAD_BELOW,
    EMA_DECAY,
    PROGRESS,
    REVIVED_SHARE,
    SoftPrototypes,
    VectorQuantizer,
    codebook_sums,
    nearest,
    next_codebook,
    reservoir_bins,
    split_blocks,
)

NUM_BLOCKS, SIZE, SLOT_DIM = 3, 5, 12
RNG = np.random.default_rng(0)
SLOTS = jnp.asarray(RNG.normal(size=(8, 2, SLOT_DIM)), jnp.float32)
IDS, REAL = jnp.arange(100, 108), jnp.arange(8) < 7
KEY, STEP = jax.random.key(3), 7


@pytest.fixture(scope="module")
def quantizer():
    module = VectorQuantizer(NUM_BLOCKS, SIZE, SLOT_DIM)
    return module, module.init(jax.random.key(0), SLOTS)


def used_codebook(seed=1):
    """A codebook in the middle of training, all codes alive."""
    rng = np.random.default_rng(seed)
    counts = rng.uniform(2, 4, (NUM_BLOCKS, SIZE)).astype(np.float32)
    codes = rng.normal(size=(NUM_BLOCKS, SIZE, SLOT_DIM // NUM_BLOCKS)).astype(np.float32)
    return jax.tree.map(jnp.asarray, {"codes": codes, "counts": counts, "sums": codes * counts[..., None]})


def sums_of(rows=slice(None), codebook=None, real=REAL):
    codes = (codebook or used_codebook())["codes"]
    indices = nearest(split_blocks(SLOTS[rows], NUM_BLOCKS), codes)
    return codebook_sums(SLOTS[rows], indices, SIZE, real[rows], IDS[rows], STEP)


def test_each_block_takes_the_nearest_code_of_its_own_codebook(quantizer):
    module, variables = quantizer
    quantized, codes = module.apply(variables, SLOTS), np.asarray(variables[CODEBOOK]["codes"])
    blocks = np.asarray(SLOTS).reshape(8, 2, NUM_BLOCKS, -1)
    for m in range(NUM_BLOCKS):
        distances = np.linalg.norm(blocks[:, :, m, None] - codes[m], axis=-1)
        np.testing.assert_array_equal(quantized.indices[..., m], distances.argmin(-1))
    chosen = codes[np.arange(NUM_BLOCKS), quantized.indices].reshape(SLOTS.shape)
    np.testing.assert_array_equal(quantized.slots, chosen)
    np.testing.assert_array_equal(module.apply(variables, quantized.indices, method="lookup"), chosen)
    np.testing.assert_allclose(quantized.commitment, np.square(SLOTS - chosen).mean((1, 2)), rtol=1e-5)


def test_the_gradient_goes_straight_through_and_commitment_pulls_to_the_code(quantizer):
    module, variables = quantizer
    weight = jnp.asarray(RNG.normal(size=SLOTS.shape), jnp.float32)
    through = jax.grad(lambda slots: (module.apply(variables, slots).slots * weight).sum())(SLOTS)
    np.testing.assert_array_equal(through, weight)
    pull = jax.grad(lambda slots: module.apply(variables, slots).commitment.sum())(SLOTS)
    np.testing.assert_allclose(pull, 2 / 24 * (SLOTS - module.apply(variables, SLOTS).slots), rtol=1e-4, atol=1e-6)


def test_slots_go_on_as_they_are_at_the_start_of_training_alone(quantizer):
    _, variables = quantizer
    module = VectorQuantizer(NUM_BLOCKS, SIZE, SLOT_DIM, continuous_steps=2)
    codes = module.apply(variables, SLOTS).slots
    for steps, expected in ((1, SLOTS), (2, codes)):
        variables = variables | {PROGRESS: {"steps": jnp.int32(steps)}}
        np.testing.assert_array_equal(module.apply(variables, SLOTS, train=True).slots, expected)
        np.testing.assert_array_equal(module.apply(variables, SLOTS).slots, codes)


def test_codes_are_moving_averages_of_the_blocks_that_chose_them():
    old = used_codebook()
    new = next_codebook(old, sums_of(), KEY)
    blocks = np.asarray(SLOTS, np.float64).reshape(8, 2, NUM_BLOCKS, -1)[:7]
    for m in range(NUM_BLOCKS):
        chosen = np.linalg.norm(blocks[:, :, m, None] - old["codes"][m], axis=-1).argmin(-1)
        for p in range(SIZE):
            mine = blocks[:, :, m][chosen == p]
            count = EMA_DECAY * old["counts"][m, p] + (1 - EMA_DECAY) * len(mine)
            total = EMA_DECAY * old["sums"][m, p] + (1 - EMA_DECAY) * mine.sum(0)
            np.testing.assert_allclose(new["counts"][m, p], count, rtol=1e-5)
            np.testing.assert_allclose(new["codes"][m, p], total / count, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_add_up_and_revive_alike(parts):
    whole, unused = sums_of(), used_codebook() | {"counts": jnp.zeros((NUM_BLOCKS, SIZE))}
    added = sums_of(slice(0, None, parts))
    for first in range(1, parts):
        added = jax.tree.map(jnp.add, added, sums_of(slice(first, None, parts)))
    single = whole["held"] == 1
    np.testing.assert_array_equal(added["held"], whole["held"])
    np.testing.assert_array_equal(added["bins"][single], whole["bins"][single])
    for codebook in (used_codebook(), unused):
        left, right = next_codebook(codebook, whole, KEY), next_codebook(codebook, added, KEY)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), left, right)


def test_dead_codes_become_blocks_of_the_batch_and_begin_anew():
    sums, old = sums_of(), used_codebook()
    even = 14 / SIZE
    old["counts"] = old["counts"].at[1, 2:4].set(jnp.asarray([0.9, 1.2]) * DEAD_BELOW * even)
    chosen = jnp.full((NUM_BLOCKS, SIZE), even).at[1].set(14 / 3).at[1, 2:4].set(0)
    sums = sums | {"counts": chosen}
    new = next_codebook(old, sums, KEY)
    blocks = np.asarray(SLOTS[:7]).reshape(14, NUM_BLOCKS, -1)[:, 1]
    nearness = np.linalg.norm(blocks - new["codes"][1, 2], axis=-1)
    assert nearness.min() < 0.05 < np.sort(nearness)[1]
    assert float(new["counts"][1, 2]) == pytest.approx(REVIVED_SHARE * DEAD_BELOW * even)
    np.testing.assert_allclose(new["sums"][1, 2], new["codes"][1, 2] * new["counts"][1, 2], rtol=1e-6)
    assert float(new["counts"][1, 3]) == pytest.approx(EMA_DECAY * old["counts"][1, 3])


@pytest.mark.parametrize("codes", [64, 512])
def test_a_batch_of_any_size_has_slots_that_are_alone_in_their_bin(codes):
    bins = np.asarray(reservoir_bins(jnp.arange(1_000_000, dtype=jnp.uint32) + 12345, codes))
    for number in (codes // 4, codes, 2 * codes, 6 * 1024, 20_000, 100_000, 1_000_000):
        alone = (np.bincount(bins[:number]) == 1).sum()
        assert alone >= min(codes, 0.8 * number), number


def test_a_code_far_away_comes_back_from_a_batch_much_larger_than_the_reservoir():
    """8,192 slots and 5 codes; one code lies where no slot is."""
    slots = jnp.asarray(np.random.default_rng(2).normal(size=(1024, 8, SLOT_DIM)), jnp.float32)
    old, real, ids = used_codebook(), jnp.ones(1024, bool), jnp.arange(1024)
    old["codes"] = old["codes"].at[:, 2].set(1e3)
    old |= {"counts": old["counts"].at[:, 2].set(0), "sums": old["sums"].at[:, 2].set(0)}
    indices = nearest(split_blocks(slots, NUM_BLOCKS), old["codes"])
    drawn = set()
    for step in range(2):
        sums = codebook_sums(slots, indices, SIZE, real, ids, step)
        assert not sums["counts"][:, 2].any()
        codes = np.asarray(next_codebook(old, sums, KEY)["codes"][:, 2])
        assert np.abs(codes).max() < 10
        drawn.add(codes.tobytes())
    assert len(drawn) == 2, "another step draws from other slots"


def test_the_decay_and_the_share_below_which_a_code_is_dead_are_as_asked():
    sums, old = sums_of(), used_codebook()
    old["counts"] = old["counts"].at[1, 2].set(0.0)
    sums = sums | {"counts": jnp.full((NUM_BLOCKS, SIZE), 14 / SIZE).at[1, 2].set(0)}
    new = next_codebook(old, sums, KEY, ema_decay=0.5, dead_below=0.0)
    np.testing.assert_allclose(new["counts"], 0.5 * (old["counts"] + sums["counts"]), rtol=1e-6)
    np.testing.assert_array_equal(new["codes"][1, 2], old["codes"][1, 2])
    revived = next_codebook(old, sums, KEY, ema_decay=0.5, dead_below=0.3)
    even = float(sums["counts"][1].mean())
    assert float(revived["counts"][1, 2]) == pytest.approx(2 * 0.3 * even)


def test_no_code_is_dead_with_the_published_sizes_of_a_small_batch():
    """128 vectors and 512 codes: an absolute threshold of one would condemn codes of even use."""
    counts, codes = jnp.full((1, 512), 0.25), jnp.zeros((1, 512, 2))
    sums = {"counts": counts, "vectors": codes, "bins": jnp.ones((8, 1, 2)), "held": jnp.ones(8)}
    new = next_codebook({"codes": codes, "counts": counts, "sums": codes}, sums, KEY)
    assert not new["codes"].any()


def test_all_codes_come_from_the_first_batch_as_far_as_it_goes(quantizer):
    _, variables = quantizer
    first = variables[CODEBOOK]
    new = next_codebook(first, sums_of(codebook=first, real=jnp.arange(8) < 1), KEY)
    fresh = (np.asarray(new["counts"]) > 0) & np.any(new["codes"] != first["codes"], -1)
    assert (fresh.sum(1) >= 2).all()  # two slots are no more than two candidates; others moved to their means
    assert np.isfinite(new["codes"]).all()


def test_padding_is_not_counted():
    poisoned = SLOTS.at[7].set(1e30)
    indices = nearest(split_blocks(poisoned, NUM_BLOCKS), used_codebook()["codes"])
    left = codebook_sums(poisoned, indices, SIZE, REAL, IDS, STEP)
    jax.tree.map(np.testing.assert_array_equal, left, sums_of())


def test_soft_prototypes_mix_and_have_no_codebook():
    module = SoftPrototypes(NUM_BLOCKS, SIZE, SLOT_DIM)
    variables = module.init(jax.random.key(0), SLOTS)
    assert set(variables) == {"params"}
    quantized = module.apply(variables, SLOTS)
    assert quantized.slots.shape == SLOTS.shape and quantized.indices.max() < SIZE and not quantized.commitment.any()
    moved = module.apply(variables, SLOTS.at[:, :, :4].add(1.0)).slots
    assert (moved[..., :4] != quantized.slots[..., :4]).any()
    np.testing.assert_array_equal(moved[..., 4:], quantized.slots[..., 4:])


@pytest.mark.parametrize("fields", [(5, 4, 12), (0, 4, 12), (3, 0, 12)])
def test_blocks_must_divide_the_slot(fields):
    with pytest.raises(ConfigError, match="num_blocks"):
        VectorQuantizer(*fields).init(jax.random.key(0), SLOTS)
