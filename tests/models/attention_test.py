# SPDX-License-Identifier: Apache-2.0
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceiver_jax.models.attention import (
    MLP,
    SelfAttention,
    attend,
    attention_weights,
    resolve_path,
    transposed_product,
)

PATHS = ("dense", "fused", "chunked")


def keys_of(seed):
    return jax.random.split(jax.random.key(seed), 3)


def projections(seed, batch=2, queries=3, keys=7, heads=2, dim=4):
    shapes = [(batch, n, heads, dim) for n in (queries, keys, keys)]
    return [jax.random.normal(key, shape) for key, shape in zip(keys_of(seed), shapes, strict=True)]


def in_numpy(query, key, value, mask):
    """The formula in float64, one row at a time."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    output = np.zeros((*query.shape[:3], value.shape[-1]))
    for b, q, h in np.ndindex(query.shape[:3]):
        real = np.asarray(mask[b])
        if real.any():
            scores = key[b, real, h] @ query[b, q, h] / np.sqrt(query.shape[-1])
            weights = np.exp(scores - scores.max())
            output[b, q, h] = weights @ value[b, real, h] / weights.sum()
    return output


@pytest.mark.parametrize("path", PATHS)
def test_equals_formula_with_masks_and_an_empty_row(path):
    arrays = projections(0, batch=3)
    mask = jnp.array([[True] * 7, [True, False, True, True, False, False, True], [False] * 7])
    output = jax.jit(functools.partial(attend, path=path, chunk_size=3))(*arrays, mask)
    np.testing.assert_allclose(output, in_numpy(*arrays, mask), atol=1e-6)
    assert np.all(np.asarray(output[2]) == 0)


@functools.cache
def gradients(path, chunk_size):
    """Jitted (loss, output), gradients of a weighted sum of the output."""

    def loss(query, key, value, mask, weight):
        output = attend(query, key, value, mask, path=path, chunk_size=chunk_size)
        return jnp.vdot(output, weight), output

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))


@settings(deadline=None, max_examples=15, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    keys=st.sampled_from([1, 9]),
    chunk_size=st.sampled_from([4, 16]),
    masking=st.sampled_from(["all real", "some", "empty row"]),
)
def test_paths_agree_forward_and_backward(seed, keys, chunk_size, masking):
    arrays = projections(seed, keys=keys)
    some = np.random.default_rng(seed).random((2, keys)) < 0.6
    some[:, 0] = True
    empty = some & np.array([[True], [False]])
    mask = jnp.asarray({"all real": np.ones_like(some), "some": some, "empty row": empty}[masking])
    weight = jnp.asarray(np.random.default_rng(seed).normal(size=(2, 3, 2, 4)), jnp.float32)
    expected = gradients("dense", 0)(*arrays, mask, weight)
    for path in ("fused", "chunked"):
        ours = gradients(path, chunk_size if path == "chunked" else 0)(*arrays, mask, weight)
        for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
            assert np.isfinite(one).all()
            np.testing.assert_allclose(one, other, atol=1e-5)
    if masking == "empty row":
        assert all(np.all(np.asarray(gradient[1]) == 0) for gradient in expected[1])


def test_chunks_without_a_mask():
    arrays, weight = projections(4, keys=9), jnp.ones((2, 3, 2, 4))
    for one, other in zip(
        jax.tree.leaves(gradients("chunked", 4)(*arrays, None, weight)),
        jax.tree.leaves(gradients("dense", 0)(*arrays, None, weight)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("path", PATHS)
def test_large_scores_stay_finite(path):
    query, key, value = projections(3)
    mask = jnp.ones((2, 7), bool).at[1].set(False)

    def loss(query):
        return attend(query * 1e4, key, value, mask, path=path, chunk_size=2).sum()

    assert np.isfinite(jax.jit(jax.grad(loss))(query)).all()


def test_chunked_backward_holds_no_scores_of_all_keys():
    query, key, value = projections(0, batch=1, queries=64, keys=4096, heads=2, dim=4)

    def temporary_bytes(path):
        loss = jax.grad(lambda *arrays: attend(*arrays, path=path, chunk_size=128).sum(), (0, 1, 2))
        return jax.jit(loss).lower(query, key, value).compile().memory_analysis().temp_size_in_bytes

    scores = 4 * 2 * 64 * 4096
    assert temporary_bytes("dense") > scores
    assert temporary_bytes("chunked") < scores


@pytest.mark.parametrize("path", PATHS)
def test_half_precision_is_close_to_float32(path):
    arrays = projections(5, queries=8, keys=33, dim=8)
    run = jax.jit(functools.partial(attend, path=path, chunk_size=16))
    half = run(*(x.astype(jnp.bfloat16) for x in arrays))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), run(*arrays), atol=0.03)


def test_weights_sum_to_one_over_real_keys():
    query, key, _ = projections(0)
    mask = jnp.array([[True] * 4 + [False] * 3, [False] * 7])
    weights = attention_weights(query, key, mask)
    np.testing.assert_allclose(weights.sum(-1)[0], 1, rtol=1e-6)
    assert np.all(np.asarray(weights[0, ..., 4:]) == 0) and np.all(np.asarray(weights[1]) == 0)


def test_auto_path():
    def auto(backend, dtype, length, head_dim=64):
        return resolve_path("auto", backend=backend, dtype=dtype, length=length, head_dim=head_dim)

    assert auto("cpu", jnp.float32, 1023) == "dense"
    assert auto("cpu", jnp.float32, 1024) == "chunked"
    assert auto("gpu", jnp.bfloat16, 2048) == "fused"
    assert auto("gpu", jnp.float32, 2048) == "dense"
    assert auto("gpu", jnp.bfloat16, 2048, head_dim=261) == "dense"
    assert auto("tpu", jnp.bfloat16, 50176) == "chunked"
    assert resolve_path("dense", backend="gpu", dtype=jnp.bfloat16, length=9, head_dim=8) == "dense"


def test_unknown_path_names_the_known_ones():
    with pytest.raises(ValueError, match="'sparse' is unknown: expected one of auto, dense, fused, chunked"):
        attend(*projections(0), path="sparse")


def test_self_attention_equals_three_products():
    inputs = jax.random.normal(jax.random.key(0), (2, 5, 8))
    layer = SelfAttention(num_heads=2)
    params = layer.init(jax.random.key(1), inputs)["params"]
    params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), params)
    query, key, value = (
        (inputs @ params[name]["kernel"] + params[name]["bias"]).reshape(2, 5, 2, 4)
        for name in ("query", "key", "value")
    )
    attended = in_numpy(query, key, value, np.ones((2, 5), bool)).reshape(2, 5, 8)
    expected = attended @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(layer.apply({"params": params}, inputs), expected, atol=1e-5)


def test_exact_gelu_is_another_function():
    inputs = jnp.linspace(-3, 3, 24).reshape(1, 4, 6)
    params = MLP().init(jax.random.key(0), inputs)
    difference = jnp.abs(MLP().apply(params, inputs) - MLP(exact_gelu=True).apply(params, inputs)).max()
    assert 1e-6 < difference < 1e-2


@pytest.mark.parametrize("length", [3, 6])
def test_transposed_product_is_one(length):
    """Shorter and longer than there are features: one large product, or one for each example."""
    inputs, kernel = jax.random.normal(jax.random.key(0), (2, length, 4)), jax.random.normal(jax.random.key(1), (4, 5))
    np.testing.assert_allclose(transposed_product(inputs, kernel), (inputs @ kernel).swapaxes(1, 2), atol=1e-6)
    gradients = jax.grad(lambda *arrays: (transposed_product(*arrays) ** 2).sum(), argnums=(0, 1))(inputs, kernel)
    expected = jax.grad(lambda *arrays: ((arrays[0] @ arrays[1]) ** 2).sum(), argnums=(0, 1))(inputs, kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradients, expected)
