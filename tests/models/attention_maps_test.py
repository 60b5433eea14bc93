# SPDX-License-Identifier: Apache-2.0
"""The maps are those that a forward pass by hand has; rows sum to 1, padding gets 0, the logits are the model's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from perceiver_jax.models.adapters import PointAdapter
from perceiver_jax.models.attention_maps import attention_maps
from perceiver_jax.models.decoders import PerceiverIO, QueryDecoder
from perceiver_jax.models.image_adapters import ImageAdapter
from perceiver_jax.models.keras_perceiver import KerasPerceiver
from perceiver_jax.models.perceiver import Perceiver, PerceiverEncoder
from perceiver_jax.models.positions import FourierPositions, LearnedPositions

BATCH, LENGTH = 2, 11
MASK = np.arange(LENGTH) < np.array([[LENGTH], [4]])
FIELDS = dict(num_self_attends_per_block=2, num_self_attend_heads=2, num_cross_attend_heads=2)
FIELDS |= dict(cross_attend_width="latents", num_cross_attends=2, num_blocks=4, share_blocks="after_first")


@functools.cache
def perceiver(kind=Perceiver, **fields):
    adapter = PointAdapter(FourierPositions(2, 4.0, parent=None), parent=None)
    encoder = PerceiverEncoder(3, 8, **(FIELDS | fields), parent=None)
    more = {"decoder": QueryDecoder(parent=None)} if kind is PerceiverIO else {}
    model = kind(adapter=adapter, encoder=encoder, num_classes=5, **more)
    points = np.random.default_rng(0).normal(size=(BATCH, LENGTH, 3)).astype(np.float32)
    return model, random_variables(model, points), points


def random_variables(model, inputs):
    """Of the model's shapes; nothing is compiled."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(inputs))
    return jax.tree.map(lambda x: rng.normal(0, 0.4, x.shape).astype(np.float32), shapes)


def standard(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def norm(p, x):
    return standard(x) * p["scale"] + p["bias"]


def linear(p, x):
    return x @ p["kernel"] + p["bias"]


def heads(x, number=2):
    return x.reshape(*x.shape[:-1], number, -1)


def softmax(query, key, mask):
    scores = np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1])
    powers = np.exp(scores - scores.max(-1, keepdims=True)) * mask[:, None, None]
    return powers / powers.sum(-1, keepdims=True)


def mlp(p, x):
    hidden = linear(p["hidden"], x)
    return linear(p["out"], 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3))))


def by_hand(model, variables, points):
    """The weights of every attention, from parameters and plain NumPy, in the order of computation."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"]["encoder"])
    inputs = standard(np.asarray(model.bind(variables).adapter(jnp.asarray(points)), np.float64))
    latents = np.broadcast_to(p["latents"], (BATCH, *p["latents"].shape))
    cross, latent = [], []
    for stage, blocks in enumerate([(0, 1), (1, 1)]):  # later crosses and blocks are shared, the first are their own
        c = p[f"cross_attends_{stage}"]
        data = inputs * c["inputs"]["norm"]["scale"] + c["inputs"]["norm"]["bias"]
        query = heads(linear(c["attention"]["query"], norm(c["norm"], latents)))
        cross.append(softmax(query, heads(linear(c["inputs"]["key"], data)), MASK))
        mixed = np.einsum("bhqk,bkhd->bqhd", cross[-1], heads(linear(c["inputs"]["value"], data)))
        latents = latents + linear(c["attention"]["out"], mixed.reshape(latents.shape))
        latents = latents + mlp(c["mlp"], norm(c["mlp_norm"], latents))
        for block, layer in ((block, layer) for block in blocks for layer in range(2)):
            s = jax.tree.map(lambda x, layer=layer: x[layer], p[f"blocks_{block}"]["layers"])
            normed, a = norm(s["norm"], latents), s["attention"]
            query, key, value = (heads(linear(a[name], normed)) for name in ("query", "key", "value"))
            latent.append(softmax(query, key, np.ones((BATCH, 3))))
            mixed = np.einsum("bhqk,bkhd->bqhd", latent[-1], value).reshape(latents.shape)
            latents = latents + linear(a["out"], mixed)
            latents = latents + mlp(s["mlp"], norm(s["mlp_norm"], latents))
    return np.stack(cross, 1), np.stack(latent, 1)


def test_maps_are_those_of_a_forward_pass_by_hand_in_its_order():
    model, variables, points = perceiver()
    found = attention_maps(model)(variables, points, MASK)
    cross, latent = by_hand(model, variables, points)
    np.testing.assert_allclose(found.cross, cross, atol=2e-6)
    np.testing.assert_allclose(found.latent, latent, atol=2e-6)
    assert found.latent_stage.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert np.abs(np.diff(latent, axis=1)).max(axis=(0, 2, 3, 4)).min() > 1e-3  # no two layers could be confused


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Perceiver, dict(num_cross_attends=5, num_blocks=5, remat=True, attention="chunked", chunk_size=4)),
        (PerceiverIO, dict(num_cross_attends=1, num_blocks=2)),
    ],
)
def test_rows_sum_to_one_padding_gets_nothing_and_the_logits_are_the_models(kind, fields):
    model, variables, points = perceiver(kind, num_self_attends_per_block=1, share_blocks="all", **fields)
    found = attention_maps(model)(variables, points, MASK)
    np.testing.assert_allclose(found.logits, jax.jit(model.apply)(variables, points, jnp.asarray(MASK)), atol=2e-5)
    np.testing.assert_allclose(np.sum(found.cross, -1), 1, atol=1e-5)
    np.testing.assert_allclose(np.sum(found.latent, -1), 1, atol=1e-5)
    assert not np.moveaxis(np.asarray(found.cross), -1, 1)[~MASK].any()
    assert found.cross.shape[1] == fields["num_cross_attends"]


def test_keras_perceiver():
    adapter = ImageAdapter(
        LearnedPositions(4, 8, parent=None), patch_size=4, num_channels=8, add_positions=True, parent=None
    )
    model = KerasPerceiver(
        adapter, 5, num_latents=3, latent_dim=8, num_heads=2, num_blocks=2, ffn_units=(8,), classifier_units=(8,)
    )
    images = np.random.default_rng(0).normal(size=(BATCH, 8, 8, 3)).astype(np.float32)
    variables = random_variables(model, images)
    found = attention_maps(model)(variables, images)
    np.testing.assert_allclose(found.logits, jax.jit(model.apply)(variables, images), atol=1e-5)
    assert (found.cross.shape, found.latent.shape) == ((BATCH, 2, 1, 3, 4), (BATCH, 4, 2, 3, 3))
    np.testing.assert_allclose(np.sum(found.cross, -1), 1, atol=1e-5)


def test_the_ordinary_forward_pass_computes_and_initialises_nothing_for_it():
    model, variables, points = perceiver()
    assert set(variables) == {"params"}
    text = str(jax.make_jaxpr(model.apply)(variables, points, jnp.asarray(MASK)))
    sown = str(jax.make_jaxpr(lambda v, x: model.apply(v, x, mutable=["intermediates"]))(variables, points))
    assert 0 < text.count("dot_general") < sown.count("dot_general")


def test_a_model_without_attention_has_none():
    assert attention_maps(nn.Dense(3)) is None
