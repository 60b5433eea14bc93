# SPDX-License-Identifier: Apache-2.0
"""The prepared folder: keyed by what decides its content, made once, whole or not at all, where it can be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perceiver_jax.data.prepared import fingerprint, locked, prepare, roots
from perceiver_jax.errors import ConfigError, Retry

ROOT = Path(__file__).resolve().parents[2]


def make(folder):
    (folder / "content").write_text("whole")


COMMAND = """
import os, pathlib, sys
from perceiver_jax.data.prepared import prepare
root = pathlib.Path(sys.argv[1])

def make(folder):
    os.close(os.open(root / "running", os.O_CREAT | os.O_EXCL))  # fails where another runs
    (folder / "content").write_text("whole")
    if "die" in sys.argv:
        os._exit(9)
    (root / "running").unlink()
    with open(root / "made", "a") as stream:
        stream.write("x")

print("ready", flush=True)
sys.stdin.readline()
prepare([root], "key", make)
"""


def start(root, *arguments):
    """A process that prepares `root` when it is told to."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(root), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def end(process):
    """Its exit code."""
    try:
        process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode


def test_is_made_once(tmp_path):
    assert (prepare([tmp_path / "root"], "key", make) / "content").read_text() == "whole"
    prepare([tmp_path / "root"], "key", lambda folder: pytest.fail("made again"))
    prepare([tmp_path / "other", tmp_path / "root"], "key", lambda folder: pytest.fail("not looked for"))
    assert not (tmp_path / "other").exists()


def test_two_processes_make_it_once(tmp_path):
    processes = [start(tmp_path), start(tmp_path)]
    for process in processes:
        go(process)
    assert [end(process) for process in processes] == [0, 0]
    assert (tmp_path / "made").read_text() == "x"


def test_the_second_waits_for_the_lock(tmp_path):
    process = start(tmp_path)
    with locked(tmp_path):
        go(process)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        assert not (tmp_path / "key").exists()
    assert end(process) == 0 and (tmp_path / "key" / "content").exists()


def test_an_interrupted_preparation_is_repaired(tmp_path):
    process = start(tmp_path, "die")
    go(process)
    assert end(process) == 9 and (tmp_path / "key.partial" / "content").exists() and not (tmp_path / "key").exists()
    folder = prepare([tmp_path], "key", lambda folder: (folder / "other").write_text("whole"))
    assert [file.name for file in folder.iterdir()] == ["other"] and not (tmp_path / "key.partial").exists()


def test_goes_next_to_the_data_or_into_the_cache(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    candidates = roots(tmp_path / "data")
    assert candidates[0] == tmp_path / "data.prepared"
    candidates[0].write_text("in the way")  # what cannot be written; root may write to a read-only folder
    made = prepare(candidates, "key", make)
    assert made == tmp_path / "cache" / "perceiver_jax" / "data" / "key"
    assert f"the prepared data go to {made.parent}" in caplog.text
    assert roots(tmp_path / "data", str(tmp_path / "mine")) == [tmp_path / "mine"]


def test_a_read_only_folder_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    closed = tmp_path / "data"
    closed.mkdir(0o555)
    if os.getuid() == 0:
        closed = Path("/proc/self")  # root writes to read-only folders, but not there
    try:
        assert prepare(roots(closed / "set"), "key", make).is_relative_to(tmp_path / "cache")
    finally:
        (tmp_path / "data").chmod(0o755)


def test_nowhere_to_write(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write .*file.*--config.data.prepared_path=DIR"):
        prepare([tmp_path / "file"], "key", make)


def test_failures_of_the_disk_are_told(tmp_path):
    def full(folder):
        raise OSError(28, "No space left on device")

    def broken(folder):
        raise OSError(5, "Input/output error", "a.off")

    with pytest.raises(Retry, match="No space left on device. Make room"):
        prepare([tmp_path], "key", full)
    with pytest.raises(ConfigError, match="Input/output error, a.off"):
        prepare([tmp_path], "key", broken)
    assert not (tmp_path / "key.partial").exists()


def test_a_disk_that_a_library_fills_is_told(tmp_path):
    def full(folder):
        (folder / "half").write_text("x")
        raise RuntimeError("Failed to finalize writing: write() failed: No space left on device; at byte 4194304")

    def bug(folder):
        raise RuntimeError("mine")

    with pytest.raises(Retry, match="No space left on device. Make room"):
        prepare([tmp_path], "key", full)
    with pytest.raises(RuntimeError, match="mine"):
        prepare([tmp_path], "key", bug)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_the_fingerprint_follows_all_that_decides(tmp_path):
    (tmp_path / "a.off").write_text("one")
    (tmp_path / "b.off").write_text("two")
    files = ["a.off", "b.off"]
    first = fingerprint(tmp_path, files, num_points=10)
    assert fingerprint(tmp_path, files, num_points=10) == first
    others = [fingerprint(tmp_path, files, num_points=11), fingerprint(tmp_path, ["a.off"], num_points=10)]
    os.utime(tmp_path / "a.off", ns=(1, 1))
    others.append(fingerprint(tmp_path, files, num_points=10))
    (tmp_path / "a.off").write_text("more")
    os.utime(tmp_path / "a.off", ns=(1, 1))
    others.append(fingerprint(tmp_path, files, num_points=10))
    assert len({first, *others}) == 5
