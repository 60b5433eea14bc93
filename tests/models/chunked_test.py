# SPDX-License-Identifier: Apache-2.0
"""Chunks change nothing: a last shorter one, one without a real key, half precision, inputs that lie split."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.models import attention
from perceiver_jax.models.attention import attend, resolve_path
from perceiver_jax.models.perceiver import PerceiverEncoder

ROOT = Path(__file__).resolve().parents[2]
KEYS, CHUNK = 11, 4


def arrays(seed=0, heads=2, dtype=jnp.float32):
    random = np.random.default_rng(seed)
    shapes = [(3, 3, heads, 4), (3, KEYS, heads, 4), (3, KEYS, heads, 5)]
    return [jnp.asarray(random.normal(size=shape), dtype) for shape in shapes]


def masks():
    """All real; none of the second chunk; none at all."""
    mask = np.ones((3, KEYS), bool)
    mask[1, CHUNK : 2 * CHUNK] = mask[1, -1] = False
    mask[2] = False
    return jnp.asarray(mask)


def value_and_gradients(function, *arguments):
    def loss(*arguments):
        output = function(*arguments)
        return (output.astype(jnp.float32) * jnp.cos(jnp.arange(output.size).reshape(output.shape))).sum(), output

    return jax.jit(jax.value_and_grad(loss, tuple(range(len(arguments))), has_aux=True))(*arguments)


def assert_close(ours, expected):
    """To 1e-5, of the largest where that is above 1."""
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, atol=1e-5 * max(1, np.abs(other).max()))


@pytest.mark.parametrize("over", ["keys", "queries"])
@pytest.mark.parametrize("mask", [None, masks()], ids=["all real", "masked"])
def test_equals_the_dense_path(over, mask):
    def run(path):
        return value_and_gradients(
            lambda *qkv: attend(*qkv, mask, over=over, path=path, chunk_size=CHUNK), *arrays(heads=1)
        )

    assert_close(run("chunked"), run("dense"))


@pytest.mark.parametrize("over", ["keys", "queries"])
def test_half_precision_is_summed_in_float32(over):
    """In bfloat16 a sum of ones stays at 256: the mean of the values would be far too large."""
    query, key, value = jnp.zeros((1, 2, 1, 4)), jnp.zeros((1, 2048, 1, 4)), jnp.linspace(0, 1, 2048 * 4)
    half = [x.astype(jnp.bfloat16) for x in (query, key, value.reshape(key.shape))]
    (_, output), gradients = value_and_gradients(
        functools.partial(attend, over=over, path="chunked", chunk_size=8), *half
    )
    assert {x.dtype for x in (output, *gradients)} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(output.astype(np.float32), 0.5, rtol=0.01)
    expected = value_and_gradients(functools.partial(attend, over=over, path="dense"), *half)[1]
    for one, other in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(one.astype(np.float32), other.astype(np.float32), rtol=0.03, atol=2e-5)


def test_queries_that_compete_have_no_fused_path_and_few_chunks():
    device = {"backend": "cpu", "dtype": jnp.float32, "head_dim": 8, "over": "queries"}
    assert resolve_path("auto", length=4096, **device) == "dense"
    assert resolve_path("auto", length=16384, **device) == "chunked"
    with pytest.raises(ConfigError, match="'fused' cannot do queries that compete"):
        resolve_path("fused", length=9, **device)


def encoder(**fields):
    sizes = dict(num_latents=3, latent_dim=12, num_self_attends_per_block=1, num_self_attend_heads=2)
    return PerceiverEncoder(**sizes | {"chunk_size": CHUNK} | fields)


@pytest.mark.parametrize("fields", [{}, {"cross_attend_width": "latents", "num_cross_attend_heads": 2}])
def test_keys_and_values_that_are_not_held_are_the_same(fields, monkeypatch):
    """Values, and gradients of parameters and inputs, where heads read the inputs themselves."""
    random, streamed = np.random.default_rng(1), []
    inputs, mask = jnp.asarray(random.normal(size=(3, KEYS, 4)), jnp.float32), masks()
    variables = jax.jit(encoder(**fields).init)(jax.random.key(0), inputs)
    variables = jax.tree.map(lambda x: x + 0.3 * random.normal(size=x.shape).astype(np.float32), variables)
    stream = attention.streamed_attend
    monkeypatch.setattr(attention, "streamed_attend", lambda *args, **how: streamed.append(1) or stream(*args, **how))

    def run(path):
        model = encoder(attention=path, **fields)
        return value_and_gradients(lambda *both: model.apply(*both, mask), variables, inputs)

    expected = run("dense")
    assert not streamed
    assert_close(run("chunked"), expected)
    assert streamed


def test_a_long_input_costs_no_memory_but_its_own():
    """Neither keys nor values nor normalised inputs are held; what chunks need does not grow."""

    def temporary_bytes(length):
        model = encoder(attention="chunked", chunk_size=128)
        inputs = jax.ShapeDtypeStruct((1, length, 32), jnp.float32)
        variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
        compiled = jax.jit(jax.grad(lambda *both: model.apply(*both).sum())).lower(variables, inputs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    short, long = temporary_bytes(1024), temporary_bytes(16384)
    assert long < 1.3 * short < 4 * 32 * 16384


PROGRAM = """
import json, re
import jax, jax.numpy as jnp, numpy as np
from configs.solids import get_config
from perceiver_jax import config as c
from perceiver_jax.data.pipeline import train_batches
from perceiver_jax.data.plan import Plan
from perceiver_jax.errors import ConfigError
from perceiver_jax.experiment import build
from perceiver_jax.models.attention import attend
from perceiver_jax.models.slot_attention import SlotAttention
from perceiver_jax.training.sharding import make_mesh, put_batch
from perceiver_jax.training.state import abstract_state, init_state, state_maker
from perceiver_jax.training.step import jit_train_step, make_train_step

def attended(over, path, mesh, dtype):
    random = np.random.default_rng(0)
    qkv = [jnp.asarray(random.normal(size=(2, n, 2, 4)), dtype) for n in (3, 20, 20)]
    mask = jnp.asarray(random.random((2, 20)) < 0.5).at[0, :10].set(False).at[1].set(False)
    def loss(*qkv):
        output = attend(*qkv, mask, over=over, path=path, chunk_size=3, long=True).astype(jnp.float32)
        return (output ** 2 + output).sum(), output
    with jax.set_mesh(mesh):
        found = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(*qkv)
    return [np.asarray(leaf, np.float32).tolist() for leaf in jax.tree.leaves(found)]

def grouped(mesh):
    random = np.random.default_rng(0)
    inputs, noise = (jnp.asarray(random.normal(size=(2, n, 8)), jnp.float32) for n in (20, 3))
    module = SlotAttention(num_slots=3, slot_dim=8, mlp_dim=8, attention="chunked", chunk_size=3)
    variables = module.init(jax.random.key(0), inputs, noise=noise)
    def loss(variables, inputs):
        return (module.apply(variables, inputs, noise=noise).slots ** 2).sum()
    with jax.set_mesh(mesh):
        found = jax.jit(jax.value_and_grad(loss, (0, 1)))(variables, inputs)
    return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(found)]

def built(mesh, attention="chunked", num_points=64):
    config = get_config("tiny")
    config.batch_size, config.model.attention, config.model.chunk_size = 4, attention, 10
    config.model.update(num_cross_attends=1, num_blocks=1, num_self_attends_per_block=1)
    config.data.update(num_points=num_points)
    config.mesh.update(mesh)
    return build(c.to_dict(config))

def refused(**fields):
    try:
        built({"data": 2, "sequence": 2}, **fields)
    except ConfigError as error:
        return str(error)

def trained(**mesh):
    t = built(mesh)
    make = state_maker(t.task, t.optimizer, t.source.spec, ema=False)
    state, losses = init_state(make, t.mesh, 0), []
    step = make_train_step(t.task, t.optimizer, t.schedule, seed=0)
    step = jit_train_step(step, abstract_state(make, t.mesh), t.mesh)
    with jax.set_mesh(t.mesh), train_batches(t.source, Plan(64, 4), start_step=0, num_steps=8) as batches:
        for batch in batches:
            batch = put_batch(batch, t.mesh)
            if not losses:
                text = step.lower(state, batch).compile().as_text()
            state, report = step(state, batch)
            losses.append(report.stats["loss"].value())
    points, label = (batch[name].addressable_shards[0].data.shape for name in ("points", "label"))
    counts = {what: len(re.findall(what, text)) for what in ("all-gather", "all-reduce", "collective-permute")}
    return {"losses": losses, "points": points, "label": label, "notes": t.task.notes(t.source.spec)} | counts

whole, split = make_mesh(), make_mesh(data=2, sequence=2)
cases = [(over, dtype) for over in ("keys", "queries") for dtype in ("float32", "bfloat16")]
print(json.dumps({
    "attended": {f"{over} {dtype}": [attended(over, "chunked", split, dtype), attended(over, "dense", whole, dtype)]
        for over, dtype in cases},
    "grouped": [grouped(split), grouped(whole)],
    "split": trained(data=2, sequence=2), "four": trained(data=1, sequence=4),
    "tensor": trained(data=1, sequence=2, tensor=2), "whole": trained(),
    "refused": {"odd": refused(num_points=63), "fused": refused(attention="fused")},
}))
"""


@pytest.fixture(scope="module")
def on_devices():
    """Four simulated devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout)


@pytest.mark.parametrize("over", ["keys", "queries"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.03)])
def test_inputs_split_over_devices_are_attended_to_as_whole_ones(on_devices, over, dtype, tolerance):
    """Masked, with a part that has no real key and a row that has none."""
    split, whole = on_devices["attended"][f"{over} {dtype}"]
    for one, other in zip(split, whole, strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, atol=tolerance)


def test_slots_group_split_inputs_as_whole_ones(on_devices):
    for one, other in zip(*on_devices["grouped"], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("name", "parts", "rows"), [("split", 2, 2), ("four", 4, 4), ("tensor", 2, 4)])
def test_training_on_split_inputs_is_the_same(on_devices, name, parts, rows):
    split, whole = on_devices[name], on_devices["whole"]
    np.testing.assert_allclose(split["losses"], whole["losses"], rtol=1e-5)
    assert split["points"][1] == 64 // parts and split["label"] == [rows] and whole["points"][1] == 64
    assert "attention: chunked over 64 inputs" in split["notes"][0]


@pytest.mark.parametrize("name", ["split", "four", "tensor"])
def test_the_input_is_never_gathered(on_devices, name):
    counts = on_devices[name]
    assert counts["all-gather"] == counts["collective-permute"] == 0 < counts["all-reduce"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("odd", "mesh.sequence=2 does not divide an input of shape (63, 3): expected a divisor of 63."),
        ("fused", "attention path 'fused' cannot do keys that mesh.sequence splits over devices: use dense, chunked"),
    ],
)
def test_what_cannot_be_split_is_refused_before_anything_is_compiled(on_devices, name, message):
    assert on_devices["refused"][name].startswith(message)
