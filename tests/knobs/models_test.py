# SPDX-License-Identifier: Apache-2.0
"""No dead knobs: each field of each model, adapter and position encoding changes what is computed.

A new one, or a new field, fails until it has a row here.
"""

import functools

import jax
import jax.numpy as jnp
import pytest

from perceiver_jax import registry
from perceiver_jax.config import section, to_dict
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError
from perceiver_jax.training.record import num_parameters

ARRAYS = {"image": ArraySpec((8, 8, 3), "uint8"), "label": ArraySpec((), "int32")}
SPEC = Spec(ARRAYS, tuple("abcdef"), mean=(100.0,) * 3, std=(50.0,) * 3)
ENCODER = {
    "num_latents": 4,
    "latent_dim": 8,
    "num_cross_attends": 2,
    "num_blocks": 2,
    "num_self_attends_per_block": 1,
    "num_self_attend_heads": 2,
    "cross_attend_width": "latents",
}
ENCODER_CHANGES = {
    "num_latents": 5,
    "latent_dim": 16,
    "num_cross_attends": 1,
    "num_blocks": 4,
    "num_self_attends_per_block": 2,
    "num_cross_attend_heads": 2,
    "num_self_attend_heads": 4,
    "cross_attend_widening_factor": 2,
    "self_attend_widening_factor": 2,
    "cross_attend_width": "inputs",
    "share_cross_attends": "all",
    "share_blocks": "none",
    "dropout_rate": 0.1,
    "exact_gelu": True,
    "remat": True,
    "attention": "chunked",
    "chunk_size": 8,
    "dtype": "bfloat16",
}
KERAS = {"num_latents": 4, "latent_dim": 8, "num_heads": 2, "num_blocks": 2, "ffn_units": (8, 8)}
MODELS = {  # name: (values, another value of each field)
    "perceiver": (ENCODER, {"pooling": "latent", "zero_head": True}),  # its encoder is perceiver_io's
    "perceiver_io": (
        ENCODER,
        {
            **ENCODER_CHANGES,
            "num_decode_heads": 2,
            "decode_widening_factor": 2,
            "query_residual": False,
            "query_dim": 6,
        },
    ),
    "keras_perceiver": (
        {**KERAS, "classifier_units": (8,)},
        {
            "num_latents": 5,
            "latent_dim": 16,
            "num_heads": 1,
            "num_blocks": 3,
            "num_iterations": 1,
            "ffn_units": (4, 8),
            "classifier_units": (4, 4),
            "dropout_rate": 0.3,
            "attention_dropout_rate": 0.0,
            "attention": "chunked",
            "dtype": "bfloat16",
        },
    ),
}
ADAPTERS = {
    "image": (
        {"patch_size": 2, "num_channels": 8, "position_channels": 8},
        {"patch_size": 4, "num_channels": 4, "position_channels": 4, "add_positions": True},
    ),
    "convolution": ({"num_channels": 4}, {"num_channels": 5, "num_layers": 2}),
}
POSITIONS = {
    "fourier": (
        {"fourier_bands": 3, "max_resolution": 8.0},
        {"fourier_bands": 4, "max_resolution": 9.0, "include_positions": False},
    ),
    "learned": ({"length": 64, "dim": 3}, {"length": 65, "dim": 4}),
}
OTHER_ADAPTERS = {  # name: (inputs, values, another value of each field)
    "points": (
        jax.ShapeDtypeStruct((2, 64, 4), jnp.float32),
        {},
        {"coordinates_as_features": True, "coordinate_dims": 2},
    ),
    "sequence": (jax.ShapeDtypeStruct((2, 64, 4), jnp.float32), {}, {}),
    "tokens": (
        jax.ShapeDtypeStruct((2, 64), jnp.int32),
        {"vocabulary_size": 6, "embed_dim": 4},
        {"vocabulary_size": 7, "embed_dim": 5},
    ),
}


def parts(kind, name, own=()):
    return set(registry.find(kind, name).parameters()) - set(own)


def model_of(name, adapter="image", fields=None, adapter_fields=None):
    positions = section("positions", "fourier", fourier_bands=3, max_resolution=8.0)
    values, adapter_values = MODELS[name][0] | (fields or {}), ADAPTERS[adapter][0] | (adapter_fields or {})
    if name == "keras_perceiver":
        values["ffn_units"] = (*values["ffn_units"][:-1], values["latent_dim"])
        adapter_values["num_channels"] = adapter_values["position_channels"] = values["latent_dim"]
        adapter_values["add_positions"] = True
    values["adapter"] = section("adapter", adapter, positions=positions, **adapter_values)
    return registry.build("model", to_dict(section("model", name, **values)), spec=SPEC)


IMAGE = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.uint8)


@functools.cache
def shapes_of(model):
    return jax.eval_shape(model.init, jax.random.key(0), IMAGE)


@functools.cache
def forward(model):
    """What training and evaluation compute, as text; nothing is run."""

    def run(variables, rng, image):
        trained = model.apply(variables, image, train=True, rngs={"dropout": rng}, mutable=["batch_stats"])
        return trained, model.apply(variables, image)

    return str(jax.make_jaxpr(run)(shapes_of(model), jax.random.key(0), IMAGE))


@functools.cache
def beginning(model):
    """What initialisation computes, as text."""
    return str(jax.make_jaxpr(model.init)(jax.random.key(0), IMAGE))


def differs(model, plain):
    """The cheapest difference first: shapes of the variables, what is computed, what they begin with."""
    return any(str(of(model)) != str(of(plain)) for of in (shapes_of, forward, beginning))


@pytest.mark.parametrize("name", MODELS)
def test_each_field_of_a_model(name):
    changes = MODELS[name][1]
    assert set(changes) == parts("model", name, ["adapter", *(ENCODER_CHANGES if name == "perceiver" else ())])
    dead = []
    for field, value in changes.items():
        fixed = {"attention": "chunked", "chunk_size": 4} if field == "chunk_size" else {}
        if not differs(model_of(name, fields={**fixed, field: value}), model_of(name, fields=fixed)):
            dead.append(field)
    assert dead == [] and not differs(model_of(name), model_of(name))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_each_field_of_an_adapter(adapter):
    changes = ADAPTERS[adapter][1]
    assert set(changes) == parts("adapter", adapter)
    models = {name: model_of("perceiver", adapter, adapter_fields={name: changes[name]}) for name in changes}
    assert [name for name, model in models.items() if not differs(model, model_of("perceiver", adapter))] == []


def adapted(name, inputs, values, positions="fourier", position_values=None):
    """What an adapter makes of its inputs, as text; or what is wrong with it."""
    values = to_dict(section("adapter", name, **values))
    values["positions"] = section("positions", positions, **(position_values or POSITIONS[positions][0])).to_dict()
    shape, dtype = inputs.shape[1:], inputs.dtype.name
    spec = Spec({"input": ArraySpec(shape, dtype), "label": ArraySpec((), "int32")}, ("a", "b"), max_length=shape[0])
    adapter = registry._adapter(spec, values)
    try:
        return str(jax.make_jaxpr(lambda rng: adapter.init_with_output(rng, jnp.zeros(inputs.shape, dtype)))(KEY))
    except ConfigError as error:
        return str(error)


KEY = jax.random.key(0)


@pytest.mark.parametrize("name", OTHER_ADAPTERS)
def test_each_field_of_another_adapter(name):
    inputs, values, changes = OTHER_ADAPTERS[name]
    assert set(changes) == parts("adapter", name)
    plain = adapted(name, inputs, values)
    assert plain == adapted(name, inputs, values)
    assert [field for field in changes if adapted(name, inputs, {**values, field: changes[field]}) == plain] == []


@pytest.mark.parametrize("name", POSITIONS)
def test_each_field_of_the_positions(name):
    values, changes = POSITIONS[name]
    assert set(changes) == parts("positions", name)
    inputs = OTHER_ADAPTERS["sequence"][0]
    seen = {field: adapted("sequence", inputs, {}, name, {**values, field: changes[field]}) for field in changes}
    plain = adapted("sequence", inputs, {}, name)
    assert [field for field, text in seen.items() if text == plain] == []


ELSEWHERE = {"slot_autoencoder", "set_predictor", "svq", "code_prior"}  # `slots_test`, `svq_test`, `code_prior_test`


def test_each_part_has_a_row():
    assert {*MODELS, *ELSEWHERE} == set(registry.PARTS["model"])
    assert {*ADAPTERS, *OTHER_ADAPTERS} == set(registry.PARTS["adapter"])
    assert set(POSITIONS) == set(registry.PARTS["positions"])


def test_weights_that_are_not_shared_are_more_by_the_exact_number():
    def count(**fields):
        shapes = shapes_of(model_of("perceiver", fields={"num_cross_attends": 3, "num_blocks": 3, **fields}))["params"]
        return num_parameters(shapes), shapes["encoder"]

    shared, encoder = count()
    block, cross = (num_parameters(encoder[name]) for name in ("blocks_0", "cross_attends_1"))
    assert count(share_blocks="none")[0] == shared + 2 * block
    assert count(share_blocks="after_first")[0] == shared + block
    assert count(share_cross_attends="none")[0] == shared + cross
    assert count(share_cross_attends="all")[0] == shared - cross
