# SPDX-License-Identifier: Apache-2.0
"""Encoder and image models equal published implementations on stored weights (tests/golden/README.md)."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.models.broadcast_decoders import ConvolutionDecoder
from perceiver_jax.models.decoders import PerceiverIO, QueryDecoder
from perceiver_jax.models.image_adapters import ConvolutionAdapter, ImageAdapter
from perceiver_jax.models.keras_perceiver import KerasPerceiver
from perceiver_jax.models.perceiver import PerceiverEncoder
from perceiver_jax.models.positions import FourierPositions, LearnedPositions
from perceiver_jax.models.slot_attention import SlotAttention
from perceiver_jax.models.slot_autoencoder import ConvolutionEncoder, SlotAutoencoder

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


def google_layers(golden):
    """`layer(index)`: the arrays of the layer whose first array has this index, under our names."""
    names = sorted(name for name in golden.files if name.startswith("weights/"))
    ours = {"gamma:0": "scale", "beta:0": "bias", "kernel:0": "kernel", "bias:0": "bias"}

    def layer(index):
        scope = names[index].split("/")[2:-1]
        own = [name for name in names[index : index + 2] if name.split("/")[2:-1] == scope]
        return {ours[name.rpartition("/")[2]]: golden[name] for name in own if name.rpartition("/")[2] in ours}

    return names, layer


def slot_attention_from_google(golden, first):
    """Parameters of `SlotAttention` from 18 arrays, the first of which is the mean of the first slots."""
    names, layer = google_layers(golden)
    kernel, recurrent, bias = (golden[names[first + i]] for i in (11, 12, 13))
    return {
        "first": {"mean": golden[names[first]], "log_deviation": golden[names[first + 1]]},
        "input_norm": layer(first + 2),
        "key": {"kernel": golden[names[first + 9]]},
        "value": {"kernel": golden[names[first + 10]]},
        "update": {
            "norm": layer(first + 4),
            "query": {"kernel": golden[names[first + 8]]},
            "gru": {
                "inputs": {"kernel": kernel, "bias": bias[0]},
                "state": {"kernel": recurrent, "bias": bias[1]},
            },
            "mlp_norm": layer(first + 6),
            "mlp_hidden": layer(first + 14),
            "mlp_out": layer(first + 16),
        },
    }


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def test_slot_attention_equals_google():
    golden = np.load(GOLDEN / "slot_attention.npz")
    module = SlotAttention(num_slots=4, slot_dim=16, mlp_dim=32)
    params = slot_attention_from_google(golden, 0)
    inputs, noise = jnp.asarray(golden["input"]), jnp.asarray(golden["noise"])
    expected = jax.eval_shape(lambda: module.init(jax.random.key(0), inputs, noise=noise))["params"]
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, expected)
    slots, _ = jax.jit(module.apply)({"params": params}, inputs, noise=noise)
    close(slots, golden["output_slots"])


def test_the_slot_autoencoder_equals_google():
    golden = np.load(GOLDEN / "slot_autoencoder_64.npz")
    _, layer = google_layers(golden)
    model = SlotAutoencoder(ConvolutionEncoder(), SlotAttention(), ConvolutionDecoder(64, (2, 2, 2, 1)))
    params = {
        "encoder": {f"layer_{i}": layer(2 * i) for i in range(4)},
        "decoder": {f"layer_{i}": layer(8 + 2 * i) for i in range(4)}
        | {"out": layer(16), "positions": {"project": layer(20)}},
        "positions": {"project": layer(18)},
        "norm": layer(22),
        "mlp_hidden": layer(24),
        "mlp_out": layer(26),
        "slot_attention": slot_attention_from_google(golden, 28),
    }
    images = jnp.asarray((golden["input"] + 1) * np.float32(127.5))
    out = jax.jit(model.apply)({"params": params}, images, noise=jnp.asarray(golden["noise"]))
    close(out.slots, golden["output_slots"])
    close(out.recons, golden["output_recons"])
    close(out.masks, golden["output_masks"])
    close(out.image, golden["output_recon"])
