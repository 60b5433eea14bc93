# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.models.dvae import COLD, DVAE, HOT, gumbel_softmax, temperature_at


def test_a_token_is_of_its_patch_alone():
    model = DVAE(vocab_size=5, num_channels=16)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 12, 3)), jnp.float32)
    both = {"method": lambda module, images: module.decode(module.encode(images))}
    variables = model.init(jax.random.key(0), images, **both)
    logits = model.apply(variables, images, method="encode")
    changed = model.apply(variables, images.at[0, 5, 9].add(1.0), method="encode") != logits
    np.testing.assert_array_equal(np.asarray(changed).any(-1)[0], [[False] * 3, [False, False, True]])
    np.testing.assert_allclose(jnp.exp(logits).sum(-1), 1, rtol=1e-5)
    assert model.apply(variables, logits.argmax(-1), method="decode_tokens").shape == images.shape


def test_the_temperature_falls_to_the_end_and_stays():
    steps = [float(temperature_at(jnp.int32(step), 100)) for step in (0, 50, 100, 1000)]
    assert steps == pytest.approx([HOT, (HOT + COLD) / 2, COLD, COLD])


def test_cold_shares_are_nearly_one_hot_and_drawn_by_their_odds():
    logits = jnp.log(jnp.broadcast_to(jnp.asarray([0.7, 0.2, 0.1]), (40, 10, 10, 3)))
    shares = gumbel_softmax(jax.random.key(0), logits, jnp.float32(0.01))
    assert float((shares.max(-1) > 0.99).mean()) > 0.95
    np.testing.assert_allclose(shares.mean((0, 1, 2)), [0.7, 0.2, 0.1], atol=0.03)
