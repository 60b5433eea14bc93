# SPDX-License-Identifier: Apache-2.0
"""One run per folder, by real processes."""

import subprocess
import sys
import time

import pytest

from perceiver_jax.errors import Retry
from perceiver_jax.training.folder_lock import HEARTBEAT, FolderLock

HOLD = """
import pathlib, sys, time
from perceiver_jax.training.folder_lock import FolderLock

def unsupported(file, operation):
    raise OSError(95, "Operation not supported")

options = {"flock": unsupported} if sys.argv[2:] else {}
lock = FolderLock(pathlib.Path(sys.argv[1]), interval=0.05, stale=1.0, **options)
print("held", flush=True)
time.sleep(60)
"""


def unsupported(file, operation):
    raise OSError(95, "Operation not supported")


@pytest.fixture
def hold(tmp_path):
    started = []

    def hold(*flags):
        command = [sys.executable, "-c", HOLD, str(tmp_path), *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n", process.stderr.read()
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_second_process_is_told_who_has_it_and_gets_it_after_a_kill(tmp_path, hold):
    holder = hold()
    with pytest.raises(Retry, match=f"in use by process {holder.pid} on .*, started "):
        FolderLock(tmp_path)
    holder.kill()
    holder.wait()
    FolderLock(tmp_path).release()


def test_released_and_taken_again(tmp_path):
    for _ in range(2):
        with FolderLock(tmp_path):
            assert (tmp_path / HEARTBEAT).exists()
        assert not (tmp_path / HEARTBEAT).exists()


def test_without_flock_the_holder_keeps_it_while_it_lives_and_for_a_while_after(tmp_path, hold):
    holder = hold("without flock")
    began = (tmp_path / HEARTBEAT).stat().st_mtime
    deadline = time.monotonic() + 30
    while (tmp_path / HEARTBEAT).stat().st_mtime < began + 1.5:  # longer than a dead one is believed
        assert time.monotonic() < deadline
        with pytest.raises(Retry, match=f"in use by process {holder.pid} on .*, started .* last seen"):
            FolderLock(tmp_path, flock=unsupported, stale=1.0)
    holder.kill()
    holder.wait()
    last = (tmp_path / HEARTBEAT).stat().st_mtime
    while True:
        assert time.monotonic() < deadline
        try:
            FolderLock(tmp_path, flock=unsupported, stale=1.0).release()
        except Retry:
            continue
        break
    assert time.time() >= last + 1.0


def test_a_holder_that_was_taken_over_ends(tmp_path, hold):
    holder = hold("without flock")
    (tmp_path / HEARTBEAT).write_text('{"pid": 1, "host": "elsewhere", "started": "now"}')
    assert holder.wait(timeout=20) == 75
    assert "was taken over by process 1 on elsewhere, started now" in holder.stderr.read()
