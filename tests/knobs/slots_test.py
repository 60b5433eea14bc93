# SPDX-License-Identifier: Apache-2.0
"""No dead knobs: each field of the models with slots, their encoders and decoders changes what is computed."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest

from perceiver_jax import registry
from perceiver_jax.config import section, to_dict
from perceiver_jax.data.spec import ArraySpec, Spec

IMAGE = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.uint8)
SPEC = Spec({"image": ArraySpec((8, 8, 3), "uint8"), "properties": ArraySpec((2, 3), "float32")})
PLAIN = {
    "model": {
        "num_slots": 2,
        "slot_dim": 4,
        "mlp_dim": 4,
        "feature_dim": 4,
        "num_iterations": 2,
        "attention": "chunked",
    },
    "encoder": {"name": "patches", "patch_size": 4, "num_channels": 4},
    "decoder": {"name": "pixels", "patch_size": 4, "num_channels": 4},
}
MODEL = {
    "num_slots": 3,
    "slot_dim": 8,
    "num_iterations": 1,
    "mlp_dim": 8,
    "initializer": "learned",
    "gradient": "implicit",
    "attention": "dense",
    "chunk_size": 3,
    "feature_dim": 8,
    "dtype": "bfloat16",
}
PARTS = {  # (kind, name): (values, another value of each field)
    ("encoder", "convolutions"): (
        {"num_channels": 4, "strides": (2, 2)},
        {"num_channels": 5, "strides": (1, 2)},
    ),
    ("encoder", "patches"): (
        {"patch_size": 4, "num_channels": 4},
        {"patch_size": 2, "context": 1, "num_channels": 5, "num_layers": 1},
    ),
    ("decoder", "convolutions"): (
        {"num_channels": 4, "strides": (2, 2)},
        {"num_channels": 5, "strides": (1, 2)},
    ),
    ("decoder", "pixels"): (
        {"patch_size": 4, "num_channels": 4},
        {"patch_size": 2, "fourier_bands": 2, "num_channels": 5, "num_layers": 2},
    ),
}


@functools.cache
def plain(kind):
    values = dict(PLAIN[kind])
    return section(kind, values.pop("name"), **values)


MODELS = {  # name: (kinds of its parts, another value of each field, what is looked at)
    "slot_autoencoder": (("encoder", "decoder"), MODEL, "image"),
    "set_predictor": (("encoder",), MODEL | {"head_dim": 8}, "properties"),
}


def computed(model=None, name="slot_autoencoder", **parts):
    """What training differentiates, as text; nothing is run."""
    kinds, _, output = MODELS[name]
    parts = {kind: plain(kind) for kind in kinds} | parts
    config = to_dict(section("model", name, **PLAIN["model"] | (model or {}), **parts))
    built = registry.build("model", config, spec=SPEC)
    rngs = {"params": jax.random.key(0), "slots": jax.random.key(1)}
    variables = jax.eval_shape(built.init, rngs, IMAGE)

    def loss(variables, image):
        return built.apply(variables, image, rngs={"slots": jax.random.key(1)})._asdict()[output].sum()

    return str(variables) + re.sub("0x[0-9a-f]+", "", str(jax.make_jaxpr(jax.grad(loss))(variables, IMAGE)))


@pytest.mark.parametrize("name", MODELS)
def test_each_field_of_a_model(name):
    kinds, changes, _ = MODELS[name]
    assert set(changes) == set(registry.find("model", name).parameters()) - set(kinds)
    unchanged = computed(name=name)
    assert unchanged == computed(name=name)
    assert [field for field, value in changes.items() if computed({field: value}, name) == unchanged] == []


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_each_field_of_a_part(kind, name):
    values, changes = PARTS[kind, name]
    assert set(changes) == set(registry.find(kind, name).parameters())
    unchanged = computed(**{kind: section(kind, name, **values)})
    changed = {field: computed(**{kind: section(kind, name, **values | {field: changes[field]})}) for field in changes}
    assert [field for field, text in changed.items() if text == unchanged] == []


def test_each_part_has_a_row():
    """The decoder of image tokens: `svq_test`."""
    assert set(PARTS) | {("decoder", "transformer")} == {
        (kind, name) for kind in ("encoder", "decoder") for name in registry.PARTS[kind]
    }
