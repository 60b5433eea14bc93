# SPDX-License-Identifier: Apache-2.0
"""`launch/slurm/train.sbatch` under a Slurm of one node, started for it: Slurm is real, the training is not.

A separate run: it needs slurmctld and slurmd (Debian: apt install slurmctld slurmd) and root, and is skipped without.
A program in the place of Python writes down how it was started and ends as it is told.
"""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTROLLER = shutil.which("slurmctld") or shutil.which("slurmctld-wlm")
DAEMON = shutil.which("slurmd") or shutil.which("slurmd-wlm")
SECONDS = 300
PROGRAM = """#!/bin/sh
echo "$SLURM_PROCID of $SLURM_NTASKS: $*" >> {folder}/started
nproc >> {folder}/cpus
echo begun
code=$(cat {folder}/code."${{SLURM_RESTART_COUNT:-0}}")
test "$code $SLURM_PROCID" != "78 1" || kill -ABRT $$
test "$code" != 78 || echo 78 > "${{PERCEIVER_JAX_EXIT_CODES:?}}/$SLURM_PROCID"
test -e {folder}/hold || exit "$code"
trap 'echo saved $SLURM_PROCID >> {folder}/saved; exit 75' TERM
while true; do sleep 0.2; done
"""
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=2
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
PluginDir={plugins}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
TaskPluginParam=Cores
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2
JobAcctGatherType=jobacct_gather/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.skipif(not (CONTROLLER and DAEMON), reason="no slurmctld and slurmd on the PATH"),
    pytest.mark.skipif(os.getuid() != 0, reason="slurmd needs root"),
]


def free_ports(number):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def until(condition, what):
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} within {SECONDS} s"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A folder for the program; Slurm runs meanwhile."""
    folder, host = tmp_path_factory.mktemp("slurm"), socket.gethostname().partition(".")[0]
    controller, daemon = free_ports(2)
    plugins = next(Path(CONTROLLER).resolve().parents[1].glob("lib/*/slurm-wlm"))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    places = {"folder": folder, "host": host, "controller": controller, "daemon": daemon, "plugins": plugins}
    (folder / "slurm.conf").write_text(CONFIG.format(**places))
    (folder / "python").write_text(PROGRAM.format(folder=folder))
    (folder / "python").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("PYTHON", str(folder / "python"))
        stepd = shutil.which("slurmstepd") or shutil.which("slurmstepd-wlm")
        commands = [[CONTROLLER, "-D", "-i"], [DAEMON, "-D", "-N", host, *(["-d", stepd] if stepd else [])]]
        with open(folder / "output", "w") as output:
            processes = [subprocess.Popen(argv, stdout=output, stderr=output) for argv in commands]
        try:
            until(lambda: "idle" in told("sinfo", "--noheader"), "idle node")
            yield folder
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(timeout=SECONDS)


def told(*argv):
    return subprocess.run(argv, capture_output=True, text=True).stdout


def submit(folder, *flags):
    run = ["--config=configs/solids.py:tiny", f"--workdir={folder}/run"]
    small = ["--ntasks-per-node=2", "--cpus-per-task=1", "--gpus-per-node=0", f"--output={folder}/log", "--parsable"]
    argv = ["sbatch", *small, *flags, "launch/slurm/train.sbatch", *run]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def state(job):
    return told("squeue", "--noheader", f"--jobs={job}", "--states=all", "--format=%T").strip()


def test_it_goes_on_after_75_and_ends_when_it_is_told(slurm):
    (slurm / "code.0").write_text("75")
    (slurm / "code.1").write_text("0")
    job = submit(slurm)
    until(lambda: "restart 1," in (slurm / "log").read_text() if (slurm / "log").exists() else False, "second start")
    until(lambda: (slurm / "started").read_text().count("\n") >= 4, "two tasks twice")
    lines = (slurm / "started").read_text().splitlines()[:2]
    assert {line.partition(":")[0] for line in lines} == {"0 of 2", "1 of 2"}
    run = f"-u -m perceiver_jax.main --config=configs/solids.py:tiny --workdir={slurm}/run"
    assert all(line.endswith(run) for line in lines)
    until(lambda: state(job) == "COMPLETED", "end")
    assert "ended with 75" in (slurm / "log").read_text() and "ended with 0" in (slurm / "log").read_text()


def test_what_is_wrong_is_not_tried_again(slurm):
    """Though the other task is aborted, and srun tells of that alone."""
    (slurm / "code.0").write_text("78")
    job = submit(slurm)
    until(lambda: state(job) == "FAILED", "failure")
    assert "ended with 78" in (slurm / "log").read_text()


def test_a_task_has_all_its_processors(slurm):
    (slurm / "code.0").write_text("0")
    (slurm / "cpus").unlink(missing_ok=True)
    job = submit(slurm, "--ntasks-per-node=1", "--cpus-per-task=2")
    until(lambda: state(job) == "COMPLETED", "end")
    assert (slurm / "cpus").read_text() == "2\n"


def test_a_job_that_is_cancelled_saves_and_stays_ended(slurm):
    (slurm / "hold").touch()
    before = (slurm / "started").read_text().count("\n")
    job = submit(slurm)
    until(lambda: (slurm / "started").read_text().count("\n") == before + 2, "two tasks")
    subprocess.run(["scancel", job], check=True)
    until(lambda: (slurm / "saved").exists() and (slurm / "saved").read_text().count("saved") >= 2, "save of both")
    until(lambda: state(job) == "CANCELLED", "end")
