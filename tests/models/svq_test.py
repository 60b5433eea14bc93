# SPDX-License-Identifier: Apache-2.0
"""SVQ as a whole, with either decoder: codes say all there is, slots have no order, who feels what."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax import registry
from perceiver_jax.config import section, to_dict
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError
from perceiver_jax.models.transformer import GREEDY

SPEC = Spec({"image": ArraySpec((8, 8, 3), "uint8")})
IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)), jnp.uint8)
DECODERS = {
    "pixels": section("decoder", "pixels", patch_size=4, num_channels=4, num_layers=1),
    "transformer": section("decoder", "transformer", vocab_size=7, vae_channels=4, dim=8, num_layers=1, num_heads=2),
}
RATE = 5e-3
RNGS = {name: jax.random.key(k) for k, name in enumerate(("slots", "dropout", "tokens"))}


def build(decoder, **fields):
    small = {"num_slots": 3, "slot_dim": 8, "num_blocks": 2, "mlp_dim": 4, "feature_dim": 8, "codebook_size": 5}
    encoder = section("encoder", "patches", patch_size=4, num_channels=8, num_layers=1)
    config = section("model", "svq", encoder=encoder, decoder=DECODERS[decoder], **small | fields)
    return registry.build("model", to_dict(config), spec=SPEC)


@pytest.fixture(scope="module", params=DECODERS)
def case(request):
    model = build(request.param)
    return model, jax.jit(model.init)(jax.random.key(0), IMAGES)


@pytest.fixture(scope="module")
def tokens():
    """Of image tokens."""
    model = build("transformer")
    return model, jax.jit(model.init)(jax.random.key(0), IMAGES)


def call(model, variables, method, *arguments):
    return jax.jit(functools.partial(model.apply, method=method))(variables, *arguments)


def test_codes_say_all_that_the_decoder_knows(case):
    model, variables = case
    slots, indices, masks = call(model, variables, "encode", IMAGES)
    again = call(model, variables, "lookup", indices)
    np.testing.assert_array_equal(again, slots)
    decode = jax.jit(lambda slots: model.apply(variables, slots, jax.random.key(1), method="decode"))
    np.testing.assert_array_equal(decode(again), decode(slots))
    assert indices.shape == (2, 3, 2) and indices.dtype == jnp.int32 and decode(slots).shape == (2, 8, 8, 3)
    assert masks.shape == (2, 3, 8, 8, 1)
    np.testing.assert_allclose(masks.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(decode(slots[:, ::-1]), decode(slots), atol=1e-5)


def test_greedy_tokens_are_those_that_the_whole_sequence_makes_likeliest(tokens):
    model, variables = tokens
    part = {name: tree["decoder"] for name, tree in variables.items() if "decoder" in tree}
    slots = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 8)), jnp.float32)

    def logits(module, made):
        return module.logits(module.transformer(module.embed(made), module.context(slots, False)))

    likely, made = jax.jit(functools.partial(model.decoder.apply, method=logits)), jnp.zeros((2, 4), jnp.int32)
    for place in range(4):
        made = made.at[:, place].set(likely(part, made)[:, place].argmax(-1))
    paint = functools.partial(model.decoder.apply, method=lambda module, grid: module.vae.decode_tokens(grid))
    painted = jax.jit(paint)(part, made.reshape(2, 2, 2))
    np.testing.assert_allclose(call(model, variables, "decode", slots, jax.random.key(1)), painted, atol=1e-5)


def test_a_sample_depends_on_its_own_key_alone(tokens):
    model, variables = tokens
    slots = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 8)), jnp.float32)
    keys, other = jax.random.split(jax.random.key(3), (2, 2))
    decode = jax.jit(functools.partial(model.apply, variables, method="decode"))
    both, greedy = decode(slots, keys, 1.0), decode(slots, keys, GREEDY)
    np.testing.assert_allclose(both[1:], decode(slots[1:], keys[1:], 1.0), atol=1e-5)
    np.testing.assert_array_equal(decode(slots, other, GREEDY), greedy)
    for changed in (decode(slots, other, 1.0), greedy):
        assert np.abs(changed - both).max((1, 2, 3)).min() > 1e-3


def losses_and_gradients(model, variables):
    """A function of the parameters, compiled once: VAE and cross-entropy, and the gradient of each."""

    def losses(params):
        parts = model.apply(variables | {"params": params}, IMAGES, train=True, rngs=RNGS).losses
        summed = parts["vae"].sum(), parts["cross_entropy"].sum()
        return summed, summed

    return jax.jit(jax.jacrev(losses, has_aux=True))


@pytest.fixture(scope="module")
def training(tokens):
    """What training the decoder of image tokens computes."""
    return losses_and_gradients(*tokens)


def test_the_decoder_of_tokens_learns(tokens, training):
    """Both of its losses fall on two images, the noise always the same."""
    step = jax.jit(lambda params, a, b: jax.tree.map(lambda p, x, y: p - RATE * (x + y), params, a, b))
    params, seen = tokens[1]["params"], []
    for _ in range(30):
        grads, losses = training(params)
        seen.append(losses)
        params = step(params, *grads)
    vae, cross_entropy = np.asarray(seen).T
    assert vae[-1] < 0.97 * vae[0] and cross_entropy[-1] < 0.8 * cross_entropy[0]


def test_the_vae_feels_nothing_of_the_transformer_and_the_slots_nothing_of_the_vae(tokens, training):
    grads, _ = training(tokens[1]["params"])
    felt = []
    for part in grads:
        vae = part["decoder"].pop("vae")
        felt.append([any(bool(leaf.any()) for leaf in jax.tree.leaves(tree)) for tree in (vae, part, part["encoder"])])
    assert felt == [[True, False, False], [False, True, True]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_blocks": 3}, "num_blocks=3 does not divide slot_dim=8"),
        ({"quantize": "x"}, "expected one of vq, soft"),
        ({"ema_decay": 1.0}, "ema_decay=1.0"),
    ],
)
def test_wrong_fields_are_named(fields, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(build("pixels", **fields).init, jax.random.key(0), IMAGES)
