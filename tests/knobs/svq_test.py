# SPDX-License-Identifier: Apache-2.0
"""No dead knobs: each field of SVQ and of its decoder of image tokens changes what is computed."""

import functools
import re

import jax
import jax.numpy as jnp

from perceiver_jax import registry
from perceiver_jax.config import section, to_dict
from perceiver_jax.data.spec import ArraySpec, Spec

IMAGE = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.uint8)
SPEC = Spec({"image": ArraySpec((8, 8, 3), "uint8")})
PLAIN = {
    **{"num_slots": 2, "slot_dim": 4, "num_iterations": 2, "num_blocks": 2, "mlp_dim": 3},
    **{"feature_dim": 4, "codebook_size": 3, "attention": "chunked"},
}
MODEL = {
    "num_slots": 3,
    "slot_dim": 8,
    "num_iterations": 1,
    "num_blocks": 1,
    "mlp_dim": 5,
    "initializer": "shared_gaussian",
    "gradient": "implicit",
    "attention": "dense",
    "chunk_size": 3,
    "feature_dim": 8,
    "codebook_size": 5,
    "quantize": "soft",
    "commitment_weight": 1.0,
    "continuous_steps": 7,
    "ema_decay": 0.5,
    "dead_below": 0.0,
    "dtype": "bfloat16",
}
TRANSFORMER = {"vocab_size": 5, "vae_channels": 4, "dim": 4, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.1}
TRANSFORMER_CHANGES = {
    "vocab_size": 6,
    "vae_channels": 3,
    "dim": 8,
    "num_layers": 2,
    "num_heads": 1,
    "dropout_rate": 0.2,
    "annealing_steps": 7,
}


def computed(decoder, model):
    """What a step of training computes, as text; nothing is run."""
    encoder = section("encoder", "patches", patch_size=4, num_channels=4, num_layers=1)
    config = to_dict(section("model", "svq", encoder=encoder, decoder=decoder, **PLAIN | model))
    task = registry.build("task", {"name": "svq"}, model=registry.build("model", config, spec=SPEC), spec=SPEC)
    rngs = {name: jax.random.key(1) for name in task.rng_streams}
    batch = {"image": jnp.zeros(IMAGE.shape, IMAGE.dtype), "weight": jnp.ones(2), "id": jnp.arange(2)}
    variables = jax.eval_shape(lambda: task.init(jax.random.key(0), SPEC))

    def step(variables):
        def total(variables):
            loss, aux = task.loss(variables, batch, rngs, train=True)
            return loss.total, aux.sums

        gradients, sums = jax.grad(total, has_aux=True, allow_int=True)(variables)
        return gradients, task.advance(variables, sums, jax.random.key(2))

    return str(variables) + re.sub("0x[0-9a-f]+", "", str(jax.make_jaxpr(step)(variables)))


@functools.cache
def of_model(field=None):
    changed = {field: MODEL[field]} if field else {}
    return computed(section("decoder", "pixels", patch_size=4, num_channels=2, num_layers=1), changed)


@functools.cache
def of_transformer(field=None):
    values = TRANSFORMER | ({field: TRANSFORMER_CHANGES[field]} if field else {})
    return computed(section("decoder", "transformer", **values), {})


def test_each_field_of_the_model():
    assert set(MODEL) == set(registry.find("model", "svq").parameters()) - {"encoder", "decoder"}
    assert [field for field in MODEL if of_model(field) == of_model()] == []


def test_each_field_of_the_decoder_of_tokens():
    assert set(TRANSFORMER_CHANGES) == set(registry.find("decoder", "transformer").parameters())
    assert [field for field in TRANSFORMER_CHANGES if of_transformer(field) == of_transformer()] == []
