# SPDX-License-Identifier: Apache-2.0
"""Codebooks in training: from the whole batch however it is cut up, untouched by evaluation, resume and bad steps."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax import registry
from perceiver_jax.config import section, to_dict
from perceiver_jax.data.scenes import Shapes
from perceiver_jax.metrics import statistics
from perceiver_jax.models.quantizer import EMA_DECAY
from perceiver_jax.training.checkpoint import Checkpoints
from perceiver_jax.training.sharding import make_mesh
from perceiver_jax.training.state import init_state, state_maker
from perceiver_jax.training.step import make_train_step
from tests.training.toy import make_training

SOURCE = Shapes(size=8, min_objects=1, max_objects=2, num_train=32, num_validation=8, num_test=8, max_radius=0.3)
BATCH = SOURCE.load("train", np.arange(8), 0) | {"weight": np.ones(8, np.float32), "id": np.arange(8, dtype=np.int32)}
BATCH = {name: jnp.asarray(rows) for name, rows in BATCH.items()}
BATCH["image"] = BATCH["image"].astype(jnp.float32)  # so that it can be poisoned


def make_task():
    fields = {"num_slots": 3, "slot_dim": 8, "num_blocks": 2, "mlp_dim": 4, "feature_dim": 8, "codebook_size": 4}
    encoder = section("encoder", "patches", patch_size=4, num_channels=8, num_layers=1)
    decoder = section("decoder", "pixels", patch_size=4, num_channels=4, num_layers=1)
    config = section("model", "svq", encoder=encoder, decoder=decoder, num_iterations=1, **fields)
    model = registry.build("model", to_dict(config), spec=SOURCE.spec)
    return registry.build("task", {"name": "svq"}, model=model, spec=SOURCE.spec)


TASK = make_task()


def make_step(parts):
    """The train step, not compiled."""
    training = make_training()
    return make_train_step(TASK, training.optimizer, training.schedule, seed=0, micro_batches=parts)


@pytest.fixture(scope="module")
def begun():
    """The state after a first step, whose codes have come from its batch, and steps for parts of a batch."""
    training = make_training()
    make = state_maker(TASK, training.optimizer, SOURCE.spec, ema=False)
    state = init_state(make, make_mesh(), 0)
    steps = {parts: jax.jit(make_step(parts)) for parts in (1, 4)}
    return steps[1](state, BATCH)[0], steps


@jax.jit
def evaluate(variables, batch):
    rngs = {name: jax.random.key(0) for name in TASK.rng_streams}
    return TASK.evaluate(variables, batch, rngs), TASK.predict(variables, batch, rngs)


def codebook(state):
    return state.extra["codebook"]["quantizer"]


def test_a_step_moves_the_codes_once_however_the_batch_is_cut(begun):
    state, steps = begun
    coded = jax.jit(TASK.model.apply)(state.variables(), BATCH["image"])
    blocks, indices = np.asarray(coded.unquantized).reshape(24, 2, 4), np.asarray(coded.indices).reshape(24, 2)
    old, new = codebook(state), codebook(steps[1](state, BATCH)[0])
    for m, p in np.ndindex(2, 4):
        mine = blocks[indices[:, m] == p, m]
        count = EMA_DECAY * old["counts"][m, p] + (1 - EMA_DECAY) * len(mine)
        total = EMA_DECAY * old["sums"][m, p] + (1 - EMA_DECAY) * mine.sum(0)
        np.testing.assert_allclose(new["counts"][m, p], count, rtol=1e-5)
        np.testing.assert_allclose(new["codes"][m, p], total / count, rtol=1e-4, atol=1e-5)
    cut, _ = steps[4](state, BATCH)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), new, codebook(cut))
    assert int(cut.extra["progress"]["quantizer"]["steps"]) == 2


PROGRAM = """
import pickle, sys
import jax
from perceiver_jax.training.sharding import make_mesh, put_batch, replicated
from tests.tasks.svq_test import BATCH, make_step

mesh, losses = make_mesh(data=8), []
state = jax.device_put(pickle.load(sys.stdin.buffer), replicated(mesh))
batch, step = put_batch(jax.device_get(BATCH), mesh), jax.jit(make_step(1))
assert len(batch["image"].addressable_shards) == 8 and batch["image"].addressable_shards[0].data.shape[0] == 1
with jax.set_mesh(mesh):
    for _ in range(2):
        state, report = step(state, batch)
        losses.append(report.stats["loss"].value())
sys.stdout.buffer.write(pickle.dumps((losses, jax.device_get(state.extra))))
"""


def test_eight_devices_learn_as_one_and_have_one_codebook(begun):
    """One example each; a code is dead and comes back."""
    state, steps = begun
    book = codebook(state) | {"counts": codebook(state)["counts"].at[:, 1].set(0)}
    state = state.replace(extra=state.extra | {"codebook": {"quantizer": book}})
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).resolve().parents[2],
        input=pickle.dumps(jax.device_get(state)),
        capture_output=True,
        check=True,
    )
    losses, extra = pickle.loads(done.stdout)
    for loss in losses:
        state, report = steps[1](state, BATCH)
        assert loss == pytest.approx(report.stats["loss"].value(), rel=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), extra, jax.device_get(state.extra)
    )


def test_a_step_that_is_not_finite_leaves_the_codebook(begun):
    state, steps = begun
    poisoned = BATCH | {"image": BATCH["image"].at[3].set(jnp.nan)}
    new, report = steps[1](state, poisoned)
    jax.tree.map(np.testing.assert_array_equal, state.extra, new.extra)
    assert int(new.bad_steps) == 1 and np.isfinite(report.stats["code_use"]).all()


def test_what_an_evaluation_tells(begun):
    state, _ = begun
    batch = BATCH | {"weight": jnp.asarray([1.0, 1, 1, 1, 1, 1, 0, 0])}
    stats, predicted = evaluate(state.variables(), batch)
    scores = TASK.summarize(statistics.add(None, stats))
    assert {"mse", "psnr", "fg_ari", "commitment", "reconstruction", "perplexity", "codes_used"} < set(scores)
    assert scores["loss"] == pytest.approx(scores["reconstruction"] + 50 * scores["commitment"], rel=1e-5)
    assert scores["reconstruction"] == pytest.approx(8 * 8 * 3 / 4 * scores["mse"], rel=1e-4)
    np.testing.assert_array_equal(np.asarray(stats["code_use"]).sum(1), [18, 18])
    (first, _) = TASK.results(stats, ())["codebooks"]
    assert first["used"] + first["dead"] == pytest.approx(1)
    shown = TASK.visualize(jax.device_get(predicted), {"image": np.asarray(batch["image"], np.uint8)}, stats)
    assert {name: image.dtype for name, image in shown.items()} == dict.fromkeys(
        ("slots", "attention", "code_use"), np.uint8
    )
    assert predicted["recon"].shape == (8, 8, 8, 3) and predicted["indices"].shape == (8, 3, 2)


def test_resume_and_evaluation_leave_the_codebook_bitwise_as_it_would_be(begun, tmp_path):
    """One state goes on at once; the other is evaluated, saved and restored first."""
    state, steps = begun
    evaluate(state.variables(), BATCH)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {}, 0.0)
        checkpoints.wait()
        target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
        restored = checkpoints.restore(target, "latest")[0]
    left, right = steps[1](state, BATCH)[0], steps[1](restored, BATCH)[0]
    jax.tree.map(np.testing.assert_array_equal, left, right)
    assert jnp.any(codebook(left)["codes"] != codebook(state)["codes"])


def test_what_an_image_becomes_is_said():
    notes = TASK.notes(SOURCE.spec)
    assert notes == ["codes: 3 slots x 2 of 4, 12 bits an image"]
