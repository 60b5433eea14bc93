# SPDX-License-Identifier: Apache-2.0
"""Each command of gcloud that `launch/tpu_vm.py` gives, against the flags of its documentation; what it does as the
state of the TPU changes. A program of that name on the PATH writes down what it is asked; Google is not."""

import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from launch import pod
from launch.gcloud import QueuedTpu
from launch.tpu_vm import main

ROOT = Path(__file__).resolve().parents[2]
FLAGS = json.loads((ROOT / "tests" / "launch" / "gcloud_flags.json").read_text())
TPU = ["--name=pod", "--zone=europe-west4-b", "--poll=0.01"]
KIND = ["--accelerator-type=v5litepod-16", "--spot"]
RUN = ["--", "--config=configs/solids.py:tiny", "--workdir=/mnt/runs/a b"]
SPACE = "tpu_worker.sh run --config=configs/solids.py:tiny '--workdir=/mnt/runs/a b'"


@pytest.fixture
def gcloud(tmp_path, monkeypatch):
    """A folder with what the stand-in answers, and what it was asked."""
    program = tmp_path / "bin" / "gcloud"
    program.parent.mkdir()
    stand_in = ROOT / "tests" / "launch" / "gcloud_stand_in.py"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {stand_in} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("GCLOUD_STAND_IN", str(tmp_path))
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    yield tmp_path
    for number, handler in before:
        signal.signal(number, handler)
    assert undocumented(calls(tmp_path)) == []


def calls(folder):
    return [["gcloud", *json.loads(line)] for line in (folder / "calls.jsonl").read_text().splitlines()]


def verbs(folder):
    """The commands in short: create, describe, ssh with what the workers do."""
    short = []
    for call in calls(folder):
        command = next((word for word in call if word.startswith("--command=")), "")
        verb = call[4] if call[4] != "ssh" else command.rpartition("tpu_worker.sh ")[2].split()[0]
        short += [verb] if short[-1:] != [verb] else []
    return short


def undocumented(commands):
    """Commands and flags that the documentation does not have."""
    wrong = []
    for command in commands:
        known = FLAGS.get(" ".join(command[:5]), [])
        given = [word[2:].partition("=")[0] for word in command if word.startswith("--")]
        wrong += [f"{' '.join(command[:5])} --{flag}" for flag in given if flag not in known + FLAGS["gcloud"]]
        wrong += [] if known else [" ".join(command)]
    return wrong


def test_the_check_sees():
    command = "gcloud compute tpus queued-resources"
    assert undocumented([shlex.split(f"{command} create pod --zone=z --best-effort")]) == [
        f"{command} create --best-effort"
    ]
    assert undocumented([shlex.split(f"{command} ssh pod --workers=all")]) == [f"{command} ssh --workers"]
    assert undocumented([shlex.split("gcloud compute tpus make pod --zone=z")])


@pytest.mark.parametrize(("slices", "nodes"), [(1, ["--node-id=pod"]), (2, ["--node-count=2", "--node-prefix=pod"])])
def test_what_is_asked_for(slices, nodes):
    tpu = QueuedTpu(
        name="pod",
        zone="z",
        project="p",
        accelerator_type="v5litepod-16",
        runtime_version="r",
        node_count=slices,
        spot=True,
        create_flags=["--valid-until-duration=6h"],
    )
    words = tpu.create()[5:]
    assert words[:5] == ["pod", "--zone=z", "--project=p", "--accelerator-type=v5litepod-16", "--runtime-version=r"]
    assert words[5:] == [*nodes, "--spot", "--valid-until-duration=6h"]
    assert undocumented([tpu.create()]) == []


@pytest.mark.parametrize(
    ("states", "code", "asked"),
    [
        ("ABSENT WAITING_FOR_RESOURCES PROVISIONING ACTIVE", 0, "describe create describe scp setup progress run"),
        ("ACTIVE", 0, "describe scp setup progress run"),
        ("SUSPENDED WAITING_FOR_RESOURCES ACTIVE", 0, "describe delete create describe scp setup progress run"),
        ("ABSENT WAITING_FOR_RESOURCES ERROR ERROR ACTIVE", 0, "describe create describe scp setup progress run"),
        ("FAILED", 75, "describe delete create describe"),
        (
            "ABSENT PROVISIONING SUSPENDED SUSPENDED WAITING_FOR_RESOURCES ACTIVE",
            0,
            "describe create describe delete create describe scp setup progress run",
        ),
        ("ABSENT WAITING_FOR_RESOURCES FAILED", 75, "describe create describe delete create describe"),
    ],
)
def test_one_attempt(gcloud, states, code, asked):
    (gcloud / "states").write_text(states)
    assert main(["attempt", *TPU, *KIND, *RUN]) == code
    assert verbs(gcloud) == asked.split()
    if code == 0:
        (run,) = [call for call in calls(gcloud) if "run" in call[-1].split()]
        assert {"--node=all", "--worker=all", "--zone=europe-west4-b"} < set(run) and run[-1].endswith(SPACE)


@pytest.mark.parametrize(
    ("ended", "states", "code"),
    [
        ("78", "ACTIVE", 78),
        ("1", "ERROR ACTIVE", 1),
        ("75", "ACTIVE", 75),
        ("255", "ACTIVE", 75),
        ("1", "SUSPENDED", 75),
    ],
)
def test_how_a_run_ends(gcloud, ended, states, code):
    (gcloud / "codes").write_text(ended)
    (gcloud / "states").write_text(states)
    assert main(["run", *TPU, *RUN]) == code


def test_a_machine_is_prepared_once_and_again_where_that_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(pod, "PREPARED", str(tmp_path / "prepared"))
    mount = f"echo mounted >> {tmp_path}/mounts && test -e {tmp_path}/server"
    codes = [subprocess.run(["sh", "-c", f"{pod.once(mount)} && true"]).returncode]
    (tmp_path / "server").touch()
    codes += [subprocess.run(["sh", "-c", f"{pod.once(command)} && true"]).returncode for command in (mount, mount)]
    assert codes == [1, 0, 0]
    assert (tmp_path / "mounts").read_text() == "mounted\n" * 2
    assert pod.once("") == ""


def test_a_tpu_that_was_taken_away_is_asked_for_again(gcloud, capfd):
    """Twice it is taken away, the run comes further between; then it ends, and the TPU is deleted."""
    (gcloud / "codes").write_text("255 1 0")
    (gcloud / "newest").write_text("8 16 24")
    (gcloud / "states").write_text("ABSENT ACTIVE SUSPENDED SUSPENDED ACTIVE SUSPENDED SUSPENDED ACTIVE")
    assert main(["train", *TPU, *KIND, "--pause=0.01", "--restarts=1", "--delete", *RUN]) == 0
    once = ["create", "describe", "scp", "setup", "progress", "run"]
    again = ["describe", "delete", *once]
    assert verbs(gcloud) == ["describe", *once, *again, *again, "delete"]
    assert "pod is SUSPENDED: deleted, and asked for again" in capfd.readouterr().err


def test_attempts_without_progress_are_given_up(gcloud, capfd):
    (gcloud / "states").write_text("FAILED")
    assert main(["train", *TPU, *KIND, "--pause=0.01", "--restarts=2", *RUN]) == 1
    assert verbs(gcloud).count("create") == 3
    stderr = capfd.readouterr().err
    assert "given up: 2 restarts in a row without progress" in stderr
    assert stderr.endswith("python launch/tpu_vm.py delete --name=pod --zone=europe-west4-b\n")


def test_google_that_cannot_be_asked_is_given_up(gcloud, monkeypatch, capfd):
    monkeypatch.setattr(pod, "FAILURES", 2)
    (gcloud / "states").write_text("ERROR")
    assert main(["wait", *TPU]) == 75
    assert len(calls(gcloud)) == 3
    stderr = capfd.readouterr().err
    assert "given up: 2 looks at pod in a row failed. The request still stands" in stderr
    assert "delete --name=pod --zone=europe-west4-b\n" in stderr


def test_the_last_commit_is_copied_and_named(gcloud, tmp_path, monkeypatch, capfd):
    """As `git archive` does with this checkout, in one of the same layout."""
    checkout = tmp_path / "checkout"
    for file in (".gitattributes", "perceiver_jax/COMMIT", "requirements.txt", "configs/solids.py", "launch/pod.py"):
        (checkout / file).parent.mkdir(parents=True, exist_ok=True)
        (checkout / file).write_text((ROOT / file).read_text())
    git = ["git", "-C", str(checkout), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    monkeypatch.setattr(pod, "ROOT", checkout)
    assert main(["setup", *TPU]) == 0
    assert "not committed" not in capfd.readouterr().err
    (checkout / "configs" / "mine.py").touch()
    (checkout / "notes").touch()
    assert main(["setup", *TPU]) == 0
    assert capfd.readouterr().err == "tpu_vm: not copied, because it is not committed:\n?? configs/mine.py\n"
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    with tarfile.open(gcloud / "copied") as archive:
        assert archive.extractfile("perceiver_jax/COMMIT").read().decode() == commit


@pytest.mark.parametrize(("action", "number"), [("train", signal.SIGTERM), ("run", signal.SIGINT)])
def test_a_signal_lets_the_run_save(gcloud, action, number):
    """Ctrl-C of a terminal goes to all processes of its group; the first try to tell the run fails."""
    (gcloud / "hold").touch()
    (gcloud / "codes").write_text("75")
    (gcloud / "stops").write_text("255 0")
    argv = [sys.executable, "launch/tpu_vm.py", action, *TPU, *KIND, *RUN]
    process = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (gcloud / "calls.jsonl").exists() or "run" not in verbs(gcloud):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 75 and "restart" not in stderr
    assert verbs(gcloud)[-2:] == ["run", "stop"]
    assert sum("tpu_worker.sh stop" in call[-1] for call in calls(gcloud)) == 2


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["train", *TPU, *RUN], "expected --accelerator-type"),
        (["train", *TPU, *KIND, "--", "--config=c.py"], "expected -- --config=C --workdir=DIR"),
    ],
)
def test_what_is_missing_is_said(argv, line, capfd):
    assert main(argv) == 78
    assert line in capfd.readouterr().err


def test_a_dry_run_asks_nobody(gcloud, capfd):
    (gcloud / "calls.jsonl").touch()
    for action in ("train", "status", "logs", "stop", "delete", "create", "wait", "setup", "run"):
        assert main([action, *TPU, *KIND, "--node-count=2", "--project=p", "--dry-run", *RUN]) == 0
    assert calls(gcloud) == []
    shown = [shlex.split(line) for line in capfd.readouterr().out.splitlines() if line]
    assert undocumented([words for words in shown if words[0] == "gcloud"]) == []
    assert {words[4] for words in shown if words[0] == "gcloud"} == {"create", "describe", "delete", "ssh", "scp"}
    assert all("--project=p" in words for words in shown if words[0] == "gcloud")
