# SPDX-License-Identifier: Apache-2.0
"""Configs become parts, and every combination that cannot work is said before anything is compiled."""

import copy
import importlib.util
from pathlib import Path

import pytest

from perceiver_jax import config as configs
from perceiver_jax import experiment
from perceiver_jax.errors import ConfigError
from perceiver_jax.validation import wrong_values

FILE = Path(__file__).resolve().parents[1] / "configs" / "solids.py"


@pytest.fixture(scope="module")
def values():
    spec = importlib.util.spec_from_file_location("solids", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return configs.to_dict(module.get_config("tiny"))


def changed(values, key, value):
    values = copy.deepcopy(values)
    *path, last = key.split(".")
    section = values
    for name in path:
        section = section[name]
    section[last] = value
    return values


def test_data_without_a_validation_split(values):
    (problem,) = wrong_values(values, ("train", "test"))
    assert "has train, test. Raise config.data.validation_fraction, or set config.evaluation.every_epochs=0" in problem
    assert wrong_values(changed(values, "evaluation.every_epochs", 0.0), ("train", "test")) == []


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("batch_size", 0, "batch_size=0: expected at least 1"),
        ("batch_size", 10**7, "is more than the"),
        ("micro_batches", 3, "micro_batches=3: expected a divisor of batch_size=64"),
        ("num_epochs", 0.0, "num_epochs=0.0: expected more than 0"),
        ("ema_decay", 1.0, "ema_decay=1.0"),
        ("log_every_steps", 0, "log_every_steps=0"),
        ("checkpoint.keep_latest", 0, "keep_latest=0"),
        ("evaluation.mode", "most", "evaluation.mode='most': expected 'min' or 'max'"),
        ("mesh.data", 3, "does not cover"),
        ("model.num_cross_attends", 3, "num_blocks=2 does not split over num_cross_attends=3"),
        ("model.share_blocks", "some", "share_blocks='some' is unknown"),
        ("model.pooling", "max", "pooling='max' is unknown"),
        ("model.num_latent", 3, "did you mean 'num_latents'"),
        ("optimizer.name", "lam", "did you mean 'lamb'"),
        ("schedule.warmup_epochs", 1e6, "warm-up"),
        ("data.variation", 2.0, "variation=2.0"),
        ("watchdog.save_seconds", 0.0, "watchdog.save_seconds=0.0: expected more than 0"),
    ],
)
def test_what_cannot_work_is_said(values, key, value, expected):
    with pytest.raises(ConfigError) as error:
        training = experiment.build(changed(values, key, value))
        experiment.abstract_training_state(training)
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_all_problems_are_said_at_once(values):
    wrong = changed(changed(values, "ema_decay", 2.0), "log_every_steps", 0)
    with pytest.raises(ConfigError, match="ema_decay.*log_every_steps"):
        experiment.build(wrong)


def test_epochs_become_steps(values):
    values = changed(changed(values, "data.num_train", 10 * values["batch_size"] + 1), "num_steps", None)
    values = changed(changed(values, "num_epochs", 6.0), "evaluation.every_epochs", 0.5)
    settings = experiment.build(values).settings
    assert (settings.steps_per_epoch, settings.num_steps, settings.evaluate_every) == (10, 60, 5)
    assert experiment.build(changed(values, "num_steps", 30)).settings.num_steps == 30


@pytest.mark.parametrize("step", [0, 1, 17])
def test_the_rate_is_the_optimizer_section_s(values, step):
    slow, fast = (experiment.build(changed(values, "optimizer.learning_rate", rate)) for rate in (1e-3, 2e-3))
    assert float(fast.schedule(step)) == pytest.approx(2 * float(slow.schedule(step)))


def test_flops_follow_the_model(values):
    small = experiment.build(values).flops_per_example
    assert experiment.build(changed(values, "model.num_latents", 16)).flops_per_example > small > 1e6


def test_load_refuses_what_is_no_run(tmp_path):
    with pytest.raises(ConfigError, match="is not a run folder"):
        experiment.load(tmp_path)
