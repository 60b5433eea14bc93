# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.attention import attend, attention_weights
from perceiver_jax.models.slot_attention import GRADIENTS, INITIALIZERS, HeldInputs, SlotAttention, StreamedInputs

SMALL = {"num_slots": 4, "slot_dim": 8, "mlp_dim": 16}


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.normal(size=(2, 10, 6)), jnp.float32)
    noise = jnp.asarray(rng.normal(size=(2, 4, 8)), jnp.float32)
    module = SlotAttention(**SMALL)
    return module, module.init(jax.random.key(0), inputs, noise=noise), inputs, noise


def test_queries_compete_for_keys():
    rng = np.random.default_rng(1)
    query, key, value = (jnp.asarray(rng.normal(size=(2, n, 1, 5)), jnp.float32) for n in (3, 7, 7))
    shares = np.asarray(attention_weights(query, key, over="queries"))[:, 0]
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
    scores = np.exp(np.einsum("bqd,bkd->bqk", query[:, :, 0], key[:, :, 0]) / np.sqrt(5))
    expected = scores / scores.sum(1, keepdims=True)
    np.testing.assert_allclose(shares, expected, rtol=1e-5)
    weights = expected / expected.sum(2, keepdims=True)
    attended = attend(query, key, value, over="queries")[:, :, 0]
    np.testing.assert_allclose(attended, weights @ value[:, :, 0], rtol=1e-5, atol=1e-6)


def test_masked_keys_are_left_out_and_without_any_the_result_is_zero():
    rng = np.random.default_rng(2)
    query, key, value = (jnp.asarray(rng.normal(size=(2, n, 1, 5)), jnp.float32) for n in (3, 7, 7))
    mask = jnp.arange(7) < jnp.array([[4], [0]])
    masked = attend(query, key, value, mask, over="queries")
    np.testing.assert_allclose(masked[0], attend(query, key[:, :4], value[:, :4], over="queries")[0], rtol=1e-6)
    assert not masked[1].any()
    gradient = jax.grad(lambda value: attend(query, key, value, mask, over="queries").sum())(value)
    assert np.isfinite(gradient).all() and not gradient[1].any()


def test_slots_follow_the_order_of_their_noise_and_not_that_of_the_inputs(case):
    module, variables, inputs, noise = case
    slots, maps = module.apply(variables, inputs, noise=noise)
    assert slots.shape == (2, 4, 8) and maps.shape == (2, 3, 4, 10)
    np.testing.assert_allclose(maps.sum(2), 1, rtol=1e-5)
    order, places = np.array([2, 0, 3, 1]), np.random.default_rng(0).permutation(10)
    turned, turned_maps = module.apply(variables, inputs, noise=noise[:, order])
    np.testing.assert_allclose(turned, slots[:, order], atol=1e-5)
    np.testing.assert_allclose(turned_maps, maps[:, :, order], atol=1e-5)
    moved, moved_maps = module.apply(variables, inputs[:, places], noise=noise)
    np.testing.assert_allclose(moved, slots, atol=1e-5)
    np.testing.assert_allclose(moved_maps, maps[..., places], atol=1e-5)


def test_slots_and_iterations_can_change_with_the_same_weights(case):
    module, variables, inputs, _ = case
    slots, maps = module.apply(variables, inputs, num_slots=7, num_iterations=5, rngs={"slots": jax.random.key(1)})
    assert slots.shape == (2, 7, 8) and maps.shape == (2, 5, 7, 10)
    learned = SlotAttention(**SMALL, initializer="learned")
    variables = learned.init(jax.random.key(0), inputs)
    with pytest.raises(ConfigError, match="num_slots=7: the model has 4 slots of their own"):
        learned.apply(variables, inputs, num_slots=7)


@pytest.mark.parametrize(("name", "first"), [*zip(INITIALIZERS, (16, 64, 32, 40), strict=True)])
def test_initializers_have_their_parameters_and_noise(case, name, first):
    inputs, keys = case[2], [{"slots": jax.random.key(i)} for i in (1, 2)]
    module = SlotAttention(**SMALL, initializer=name)
    variables = module.init({"params": jax.random.key(0), "slots": jax.random.key(0)}, inputs)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"]["first"])) == first
    a, b = (module.apply(variables, inputs, rngs=rngs).slots for rngs in keys)
    assert np.array_equal(a, b) == (name == "learned")


def test_gradients_through_the_last_iteration_alone(case):
    """The implicit gradient is that of one iteration from fixed slots; bi-level adds that of the first slots."""
    _, variables, inputs, noise = case

    def gradient(**fields):
        module = SlotAttention(**SMALL, **fields)
        return jax.grad(lambda v: (module.apply(v, inputs, noise=noise).slots ** 2).sum())(variables)["params"]

    outputs = [SlotAttention(**SMALL, gradient=name).apply(variables, inputs, noise=noise).slots for name in GRADIENTS]
    assert all(np.array_equal(outputs[0], other) for other in outputs[1:])
    full, implicit, bilevel = (gradient(gradient=name) for name in GRADIENTS)
    assert not implicit["first"]["mean"].any() and full["first"]["mean"].any() and bilevel["first"]["mean"].any()
    for name in ("update", "key", "value"):
        for a, b in zip(jax.tree.leaves(implicit[name]), jax.tree.leaves(bilevel[name]), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    once = [gradient(gradient=name, num_iterations=1)["update"] for name in ("full", "implicit")]
    for a, b in zip(*map(jax.tree.leaves, once), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_implicit_gradient_is_that_of_the_last_step_alone(case):
    """First-order: the step is taken apart from the module, from slots that were computed before and are given."""
    module, variables, inputs, noise = case
    before = module.apply(variables, inputs, noise=noise, num_iterations=2).slots

    def last_step(module, inputs, slots):
        return module.update(slots, module.project(inputs))[0]

    def through(slots_of):
        return jax.jit(jax.grad(lambda variables: (slots_of(variables) ** 2).sum()))(variables)["params"]

    implicit = SlotAttention(**SMALL, gradient="implicit")
    found = through(lambda variables: implicit.apply(variables, inputs, noise=noise).slots)
    alone = through(lambda variables: module.apply(variables, inputs, before, method=last_step))
    for name in ("input_norm", "key", "value", "update"):
        for a, b in zip(jax.tree.leaves(found[name]), jax.tree.leaves(alone[name]), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4)
    full = through(lambda variables: module.apply(variables, inputs, noise=noise).slots)
    assert not np.allclose(full["key"]["kernel"], alone["key"]["kernel"], atol=1e-2)


def moved(variables):
    """The parameters a little away from where they begin, where the norm's offset is zero."""
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    noisy = [leaf + 0.2 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


@pytest.mark.parametrize("slot_dim", [8, 5])  # with 5, fewer than the channels, keys and values are held
@pytest.mark.parametrize("gradient", ["full", "bilevel"])
def test_long_inputs_are_grouped_alike(case, gradient, slot_dim):
    """Values, maps and gradients, also those of the inputs, of the dense and the chunked path."""
    inputs, noise = case[2], case[3][..., :slot_dim]
    fields = SMALL | {"slot_dim": slot_dim, "gradient": gradient}
    dense, chunked = (SlotAttention(**fields, attention=path, chunk_size=4) for path in ("dense", "chunked"))
    variables = moved(dense.init(jax.random.key(0), inputs, noise=noise))

    def run(module):
        def loss(variables, inputs):
            slots, maps = module.apply(variables, inputs, noise=noise)
            return (slots**2).sum() + (maps**2).sum(), (slots, maps)

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(variables, inputs)

    kinds = [type(module.bind(variables).project(inputs)) for module in (dense, chunked)]
    assert kinds == [HeldInputs, StreamedInputs if slot_dim == 8 else HeldInputs]
    for one, other in zip(*map(jax.tree.leaves, (run(dense), run(chunked))), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("slot_dim", "kind"), [(8, StreamedInputs), (5, HeldInputs)])
def test_padding_changes_nothing(case, slot_dim, kind):
    """Of a set of six inputs beside one of ten; no gradient goes to the padding, whatever it is."""
    inputs, noise = case[2], case[3][..., :slot_dim]
    fields = SMALL | {"slot_dim": slot_dim, "num_iterations": 1}
    module = SlotAttention(**fields, attention="chunked", chunk_size=4)
    variables = moved(module.init(jax.random.key(0), inputs, noise=noise))
    mask = jnp.arange(10) < jnp.array([[6], [10]])
    padded = jnp.where(mask[..., None], inputs, 9.0)
    assert isinstance(module.bind(variables).project(padded, mask), kind)

    def run(inputs, mask, noise):
        def loss(inputs):
            slots, maps = module.apply(variables, inputs, mask, noise=noise)
            return (slots**2).sum() + (maps**2).sum(), (slots, maps)

        (_, (slots, maps)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(inputs)
        return slots[0], maps[0], gradient[0]

    slots, maps, gradient = run(padded, mask, noise)
    for mine, expected in zip((slots, maps[..., :6], gradient[:6]), run(inputs[:1, :6], None, noise[:1]), strict=True):
        np.testing.assert_allclose(mine, expected, atol=1e-5, rtol=1e-4)
    assert not maps[..., 6:].any() and not gradient[6:].any()


def test_long_inputs_cost_no_memory_but_their_own():
    """Without their gradient, the input alone grows."""

    def temporary_bytes(length):
        module = SlotAttention(num_slots=4, slot_dim=32, mlp_dim=32, attention="chunked", chunk_size=128)
        inputs, noise = jax.ShapeDtypeStruct((1, length, 32), jnp.float32), jnp.zeros((1, 4, 32))
        variables = jax.eval_shape(lambda inputs: module.init(jax.random.key(0), inputs, noise=noise), inputs)
        step = jax.grad(lambda variables, inputs: module.apply(variables, inputs, noise=noise).slots.sum())
        return jax.jit(step).lower(variables, inputs).compile().memory_analysis().temp_size_in_bytes

    short, long = temporary_bytes(1024), temporary_bytes(16384)
    assert long < 1.3 * short < 4 * 32 * 16384


def test_every_wrong_field_is_named(case):
    module = SlotAttention(num_slots=0, num_iterations=0, initializer="random", gradient="half")
    with pytest.raises(ConfigError, match=r"num_slots=0.*num_iterations=0.*initializer='random'.*gradient='half'"):
        module.init(jax.random.key(0), case[2])
