# SPDX-License-Identifier: Apache-2.0
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.models import blocks as parts
from perceiver_jax.models import stacked_axes
from perceiver_jax.models.adapters import PointAdapter
from perceiver_jax.models.blocks import UNROLLED
from perceiver_jax.models.image_adapters import ImageAdapter
from perceiver_jax.models.perceiver import SHARING, Perceiver, PerceiverEncoder, encoder_problems
from perceiver_jax.models.positions import FourierPositions


def encoder(**fields):
    defaults = dict(
        num_latents=6,
        latent_dim=16,
        num_self_attends_per_block=2,
        num_cross_attend_heads=2,
        num_self_attend_heads=4,
        cross_attend_width="latents",
    )
    return PerceiverEncoder(**{**defaults, **fields})


def random_inputs(length=20, channels=5, batch=2):
    return jax.random.normal(jax.random.key(7), (batch, length, channels))


@functools.cache
def _init(model, shape):
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    numbers = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(numbers.normal(0, 0.3, leaf.shape), leaf.dtype), shapes)


def init(model, inputs=None):
    """Random parameters, biases included; of a model's own start only where a test is about it."""
    return _init(model, (2, 20, 5) if inputs is None else inputs.shape)


@functools.cache
def apply(model, **fields):
    """`model.apply`, jitted once for each model."""
    return jax.jit(functools.partial(model.apply, **fields))


def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def latents_512x1024(**fields):
    return PerceiverEncoder(num_latents=512, latent_dim=1024, **fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (dict(num_cross_attends=8, num_blocks=8), 44_912_254),
        (
            dict(num_cross_attends=8, num_blocks=8, share_cross_attends="none", share_blocks="none"),
            326_241_856,
        ),
        (dict(num_cross_attends=8, num_blocks=8, share_blocks="after_first"), 82_722_430),
        (dict(num_blocks=8), 42_135_859),
    ],
)
def test_imagenet_parameter_counts(fields, expected):
    model = Perceiver(ImageAdapter(FourierPositions(64, 224)), latents_512x1024(**fields), num_classes=1000)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    assert count(jax.eval_shape(model.init, jax.random.key(0), images)) == expected


def test_modelnet40_parameter_count():
    model = Perceiver(
        PointAdapter(FourierPositions(64, 2240)),
        latents_512x1024(num_cross_attends=2, num_blocks=2),
        num_classes=40,
    )
    points = jax.ShapeDtypeStruct((1, 2048, 3), jnp.float32)
    assert count(jax.eval_shape(model.init, jax.random.key(0), points)) == 44_772_202


@pytest.mark.parametrize(
    ("crosses", "blocks"), [("after_first", "all"), ("all", "after_first"), ("none", "all"), ("all", "none")]
)
def test_sharing_is_that_of_the_unrolled_model(crosses, blocks):
    """Every scheme equals a model that shares nothing and holds copies of the shared weights."""
    shared = encoder(
        num_cross_attends=3,
        num_blocks=6,
        num_self_attends_per_block=1,
        share_cross_attends=crosses,
        share_blocks=blocks,
    )
    apart = shared.clone(share_cross_attends="none", share_blocks="none")
    inputs = random_inputs()
    params = init(shared)["params"]
    copies = {"latents": params["latents"]}
    for name, sharing, number in (("cross_attends", crosses, 3), ("blocks", blocks, 6)):
        last = {"all": 0, "after_first": 1, "none": number - 1}[sharing]
        copies |= {f"{name}_{i}": params[f"{name}_{min(i, last)}"] for i in range(number)}
    expected = apply(apart)({"params": copies}, inputs)
    np.testing.assert_allclose(apply(shared)({"params": params}, inputs), expected, atol=1e-5)


def test_only_scanned_stacks_have_a_layer_axis():
    params = init(encoder(num_self_attends_per_block=3))["params"]
    block = PerceiverEncoder(num_latents=6, latent_dim=16, num_self_attends_per_block=1)
    one = init(block.clone(num_self_attend_heads=4))["params"]["blocks_0"]
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = tuple(entry.key for entry in path)
        assert stacked_axes(names) == (1 if "layers" in names else 0)
        if names[0] == "blocks_0":
            single = one
            for name in names[1:]:
                single = single[name]
            assert leaf.shape == (3, *single.shape[1:])


def test_layers_start_different():
    kernel = jax.jit(encoder().init)(jax.random.key(0), random_inputs())["params"]["blocks_0"]["layers"]["mlp"]["out"][
        "kernel"
    ]
    assert not np.allclose(kernel[0], kernel[1])


def test_permuted_points_change_nothing():
    model = Perceiver(PointAdapter(FourierPositions(8, 32.0)), encoder(), num_classes=5)
    points = jax.random.uniform(jax.random.key(1), (2, 50, 3), minval=-1)
    variables = init(model, points)
    permuted = points[:, np.random.default_rng(0).permutation(50)]
    np.testing.assert_allclose(apply(model)(variables, points), apply(model)(variables, permuted), atol=1e-5)
    other = points.at[:, 0].set(0)
    assert np.abs(apply(model)(variables, points) - apply(model)(variables, other)).max() > 1e-4


@pytest.mark.parametrize(("path", "dtype"), [("dense", jnp.int32), ("fused", jnp.float32), ("chunked", bool)])
def test_padding_changes_nothing(path, dtype):
    model, inputs = encoder(attention=path, chunk_size=8), random_inputs()
    variables = init(model)
    padded = jnp.pad(inputs, ((0, 0), (0, 7), (0, 0)), constant_values=3.0)
    mask = (jnp.arange(27) < 20)[None].repeat(2, 0).astype(dtype)
    expected = apply(model)(variables, inputs)
    np.testing.assert_allclose(apply(model)(variables, padded, mask), expected, atol=1e-5)
    assert np.abs(apply(model)(variables, padded) - expected).max() > 1e-3


def test_an_empty_input_leaves_the_latents_to_themselves():
    model, inputs = encoder(), random_inputs()
    variables = init(model)
    mask = jnp.zeros((2, 20), bool)
    output = apply(model)(variables, inputs, mask)
    np.testing.assert_allclose(output, apply(model)(variables, inputs * 5 + 1, mask), atol=1e-6)
    gradients = jax.jit(jax.grad(lambda variables: model.apply(variables, inputs, mask).sum()))(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def flops(model, length):
    inputs = random_inputs(length)
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return jax.jit(model.apply).lower(variables, inputs).compile().cost_analysis()["flops"]


def test_latent_flops_do_not_depend_on_the_length_of_the_input():
    """Two further blocks cost the same over 512 inputs as over 2,048, and not nothing."""
    one = encoder(
        num_cross_attends=1,
        num_blocks=1,
        num_self_attends_per_block=1,
        share_blocks="none",
        attention="dense",
    )
    three = one.clone(num_blocks=3)
    further = [flops(three, length) - flops(one, length) for length in (512, 2048)]
    assert further[0] == further[1] > 2 * 2 * 2 * 6 * 16 * 16 * 6  # 2 blocks, batch 2, 6 products of 6 x 16 by 16 x 16
    assert flops(one, 2048) > 3 * flops(one, 512)


def test_remat_gives_the_same_gradients_from_less_memory():
    plain, inputs = encoder(num_latents=64, num_self_attends_per_block=8), random_inputs()
    variables = init(plain)

    def compiled(model):
        gradient = jax.grad(lambda variables: (model.apply(variables, inputs) ** 2).mean())
        return jax.jit(gradient).lower(variables).compile()

    without, remat = compiled(plain), compiled(plain.clone(remat=True))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        without(variables),
        remat(variables),
    )
    used = [program.memory_analysis().temp_size_in_bytes for program in (without, remat)]
    assert used[1] < 0.5 * used[0]


def program(**fields):
    model, inputs = encoder(**fields), random_inputs()
    return jax.jit(model.apply).lower(jax.eval_shape(model.init, jax.random.key(0), inputs), inputs).as_text()


def test_the_program_does_not_grow_with_shared_stages():
    stages = [program(num_cross_attends=n, num_blocks=n) for n in (UNROLLED + 2, 2 * UNROLLED + 2)]
    blocks = [program(num_cross_attends=1, num_blocks=n) for n in (UNROLLED + 1, 2 * UNROLLED + 1)]
    for few, many in (stages, blocks):
        assert abs(len(many) - len(few)) < 100
        assert many.count("stablehlo.while") == few.count("stablehlo.while")


def test_repetitions_written_out_equal_a_scan(monkeypatch):
    model, inputs = encoder(num_cross_attends=3, num_blocks=6), random_inputs()
    variables = model.init(jax.random.key(0), inputs)
    written_out = model.apply(variables, inputs)
    monkeypatch.setattr(parts, "UNROLLED", 1)
    np.testing.assert_allclose(model.apply(variables, inputs), written_out, rtol=1e-5, atol=1e-5)


def only_biases(variables):
    """Parameters with which every MLP gives ones and everything else zeros."""

    def fill(path, leaf):
        ones = [entry.key for entry in path][-3:] == ["mlp", "out", "bias"]
        return jnp.full_like(leaf, float(ones))

    return jax.tree_util.tree_map_with_path(fill, variables)


@pytest.mark.parametrize(
    ("cross_attends", "blocks", "layers"),
    [(1, 1, 8), (1, 8, 1), (4, 4, 1)],
    ids=["layers", "blocks", "stages"],
)
def test_dropout_differs_between_layers(cross_attends, blocks, layers):
    """Each MLP adds a mask of zeros and twos: with one mask for all layers only extremes would be seen."""
    model = encoder(
        num_cross_attends=cross_attends,
        num_blocks=blocks,
        num_self_attends_per_block=layers,
        dropout_rate=0.5,
    )
    inputs, mlps = random_inputs(), cross_attends + blocks * layers
    variables = only_biases(init(model))
    output = np.asarray(apply(model, train=True)(variables, inputs, rngs={"dropout": jax.random.key(0)}))
    values = set(np.unique(output).tolist())
    assert values <= set(range(0, 2 * mlps + 1, 2)) and len(values) >= mlps - 2
    counts = output / 2
    assert abs(counts.mean() - mlps / 2) < 0.5 and abs(counts.var() - mlps / 4) < 0.25 * mlps
    assert np.all(np.asarray(apply(model)(variables, inputs)) == mlps)


def test_dropout_is_off_in_evaluation():
    model, inputs = encoder(dropout_rate=0.5), random_inputs()
    variables = init(model)
    evaluated = apply(model)(variables, inputs)
    np.testing.assert_array_equal(evaluated, apply(encoder())(variables, inputs))
    trained = [apply(model, train=True)(variables, inputs, rngs={"dropout": jax.random.key(i)}) for i in (0, 0, 1)]
    np.testing.assert_array_equal(trained[0], trained[1])
    assert not np.allclose(trained[0], trained[2]) and not np.allclose(trained[0], evaluated)


def test_half_precision_compute_with_float32_parameters():
    full = Perceiver(PointAdapter(FourierPositions(8, 32.0)), encoder(), num_classes=5)
    half = full.clone(encoder=encoder(dtype=jnp.bfloat16))
    points = jax.random.uniform(jax.random.key(1), (2, 50, 3), minval=-1)
    variables = init(half, points)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits = half.apply(variables, points)
    assert logits.dtype == jnp.float32
    assert half.apply(variables, points, method=lambda self, x: self.encoder(self.adapter(x))).dtype == jnp.bfloat16
    np.testing.assert_allclose(logits, full.apply(variables, points), atol=0.05)
    assert not np.array_equal(logits, full.apply(variables, points))


def test_pooling_and_head():
    points = jax.random.uniform(jax.random.key(1), (2, 50, 3), minval=-1)
    models = {
        p: Perceiver(PointAdapter(FourierPositions(8, 32.0)), encoder(), 5, pooling=p) for p in ("mean", "latent")
    }
    variables = init(models["mean"], points)
    latents = models["mean"].apply(variables, points, method=lambda self, x: self.encoder(self.adapter(x)))
    for pooling, pooled in (("mean", latents.mean(1)), ("latent", latents[:, 0])):
        expected = pooled @ variables["params"]["head"]["kernel"] + variables["params"]["head"]["bias"]
        np.testing.assert_allclose(models[pooling].apply(variables, points), expected, atol=1e-5)
    zero = jax.jit(models["mean"].clone(zero_head=True).init)(jax.random.key(0), points)
    assert np.all(np.asarray(zero["params"]["head"]["kernel"]) == 0)
    with pytest.raises(ConfigError, match="pooling='max' is unknown"):
        init(models["mean"].clone(pooling="max"), points)


def test_all_problems_are_named_at_once():
    wrong = encoder(num_cross_attends=2, num_blocks=3, num_self_attend_heads=5, attention="fast", dropout_rate=1.0)
    problems = encoder_problems(wrong, 5)
    for part in (
        "num_blocks=3",
        "num_self_attend_heads=5 does not divide latent_dim=16",
        "'fast'",
        "dropout_rate=1.0",
    ):
        assert sum(part in problem for problem in problems) == 1
    assert len(problems) == 4
    with pytest.raises(ConfigError, match="num_blocks=3 .* 'fast'|'fast'.* num_blocks=3"):
        init(wrong)


def test_heads_must_divide_the_width_of_the_inputs():
    model = encoder(cross_attend_width="inputs")
    assert encoder_problems(model) == []
    assert "does not divide the channels of the inputs=5" in encoder_problems(model, 5)[0]
    assert encoder_problems(model.clone(num_cross_attends=0)) == ["num_cross_attends=0: expected at least 1."]


@pytest.mark.parametrize(("crosses", "blocks"), list(itertools.product(SHARING, SHARING)))
def test_no_problem_with_any_sharing(crosses, blocks):
    assert encoder_problems(encoder(share_cross_attends=crosses, share_blocks=blocks), 8) == []
