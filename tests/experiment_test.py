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

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
CONVOLUTIONS = {"name": "convolutions", "num_channels": 4, "strides": (2, 2)}


def tiny(name):
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return configs.to_dict(module.get_config("tiny"))


@pytest.fixture(scope="module")
def values():
    return tiny("solids")


@pytest.fixture(scope="module")
def with_slots():
    """Configs whose models have slots; of `convolved` encoder and decoder are convolutions."""
    found = {name: tiny(name) for name in ("slot_attention", "set_prediction", "svq")}
    found["convolved"] = changed(found["slot_attention"], "model.encoder", dict(CONVOLUTIONS))
    found["convolved"]["model"]["decoder"] = dict(CONVOLUTIONS)
    return found


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
        ("model", None, "config.model=None: expected a section whose name is one of"),
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


@pytest.mark.parametrize(
    ("name", "key", "value", "expected"),
    [
        ("slot_attention", "task.num_iterations", 0, "task.num_iterations=0: expected 1 to 1,000"),
        ("slot_attention", "task.num_slots", -1, "task.num_slots=-1: expected 1 to 1,000,000"),
        ("slot_attention", "task.num_seeds", 10**6, "task.num_seeds=1000000: expected 1 to 20"),
        ("slot_attention", "model.num_slots", 2**31 - 1, "model.num_slots=2147483647: expected 1 to 1,000,000"),
        ("slot_attention", "model.feature_dim", 0, "model.feature_dim=0: expected at least 1"),
        ("slot_attention", "model.encoder.patch_size", 0, "model.encoder.patch_size=0: expected at least 1"),
        ("slot_attention", "model.encoder.patch_size", 32, "patch_size=32 does not divide an image of 16 x 16"),
        ("slot_attention", "model.encoder.context", -1, "model.encoder.context=-1: expected 0 to 16"),
        ("slot_attention", "model.encoder.num_layers", 0, "model.encoder.num_layers=0: expected 1 to 1,000"),
        ("slot_attention", "model.encoder.num_channels", 0, "model.encoder.num_channels=0: expected at least 1"),
        ("slot_attention", "model.decoder.patch_size", 0, "model.decoder.patch_size=0: expected at least 1"),
        ("slot_attention", "model.decoder.num_layers", 0, "model.decoder.num_layers=0: expected 1 to 1,000"),
        ("slot_attention", "model.decoder.fourier_bands", -1, "model.decoder.fourier_bands=-1: expected at least 0"),
        ("convolved", "model.encoder.strides", (2, 0), "model.encoder.strides=(2, 0): expected at least 1"),
        ("convolved", "model.encoder.num_channels", -1, "model.encoder.num_channels=-1: expected at least 1"),
        ("convolved", "model.decoder.strides", (-1, 2), "model.decoder.strides=(-1, 2): expected at least 1"),
        ("convolved", "model.decoder.num_channels", 0, "model.decoder.num_channels=0: expected at least 1"),
        ("set_prediction", "task.num_iterations", -1, "task.num_iterations=-1: expected 1 to 1,000"),
        ("set_prediction", "model.feature_dim", 0, "model.feature_dim=0: expected at least 1"),
        ("set_prediction", "model.head_dim", 0, "model.head_dim=0: expected at least 1"),
        ("svq", "model.feature_dim", 0, "model.feature_dim=0: expected at least 1"),
        ("svq", "model.encoder.patch_size", 0, "model.encoder.patch_size=0: expected at least 1"),
        ("svq", "model.decoder.num_channels", 0, "model.decoder.num_channels=0: expected at least 1"),
        ("svq", "model.decoder", {"name": "transformer", "num_layers": 0}, "model.decoder.num_layers=0: expected at"),
    ],
)
def test_what_no_slots_can_have_is_said(with_slots, name, key, value, expected):
    with pytest.raises(ConfigError) as error:
        experiment.build(changed(with_slots[name], key, value))
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
