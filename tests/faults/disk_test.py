# SPDX-License-Identifier: Apache-2.0
"""A disk that is full or read-only, under real commands: what is said, what stays, and how it goes on afterwards.

The disk is a small tmpfs, which needs the right to mount; without it these tests are skipped, loudly.
"""

import contextlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from perceiver_jax.errors import Retry
from perceiver_jax.metrics.history import history
from perceiver_jax.training.checkpoint import Checkpoints
from perceiver_jax.training.writers import Writers
from tests.readers import FLAGS

pytestmark = pytest.mark.faults

RUN = (*FLAGS, "--config.model.latent_dim=128", "--config.model.num_self_attends_per_block=2")  # a state of 2.9 MB
RUN += ("--config.num_steps=48", "--config.log_every_steps=2", "--config.evaluation.every_epochs=0.5")
RUN += ("--config.checkpoint.every_epochs=0.25",)  # 2 steps


def mount(folder: Path, options: str) -> bool:
    folder.mkdir(exist_ok=True)
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True).returncode == 0


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


@pytest.fixture
def disk(tmp_path):
    """A file system of 64 MB."""
    folder = tmp_path / "disk"
    if not mount(folder, "size=64m"):
        pytest.skip("NO SMALL DISK: mounting a tmpfs is not allowed here; run the tests as root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def fill(folder: Path, leave: int) -> Path:
    """Takes all but `leave` bytes of the disk."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), open(ballast, "ab") as file:  # a run may be writing too
        file.write(bytes(max(free(folder) - leave, 0)))
    return ballast


def promised(run: Path) -> list[int]:
    lines = [json.loads(line) for line in (run / "checkpoints" / "committed.jsonl").read_text().splitlines()]
    gone = {line["step"] for line in lines if "withdrawn" in line}
    return sorted({line["step"] for line in lines} - gone)


def test_too_little_room_is_said_before_anything_is_compiled(disk, run_forked):
    fill(disk, leave=2 << 20)
    result = run_forked("main", *RUN, f"--workdir={disk / 'run'}")
    assert result.rc == 75 and "starting at step" not in result.stdout, result
    found = re.search(
        r"(\S+): no space left for a checkpoint: (\S+) MB needed, (\S+) MB free. No step is", result.stderr
    )
    assert found and found[1] == str(disk / "run" / "checkpoints"), result.stderr
    assert float(found[2]) > 2.5 and float(found[3]) < 2.2
    assert "Traceback" not in result.stderr


def test_a_disk_that_fills_up_ends_the_run_and_room_lets_it_go_on(disk, start_module, run_module):
    run = disk / "run"
    process = start_module("main", *RUN, f"--workdir={run}")
    for line in process.stdout:
        if re.match(r"step +6/48 .*train", line):  # step 2 is promised, since the save of step 4 waits for that
            ballast = fill(disk, leave=1 << 20)
            break
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 75, (stdout, stderr)
    assert re.search(r"error: \S*disk/run\S*: no space left while .* MB free\. Step \d+ is saved", stderr), stderr
    assert "Traceback" not in stderr.partition("error: ")[2]
    (*_, last) = promised(run)
    ballast.unlink()
    (run / "checkpoints" / "6.orbax-checkpoint-tmp-9").mkdir()  # as a save leaves it that was cut off
    again = run_module("main", *RUN, f"--workdir={run}", timeout=300)
    assert again.rc == 0, again
    assert re.search(r"removing \S*6.orbax-checkpoint-tmp-9: its save was never finished", again.stderr)
    assert f"resuming at step {last} of 48" in again.stdout  # verified by its hashes
    assert not list((run / "checkpoints").glob("*tmp*")) and promised(run)[-1] == 48

    remount(disk, "ro")  # a finished run on a disk that cannot be written any more
    result = run_module("main", *RUN, f"--workdir={run}", timeout=300)
    remount(disk, "rw")
    assert result.rc == 78 and "Traceback" not in result.stderr
    assert re.search(
        rf"error: {run}\S*: cannot be written .* \(Read-only file system\). Step 48 is saved", result.stderr
    )


@pytest.mark.parametrize("write", ["scalars", "histograms", "texts"])
def test_metrics_that_find_no_room_never_hang_and_never_hide_what_came_before(disk, write):
    values = {"scalars": {"x": 1.0}, "histograms": {"x": np.arange(1000.0)}, "texts": {"x": "y" * 10_000}}[write]
    writers = Writers(disk / "run")
    writers.scalars(1, {"loss": 1.0})
    writers.flush()
    fill(disk, leave=0)
    with pytest.raises(Retry, match=r"disk/run: no space left while writing the metrics"):
        for step in range(2, 500):  # the rest of the last block takes a few
            getattr(writers, write)(step, values)
            writers.flush()
    with pytest.raises(ZeroDivisionError), writers:
        raise ZeroDivisionError
    assert [line["step"] for line in history(disk / "run")][:1] == [1]


def test_a_read_only_disk_is_said_before_anything_is_compiled(disk, run_forked):
    remount(disk, "ro")
    result = run_forked("main", *RUN, f"--workdir={disk / 'run'}")
    remount(disk, "rw")
    assert result.rc == 78 and "starting at step" not in result.stdout and "Traceback" not in result.stderr
    assert f"error: {disk / 'run'}: cannot be written" in result.stderr and "Read-only file system" in result.stderr


@pytest.mark.parametrize("leave", range(0, 24_576, 4096))  # in bytes: which write fails differs
def test_saves_that_find_no_room_are_explained_wherever_they_fail(disk, leave):
    state = {"large": np.zeros(300_000, np.float32)} | {f"small_{i}": np.zeros(1000, np.float32) for i in range(50)}
    checkpoints = Checkpoints(disk / "run")
    checkpoints.save(1, state, {})
    checkpoints.wait()
    fill(disk, leave=leave)
    with pytest.raises(Retry, match=r"disk/run: no space left while"):
        try:
            checkpoints.save(2, state, {})
        finally:
            checkpoints.close()
