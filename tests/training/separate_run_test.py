# SPDX-License-Identifier: Apache-2.0
"""A signal reaches the training, which saves and is not finished."""

import os
import signal
import threading
import time

import pytest

from perceiver_jax.errors import Retry
from perceiver_jax.metrics.history import history
from perceiver_jax.training.checkpoint import Checkpoints
from perceiver_jax.training.preemption import Preemption
from perceiver_jax.training.separate_run import DONE, SeparateRun, train
from tests import readers

PATIENCE = 200  # seconds


def test_a_signal_is_passed_on(tmp_path):
    folder = tmp_path / "rate=0.1-0"
    command = ("main", *readers.FLAGS, "--config.num_steps=100000", f"--workdir={folder}")
    run = SeparateRun("rate=0.1", folder, (command, ("evaluate", "--workdir=nowhere")))

    def stop():
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not history(folder):
            threading.Event().wait(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    with Preemption() as preemption, pytest.raises(Retry, match="stopped in rate=0.1-0; run the same command"):
        train(run, preemption)
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        assert 0 < checkpoints.latest() < 100_000
    assert "preempted at step" in (tmp_path / "rate=0.1-0.log").read_text() and not (folder / DONE).exists()
