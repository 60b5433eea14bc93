# SPDX-License-Identifier: Apache-2.0
"""Encoder and image models equal published implementations on stored weights (tests/golden/README.md)."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.models.decoders import PerceiverIO, QueryDecoder
from perceiver_jax.models.image_adapters import ConvolutionAdapter, ImageAdapter
from perceiver_jax.models.keras_perceiver import KerasPerceiver
from perceiver_jax.models.perceiver import PerceiverEncoder
from perceiver_jax.models.positions import FourierPositions, LearnedPositions

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


def assert_equal_output(model, params, golden, *inputs, **collections):
    """Shapes of all parameters, then the output to 1e-5 of its largest value."""
    variables = {"params": params, **collections}
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    output = jax.jit(model.apply)(variables, *inputs)
    np.testing.assert_allclose(output, golden["output"], rtol=0, atol=1e-5 * np.abs(golden["output"]).max())


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
    assert_equal_output(encoder, from_haiku(golden), golden, inputs, mask)


DECODER = "params/classification_decoder/~/basic_decoder"
PREPROCESSOR = "params/image_preprocessor/~"
ADAPTERS = {
    "fourier": ImageAdapter(FourierPositions(4, 8.0)),
    "learned": ImageAdapter(LearnedPositions(64, 16), num_channels=16, position_channels=16),
    "conv": ConvolutionAdapter(FourierPositions(4, 8.0), num_channels=16),
}


def adapter_from_haiku(weights, name):
    """(parameters, batch statistics) of the image preprocessor."""
    if name == "fourier":
        return {}, {}
    if name == "learned":
        project = dense(weights, f"{PREPROCESSOR}/conv2_d")
        scope = f"{PREPROCESSOR}/_build_network_inputs".replace("~/_", "~_")
        table = weights[f"{scope}/trainable_position_encoding/pos_embs"]
        return {
            "positions": {"table": table},
            "project": project | {"kernel": project["kernel"][0, 0]},
            "project_positions": dense(weights, f"{scope}/position_encoding_projector/linear"),
        }, {}
    scope = f"{PREPROCESSOR}/conv2_d_downsample/~"
    state = "state/image_preprocessor/~/conv2_d_downsample/~/batchnorm/~/{}_ema/average"
    return {
        "convolution_0": {"kernel": weights[f"{scope}/conv/w"]},
        "norm_0": jax.tree.map(jnp.ravel, norm(weights, f"{scope}/batchnorm")),
    }, {"batch_stats": {"adapter": {"norm_0": {k: weights[state.format(k)].ravel() for k in ("mean", "var")}}}}


@pytest.mark.parametrize("name", ADAPTERS)
def test_image_models_equal_deepmind(name):
    golden = np.load(GOLDEN / f"image_{name}.npz")
    encoder = PerceiverEncoder(
        num_latents=12, latent_dim=32, num_blocks=2, num_self_attends_per_block=3, num_self_attend_heads=4
    )
    decoder = QueryDecoder(query_residual=name != "learned")
    model = PerceiverIO(ADAPTERS[name], encoder, decoder, num_classes=7)
    adapter, collections = adapter_from_haiku(golden, name)
    params = {
        "encoder": from_haiku(golden),
        "decoder": {"cross_attend": cross_attend(golden, f"{DECODER}/cross_attention")},
        "query": golden[f"{DECODER}/~/trainable_position_encoding/pos_embs"],
        "head": dense(golden, f"{DECODER}/output"),
    }
    params |= {"adapter": adapter} if adapter else {}
    assert_equal_output(model, params, golden, jnp.asarray(golden["input_0"]), **collections)


def keras_layers(golden):
    """Kernel and bias, or scale and bias, of every layer in the order of their creation; `scale` is a number."""
    names = sorted(name for name in golden.files if name.startswith("weights/"))
    values = {name.partition("perceiver/")[2]: golden[name] for name in names}

    def layer(name):
        own = {key.rpartition("/")[2]: value for key, value in values.items() if key.rpartition("/")[0] == name}
        return {{"gamma": "scale", "beta": "bias"}.get(key, key): value for key, value in own.items()}

    return values, layer


def from_keras(golden):
    values, layer = keras_layers(golden)

    def ffn(name, first):
        return {f"dense_{i}": layer(f"{name}/dense_{first + i}") for i in range(2)}

    def block(index):
        suffix = f"_{index}" if index else ""
        attention = f"multi_head_attention{suffix}"
        parts = [layer(f"{attention}/{name}") for name in ("query", "key", "value")]
        out = layer(f"{attention}/attention_output")
        return {
            "norm": layer(f"layer_normalization_{3 + 2 * index}"),
            "query_key_value": {
                "kernel": np.concatenate([part["kernel"].reshape(8, -1) for part in parts], 1),
                "bias": np.concatenate([part["bias"].ravel() for part in parts]),
            },
            "out": out | {"kernel": out["kernel"].reshape(-1, 8)},
            "ffn_norm": layer(f"layer_normalization_{4 + 2 * index}"),
            "ffn": ffn(f"sequential_{1 + index}", 6 + 2 * index),
        }

    return {
        "latents": values["variable"],
        "adapter": {
            "project": layer("patch_encoder/dense"),
            "positions": {"table": values["patch_encoder/embedding/embeddings"]},
        },
        "cross_attend": {
            "norm": layer("layer_normalization"),
            "data_norm": layer("layer_normalization_1"),
            **{name: layer(f"dense_{i}") for i, name in enumerate(("query", "value", "key"), 1)},
            "scale": values["attention/scale"],
            "ffn_norm": layer("layer_normalization_2"),
            "ffn": ffn("sequential", 4),
        },
        "layers": jax.tree.map(lambda *leaves: np.stack(leaves), block(0), block(1)),
        "classifier": ffn("sequential_3", 10),
    }


def test_keras_perceiver_equals_keras():
    golden = np.load(GOLDEN / "keras_cifar100.npz")
    adapter = ImageAdapter(LearnedPositions(16, 8), patch_size=2, num_channels=8, add_positions=True)
    model = KerasPerceiver(
        adapter,
        num_classes=5,
        num_latents=6,
        latent_dim=8,
        num_heads=2,
        num_blocks=2,
        num_iterations=2,
        ffn_units=(8, 8),
        classifier_units=(8,),
    )
    patches = golden["input"].reshape(2, 4, 4, 2, 2, 3)
    images = patches.transpose(0, 1, 3, 2, 4, 5).reshape(2, 8, 8, 3)
    assert_equal_output(model, from_keras(golden), golden, jnp.asarray(images))
