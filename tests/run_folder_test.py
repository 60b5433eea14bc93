# SPDX-License-Identifier: Apache-2.0
"""Which changes a run that goes on may have, what is said of them, and what of the data is remembered."""

import dataclasses

import jax
import numpy as np
import pytest

from perceiver_jax import config as configs
from perceiver_jax import run_folder
from perceiver_jax.errors import ConfigError
from perceiver_jax.experiment import abstract_training_state
from perceiver_jax.run_folder import HARMLESS, check_shared, is_harmless, mark_of, open_run
from perceiver_jax.training.checkpoint import Checkpoints
from perceiver_jax.training.console import Console
from perceiver_jax.weights.transfer import Transfer
from tests.training.side_by_side import side_by_side
from tests.training.toy import Blobs, make_training

SERIOUS = {
    "seed",
    "batch_size",
    "num_epochs",
    "num_steps",
    "micro_batches",
    "ema_decay",
    "init_from",
    "init",
    "evaluation.every_epochs",
    "evaluation.metric",
    "evaluation.mode",
    "plateau",
    "early_stopping",
}
"""Of the shared defaults: they change parameters, the order of the data, the rate, or a decision."""


def dotted(section, prefix=""):
    for key, value in section.items():
        yield from dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]


def test_every_default_is_either_harmless_or_serious():
    defaults = configs.to_dict(configs.default())
    keys = set(dotted(defaults))
    serious = {key for key in keys if any(key == name or key.startswith(f"{name}.") for name in SERIOUS)}
    assert {key for key in keys if is_harmless(key)} == keys - serious
    unused = [name for name in {*SERIOUS, *HARMLESS} if not any(f"{key}.".startswith(f"{name}.") for key in keys)]
    assert unused == ["data.path"]


@pytest.mark.parametrize("key", ["data.paths", "data.path_format", "model.num_latents", "meshes", "data"])
def test_what_only_begins_like_a_harmless_key_is_serious(key):
    assert not is_harmless(key)


@pytest.fixture
def open_toy(tmp_path):
    """`open_toy(source, rate=..., allow_changes=True)` opens the run folder; returns what was said."""
    said = []

    class Listening(Console):
        def say(self, line):
            said.append(line)

    def opened(source=None, *, allow_changes=False, **values):
        training = make_training(source=source)
        config = {"data": {"path": "a"}, "rate": 1, "checkpoint": {"keep_latest": 2}} | values
        said.clear()
        lock = open_run(
            tmp_path,
            config,
            training,
            abstract_training_state(training),
            Listening(),
            transfer=Transfer(),
            allow_changes=allow_changes,
        )
        lock.release()
        return said, configs.load(tmp_path / "run.json")

    return opened


def test_harmless_changes_are_said_and_recorded(open_toy):
    open_toy()
    said, record = open_toy(data={"path": "b"}, checkpoint={"keep_latest": 3})
    changes = ["checkpoint.keep_latest: 2 -> 3", "data.path: 'a' -> 'b'"]
    assert [line for line in said if "changed" in line] == [f"changed since the run began: {line}" for line in changes]
    assert record["changes"] == changes and record["restarts"] == 1


def test_serious_changes_want_a_flag_and_are_recorded(open_toy):
    open_toy()
    with pytest.raises(
        ConfigError, match=r"another config \(rate: 1 -> 2\). Use another --workdir, or --allow_changes"
    ):
        open_toy(rate=2)
    assert open_toy(rate=2, allow_changes=True)[1]["changes"] == ["rate: 1 -> 2"]
    assert open_toy(rate=2)[1]["changes"] == ["rate: 1 -> 2"]


def test_what_a_run_began_with_may_change_once_it_has_a_checkpoint(open_toy, tmp_path):
    open_toy(init_from="a")
    with pytest.raises(ConfigError, match="another config .init_from: 'a' -> 'b'"):
        open_toy(init_from="b")
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(1, toy_state(), {})
    said, record = open_toy(init_from="b")
    assert "changed since the run began: init_from: 'a' -> 'b'" in said
    assert record["changes"] == ["init_from: 'a' -> 'b'"]


def toy_state():
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract_training_state(make_training()))


def test_other_data_under_the_same_config_are_noticed(open_toy):
    open_toy()
    with pytest.raises(ConfigError, match="the data's num_examples.train: 64 -> 72"):
        open_toy(Blobs(num_train=72))

    @dataclasses.dataclass(frozen=True)
    class OtherNames(Blobs):
        spec = dataclasses.replace(Blobs.spec, class_names=("a", "b", "d"))

    with pytest.raises(ConfigError, match="the data's class_names: "):
        open_toy(OtherNames())
    assert "the data's num_examples.train: 64 -> 72" in open_toy(Blobs(num_train=72), allow_changes=True)[1]["changes"]


def test_a_change_of_structure_names_config_and_arrays_whatever_is_allowed(open_toy, tmp_path):
    open_toy()
    state = toy_state()
    wider = state.replace(params=state.params | {"Dense_1": {"kernel": np.zeros((16, 5), np.float32)}})
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(1, wider, {})
    expected = (
        r"rate: 1 -> 2\): checkpoint .* does not fit .*params/Dense_1/kernel: checkpoint \(16, 5\), model \(16, 3\)"
    )
    for allow_changes in (False, True):
        with pytest.raises(ConfigError, match=expected):
            open_toy(rate=2, allow_changes=allow_changes)


def test_a_folder_that_the_processes_do_not_share_is_named_by_all(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "SHARED_SECONDS", 0.1)
    own = [tmp_path / "0", tmp_path / "1"]  # the same path of two hosts
    for index, folder in enumerate(own):
        folder.mkdir()
        (folder / "run.json").write_text(f'{{"restarts": {index}}}')
    assert side_by_side(2, lambda index: check_shared(own[0], mark_of(own[0]))) == [None, None]
    for error in side_by_side(2, lambda index: check_shared(own[index], mark_of(own[0]))):
        assert isinstance(error, ConfigError)
        assert "what process 0 has written there is not found by process 1 on " in str(error)
