# SPDX-License-Identifier: Apache-2.0
"""Several real processes are one run: the batches and losses of one process, a stop at the same step, and what becomes
of processes that are lost, missing or different."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from launch.local import environment, free_port
from launch.supervisor import Command, Supervisor
from tests.faults.evidence import SMALL, promised, wait_for_line, wait_until

ROOT = Path(__file__).resolve().parents[1]
STEPS = 16
FLAGS = (*SMALL[1:], f"--config.num_steps={STEPS}", "--config.attention_maps.every=0", "--start_seconds=600")
FLAGS += ("--config.model.latent_dim=128",)  # so that there is something to split over fsdp
ATTENTION = "--config.attention_maps.every=100"  # after the first epoch and the last
EIGHT_DEVICES = ("--config.mesh.data=2", "--config.mesh.fsdp=4")


@pytest.fixture(scope="module")
def start():
    """`start("launch/local.py", ..., HOLD="train:6")` starts a Python program, which ends with the tests."""
    started = []

    def start(*words, cwd=ROOT, **variables):
        process = subprocess.Popen(
            [sys.executable, "-u", *map(str, words)],
            cwd=cwd,
            env={**os.environ, **variables},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()  # what a supervisor started is asked to stop by the system
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.fixture(scope="module")
def run_local(start):
    """`run_local(4, "--config=...", devices=2)` runs `launch/local.py` to its end, which is a good one; its output."""

    def run(processes, *arguments, devices=1, module="main", **variables):
        command = ["launch/local.py", f"--processes={processes}", f"--devices={devices}", f"--module={module}"]
        process = start(*command, "--", *arguments, **variables)
        stdout, stderr = process.communicate(timeout=1200)
        assert process.returncode == 0, (stdout, stderr[-4000:])
        return stdout

    return run


@pytest.fixture(scope="module")
def one(run_local, tmp_path_factory):
    """The run of one process with one device, and the ids of its batches."""
    workdir, loaded = tmp_path_factory.mktemp("one") / "run", tmp_path_factory.mktemp("loaded")
    run_local(1, *FLAGS, ATTENTION, f"--workdir={workdir}", LOADED=str(loaded))
    batches = batches_of(loaded)
    assert len(batches) == STEPS
    return workdir, batches


@pytest.fixture(scope="module")
def stopped(start, tmp_path_factory):
    """A run of eight devices in four processes, of which one was asked to stop; its batches, all codes and stderr."""
    workdir, loaded = tmp_path_factory.mktemp("stopped") / "run", tmp_path_factory.mktemp("loaded")
    where = (f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=4", f"--workdir={workdir}")
    command = ("-m", "perceiver_jax.main", *FLAGS, *EIGHT_DEVICES, *where)
    processes = [start(*command, f"--process_id={i}", **environment(2), LOADED=str(loaded)) for i in range(4)]
    wait_for_line(processes[0].stdout, "first step")
    processes[2].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=600) for process in processes]
    return workdir, batches_of(loaded), [process.returncode for process in processes], said


@pytest.fixture(scope="module")
def public(one, tmp_path_factory):
    """The run of one process, with its data under the name that every command knows."""
    workdir = tmp_path_factory.mktemp("public") / "run"
    shutil.copytree(one[0], workdir)
    config = workdir / "config.json"
    config.write_text(config.read_text().replace('"held"', '"solids"'))
    return workdir


def batches_of(folder):
    """The ids of each batch, put together of what every process has loaded of it; a stopped one may have read less."""
    parts = [[json.loads(line) for line in file.read_text().splitlines()] for file in sorted(folder.iterdir())]
    return [sum(rows, []) for rows in zip(*parts, strict=False)]


def losses(workdir, name):
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


def assert_same_attention(left, right):
    """The files of both, and all that is in them."""
    about, expected = (json.loads((run / "attention" / "about.json").read_text()) for run in (left, right))
    assert about == expected and len(about["steps"]) == 2
    names = [sorted(file.name for file in (run / "attention").iterdir()) for run in (left, right)]
    assert names[0] == names[1] == sorted(["about.json", "examples.npz", *(f"{step}.npz" for step in about["steps"])])
    for name in set(names[0]) - {"about.json"}:
        maps, expected = (np.load(run / "attention" / name) for run in (left, right))
        assert set(maps) == set(expected)
        for key in maps:
            np.testing.assert_allclose(maps[key], expected[key], rtol=2e-3, atol=1e-3, err_msg=f"{name} {key}")


def test_processes_stop_together(stopped, one):
    workdir, batches, codes, said = stopped
    assert codes == [75] * 4, said
    found = [re.search(r"preempted at step (\d+), saved; run the same command", stderr) for _, stderr in said]
    assert all(found) and len({match[1] for match in found}) == 1, said
    done = int(found[0][1])
    assert done in promised(workdir) and batches[:done] == one[1][:done]
    assert not any("step" in stdout for stdout, _ in said[1:])  # process 0 speaks for all


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices", "mesh"), [(2, 4, ("--config.mesh.fsdp=2",)), (1, 1, ())])
def test_eight_devices_of_four_processes_go_on_as_others(stopped, one, run_local, processes, devices, mesh, tmp_path):
    """Losses are compared from the first step on."""
    shutil.copytree(stopped[0], tmp_path / "run")
    (tmp_path / "loaded").mkdir()
    done = max(promised(stopped[0]))
    flags = (*FLAGS, *mesh, ATTENTION, f"--workdir={tmp_path / 'run'}")
    output = run_local(processes, *flags, devices=devices // processes, LOADED=str(tmp_path / "loaded"))
    assert f"[0] resuming at step {done} of {STEPS}" in output and "[1]" not in output
    assert f"devices.count: 8 -> {devices}; processes: 4 -> {processes};" in output
    batches = batches_of(tmp_path / "loaded")
    assert len(batches) == STEPS - done and batches == one[1][done:]
    assert_same(tmp_path / "run", one[0])
    assert_same_attention(tmp_path / "run", one[0])
    assert json.loads((tmp_path / "run" / "run.json").read_text())["processes"] == processes
    slowest = losses(tmp_path / "run", "processes/slowest")
    assert set(slowest) <= set(range(4)) and bool(slowest) == (processes > 1)


def test_two_processes_evaluate(public, run_local, tmp_path):
    output = run_local(2, f"--workdir={public}", f"--output_dir={tmp_path}", "--analyze", module="evaluate")
    assert output.count("results: ") == 1 and (tmp_path / "report.html").exists()
    left, right = (json.loads((folder / "results.json").read_text()) for folder in (tmp_path, public / "evaluation"))
    assert left["ece"] >= 0 and left["step"] == right["step"]
    np.testing.assert_allclose(left["loss"], right["loss"], rtol=1e-5)


@pytest.mark.slow
def test_two_processes_predict(public, run_local, run_forked, tmp_path):
    clouds = tmp_path / "clouds.npy"
    np.save(clouds, np.random.default_rng(0).normal(size=(3, 16, 3)).astype(np.float32))
    arguments = (f"--workdir={public}", "--input", clouds, "--json")
    lines = run_local(2, *arguments, module="predict").splitlines()
    assert {line[:4] for line in lines} == {"[0] "}
    together = json.loads("".join(line[4:] for line in lines if "Gloo" not in line))
    alone = run_forked("predict", *arguments)
    assert alone.rc == 0, alone.stderr
    for left, right in zip(together, json.loads(alone.stdout), strict=True):
        assert [row["class"] for row in left["predictions"]] == [row["class"] for row in right["predictions"]]
        probabilities = [[row["probability"] for row in side["predictions"]] for side in (left, right)]
        np.testing.assert_allclose(*probabilities, rtol=1e-5)


def process_of(workdir, index):
    """Its id."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            words = (folder / "cmdline").read_text().split("\0")
            if {f"--workdir={workdir}", f"--process_id={index}"} <= {*words}:
                return int(folder.name)
    raise AssertionError(f"there is no process {index} of {workdir}")


LOSSES = {  # step whose promise is waited for: (process, what happens to it)
    4: (1, signal.SIGKILL),
    8: (1, signal.SIGSTOP),
    12: (0, signal.SIGKILL),
}


@pytest.mark.slow
@pytest.mark.faults
def test_killed_and_hung_processes_are_started_again_and_end_with_the_losses_of_one(start, one, tmp_path):
    """At each start batch 6 does not come, so that there is time to lose a process; after step 12 there is none."""
    workdir = tmp_path / "run"
    flags = (*FLAGS, "--heartbeat_seconds=5", f"--workdir={workdir}")
    supervisor = start("launch/local.py", "--processes=2", "--pause=0.1", "--", *flags, HOLD="train:6")
    for step, (victim, number) in LOSSES.items():
        wait_until(lambda step=step: step in promised(workdir), supervisor, seconds=600)
        os.kill(process_of(workdir, victim), number)
        began = time.monotonic()
        wait_for_line(supervisor.stderr, f"process {victim} ended with 137")  # stopped, it was killed with the group
        wait_for_line(supervisor.stderr, "restart in 0.1 s (number 1 of 4 since the last progress)")
        assert time.monotonic() - began < 75  # heartbeat 5 s, grace 10 s; the default heartbeat alone is 100 s
    stdout, stderr = supervisor.communicate(timeout=600)
    assert supervisor.returncode == 0 and "restart" not in stderr, stderr
    assert [line for line in stdout.splitlines() if "resuming" in line] == [
        f"[0] resuming at step {step} of {STEPS}" for step in LOSSES
    ]
    assert_same(workdir, one[0])


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (0, "1 of 2 processes did not come within 1 s: number 1. See what they say"),
        (1, "process 1 of 2: the coordinator, process 0 at {address}, did not come within 1 s"),
    ],
)
def test_who_does_not_come_is_named(index, said, run_forked, tmp_path):
    address = f"127.0.0.1:{free_port()}"
    where = (f"--coordinator={address}", "--num_processes=2", f"--process_id={index}", "--start_seconds=1")
    result = run_forked("main", *FLAGS, *where, f"--workdir={tmp_path / 'run'}")
    assert result.rc == 75 and said.format(address=address) in result.stderr and "Traceback" not in result.stderr
    assert result.stdout == "" and not (tmp_path / "run").exists()


def test_other_code_and_config_are_refused_before_anything_is_compiled(start, run_forked, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(ROOT / "perceiver_jax", other / "perceiver_jax")
    with open(other / "perceiver_jax" / "training" / "step.py", "a") as file:
        file.write("# another line\n")
    for folder in ("configs", "tests"):
        (other / folder).symlink_to(ROOT / folder)
    where = (f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2", f"--workdir={tmp_path / 'run'}")
    command = (*FLAGS, *where, "--process_id=1", "--config.seed=1")
    variables = {"LIBTPU_INIT_ARGS": "--a=1 --b=2", "XLA_FLAGS": f"--xla_dump_to={tmp_path}"}
    second = start("-m", "perceiver_jax.main", *command, cwd=other, PYTHONPATH="", **variables)
    result = run_forked("main", *FLAGS, *where, "--process_id=0")
    stdout, stderr = second.communicate(timeout=300)
    assert (result.rc, second.returncode) == (78, 78), (result, stderr)
    for said in (result.stderr, stderr):
        assert "the processes are not about to run the same: " in said and " code: process 0 has" in said
        assert "config.seed: process 0 has 0, process 1 has 1" in said
        assert "LIBTPU_INIT_ARGS: process 0 has '', process 1 has '--a=1 --b=2'" in said and "XLA_FLAGS" not in said
    assert (result.stdout, stdout) == ("", "") and not (tmp_path / "run").exists()


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
