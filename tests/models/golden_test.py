# SPDX-License-Identifier: Apache-2.0
"""The encoder equals DeepMind's own on stored weights, on every attention path (tests/golden/README.md)."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.models.perceiver import PerceiverEncoder

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
SCOPE = "params/perceiver_encoder/~/"
ATTENTION = {"query": "linear", "key": "linear_1", "value": "linear_2", "out": "linear_3"}
MLP = {"hidden": "linear", "out": "linear_1"}


def dense(weights, scope):
    return {"kernel": weights[scope + "/w"], "bias": weights[scope + "/b"]}


def norm(weights, scope):
    return {"scale": weights[scope + "/scale"], "bias": weights[scope + "/offset"]}


def mlp(weights, scope):
    return {ours: dense(weights, f"{scope}/mlp/{theirs}") for ours, theirs in MLP.items()}


def attention(weights, scope, names):
    return {ours: dense(weights, f"{scope}/attention/{ATTENTION[ours]}") for ours in names}


def cross_attend(weights, scope):
    return {
        "norm": norm(weights, f"{scope}/layer_norm"),
        "inputs": {
            "norm": norm(weights, f"{scope}/layer_norm_1"),
            **attention(weights, scope, ("key", "value")),
        },
        "attention": attention(weights, scope, ("query", "out")),
        "mlp_norm": norm(weights, f"{scope}/layer_norm_2"),
        "mlp": mlp(weights, scope),
    }


def self_attend(weights, scope):
    return {
        "norm": norm(weights, f"{scope}/layer_norm"),
        "attention": attention(weights, scope, ATTENTION),
        "mlp_norm": norm(weights, f"{scope}/layer_norm_1"),
        "mlp": mlp(weights, scope),
    }


def from_haiku(weights):
    """Parameters of one cross-attend and one shared block of three layers, by our names."""
    layers = [self_attend(weights, f"{SCOPE}self_attention{suffix}") for suffix in ("", "_1", "_2")]
    return {
        "latents": weights[f"{SCOPE}trainable_position_encoding/pos_embs"],
        "cross_attends_0": cross_attend(weights, f"{SCOPE}cross_attention"),
        "blocks_0": {"layers": jax.tree.map(lambda *leaves: np.stack(leaves), *layers)},
    }


@pytest.mark.parametrize("path", ["dense", "fused", "chunked"])
def test_encoder_equals_deepmind(path):
    golden = np.load(GOLDEN / "encoder_masked.npz")
    encoder = PerceiverEncoder(
        num_latents=12,
        latent_dim=32,
        num_blocks=2,
        num_self_attends_per_block=3,
        num_cross_attend_heads=1,
        num_self_attend_heads=4,
        attention=path,
        chunk_size=16,
    )
    inputs, mask = jnp.asarray(golden["input_0"]), jnp.asarray(golden["input_1"])
    params = from_haiku(golden)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), inputs, mask)["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    output = jax.jit(encoder.apply)({"params": params}, inputs, mask)
    np.testing.assert_allclose(output, golden["output"], rtol=0, atol=1e-5 * np.abs(golden["output"]).max())
