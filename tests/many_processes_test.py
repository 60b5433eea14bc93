# SPDX-License-Identifier: Apache-2.0
"""Several real processes are one run: the same losses as one, a stop at the same step, and what becomes of a loss."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from launch.local import environment, free_port
from launch.supervisor import Command, Supervisor
from tests.faults.evidence import SMALL, promised, wait_for_line

ROOT = Path(__file__).resolve().parents[1]
STEPS = 16
FLAGS = (*SMALL[1:], "--config.data.name=solids", f"--config.num_steps={STEPS}", "--config.attention_maps.every=0")
FLAGS += ("--start_seconds=600",)


@pytest.fixture
def start_local():
    """`start_local(2, "--config=...", devices=4)` starts `launch/local.py`; its processes end with the test."""
    started = []

    def start(processes, *arguments, devices=1, module="main"):
        command = [sys.executable, "launch/local.py", f"--processes={processes}", f"--devices={devices}"]
        process = subprocess.Popen(
            [*command, f"--module={module}", "--pause=0.1", "--", *map(str, arguments)],
            cwd=ROOT,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGKILL)  # its processes follow
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.fixture
def run_local(start_local):
    """As `start_local`, to its end, which is a good one; what it printed."""

    def run(processes, *arguments, **options):
        process = start_local(processes, *arguments, **options)
        stdout, stderr = process.communicate(timeout=1200)
        assert process.returncode == 0, (stdout, stderr[-4000:])
        return stdout

    return run


def losses(workdir, name="train/loss"):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def assert_same(left, right):
    """Losses of training and evaluation, and the test's, within 1e-5."""
    for name in ("train/loss", "validation/loss"):
        assert losses(left, name)
        np.testing.assert_allclose(losses(left, name), losses(right, name), rtol=1e-5, err_msg=name)
    left, right = (json.loads((run / "evaluation" / "results.json").read_text()) for run in (left, right))
    assert (left["step"], left["accuracy"]) == (right["step"], right["accuracy"])
    np.testing.assert_allclose(left["loss"], right["loss"], rtol=1e-5)


def test_two_processes_stop_together_and_end_with_the_losses_of_one(start_module, run_module, run_local, tmp_path):
    two, one = tmp_path / "two", tmp_path / "one"
    where = (f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2")
    first, second = (start_module("main", *FLAGS, *where, f"--process_id={i}", f"--workdir={two}") for i in (0, 1))
    wait_for_line(first.stdout, "first step")
    second.send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=600) for process in (first, second)]
    assert (first.returncode, second.returncode) == (75, 75), said
    found = [re.search(r"preempted at step (\d+), saved; run the same command", stderr) for _, stderr in said]
    assert found[0] and found[0][1] == found[1][1] and promised(two) >= {int(found[0][1])}, said
    assert "step" not in said[1][0]  # process 0 speaks for all

    output = run_local(2, *FLAGS, f"--workdir={two}")
    assert f"[0] resuming at step {found[0][1]} of {STEPS}" in output and "[1]" not in output
    assert "of 2 processes" in output and "mesh data=2 x fsdp=1" in output
    result = run_module("main", *FLAGS, f"--workdir={one}", timeout=600)
    assert result.rc == 0, result.stderr
    assert_same(two, one)
    assert json.loads((two / "run.json").read_text())["processes"] == 2
    assert set(losses(two, "processes/slowest")) <= {0, 1} and losses(two, "processes/slowest")

    folder = tmp_path / "results"
    output = run_local(2, f"--workdir={one}", f"--output_dir={folder}", "--analyze", module="evaluate")
    assert output.count("results: ") == 1 and (folder / "report.html").exists()
    left, right = (json.loads((place / "results.json").read_text()) for place in (folder, one / "evaluation"))
    assert left["ece"] >= 0 and left["step"] == right["step"]
    np.testing.assert_allclose(left["loss"], right["loss"], rtol=1e-5)


ROUNDS = """
import os, sys
import numpy as np
from perceiver_jax import command_line
from perceiver_jax.training import processes

def main(argv):
    victim, number = map(int, argv[1:])
    with processes.joined({}, **command_line.process_flags()):
        import jax
        from jax.experimental.multihost_utils import process_allgather
        for count in range(100_000):
            process_allgather(np.ones(1))
            if count == 3 and jax.process_index() == victim:
                os.kill(os.getpid(), number)

command_line.define_processes()
command_line.run(main, words=True)
"""


@pytest.mark.faults
@pytest.mark.parametrize(
    ("victim", "number"),
    [pytest.param(1, signal.SIGSTOP, id="hung peer"), pytest.param(0, signal.SIGKILL, id="dead coordinator")],
)
def test_a_lost_process_ends_all_with_75(victim, number, capfd):
    where = [f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2", "--heartbeat_seconds=5"]
    argv = [sys.executable, "-c", ROUNDS, str(victim), str(int(number)), *where]
    commands = [Command(str(i), [*argv, f"--process_id={i}"], environment(None)) for i in range(2)]
    began = time.monotonic()
    with Supervisor(grace=1.0) as supervisor:
        assert supervisor.attempt(commands) == 75
    said = capfd.readouterr().err
    assert f"process {victim} ended with 137" in said  # stopped, it was killed with the group
    assert time.monotonic() - began < 300
