# SPDX-License-Identifier: Apache-2.0
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.errors import ConfigError, Retry
from perceiver_jax.training.checkpoint import Checkpoints
from tests.training.saved import (
    assert_same,
    make_state,
    restored_step,
    save,
    step_folders,
    step_folders_and_others,
    target,
)


def test_nothing_saved_yet(tmp_path):
    with Checkpoints(tmp_path / "a" / "checkpoints") as checkpoints:
        assert (checkpoints.steps(), checkpoints.latest(), checkpoints.best()) == ([], None, None)
        with pytest.raises(ConfigError, match="no intact checkpoint"):
            checkpoints.restore(target())


def test_a_donated_state_comes_back_exactly_with_its_progress(tmp_path):
    progress = {
        "floats": [0.1 + 0.2, math.inf, -math.inf, 5e-324],
        "none": None,
        "text": "é",
        "nested": {"n": 3},
    }
    advance = jax.jit(lambda s: jax.tree.map(lambda x: x * 2 + 1, s), donate_argnums=0)
    state = make_state(1, size=20_000)
    expected = jax.tree.map(lambda x: np.array(x), state)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, progress | {"nan": math.nan}, 0.5)
        for _ in range(5):
            state = advance(state)
        checkpoints.wait()
        restored, found, step = checkpoints.restore(target(make_state(1, size=20_000)))
    assert step == 1 and math.isnan(found.pop("nan")) and found == progress
    assert_same(restored, expected)


def test_a_promised_step_is_not_saved_again(tmp_path):
    save(tmp_path, 1)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(99), {"at": 99})
        checkpoints.save(2, make_state(2), {"at": 2})
        checkpoints.save(2, make_state(99), {"at": 99})
    assert restored_step(tmp_path) == 2 and restored_step(tmp_path, 1) == 1


def test_latest_best_and_every_n_stay(tmp_path):
    scores = {1: 0.9, 2: 0.1, 3: math.nan, 4: 0.9, 6: 0.2}
    save(tmp_path, 1, 2, 3, 4, 5, 6, 7, scores=scores, keep_latest=2, keep_every_steps=3)
    assert step_folders(tmp_path) == [3, 4, 6, 7]
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps() == [3, 4, 6, 7]
        assert (checkpoints.latest(), checkpoints.best()) == (7, 4)
    assert restored_step(tmp_path, "best") == 4
    lines = [json.loads(line) for line in (tmp_path / "committed.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "manifest" in line] == [1, 2, 3, 4, 5, 6, 7]


def test_of_equal_scores_the_later_step_is_best(tmp_path):
    with Checkpoints(tmp_path, keep_latest=5) as checkpoints:
        for step, score in ((1, 0.5), (2, 0.7), (3, 0.7), (4, 0.6)):
            checkpoints.save(step, make_state(step), {}, score)
        checkpoints.wait()
        assert checkpoints.best() == 3


def test_the_newest_is_not_deleted_in_favour_of_the_best(tmp_path):
    save(tmp_path, 1, 2, 3, scores={1: 3.0, 2: 2.0, 3: 1.0}, keep_latest=1)
    assert step_folders(tmp_path) == [1, 3] and restored_step(tmp_path, "best") == 1


def test_a_later_score_counts(tmp_path):
    save(tmp_path, 1, 2, scores={1: 0.5})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.rescore(2, 0.7)
    assert restored_step(tmp_path, "best") == 2


def test_what_does_not_fit_the_target_is_listed(tmp_path):
    save(tmp_path, 1)
    state = make_state()

    def error(**changes):
        with Checkpoints(tmp_path) as checkpoints, pytest.raises(ConfigError) as raised:
            checkpoints.restore(target(state.replace(**changes)))
        return str(raised.value)

    text = error(params=state.params | {"bias": jnp.zeros(64)})
    assert "other type (1): params/bias: checkpoint bfloat16, model float32" in text
    text = error(params=state.params | {"bias": jnp.zeros((3, 2), jnp.bfloat16)})
    assert "other shape (1): params/bias: checkpoint (64), model (3, 2)" in text
    text = error(extra={"total": jnp.zeros(())})
    assert "missing in the checkpoint (1): extra/total" in text and "not in the model (1): extra/counts" in text
    text = error(opt_state=())
    assert "not in the model (3): opt_state/0/inner_state/count" in text and "\n" not in text


def test_some_fields_of_the_state_are_read_alone(tmp_path):
    save(tmp_path, 1)
    whole = target()
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        found, _, step = checkpoints.restore({"extra": whole.extra, "params": whole.params}, part=True)
        assert step == 1
        assert_same(found, {"extra": make_state(1).extra, "params": make_state(1).params})
        with pytest.raises(ConfigError, match=r"not in the model \(1\): params/bias"):
            checkpoints.restore({"params": {"layers": whole.params["layers"]}}, part=True)
        with pytest.raises(ConfigError, match=r"missing in the checkpoint \(1\): ema/kernel"):
            checkpoints.restore({"ema": {"kernel": jax.ShapeDtypeStruct((2,), np.float32)}}, part=True)


def test_an_unknown_step_names_those_there_are(tmp_path):
    save(tmp_path, 1, 2)
    with pytest.raises(ConfigError, match=r"no step 7 among the saved \[1, 2\]"):
        restored_step(tmp_path, 7)


def test_an_error_in_the_background_comes_with_the_next_call(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_state(1), {"at": 1})
    checkpoints.wait()
    os.close(checkpoints._ledger._file)  # from here on no promise can be written
    checkpoints.save(2, make_state(2), {"at": 2})
    with pytest.raises(OSError, match="Bad file descriptor"):
        checkpoints.save(3, make_state(3), {"at": 3})
    assert restored_step(tmp_path) == 1


def test_a_number_of_steps_out_of_range(tmp_path):
    with pytest.raises(ConfigError, match="keep_latest=0"):
        Checkpoints(tmp_path, keep_latest=0)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_explained_and_earlier_steps_stay(small_disk):
    message = r"no space left while saving step 2: 16.8 MB needed, \d.* free. Step 1 is saved"
    with pytest.raises(Retry, match=message) as error, Checkpoints(small_disk / "c") as checkpoints:
        checkpoints.save(1, make_state(1), {"at": 1})
        checkpoints.save(2, {"w": jax.random.normal(jax.random.key(0), (4 << 20,))}, {"at": 2})
        checkpoints.wait()
    assert str(small_disk) in str(error.value)
    assert restored_step(small_disk / "c") == 1
    assert step_folders_and_others(small_disk / "c") == ["1"]


SAVING = """
import sys, jax, jax.numpy as jnp
sys.path.insert(0, {tests!r})
from checkpoint_test import make_state
from perceiver_jax.training.checkpoint import Checkpoints
checkpoints = Checkpoints({folder!r})
step = checkpoints.latest() or 0
while True:
    step += 1
    checkpoints.save(step, make_state(step, size=2_000), {{"at": step}}, float(step))
    print(step, flush=True)
"""


@pytest.mark.faults
def test_kill_9_in_the_middle_of_a_save_leaves_the_earlier_steps(tmp_path):
    code = SAVING.format(tests=os.path.dirname(__file__), folder=str(tmp_path))
    promised = 0
    for delay in (0.0, 0.013, 0.031):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3):
            saved = int(process.stdout.readline())  # save of `saved` has begun, so `saved - 1` is promised
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with Checkpoints(tmp_path) as checkpoints:
            expected = target(make_state(size=2_000))
            state, progress, step = checkpoints.restore(expected)
            assert_same(state, make_state(step, size=2_000))
            assert progress == {"at": step} and step >= saved - 1 > promised
            assert step_folders(tmp_path) == checkpoints.steps()
            promised = step


SHARDED = """
import sys, jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from perceiver_jax.training.checkpoint import Checkpoints
mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
sharding = NamedSharding(mesh, P("fsdp"))
value = np.arange(64, dtype=np.float32).reshape(16, 4)
with Checkpoints({folder!r}) as checkpoints:
    checkpoints.save(1, {{"w": jax.device_put(value, sharding)}}, {{}})
    checkpoints.wait()
    turned = NamedSharding(mesh, P(None, None))
    state, _, _ = checkpoints.restore({{"w": jax.ShapeDtypeStruct((16, 4), np.float32, sharding=turned)}})
    assert state["w"].sharding == turned and (np.asarray(state["w"]) == value).all()
"""


def test_a_state_from_eight_devices_restores_on_one(tmp_path):
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", SHARDED.format(folder=str(tmp_path))], check=True, env=env, timeout=120)
    shutil.move(tmp_path, tmp_path.with_name("moved"))
    with Checkpoints(tmp_path.with_name("moved")) as checkpoints:
        state, _, _ = checkpoints.restore({"w": jax.ShapeDtypeStruct((16, 4), np.float32)})
    assert len(state["w"].sharding.device_set) == 1
    np.testing.assert_array_equal(state["w"], np.arange(64, dtype=np.float32).reshape(16, 4))


def test_logging_is_quiet_when_nothing_is_wrong(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    save(tmp_path, 1, 2, 3)
    assert restored_step(tmp_path) == 3 and caplog.records == []


def test_a_promised_step_can_be_replaced(tmp_path):
    save(tmp_path, 1, 2)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, make_state(2), {"at": "again"}, replace=True)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.restore(target())[1:] == ({"at": "again"}, 2)


def test_what_does_not_fit_is_known_before_anything_is_read(tmp_path):
    save(tmp_path, 1)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        checkpoints.check_fits(target())
        with pytest.raises(ConfigError, match="does not fit"):
            checkpoints.check_fits({"other": jax.ShapeDtypeStruct((2,), "float32")})
