# SPDX-License-Identifier: Apache-2.0
"""One run per folder, by real processes."""

import subprocess
import sys

import pytest

from perceiver_jax.errors import Retry
from perceiver_jax.training.folder_lock import FolderLock

HOLD = """
import sys, time, pathlib
from perceiver_jax.training.folder_lock import FolderLock
lock = FolderLock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_second_process_is_told_who_has_it_and_gets_it_after_a_kill(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Retry, match=f"in use by process {holder.pid} on .*, started "):
            FolderLock(tmp_path)
        holder.kill()
        holder.wait()
    FolderLock(tmp_path).release()


def test_released_and_taken_again(tmp_path):
    for _ in range(2):
        FolderLock(tmp_path).release()
