# SPDX-License-Identifier: Apache-2.0
"""The loop on a toy: what is written when, resume in the middle of everything, early stopping, non-finite runs."""

import dataclasses
import json
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from perceiver_jax.data.patterns import Patterns
from perceiver_jax.errors import Retry
from perceiver_jax.tasks.classification import Classification
from perceiver_jax.training import loop
from perceiver_jax.training.checkpoint import Checkpoints
from perceiver_jax.training.loop import train
from perceiver_jax.training.meter import NonFiniteError
from perceiver_jax.training.state import abstract_state, state_maker
from perceiver_jax.training.times import Times
from tests.training.toy import Blobs, make_training

TIMES = ("time", "step_time", "data_wait", "examples_per_second", "memory")


def timeless(lines):
    return [{key: value for key, value in line.items() if not any(word in key for word in TIMES)} for line in lines]


def final_state(training, workdir):
    make = state_maker(training.task, training.optimizer, training.source.spec, ema=training.settings.ema_decay > 0)
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore(abstract_state(make, training.mesh), "latest")


def stop_at(monkeypatch, step):
    """Lets the run be asked to stop at a step, as a signal would."""

    class Preemption(loop.Preemption):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    original = loop._Loop._one_step

    def one_step(self, batches, *, first):
        original(self, batches, first=first)
        self.preemption.requested = int(self.state.step) == step

    monkeypatch.setattr(loop, "Preemption", Preemption)
    monkeypatch.setattr(loop._Loop, "_one_step", one_step)


def assert_equal_states(left, right):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), left, right)


@pytest.fixture(scope="module")
def options():
    return dict(ema_decay=0.9, micro_batches=2, plateau=1, early_stopping=9)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, options):
    workdir = tmp_path_factory.mktemp("whole")
    training = make_training(**options)
    return train(training, workdir), final_state(training, workdir)


def test_history_has_every_line_at_its_step(uninterrupted):
    history, _ = uninterrupted
    kinds = [(line["step"], "train" if "train/loss" in line else "validation") for line in history]
    logs = [(step, "train") for step in (5, 10, 15, 20, 24)]
    assert sorted(kinds) == sorted(logs + [(step, "validation") for step in (8, 16, 24)])
    assert kinds == sorted(kinds, key=lambda kind: kind[0])
    assert history[-1]["validation/accuracy"] > 0.8


@pytest.mark.parametrize("step", [3, 8, 13, 24])
def test_preempted_and_resumed_run_is_bit_identical(step, tmp_path, monkeypatch, uninterrupted, options):
    with monkeypatch.context() as patch, pytest.raises(Retry, match=f"preempted at step {step}, saved"):
        stop_at(patch, step)
        train(make_training(**options), tmp_path)
    history = train(make_training(**options), tmp_path)
    expected_history, (expected, expected_progress, _) = uninterrupted
    state, progress, at = final_state(make_training(**options), tmp_path)
    assert at == 24
    assert_equal_states(state, expected)
    assert timeless(history) == timeless(expected_history)
    assert progress == expected_progress


def test_finished_run_changes_nothing(tmp_path, options):
    began = time.time()
    history = train(make_training(**options), tmp_path)
    spent = Times(tmp_path).totals()
    assert set(spent) - {"initialise"} == {"compile", "data", "step", "evaluation", "save"}
    assert 0 < spent["step"] < sum(spent.values()) < time.time() - began + 1
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert train(make_training(**options), tmp_path) == history
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_asked_to_stop_at_the_last_step_with_nothing_left_to_do_finishes(tmp_path, monkeypatch):
    stop_at(monkeypatch, 24)
    assert train(make_training(evaluate_every=0), tmp_path)[-1]["step"] == 24


def test_asked_to_stop_before_the_first_batch_says_that_nothing_is_saved(tmp_path):
    preemption = loop.Preemption()
    preemption.requested = True
    with pytest.raises(Retry, match="preempted at step 0: there is nothing to save yet"):
        train(make_training(), tmp_path, preemption=preemption)
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps() == []


def test_stopped_in_an_evaluation_does_it_first_on_resume(tmp_path, monkeypatch, uninterrupted, options):
    with monkeypatch.context() as patch, pytest.raises(Retry, match="preempted at step 16"):
        original = loop.evaluate

        def interrupted(step, variables, batches, mesh, on_batch):
            def ask():
                running.preemption.requested = int(running.state.step) == 16
                on_batch()  # the next batch is not read

            return original(step, variables, batches, mesh, ask)

        patch.setattr(loop, "evaluate", interrupted)
        running = loop._Loop(make_training(**options), tmp_path, loop.Console(quiet=True), loop.Preemption())
        running.run(None)
    assert timeless(train(make_training(**options), tmp_path)) == timeless(uninterrupted[0])


def test_moved_run_goes_on(tmp_path, monkeypatch, options, uninterrupted):
    with monkeypatch.context() as patch, pytest.raises(Retry):
        stop_at(patch, 10)
        train(make_training(**options), tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "b")
    train(make_training(**options), tmp_path / "b")
    assert_equal_states(final_state(make_training(**options), tmp_path / "b")[0], uninterrupted[1][0])


def test_early_stopping_ends_the_run_for_good(tmp_path):
    options = dict(early_stopping=1, learning_rate=0.0, num_steps=80)
    history = train(make_training(**options), tmp_path)
    assert history[-1]["step"] == 16  # the second evaluation is no better than the first
    assert train(make_training(**options), tmp_path) == history


def test_plateau_scales_the_logged_rate(tmp_path):
    history = train(make_training(plateau=1, learning_rate=1e-9, num_steps=32), tmp_path)
    rates = {line["step"]: line["train/learning_rate"] for line in history if "train/loss" in line}
    schedule = make_training(learning_rate=1e-9, num_steps=32).schedule
    scales = {step: rate / float(schedule(step - 1)) for step, rate in rates.items()}
    assert scales[5] == pytest.approx(1) and scales[20] == pytest.approx(0.5) and scales[30] < 0.3


@pytest.mark.parametrize("step", [10, 18, 30])
def test_plateau_and_early_stopping_in_play_survive_a_stop(step, tmp_path, monkeypatch):
    """With a rate of zero nothing improves: the plateau fires, patience runs out, whenever the run was interrupted."""
    options = dict(learning_rate=0.0, plateau=2, early_stopping=4, num_steps=80)
    whole = train(make_training(**options), tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Retry):
        stop_at(patch, step)
        train(make_training(**options), tmp_path / "cut")
    assert timeless(train(make_training(**options), tmp_path / "cut")) == timeless(whole)
    (state, progress, at), (expected, expected_progress, expected_at) = (
        final_state(make_training(**options), tmp_path / name) for name in ("cut", "whole")
    )
    assert at == expected_at == 40 and progress == expected_progress
    assert float(state.lr_scale) == float(expected.lr_scale) < 1


def test_early_stop_found_in_a_due_evaluation_is_final(tmp_path, monkeypatch):
    options = dict(learning_rate=0.0, early_stopping=2, num_steps=80)
    with monkeypatch.context() as patch, pytest.raises(Retry):
        stop_at(patch, 24)  # the third evaluation, due but not done, would end the run
        train(make_training(**options), tmp_path)
    history = train(make_training(**options), tmp_path)
    assert history[-1]["step"] == 24
    assert train(make_training(**options), tmp_path) == history


def test_the_last_step_is_saved_even_without_checkpoints_in_between(tmp_path):
    train(make_training(checkpoint_every=0, evaluate_every=0), tmp_path)
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps() == [24]


@pytest.mark.parametrize("window", [(4, 3), (22, 10)])
def test_profile_window_is_written_also_when_the_run_ends_in_it(tmp_path, window):
    train(make_training(profile_start=window[0], profile_steps=window[1]), tmp_path)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_stopped_inside_the_profile_window_goes_on(tmp_path, monkeypatch):
    options = dict(profile_start=4, profile_steps=10)
    with monkeypatch.context() as patch, pytest.raises(Retry):
        stop_at(patch, 7)
        train(make_training(**options), tmp_path)
    assert train(make_training(**options), tmp_path)[-1]["step"] == 24


def test_best_checkpoint_survives(tmp_path):
    training = make_training(num_steps=48, learning_rate=0.05)
    history = train(training, tmp_path)
    accuracy = {line["step"]: line["validation/accuracy"] for line in history if "validation/accuracy" in line}
    best = max(accuracy, key=lambda step: (accuracy[step], step))
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.best() == best
        assert checkpoints.latest() == 48


def test_non_finite_run_ends_and_names_the_examples(tmp_path):
    source = Blobs(poison=tuple(range(64)))
    with pytest.raises(NonFiniteError, match="3 steps in a row"):
        train(make_training(source=source), tmp_path)
    examples = json.loads((tmp_path / "non_finite.json").read_text())["examples"]
    assert [len(batch) for batch in examples] == [8, 8, 8]


def test_one_bad_batch_is_skipped_and_logged(tmp_path):
    history = train(make_training(source=Blobs(poison=(5,))), tmp_path)
    skipped = sum(
        line["train/skipped_steps"] * 5 for line in history if line["step"] in (5, 10, 15, 20) and "train/loss" in line
    )
    assert skipped >= 2  # example 5 comes once an epoch
    assert all(np.isfinite(line["train/loss"]) for line in history if "train/loss" in line)


class MaskedMean(nn.Module):
    """A linear classifier of the mean and the power of the real steps."""

    @nn.compact
    def __call__(self, inputs, mask, *, train: bool = False):
        features = jnp.concatenate([inputs, inputs**2], -1) * mask[..., None]
        return nn.Dense(5)(features.sum(1) / mask.sum(1, keepdims=True).clip(1))


def sequences_training():
    """As `make_training`, on sequences in three buckets."""
    source = Patterns(num_train=64, num_validation=20, num_channels=2, num_buckets=3)
    task = Classification(model=MaskedMean(), input_name="sequence", num_classes=5)
    return dataclasses.replace(make_training(source=source), task=task)


def test_sequences_are_compiled_once_a_bucket_and_resume_bit_identically(tmp_path, monkeypatch, capsys):
    whole = loop._Loop(sequences_training(), tmp_path / "whole", loop.Console(), loop.Preemption())
    beat, phases = whole.watchdog.beat, []
    monkeypatch.setattr(whole.watchdog, "beat", lambda phase, times=1: phases.append(phase) or beat(phase, times))
    history = whole.run(None)
    compiled = whole.train_step._cache_size() + whole.evaluation_step._cache_size()
    assert phases.count("compile") == compiled + 3  # and what is drawn of 3 evaluations
    assert whole.train_step._cache_size() == 3 >= whole.evaluation_step._cache_size() > 1
    assert capsys.readouterr().out.count("first step of another shape") == 2
    with monkeypatch.context() as patch, pytest.raises(Retry):
        stop_at(patch, 13)
        train(sequences_training(), tmp_path / "cut")
    assert timeless(train(sequences_training(), tmp_path / "cut")) == timeless(history)
    states = [final_state(sequences_training(), tmp_path / name)[0] for name in ("whole", "cut")]
    assert_equal_states(*states)
