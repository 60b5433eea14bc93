# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from perceiver_jax.models.code_prior import CodePrior, sample_codes
from perceiver_jax.models.transformer import GREEDY


@pytest.fixture(scope="module")
def prior():
    module = CodePrior(num_slots=2, num_blocks=3, codebook_size=5, dim=8, num_layers=1, num_heads=2)
    codes = jax.random.randint(jax.random.key(0), (4, 2, 3), 0, 5)
    params = jax.jit(module.init)(jax.random.key(1), codes)["params"]
    apply = jax.jit(lambda params, codes: module.apply({"params": params}, codes))
    return module, params, codes, apply


def test_a_code_is_predicted_from_those_before_it_alone(prior):
    _, params, codes, apply = prior
    before = apply(params, codes)
    assert before.shape == (4, 2, 3, 5)
    for t in range(6):
        slot, block = divmod(t, 3)
        changed = codes.at[:, slot, block].set((codes[:, slot, block] + 1) % 5)
        change = np.abs(apply(params, changed) - before).max((0, 3)).ravel()
        assert not change[: t + 1].any() and (change[t + 1 :] > 0).all()


def test_blocks_have_embeddings_and_outputs_of_their_own(prior):
    module, params, codes, apply = prior
    before = apply(params, codes)
    for name, block in (("heads", 1), ("biases", 2)):
        changed = params | {name: params[name].at[block].add(1.0)}
        change = np.abs(apply(changed, codes) - before).max((0, 1, 3))
        assert (change > 0).tolist() == [m == block for m in range(3)]
    other = params | {"embeddings": params["embeddings"].at[2].multiply(-1)}
    change = np.abs(apply(other, codes) - before).max((0, 3)).ravel()
    assert (change > 0).tolist() == [False] * 3 + [True] * 3  # the last block of the first slot is seen by the second


def test_samples_follow_the_logits_of_the_block_at_hand(prior):
    module, params, _, apply = prior
    keys = jax.random.split(jax.random.key(2), 4)
    draw = jax.jit(lambda temperature: sample_codes(module, params, keys, temperature=temperature))
    greedy = draw(GREEDY)
    np.testing.assert_array_equal(greedy, apply(params, greedy).argmax(-1))
    drawn = draw(1.0)
    assert drawn.shape == (4, 2, 3) and (drawn != greedy).any() and drawn.min() >= 0 and drawn.max() < 5
