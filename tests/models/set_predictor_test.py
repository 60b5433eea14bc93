# SPDX-License-Identifier: Apache-2.0
import functools

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_jax.models.set_predictor import SetPredictor
from perceiver_jax.models.slot_attention import SlotAttention
from perceiver_jax.models.slot_autoencoder import ConvolutionEncoder, PatchEncoder

RNGS = {"params": jax.random.key(0), "slots": jax.random.key(1)}


def test_the_published_model():
    """On a grid of 32 x 32; its parameters counted layer by layer from the published code."""
    model = SetPredictor(ConvolutionEncoder(strides=(1, 2, 2, 1)), SlotAttention(10), num_columns=19)
    out, variables = jax.eval_shape(lambda: model.init_with_output(RNGS, jnp.zeros((1, 128, 128, 3))))
    assert out.properties.shape == (1, 10, 19) and out.attention.shape == (1, 3, 10, 32, 32)
    encoder = 25 * 3 * 64 + 64 + 3 * (25 * 64 * 64 + 64) + (4 * 64 + 64) + 2 * 64 + 2 * (64 * 64 + 64)
    gru, mlp = 2 * (64 * 192 + 192), 64 * 128 + 128 + 128 * 64 + 64
    slots = 3 * 2 * 64 + 3 * 64 * 64 + 2 * 64 + gru + mlp
    head = 64 * 64 + 64 + 64 * 19 + 19
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == encoder + slots + head


def test_a_set_has_the_order_of_its_slots_and_shares_what_is_before_the_head():
    model = SetPredictor(PatchEncoder(4, 8), SlotAttention(3, 8, mlp_dim=8), num_columns=5, feature_dim=8, head_dim=6)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (2, 8, 8, 3)), jnp.uint8)
    noise = jnp.asarray(rng.normal(size=(2, 3, 8)), jnp.float32)
    variables, apply = jax.jit(model.init)(RNGS, images, noise=noise), jax.jit(model.apply)
    out = apply(variables, images, noise=noise)
    turned = apply(variables, images, noise=noise[:, ::-1])
    (out, turned), p = jax.device_get(((out, turned), variables["params"]))
    np.testing.assert_allclose(turned.properties, out.properties[:, ::-1], atol=1e-5)
    hidden = np.maximum(out.slots @ p["head_hidden"]["kernel"] + p["head_hidden"]["bias"], 0)
    expected = 1 / (1 + np.exp(-(hidden @ p["head_out"]["kernel"] + p["head_out"]["bias"])))
    np.testing.assert_allclose(out.properties, expected, atol=1e-5)
    other = functools.partial(model.apply, num_slots=5, num_iterations=1, rngs=RNGS)
    shapes = jax.eval_shape(other, variables, images)
    assert shapes.properties.shape == (2, 5, 5) and shapes.attention.shape == (2, 1, 5, 2, 2)
