# SPDX-License-Identifier: Apache-2.0
"""SIGTERM and Ctrl-C in every phase of a run, in one folder: each stop saves, each start goes on, nothing differs."""

import json
import signal

import pytest

from tests.faults.evidence import SMALL, outcome, promised, unfinished_saves, wait_for_line, wait_until

pytestmark = pytest.mark.faults
COMPILING = {"JAX_LOG_COMPILES": "1", "JAX_COMPILATION_CACHE_DIR": ""}
TRAIN_STEP = "Compiling jit(train_step)"


@pytest.fixture
def start(start_module, tmp_path):
    """Starts the small run, or goes on with it, with these environment variables."""
    return lambda **environment: start_module(*SMALL, f"--workdir={tmp_path / 'run'}", env=environment)


def stopped(process, number):
    """What a run says that is asked once and ends with 75."""
    process.send_signal(number)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 75, stderr
    assert "asked to stop" in stderr and "Traceback" not in stderr
    return stderr


def held(process):
    """Waits until the run waits for a batch that does not come."""
    wait_for_line(process.stdout, "holding")
    return process


def test_stopped_in_every_phase_and_resumed_is_bit_identical(start, run_module, tmp_path):
    workdir = tmp_path / "run"

    first_batch = held(start(HOLD="train:1"))
    said = stopped(first_batch, signal.SIGTERM)
    assert "preempted at step 0: there is nothing to save yet; run the same command" in said
    assert promised(workdir) == set()

    compiling = start(**COMPILING)
    wait_for_line(compiling.stderr, TRAIN_STEP)
    assert "preempted at step 1, saved; run the same command to go on" in stopped(compiling, signal.SIGINT)
    assert promised(workdir) == {1}

    waiting = held(start(HOLD="train:4"))
    wait_until(lambda: 4 in promised(workdir), waiting)
    assert "preempted at step 4, saved" in stopped(waiting, signal.SIGTERM)

    evaluating = held(start(HOLD="validation:2"))
    assert "preempted at step 8, saved" in stopped(evaluating, signal.SIGINT)
    assert json.loads((workdir / "checkpoints" / "8" / "progress" / "metadata").read_text())["evaluation_due"]

    saving = start()
    wait_for_line(saving.stdout, "first step")
    wait_until(lambda: unfinished_saves(workdir), saving)
    said = stopped(saving, signal.SIGTERM)
    assert f"preempted at step {max(promised(workdir))}, saved" in said and unfinished_saves(workdir) == []

    testing = held(start(HOLD="test:1"))
    assert "preempted at step 64, saved" in stopped(testing, signal.SIGTERM)

    for name in ("run", "whole"):
        result = run_module(*SMALL, f"--workdir={tmp_path / name}", timeout=600)
        assert result.rc == 0, result.stderr
    left, right = outcome(workdir), outcome(tmp_path / "whole")
    for part in right:
        assert left[part] == right[part], part


def test_a_second_signal_ends_at_once_also_inside_a_compile(start):
    process = start(**COMPILING)
    wait_for_line(process.stderr, TRAIN_STEP)
    process.send_signal(signal.SIGTERM)
    wait_for_line(process.stderr, "asked to stop")
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Finished XLA compilation of jit(train_step)" not in stderr
