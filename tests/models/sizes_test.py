# SPDX-License-Identifier: Apache-2.0
"""The sequence models: their sizes and shapes, free fields, and logits that do not depend on padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from perceiver_jax import models
from perceiver_jax.errors import ConfigError
from perceiver_jax.models.adapters import TokenAdapter
from perceiver_jax.models.perceiver import Perceiver, PerceiverEncoder
from perceiver_jax.models.positions import FourierPositions

TINY = {"num_latents": 8, "latent_dim": 32, "num_self_attends_per_block": 1}
PARAMETERS = {"small": 1_520_780, "base": 10_724_492, "large": 33_707_790}
SHAPES = {"small": (128, 256), "base": (256, 512), "large": (512, 768)}


def shapes(model, *inputs):
    return jax.eval_shape(lambda *x: model.init_with_output(jax.random.key(0), *x), *inputs)


def count(variables):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_sequences_to_logits(size):
    model = models.build(size, input_dim=32, num_classes=10)
    logits, variables = shapes(model, jnp.zeros((4, 100, 32)))
    assert logits.shape == (4, 10) and count(variables) == PARAMETERS[size]
    assert variables["params"]["encoder"]["latents"].shape == SHAPES[size]


def parameters(num_latents, dim, crosses, layers, channels=32 + 1 + 2 * 16, num_classes=10):
    """By hand: a product has a bias, a norm scale and bias; a cross-attend has three norms, a layer two."""
    product, norm = dim * dim + dim, 2 * dim
    cross = 4 * product + 2 * (channels + 1) * dim + 2 * channels + 2 * norm
    return num_latents * dim + crosses * cross + layers * (6 * product + 2 * norm) + (dim + 1) * num_classes


def test_their_parameters_by_hand():
    layers = {"small": (1, 3), "base": (1, 6), "large": (2, 8)}
    assert {size: parameters(*SHAPES[size], *layers[size]) for size in SHAPES} == PARAMETERS


def test_free_fields():
    fields = {"latent_dim": 512, "num_self_attend_heads": 8, "num_latents": 512, "pooling": "latent"}
    layers = {"num_cross_attends": 2, "num_blocks": 2, "num_self_attends_per_block": 4}
    model = models.build("base", input_dim=128, num_classes=1000, **fields, **layers)
    logits, variables = shapes(model, jnp.zeros((1, 20, 128)))
    assert logits.shape == (1, 1000) and model.pooling == "latent"
    encoder = variables["params"]["encoder"]
    assert encoder["latents"].shape == (512, 512)
    assert len([name for name in encoder if name.startswith("cross_attends")]) == 2


def test_latents_do_not_grow_with_the_input():
    model = models.build("small", input_dim=8, num_classes=2, **TINY)
    one, other = (shapes(model, jnp.zeros((1, length, 8)))[1] for length in (50, 500))
    assert jax.tree.map(jnp.shape, one) == jax.tree.map(jnp.shape, other)


def test_what_is_refused():
    with pytest.raises(ConfigError, match="size='huge' is unknown: expected one of small, base, large"):
        models.build("huge", input_dim=8, num_classes=2)
    with pytest.raises(ConfigError, match="latent_dims: no field"):
        models.build("base", input_dim=8, num_classes=2, latent_dims=3)
    with pytest.raises(ConfigError, match=r"expected \(batch, length, 8\)"):
        shapes(models.build("small", input_dim=8, num_classes=2, **TINY), jnp.zeros((1, 10, 9)))


def tokens_model(**fields):
    adapter = TokenAdapter(FourierPositions(4, 64.0), max_length=64, vocabulary_size=262, embed_dim=16)
    encoder = PerceiverEncoder(**TINY, cross_attend_width="latents", parent=None, **fields)
    return Perceiver(adapter=adapter, encoder=encoder, num_classes=5)


def sequence_model(**fields):
    return models.build("small", input_dim=6, num_classes=5, max_length=64, **TINY, **fields)


@pytest.mark.parametrize(
    ("build", "array", "path", "dtype", "tolerance"),
    [
        (sequence_model, "float32", "dense", jnp.float32, 1e-5),
        (sequence_model, "float32", "chunked", jnp.float32, 1e-5),
        (sequence_model, "float32", "dense", jnp.bfloat16, 2.0**-6),
        (sequence_model, "float32", "chunked", jnp.bfloat16, 2.0**-6),
        (tokens_model, "int32", "dense", jnp.float32, 1e-5),
    ],
)
def test_logits_do_not_depend_on_padding(build, array, path, dtype, tolerance):
    """Nor on what stands in the padding; 25 is no multiple of the chunk, and 64 has chunks of padding alone."""
    model: nn.Module = build(attention=path, chunk_size=8, dtype=dtype)
    random = np.random.default_rng(0)
    whole = random.normal(size=(3, 64, 6)) if array == "float32" else random.integers(6, 262, (3, 64))
    whole, mask = jnp.asarray(whole, array), jnp.arange(64) < jnp.array([7, 25, 16])[:, None]

    @jax.jit
    def logits(whole, mask):
        variables = model.init(jax.random.key(1), whole)
        short, long = (model.apply(variables, whole[:, :n], mask[:, :n]) for n in (25, 64))
        return short, long, model.apply(variables, whole[:1, :7]), model.apply(variables, whole)

    short, long, alone, unmasked = logits(whole, mask)
    largest = float(jnp.abs(short).max())
    np.testing.assert_allclose(long, short, rtol=0, atol=tolerance * largest)
    np.testing.assert_allclose(alone, short[:1], rtol=0, atol=tolerance * largest)
    assert float(jnp.abs(unmasked - long).max()) > 0.01 * largest  # the mask matters
