# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.training.optim import make_optimizer

RATE, B1, B2, EPS, DECAY, CLIP = 0.1, 0.9, 0.999, 1e-6, 0.2, 1.5


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    shapes = {
        "latents": (4, 3),
        "cross_attend": {"kernel": (3, 5), "bias": (5,), "norm": {"scale": (3,)}},
        "stack": {"layers": {"kernel": (2, 3, 3), "bias": (2, 3)}},
        "zero": (2, 2),
    }
    params = jax.tree.map(
        lambda s: rng.normal(size=s).astype(np.float32), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )
    return params | {"zero": np.zeros((2, 2), np.float32)}


def gradients(step, params):
    rng = np.random.default_rng(100 + step)
    return jax.tree.map(lambda p: (3 * rng.normal(size=p.shape)).astype(np.float32), params)


def run(optimizer, params, num_steps=4):
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for step in range(num_steps):
        direction, state = update(gradients(step, params), state, params)
        params = jax.tree.map(lambda p, u: p - RATE * u, params, direction)
    return params, state


def lamb_in_numpy(params, num_steps=4, clip=CLIP, trained=lambda name: True):
    """LAMB by the book, in float64, one parameter (one layer of a stack) after the other."""
    flat = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(p, np.float64)
        for path, p in jax.tree_util.tree_leaves_with_path(params)
    }
    first, second = ({name: np.zeros_like(p) for name, p in flat.items()} for _ in range(2))
    for step in range(num_steps):
        grads = {
            jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(g, np.float64)
            for path, g in jax.tree_util.tree_leaves_with_path(gradients(step, params))
        }
        total = np.sqrt(sum((g**2).sum() for name, g in grads.items() if trained(name)))
        for name, p in flat.items():
            if not trained(name):
                continue
            g = grads[name] * min(1, clip / total)
            first[name] = B1 * first[name] + (1 - B1) * g
            second[name] = B2 * second[name] + (1 - B2) * g**2
            u = (first[name] / (1 - B1 ** (step + 1))) / (np.sqrt(second[name] / (1 - B2 ** (step + 1))) + EPS)
            if not name.endswith(("bias", "scale")):
                u = u + DECAY * p
            for part in range(len(p)) if "layers" in name else [...]:
                p_norm, u_norm = np.linalg.norm(p[part]), np.linalg.norm(u[part])
                p[part] -= RATE * (p_norm / u_norm if p_norm * u_norm > 0 else 1) * u[part]
    return flat


def flat(params):
    return {
        jax.tree_util.keystr(k, simple=True, separator="/"): np.asarray(v)
        for k, v in jax.tree_util.tree_leaves_with_path(params)
    }


def test_lamb_is_the_formula_with_masks_clipping_stacks_and_zero_norms():
    params, _ = run(make_optimizer(name="lamb", weight_decay=DECAY, clip_norm=CLIP), parameters())
    expected = lamb_in_numpy(parameters())
    assert flat(params).keys() == expected.keys()
    for name, value in flat(params).items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-5, atol=2e-6, err_msg=name)
    assert np.abs(flat(params)["zero"]).max() > 0, "a parameter of norm zero moves with ratio 1"


def test_stacked_layers_move_like_separate_ones():
    optimizer = make_optimizer(name="lamb", weight_decay=DECAY)
    kernel = np.stack([np.full((3, 2), 1.0), np.full((3, 2), 50.0)]).astype(np.float32)
    grads = np.random.default_rng(0).normal(size=kernel.shape).astype(np.float32)
    stacked, _ = optimizer.update(
        {"layers": {"w": grads}}, optimizer.init({"layers": {"w": kernel}}), {"layers": {"w": kernel}}
    )
    for layer in range(2):
        separate, _ = optimizer.update({"w": grads[layer]}, optimizer.init({"w": kernel[layer]}), {"w": kernel[layer]})
        np.testing.assert_allclose(stacked["layers"]["w"][layer], separate["w"], rtol=1e-6)


@pytest.mark.parametrize(
    "name, published, kwargs",
    [
        ("adam", optax.adam(RATE), {}),
        ("adamw", optax.adamw(RATE, weight_decay=DECAY), {"weight_decay": DECAY, "decay_exclude": ()}),
        ("lamb", optax.lamb(RATE, weight_decay=DECAY), {"weight_decay": DECAY, "decay_exclude": ()}),
    ],
)
def test_directions_are_those_of_optax(name, published, kwargs):
    params = parameters() | {"stack": {}}
    ours, _ = run(make_optimizer(name=name, **kwargs), params)
    theirs, state = params, published.init(params)
    for step in range(4):
        updates, state = published.update(gradients(step, params), state, theirs)
        theirs = optax.apply_updates(theirs, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)


def test_frozen_parameters_keep_their_bits_and_have_no_moments():
    frozen = ("latents", "stack/layers", "*/norm/*")
    optimizer = make_optimizer(name="lamb", weight_decay=DECAY, clip_norm=CLIP, frozen=frozen)
    params, state = run(optimizer, parameters())
    hit = {"latents", "stack/layers/kernel", "stack/layers/bias", "cross_attend/norm/scale"}
    before, after = flat(parameters()), flat(params)
    for name in before:
        assert (before[name].tobytes() == after[name].tobytes()) == (name in hit), name
    moments = [leaf.shape for leaf in jax.tree.leaves(state) if leaf.ndim]
    assert sorted(moments) == sorted(2 * [before[name].shape for name in before.keys() - hit])
    expected = lamb_in_numpy(parameters(), trained=lambda name: name not in hit)
    for name, value in after.items():  # fails if frozen gradients count in the clipping norm
        np.testing.assert_allclose(value, expected[name], rtol=2e-5, atol=2e-6, err_msg=name)


def test_a_pattern_that_matches_nothing_names_the_nearest_paths():
    with pytest.raises(ConfigError, match=r"frozen: the pattern 'cros_attend' .*nearest: cross_attend"):
        make_optimizer(name="adam", frozen=("cros_attend",)).init(parameters())
    with pytest.raises(ConfigError, match=r"decay_exclude: the pattern '\*/latent' .*nearest: latents"):
        make_optimizer(name="lamb", decay_exclude=("*/latent",)).init(parameters())
    make_optimizer(name="lamb", weight_decay=0.1).init({"kernel": jnp.ones(3)})  # the defaults may miss


def test_all_values_out_of_range_are_named_at_once():
    with pytest.raises(ConfigError) as error:
        make_optimizer(name="lam", b1=1.0, b2=-0.1, eps=0.0, weight_decay=-1.0, clip_norm=0.0, clip_max=0.0)
    for part in (
        "name='lam'",
        "lamb, adamw, adam",
        "b1=1.0",
        "b2=-0.1",
        "eps=0.0",
        "weight_decay=-1.0",
        "clip_norm",
        "clip_max",
    ):
        assert part in str(error.value)
    with pytest.raises(ConfigError, match="use adamw or lamb"):
        make_optimizer(name="adam", weight_decay=0.1)


def test_the_largest_component_scales_the_whole_gradient_and_what_is_frozen_does_not_count():
    """As torch.nn.utils.clip_grad_norm_(parameters, 0.5, "inf"): 0.5 / 4 of all; below 0.5 nothing."""
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1), "c": jnp.zeros(1)}
    grads = {"a": jnp.array([1.0, -4.0]), "b": jnp.array([2.0]), "c": jnp.array([100.0])}
    optimizer = make_optimizer(name="adam", clip_max=0.5, frozen=("c",))

    def first_moments(scale):
        state = optimizer.update(jax.tree.map(lambda g: scale * g, grads), optimizer.init(params), params)[1]
        found = {path: leaf for path, leaf in flat(state).items() if "mu" in path}
        return {name: next(leaf for path, leaf in found.items() if path.endswith(name)) * 10 for name in "ab"}

    clipped, small = first_moments(1.0), first_moments(0.1)
    np.testing.assert_allclose(clipped["a"], [0.125, -0.5], rtol=1e-5)
    np.testing.assert_allclose(clipped["b"], [0.25], rtol=1e-5)
    np.testing.assert_allclose(small["a"], [0.1, -0.4], rtol=1e-5)


def test_rate_factors_scale_the_update_of_their_parameters():
    def run_with(**options):
        return run(make_optimizer(name="adam", **options), parameters(), num_steps=1)[0]

    start, plain = parameters(), run_with()
    scaled = run_with(rate_factors=("cross_attend=3", "*/bias=0.5"))
    for path, factor in ((("latents",), 1), (("cross_attend", "kernel"), 3), (("cross_attend", "bias"), 1.5)):
        first, one, other = start, plain, scaled
        for key in path:
            first, one, other = first[key], one[key], other[key]
        np.testing.assert_allclose(other - first, factor * (one - first), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("rule", ["cross_attend", "cross_attend=x", "=3", "cross_attend=-1", "nothing=2"])
def test_wrong_rate_factors_are_named(rule):
    with pytest.raises(ConfigError, match="rate_factors"):
        make_optimizer(name="adam", rate_factors=(rule,)).init(parameters())
