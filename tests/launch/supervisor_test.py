# SPDX-License-Identifier: Apache-2.0
"""Real processes, of a shell: what they say, how they end, and whether they are started again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.local import commands, last_promise, main, parse, workdir_of
from launch.supervisor import Command, Supervisor, verdict
from perceiver_jax.training.ledger import Ledger, Promise

ROOT = Path(__file__).resolve().parents[2]


def shell(*scripts):
    return [Command(str(index), ["sh", "-c", script], os.environ) for index, script in enumerate(scripts)]


@pytest.fixture
def supervisor():
    with Supervisor(pause=0.01, grace=60) as supervisor:
        yield supervisor


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ((0, 0), 0),
        ((75, 134), 75),
        ((134, 0), 75),
        ((137, 1), 75),
        ((139, 75), 75),
        ((143, 0), 75),
        ((1, 134), 1),
        ((134, 78), 78),
    ],
)
def test_verdict(codes, code):
    assert verdict(codes) == code


def test_lines_are_told_apart(supervisor, capfd):
    assert supervisor.attempt(shell("echo one", "echo two; echo three >&2")) == 0
    output = capfd.readouterr()
    assert sorted(output.out.splitlines()) == ["[0] one", "[1] two"]
    assert output.err == "[1] three\n"


def test_what_is_left_of_a_group_is_killed_with_all_it_started(tmp_path):
    script = f"sleep 1000 & echo $! > {tmp_path}/child; trap '' TERM; wait"
    wait = f"while ! test -s {tmp_path}/child; do :; done; exit 75"
    began = time.monotonic()
    with Supervisor(grace=0.3) as supervisor:
        assert supervisor.attempt(shell(script, wait)) == 75
    assert time.monotonic() - began < 600
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 120
    while Path(f"/proc/{child}/stat").exists() and " Z " not in Path(f"/proc/{child}/stat").read_text():
        assert time.monotonic() < deadline, "the child of a process lives on"


def test_the_others_have_a_moment_to_say_why(supervisor, capfd):
    assert supervisor.attempt(shell("kill -ABRT $$", "sleep 0.05; echo wrong config >&2; exit 78")) == 78
    assert "[1] wrong config" in capfd.readouterr().err


@pytest.mark.parametrize(("script", "code", "tries"), [("exit 78", 78, 1), ("exit 1", 1, 1), ("kill -9 $$", 1, 5)])
def test_how_often_it_is_tried(supervisor, script, code, tries, tmp_path, capfd):
    assert supervisor.run(lambda: shell(f"echo >> {tmp_path}/tries; {script}")) == code
    assert len((tmp_path / "tries").read_text()) == tries
    assert ("given up: 4 restarts in a row without progress" in capfd.readouterr().err) == (tries > 1)


def test_progress_begins_the_count_anew(supervisor, tmp_path):
    tries = tmp_path / "tries"
    tries.touch()
    script = f"echo >> {tries}; test $(wc -l < {tries}) = 12 || exit 75"
    assert supervisor.run(lambda: shell(script), lambda: tries.stat().st_size // 3) == 0
    assert tries.stat().st_size == 12


def test_a_signal_goes_to_all_and_nothing_is_started_again(tmp_path):
    program = f"""
import os, sys
from launch.supervisor import Command, Supervisor
script = "trap 'exit 75' TERM; touch {tmp_path}/$0; while true; do sleep 0.05; done"
with Supervisor() as supervisor:
    sys.exit(supervisor.run(lambda: [Command(n, ["sh", "-c", script, n], os.environ) for n in "ab"]))
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not ((tmp_path / "a").exists() and (tmp_path / "b").exists()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 75 and "restart" not in stderr
    assert "process a ended with 75" in stderr and "process b ended with 75" in stderr


def test_local_commands():
    options, arguments = parse(["--processes=2", "--devices=4", "--", "--config=configs/solids.py:tiny", "--a=b"])
    first, second = commands(options, arguments)
    assert first.argv[1:5] == ["-u", "-m", "perceiver_jax.main", "--config=configs/solids.py:tiny"]
    assert first.argv[5:] == ["--a=b", second.argv[6], "--num_processes=2", "--process_id=0"]
    assert second.argv[-1] == "--process_id=1" and second.argv[6].startswith("--coordinator=127.0.0.1:")
    assert first.env["XLA_FLAGS"].endswith("--xla_force_host_platform_device_count=4")
    (alone,) = commands(*parse(["--", "--config=x.py"]))
    assert alone.argv[4:] == ["--config=x.py"]


@pytest.fixture
def four_gpus(tmp_path, monkeypatch):
    """A stand-in for nvidia-smi, and for what JAX needs to use GPUs."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nfor n in 0 1 2 3; do echo GPU $n: H100; echo '  MIG'; done\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    (tmp_path / "jax_cuda13_plugin").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "flags", "gpus"),
    [
        ({}, ["--processes=2"], ["0,1", "2,3"]),
        ({"CUDA_VISIBLE_DEVICES": "3,1"}, ["--processes=2"], ["3", "1"]),
        ({}, ["--processes=1"], [None]),
        ({"JAX_PLATFORMS": "cpu"}, ["--processes=3"], [None] * 3),
        ({}, ["--processes=3", "--devices=2"], [None] * 3),
    ],
)
def test_processes_share_the_gpus(four_gpus, monkeypatch, variables, flags, gpus):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    started = commands(*parse([*flags, "--", "--config=x.py"]))
    assert [command.env.get("CUDA_VISIBLE_DEVICES") for command in started] == gpus


def test_gpus_that_do_not_divide_are_refused(four_gpus, capsys):
    assert main(["--processes=3", "--dry-run", "--", "--config=x.py"]) == 78
    assert "--processes=3: expected a divisor of the number of GPUs, 4 (0,1,2,3)" in capsys.readouterr().err


def test_progress_is_the_newest_promise(tmp_path):
    assert workdir_of(["--config=configs/solids.py:tiny"]) == Path("runs/solids-tiny")
    assert workdir_of(["--config", "c.py", "--workdir", str(tmp_path)]) == tmp_path
    newest = last_promise(tmp_path)
    assert newest() is None
    (tmp_path / "checkpoints").mkdir()
    ledger = Ledger(tmp_path / "checkpoints" / "committed.jsonl")
    ledger.promise(Promise(8, "hash", 1.0, time.time()))
    ledger.close()
    assert newest() == 8
