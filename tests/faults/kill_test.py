# SPDX-License-Identifier: Apache-2.0
"""Killed with -9 at random moments, one after the other in one folder: in the end nobody can tell.

Each start goes on where the last promise stands and is killed again, so ten kills cost little more than one run.
Before the last start the number of data workers changes too.
"""

import os
import signal
import time

import numpy as np
import pytest

from tests.faults.evidence import (
    LAST,
    SMALL,
    last_step,
    outcome,
    promised,
    unfinished_saves,
    wait_for_line,
    wait_until,
)

pytestmark = pytest.mark.faults
NUM_KILLS = 10


def reach(process, workdir, *, step, in_save, delay):
    """Returns at the moment to kill: so many seconds after that step was logged, or as soon as a save has begun."""
    wait_for_line(process.stdout, "first step")
    wait_until(lambda: last_step(workdir) >= step, process)
    begun = time.monotonic()
    wait_until(lambda: unfinished_saves(workdir) if in_save else time.monotonic() >= begun + delay, process)


def kill(process):
    assert process.poll() is None, "the run was over before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_ten_times_and_resumed_is_bit_identical(start_module, run_module, tmp_path):
    rng = np.random.default_rng(4)
    workdir, whole = tmp_path / "killed", tmp_path / "whole"
    in_save = before_promise = 0
    steps = [0, *sorted(rng.integers(1, LAST - 10, size=NUM_KILLS - 1))]  # the first before anything is saved
    for number, step in enumerate(steps):
        process = start_module(*SMALL, f"--workdir={workdir}")
        reach(process, workdir, step=step, in_save=number % 3 == 1, delay=rng.uniform(0, 0.1) * (number > 0))
        kill(process)
        in_save += bool(unfinished_saves(workdir))
        before_promise += not promised(workdir)
    assert in_save >= 2 and before_promise >= 1, (in_save, before_promise)
    result = run_module(*SMALL, f"--workdir={workdir}", "--config.pipeline.num_workers=1", timeout=600)
    assert result.rc == 0, result.stderr
    assert "changed since the run began: pipeline.num_workers: 0 -> 1" in result.stdout
    assert "so not bit for bit" not in result.stdout
    result = run_module(*SMALL, f"--workdir={whole}", timeout=600)
    assert result.rc == 0 and "stopped early at step 64" in result.stdout and "rate x 0.008" in result.stdout
    left, right = outcome(workdir), outcome(whole)
    for part in right:
        assert left[part] == right[part], part
