# SPDX-License-Identifier: Apache-2.0
"""No dead knobs: each field of the prior over codes and of its task changes what is computed."""

import jax
import jax.numpy as jnp

from perceiver_jax import registry
from perceiver_jax.config import section, to_dict
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError

SPEC = Spec({"codes": ArraySpec((2, 2), "int32")})
PLAIN = {"codebook_size": 3, "dim": 4, "num_layers": 1, "num_heads": 1, "widening_factor": 1}
MODEL = {
    "codebook_size": 5,
    "dim": 8,
    "num_layers": 2,
    "num_heads": 2,
    "widening_factor": 2,
    "dropout_rate": 0.3,
    "dtype": "bfloat16",
}


def autoencoder(feature_dim=4):
    encoder = section("encoder", "patches", patch_size=4, num_channels=4, num_layers=1)
    decoder = section("decoder", "pixels", patch_size=4, num_channels=4, num_layers=1)
    fields = {"num_slots": 2, "num_blocks": 2, "slot_dim": 4, "mlp_dim": 4, "codebook_size": 3, "num_iterations": 1}
    return to_dict(section("model", "svq", encoder=encoder, decoder=decoder, feature_dim=feature_dim, **fields))


def computed(model=None, task=None):
    """What training differentiates and what is generated, as text; nothing is run."""
    values = {"name": "code_prior", "autoencoder": autoencoder(), "image_size": 8} | (task or {})
    prior = registry.build("model", to_dict(section("model", "code_prior", **PLAIN | (model or {}))), spec=SPEC)
    try:
        built = registry.build("task", values, model=prior, spec=SPEC)
    except ConfigError as error:
        return str(error)
    batch = {"codes": jnp.zeros((2, 2, 2), jnp.int32), "weight": jnp.ones(2), "id": jnp.arange(2)}
    rngs = {"dropout": jax.random.key(0)}

    def run(variables):
        return built.loss(variables, batch, rngs, train=True), built.predict(variables, batch, rngs)

    variables = jax.eval_shape(lambda: built.init(jax.random.key(0), SPEC))
    return str(variables) + str(jax.make_jaxpr(run)(variables))


def test_each_field_of_the_model():
    assert set(MODEL) == set(registry.find("model", "code_prior").parameters())
    unchanged = computed()
    assert [field for field, value in MODEL.items() if computed({field: value}) == unchanged] == []


def test_each_field_of_the_task():
    changes = {"autoencoder": autoencoder(feature_dim=5), "image_size": 16}
    assert set(changes) == set(registry.find("task", "code_prior").parameters())
    unchanged = computed()
    assert [field for field, value in changes.items() if computed(task={field: value}) == unchanged] == []
