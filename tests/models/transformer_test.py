# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.attention import attend
from perceiver_jax.models.transformer import GREEDY, Transformer, likeliest, sample

SMALL = {"shape": (2, 3), "dim": 8, "num_layers": 2, "num_heads": 2, "widening_factor": 2}


def made(attends_to_context):
    """Module, variables, tokens, context, and the module applied, compiled once."""
    module = Transformer(**SMALL, attends_to_context=attends_to_context)
    tokens = jax.random.normal(jax.random.key(1), (3, 6, 8))
    context = jax.random.normal(jax.random.key(2), (3, 5, 4)) if attends_to_context else None
    variables = jax.jit(module.init)(jax.random.key(0), tokens, context)
    # a token's share of the result should be visible: published initialisers begin with small positions
    return module, jax.tree.map(lambda x: 3 * x, variables), tokens, context, jax.jit(module.apply)


@pytest.fixture(scope="module")
def alone():
    return made(False)


@pytest.fixture(scope="module")
def attending():
    return made(True)


@pytest.fixture(scope="module", params=["alone", "attending"])
def case(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("path", ["auto", "dense", "fused"])
def test_causal_attention_is_attention_to_the_keys_so_far(path):
    query, key, value = jax.random.normal(jax.random.key(0), (3, 2, 4, 2, 8))
    mask = jnp.array([[True] * 4, [False, True, True, False]])
    together = attend(query, key, value, mask, causal=True, path=path)
    for t in range(4):
        seen = mask & (jnp.arange(4) <= t)
        alone = attend(query[:, t : t + 1], key, value, seen, path="dense")
        np.testing.assert_allclose(together[:, t : t + 1], alone, atol=1e-6)
    with pytest.raises(ConfigError, match="chunked"):
        attend(query, key, value, causal=True, path="chunked")


def test_step_by_step_equals_all_at_once(case):
    module, variables, tokens, context, apply = case
    together = apply(variables, tokens, context)
    assert together.shape == tokens.shape
    cache = jax.jit(lambda context: module.apply(variables, 3, context, method="start"))(context)
    step = jax.jit(lambda row, cache, t: module.apply(variables, row, cache, t, method="step"))
    for t in range(6):
        row, cache = step(tokens[:, t - 1], cache, t)  # at 0 the last one, which must not be read
        np.testing.assert_allclose(row, together[:, t], rtol=1e-5, atol=5e-5)


def test_a_token_changes_only_what_comes_after_it(case):
    _, variables, tokens, context, apply = case
    before = apply(variables, tokens, context)
    for t in range(6):
        change = np.abs(apply(variables, tokens.at[:, t].multiply(-1), context) - before).max((0, 2))
        assert not change[: t + 1].any() and (change[t + 1 :] > 1e-3).all()


def test_the_context_and_each_axis_of_positions_matter(attending):
    module, variables, tokens, context, apply = attending
    before = apply(variables, tokens, context)
    assert np.abs(apply(variables, tokens, -context) - before).max() > 1e-3
    for axis, size in enumerate(module.shape):
        table = variables["params"][f"positions_{axis}"]
        assert table.shape == (size, 8)
        changed = {"params": variables["params"] | {f"positions_{axis}": table.at[1].multiply(-1)}}
        change = np.abs(apply(changed, tokens, context) - before).max((0, 2)).reshape(2, 3)
        assert (change.take(1, axis) > 1e-3).all() and change[0, 0] == 0
    with pytest.raises(ValueError, match="context"):
        module.apply(variables, tokens)


def test_dropout_acts_in_training_alone(alone):
    module, variables, tokens, _, apply = alone
    train = jax.jit(lambda key: module.apply(variables, tokens, train=True, rngs={"dropout": key}))
    first, second = (train(jax.random.key(seed)) for seed in (0, 1))
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(apply(variables, tokens, None), apply(variables, tokens, None))


def in_numpy(logits, top_k, top_p):
    kept = np.full_like(logits, -np.inf)
    for row, out in zip(logits, kept, strict=True):
        order = np.argsort(-row)[:top_k]
        shares = np.exp(row[order]) / np.exp(row[order]).sum()
        number = len(order) if top_p is None else 1 + int((np.cumsum(shares) < top_p).sum())
        out[order[:number]] = row[order[:number]]
    return kept


@pytest.mark.parametrize(
    ("top_k", "top_p"), [(None, None), (1, None), (9, 1.0), (3, 0.9), (None, 0.5), (None, 1e-6), (4, 0.7)]
)
def test_the_likeliest_equal_numpy(top_k, top_p):
    logits = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32) * 2
    expected = in_numpy(logits, top_k, None if top_p == 1.0 else top_p)
    np.testing.assert_array_equal(likeliest(jnp.asarray(logits), top_k, top_p), expected)


@pytest.fixture(scope="module")
def sampling(alone):
    """(keys, temperature) -> samples of a transformer, compiled once; tokens -> their logits."""
    module, variables, _, _, apply = alone
    table = jax.random.normal(jax.random.key(5), (7, 8))

    def step(before, cache, index):
        row, cache = module.apply(variables, table[before], cache, index, method="step")
        return row @ table.T, cache

    @jax.jit
    def draw(keys, temperature):
        cache = module.apply(variables, len(keys), None, method="start")
        return sample(step, cache, keys, 6, temperature=temperature)

    return draw, lambda tokens: apply(variables, table[tokens], None) @ table.T


KEYS = jax.random.split(jax.random.key(0), 3)


def test_a_vanishing_temperature_takes_the_likeliest_token(sampling):
    draw, logits = sampling
    greedy = draw(KEYS, GREEDY)
    np.testing.assert_array_equal(greedy, logits(greedy).argmax(-1))
    np.testing.assert_array_equal(greedy, draw(KEYS[::-1], 1e-4))
    assert (draw(KEYS, 5.0) != greedy).any()


def test_a_sample_does_not_depend_on_the_others_of_the_batch(sampling):
    draw, _ = sampling
    together, order = draw(KEYS, 2.0), jnp.array([2, 0, 1])
    np.testing.assert_array_equal(draw(KEYS[order], 2.0), together[order])
    assert len({tuple(row) for row in together.tolist()}) == 3


def test_samples_have_the_distribution_of_the_logits():
    logits = jnp.log(jnp.array([0.5, 0.3, 0.15, 0.05]))
    keys = jax.random.split(jax.random.key(0), 4000)

    def draw(**how):
        drawn = sample(lambda before, cache, index: (jnp.tile(logits, (4000, 1)), cache), (), keys, 2, **how)
        return np.stack([np.bincount(drawn[:, t], minlength=4) / 4000 for t in range(2)])

    np.testing.assert_allclose(draw(), np.tile([0.5, 0.3, 0.15, 0.05], (2, 1)), atol=0.03)
    squared = np.array([0.5, 0.3, 0.15, 0.05]) ** 2
    np.testing.assert_allclose(draw(temperature=0.5), np.tile(squared / squared.sum(), (2, 1)), atol=0.03)
    np.testing.assert_allclose(draw(top_p=0.7), np.tile([0.625, 0.375, 0, 0], (2, 1)), atol=0.03)
    kept = squared[:3] / squared[:3].sum()
    np.testing.assert_allclose(draw(temperature=0.5, top_k=3), np.tile([*kept, 0], (2, 1)), atol=0.03)


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match="num_heads"):
        Transformer(shape=(4,), dim=6, num_heads=4).init(jax.random.key(0), jnp.zeros((1, 4, 6)))
