# SPDX-License-Identifier: Apache-2.0
"""Block slot attention: blocks do not mix, slots go on as codes, gradients as asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.block_slot_attention import BlockSlotAttention, BlockUpdate
from perceiver_jax.models.quantizer import Quantized

RNG = np.random.default_rng(0)
INPUTS = jnp.asarray(RNG.normal(size=(2, 10, 6)), jnp.float32)
SMALL = {"num_slots": 3, "slot_dim": 8, "num_blocks": 4, "mlp_dim": 5}


def rounded(slots):
    """Stands for a quantiser: whole numbers, straight through."""
    codes = jnp.round(4 * slots) / 4
    through = codes + slots - jax.lax.stop_gradient(slots)
    return Quantized(through, jnp.zeros((*slots.shape[:2], 4), jnp.int32), jnp.zeros(len(slots)))


def test_a_block_feels_nothing_of_the_others():
    blocks, attended = (jnp.asarray(RNG.normal(size=(2, 3, 4, 2)), jnp.float32) for _ in range(2))
    module = BlockUpdate(5)
    variables = module.init(jax.random.key(0), blocks, attended)
    before = module.apply(variables, blocks, attended)
    for changed in ((blocks.at[:, :, 1].add(1.0), attended), (blocks, attended.at[:, :, 1].add(1.0))):
        after = module.apply(variables, *changed)
        assert (after[:, :, 1] != before[:, :, 1]).all()
        np.testing.assert_array_equal(np.delete(after, 1, 2), np.delete(before, 1, 2))


def test_parameters_of_an_update_grow_with_the_blocks_and_not_with_their_square():
    def count(num_blocks):
        blocks = jnp.zeros((1, 1, num_blocks, 2))
        variables = jax.eval_shape(BlockUpdate(5).init, jax.random.key(0), blocks, blocks)
        return sum(leaf.size for leaf in jax.tree.leaves(variables))

    assert count(8) == 8 * count(1)


def test_iterations_begin_with_codes_and_attention_is_shared_out():
    module, seen = BlockSlotAttention(**SMALL), []

    def quantize(slots):
        seen.append(slots)
        return rounded(slots)

    variables = module.init(jax.random.key(0), INPUTS, rounded)
    parsed = module.apply(variables, INPUTS, quantize)
    assert len(seen) == 3 and parsed.attention.shape == (2, 3, 3, 10)
    np.testing.assert_allclose(parsed.attention.sum(2), 1, rtol=1e-5)
    np.testing.assert_array_equal(parsed.unquantized, seen[-1])
    np.testing.assert_array_equal(parsed.quantized.slots, rounded(seen[-1]).slots)
    constant = module.apply(variables, INPUTS, lambda slots: rounded(jnp.zeros_like(slots)))
    np.testing.assert_array_equal(constant.attention[:, 1], constant.attention[:, 2])


@pytest.mark.parametrize("gradient", ["full", "implicit", "bilevel"])
def test_gradients_of_the_first_slots(gradient):
    module = BlockSlotAttention(**SMALL, gradient=gradient)
    variables = module.init(jax.random.key(0), INPUTS, rounded)

    def total(params):
        return jnp.square(module.apply({"params": params}, INPUTS, rounded).quantized.slots).sum()

    first = jax.grad(total)(variables["params"])["first"]["mean"]
    assert bool(jnp.abs(first).max() > 0) == (gradient != "implicit")


def test_wrong_fields_are_named():
    with pytest.raises(ConfigError, match="num_iterations=0"):
        BlockSlotAttention(num_iterations=0).init(jax.random.key(0), INPUTS, rounded)
