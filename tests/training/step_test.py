# SPDX-License-Identifier: Apache-2.0
"""The train step: micro-batches, weights, the guard, the average, and that it compiles once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.tasks.base import Aux
from perceiver_jax.tasks.classification import Classification
from perceiver_jax.training.sharding import make_mesh
from perceiver_jax.training.state import init_state, state_maker
from perceiver_jax.training.step import make_evaluation_step, make_train_step
from tests.training.toy import Blobs, Linear, make_training


def setup(task=None, *, ema_decay=0.0, **options):
    training = make_training(dropout_rate=0.0)
    task = task or training.task
    make = state_maker(task, training.optimizer, Blobs().spec, ema=ema_decay > 0)
    state = init_state(make, make_mesh(), 0)
    step = make_train_step(task, training.optimizer, training.schedule, seed=0, ema_decay=ema_decay, **options)
    return state, jax.jit(step), training


def make_batch(size=8, weight=None):
    ids = np.arange(size)
    batch = Blobs().load("train", ids, 0)
    weight = np.ones(size, np.float32) if weight is None else np.asarray(weight, np.float32)
    return batch | {"weight": weight, "id": ids.astype(np.int32)}


def max_difference(left, right):
    return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), left, right)))


@pytest.mark.parametrize("weight", [None, [1, 1, 1, 0, 2, 0, 0, 3]])
def test_micro_batches_equal_the_full_batch(weight):
    state, full, _ = setup()
    _, cut, _ = setup(micro_batches=4)
    (one, report), (other, cut_report) = (
        full(state, make_batch(weight=weight)),
        cut(state, make_batch(weight=weight)),
    )
    assert max_difference(one.params, other.params) < 1e-6
    for name in ("loss", "accuracy"):
        assert report.stats[name].value() == pytest.approx(cut_report.stats[name].value(), rel=1e-6)


def test_mean_of_micro_batch_means_would_differ():
    """The weights of the test above tell a sum divided once from a mean of means."""
    state, full, training = setup()
    batch = make_batch(weight=[1, 1, 1, 0, 2, 0, 0, 3])
    parts = [jax.tree.map(lambda x, i=i: x[i::4], batch) for i in range(4)]
    losses = [full(state, part)[1].stats["loss"].value() for part in parts]
    assert abs(np.mean(losses) - full(state, batch)[1].stats["loss"].value()) > 1e-2


def test_padding_changes_nothing():
    state, step, _ = setup()
    batch = make_batch(6)
    padded = {name: np.concatenate([x, x[:2]]) for name, x in batch.items()}
    padded["weight"][6:] = 0
    assert max_difference(step(state, batch)[0].params, step(state, padded)[0].params) < 1e-6


def test_logged_rate_is_the_applied_one():
    """LAMB's direction has the norm of the parameter, so the update has the norm rate * |p|."""
    state, step, training = setup()
    state = state.replace(lr_scale=jnp.float32(0.5), step=jnp.int32(7))
    new, report = step(state, make_batch())
    assert float(report.learning_rate) == pytest.approx(0.5 * float(training.schedule(7)), rel=1e-6)
    update = new.params["Dense_0"]["kernel"] - state.params["Dense_0"]["kernel"]
    norm = jnp.linalg.norm(state.params["Dense_0"]["kernel"])
    assert float(jnp.linalg.norm(update)) == pytest.approx(float(report.learning_rate * norm), rel=1e-4)


def test_non_finite_step_leaves_everything_but_is_counted():
    state, step, _ = setup(ema_decay=0.9)
    poisoned = make_batch()
    poisoned["x"][3] = np.nan
    new, report = step(state, poisoned)
    assert max_difference((state.params, state.opt_state, state.ema), (new.params, new.opt_state, new.ema)) == 0
    assert (int(new.step), int(new.bad_steps), int(report.bad_steps)) == (1, 1, 1)
    assert float(report.stats["skipped_steps"].total) == 1 and np.isfinite(report.stats["loss"].total)
    healed, _ = step(new, make_batch())
    assert int(healed.bad_steps) == 0 and max_difference(healed.params, new.params) > 0


def test_a_finite_gradient_that_throws_the_parameters_out_of_range_changes_nothing():
    state, step, _ = setup(ema_decay=0.9)
    large = jax.tree.map(lambda p: 1e4 * p, state.params)
    state = state.replace(params=large, lr_scale=jnp.float32(3e38), step=jnp.int32(7))
    new, report = step(state, make_batch())
    harmless, _ = step(state.replace(lr_scale=jnp.float32(1)), make_batch())
    assert int(harmless.bad_steps) == 0 and max_difference(harmless.params, state.params) > 0
    assert float(report.stats["skipped_steps"].total) == int(new.bad_steps) == 1 and int(new.step) == 8
    assert max_difference((state.params, state.opt_state, state.ema), (new.params, new.opt_state, new.ema)) == 0


def test_extra_that_would_not_be_finite_changes_nothing():
    state, step, _ = setup(Counting(model=Linear(), input_name="x", num_classes=3))
    full = state.replace(extra={"seen": {"examples": jnp.float32(3.4e38)}})
    weight = np.full(8, 2e37, np.float32)
    new, _ = step(full, make_batch(weight=weight))
    assert float(new.extra["seen"]["examples"]) == np.float32(3.4e38) and int(new.bad_steps) == 1


def test_average_of_the_parameters():
    state, step, _ = setup(ema_decay=0.9)
    new, _ = step(state, make_batch())
    expected = jax.tree.map(lambda old, p: 0.1 * old + 0.9 * p, state.params, new.params)
    assert max_difference(new.ema, expected) < 1e-7  # the first decay is (1 + 0) / (10 + 0)
    late, _ = step(state.replace(step=jnp.int32(1000)), make_batch())
    expected = jax.tree.map(lambda old, p: 0.9 * old + 0.1 * p, state.params, late.params)
    assert max_difference(late.ema, expected) < 1e-7
    assert new.variables()["params"] is new.ema


def test_one_compile_for_all_steps():
    state, step, _ = setup()
    for _ in range(3):
        state, _ = step(state, make_batch())
    assert step._cache_size() == 1


def test_dropout_depends_on_step_and_micro_batch_only():
    task = Classification(model=Linear(0.5), input_name="x", num_classes=3)
    state, step, _ = setup(task)
    again, later = step(state, make_batch())[0], step(state.replace(step=jnp.int32(1)), make_batch())[0]
    assert max_difference(step(state, make_batch())[0].params, again.params) == 0
    assert max_difference(again.params, later.params) > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counting(Classification):
    """Keeps the number of examples seen in `extra`: the smallest task with an `advance`."""

    def init(self, rng, spec):
        return super().init(rng, spec) | {"seen": {"examples": jnp.zeros(())}}

    def loss(self, variables, batch, rngs, *, train):
        loss, aux = super().loss({"params": variables["params"]}, batch, rngs, train=train)
        return loss, Aux(aux.stats, {"examples": loss.weight})

    def advance(self, extra, sums, rng):
        return {"seen": {"examples": extra["seen"]["examples"] + sums["examples"]}}


def test_advance_is_called_once_with_the_sums_of_all_micro_batches():
    task = Counting(model=Linear(), input_name="x", num_classes=3)
    state, step, _ = setup(task, micro_batches=2)
    for _ in range(2):
        state, _ = step(state, make_batch(weight=[1, 1, 1, 1, 1, 1, 1, 0]))
    assert float(state.extra["seen"]["examples"]) == 14


def test_evaluation_random_numbers_depend_on_the_batch_index_only():
    task = Classification(model=Linear(), input_name="x", num_classes=3)
    state, _, _ = setup(task)
    step = jax.jit(make_evaluation_step(task, seed=0))
    first, second = (step(state.variables(), make_batch(), np.int32(0)) for _ in range(2))
    assert max_difference(first, second) == 0
