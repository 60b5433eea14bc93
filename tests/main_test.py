# SPDX-License-Identifier: Apache-2.0
"""The commands end to end, as a person runs them: train, stop and resume, evaluate, check the data. Kills: `faults`."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from perceiver_jax.data.perturbation import STRENGTHS
from tests.data.conftest import write_modelnet
from tests.faults.evidence import metrics, saved_state

TINY = (
    "--config=configs/solids.py:tiny",
    "--config.data.num_train=512",
    "--config.data.num_validation=64",
    "--config.data.num_test=64",
    "--config.num_epochs=8.0",
    "--config.log_every_steps=3",
    "--config.checkpoint.every_epochs=0.5",
)
STEPS = 8 * (512 // 64)
VALIDATION = "validation/loss"


def states(workdir: Path) -> dict[str, bytes]:
    """Every leaf of the newest checkpoint."""
    steps = [folder for folder in (workdir / "checkpoints").iterdir() if folder.name.isdigit()]
    return saved_state(max(steps, key=lambda folder: int(folder.name)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run and what the command said."""
    import subprocess
    import sys

    workdir = tmp_path_factory.mktemp("runs") / "solids-tiny"
    command = [sys.executable, "-m", "perceiver_jax.main", *TINY, f"--workdir={workdir}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return workdir, result.stdout


def test_says_what_it_does_and_what_to_run_next(finished):
    workdir, output = finished
    first, *_, last = output.splitlines()
    assert first.startswith("configs/solids.py:tiny on ") and str(workdir) in first
    for expected in (
        "parameters",
        "GFLOP per example",
        f"step     {STEPS}/{STEPS}",
        "accuracy",
        "perceiver_jax.evaluate",
        "time of 1 start: ",
    ):
        assert expected in output
    assert last.strip().startswith("tensorboard --logdir")


def test_run_folder_holds_what_it_promises(finished):
    workdir, _ = finished
    record = json.loads((workdir / "run.json").read_text())
    for key in ("command", "git", "versions", "devices", "threads", "spec", "parameters", "num_parameters"):
        assert record[key], key
    assert json.loads((workdir / "config.json").read_text())["model"]["num_latents"] == 8
    results = json.loads((workdir / "evaluation" / "results.json").read_text())
    assert (results["split"], results["num_examples"]) == ("test", 64)
    assert sum(scores["support"] for scores in results["per_class"].values()) == 64
    assert set(results) >= {"step", "accuracy", "top5_accuracy", "loss"}
    assert len(results["per_class"]) == len(record["spec"]["class_names"]) >= 10
    newest = max((workdir / "evaluation").glob("test-*"), key=os.path.getmtime)
    assert json.loads((newest / "results.json").read_text()) == results


def test_tensorboard_reads_the_curves(finished):
    workdir, _ = finished
    events = EventAccumulator(str(workdir)).Reload()
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    logged = {line["step"]: line["train/loss"] for line in metrics(workdir) if "train/loss" in line}
    assert losses == pytest.approx(logged)
    assert "validation/accuracy" in events.Tags()["scalars"]


def test_same_command_again_says_it_is_finished_and_what_differs(finished, run_module):
    workdir, _ = finished
    before = (workdir / "metrics.jsonl").read_bytes()
    two_devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    result = run_module("main", *TINY, f"--workdir={workdir}", env=two_devices)
    assert result.rc == 0 and "finished" in result.stdout
    (line,) = (line for line in result.stdout.splitlines() if "so not bit for bit" in line)
    assert "devices.count: 1 -> 2; mesh.data: 1 -> 2; xla_flags: none -> --xla_force" in line
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_a_second_run_in_the_folder_is_refused(start_module, run_module, tmp_path):
    arguments = ("main", *TINY, f"--workdir={tmp_path / 'run'}")
    first = start_module(*arguments)
    for line in first.stdout:
        if line.startswith("first step"):
            break
    second = run_module(*arguments)
    assert second.rc == 75 and f"in use by process {first.pid}" in second.stderr


def test_changes_that_do_not_fit_leave_the_run_as_it_was(finished, run_module):
    workdir, _ = finished
    before = (workdir / "config.json").read_bytes()
    wider = "--config.model.latent_dim=64"
    result = run_module("main", *TINY, wider, "--allow_changes", f"--workdir={workdir}")
    assert result.rc == 78 and "does not fit" in result.stderr
    assert (workdir / "config.json").read_bytes() == before


def test_allowed_change_goes_on_and_is_recorded(finished, run_module, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    result = run_module("main", *TINY, "--config.num_epochs=9.0", "--allow_changes", f"--workdir={tmp_path / 'run'}")
    assert result.rc == 0 and f"resuming at step {STEPS}" in result.stdout
    assert json.loads((tmp_path / "run" / "run.json").read_text())["changes"] == ["num_epochs: 8.0 -> 9.0"]
    assert metrics(tmp_path / "run")[-1]["step"] == STEPS * 9 // 8


def test_other_config_in_the_same_folder_is_refused(finished, run_module):
    workdir, _ = finished
    result = run_module("main", *TINY, "--config.optimizer.learning_rate=0.5", f"--workdir={workdir}")
    assert result.rc == 78 and "optimizer.learning_rate: 0.004 -> 0.5" in result.stderr


def test_sigterm_saves_and_exits_75(start_module, run_module, finished, tmp_path):
    process = start_module("main", *TINY, f"--workdir={tmp_path / 'run'}")
    for line in process.stdout:
        if line.startswith("first step"):
            break
    os.kill(process.pid, signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 75 and "run the same command to go on" in stderr
    assert run_module("main", *TINY, f"--workdir={tmp_path / 'run'}").rc == 0
    assert metrics(tmp_path / "run") == metrics(finished[0])


def in_session(leader: int) -> dict[int, str]:
    """Process id -> command line of all that a command has started and that still runs."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_text()
        except OSError:  # it has just ended
            continue
    return found


def start_with_workers(start_module, workdir):
    """A run that trains, and its two data workers."""
    flags = {"pipeline.num_workers": 2, "pipeline.prefetch": 1, "num_epochs": 1e4}
    flags |= {"checkpoint.every_epochs": 0.0, "evaluation.every_epochs": 0.0}
    flags = [f"--config.{key}={value}" for key, value in flags.items()]
    process = start_module("main", *TINY, *flags, f"--workdir={workdir}")
    for line in process.stdout:
        if line.startswith("first step"):
            break
    workers = [pid for pid, command in in_session(process.pid).items() if "spawn_main" in command]
    assert len(workers) == 2 and process.poll() is None
    return process, workers


def assert_all_end(leader):
    deadline = time.monotonic() + 20
    while (left := in_session(leader)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == {}


def test_a_killed_data_worker_ends_the_run_and_leaves_no_orphan(start_module, tmp_path):
    process, workers = start_with_workers(start_module, tmp_path / "run")
    os.kill(workers[0], signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 75, stderr
    assert "error: a data worker was killed" in stderr and "Traceback" not in stderr
    assert_all_end(process.pid)


def test_a_killed_run_leaves_no_data_worker(start_module, tmp_path):
    process, _ = start_with_workers(start_module, tmp_path / "run")
    os.kill(process.pid, signal.SIGKILL)  # itself alone, not its group
    process.wait()
    assert_all_end(process.pid)


def test_evaluate_agrees_with_the_run_and_works_on_a_moved_folder(finished, run_module, tmp_path):
    workdir, _ = finished
    moved = tmp_path / "elsewhere"
    shutil.copytree(workdir, moved)
    expected = json.loads((workdir / "evaluation" / "results.json").read_text())
    result = run_module("evaluate", f"--workdir={moved}", "--batch_size=7")
    assert result.rc == 0 and "accuracy" in result.stdout
    got = json.loads((moved / "evaluation" / "results.json").read_text())
    assert got["confusion"] == expected["confusion"]
    assert got["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    result = run_module("evaluate", f"--workdir={moved}", "--split=validation", f"--checkpoint={STEPS}", "--perturb")
    assert result.rc == 0 and f"step {STEPS}" in result.stdout and "dropped_points" in result.stdout
    got = json.loads((moved / "evaluation" / "results.json").read_text())
    assert got["split"] == "validation" and got["perturb"]["clean"] == got["accuracy"]
    scores = got["perturb"]["accuracy"]
    assert {kind: set(map(float, strengths)) for kind, strengths in scores.items()} == {
        kind: set(strengths) for kind, strengths in STRENGTHS.items()
    }
    assert all(0 <= value <= 1 for strengths in scores.values() for value in strengths.values())
    for kind in ("translation", "scale"):  # what normalisation takes out
        np.testing.assert_allclose(list(scores[kind].values()), got["accuracy"], atol=1.01 / 64)
    assert scores["dropped_points"]["0.9"] != got["accuracy"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--split=tset",), "train, validation, test"),
        (("--checkpoint=7",), "7"),
        (("--checkpoint=bst",), "bst"),
    ],
)
def test_evaluate_says_what_there_is(finished, run_module, flags, expected):
    result = run_module("evaluate", f"--workdir={finished[0]}", *flags)
    assert result.rc == 78 and expected in result.stderr and "Traceback" not in result.stderr


def test_check_data_counts_and_draws(run_module, tmp_path):
    result = run_module("check_data", *TINY, f"--output_dir={tmp_path}")
    assert result.rc == 0, result.stderr
    assert "train: 512 examples" in result.stdout and "points: (64, 3) float32" in result.stdout
    from PIL import Image

    assert Image.open(tmp_path / "samples.png").size[0] > 400


def damage(workdir, step):
    """Flips a byte in the middle of the largest file of a step, and of its manifest."""
    folder = workdir / "checkpoints" / str(step)
    for path in (max(folder.rglob("*"), key=lambda p: p.stat().st_size), folder / "manifest.json"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def saved_steps(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def test_a_damaged_checkpoint_is_named_and_never_used(finished, run_module, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    damage(workdir, STEPS)
    asked = run_module("evaluate", f"--workdir={workdir}", f"--checkpoint={STEPS}")
    assert asked.rc == 78 and f"step {STEPS} is damaged: {workdir}" in asked.stderr
    older = saved_steps(workdir)[-2]
    resumed = run_module("main", *TINY, f"--workdir={workdir}")
    assert resumed.rc == 0 and f"resuming at step {older} of {STEPS}" in resumed.stdout, resumed.stderr
    assert f"WARNING: step {STEPS} is damaged" in resumed.stderr and f"trying step {older}" in resumed.stderr
    assert states(workdir) == states(finished[0]) and metrics(workdir) == metrics(finished[0])
    for step in saved_steps(workdir):
        damage(workdir, step)
    refused = run_module("main", *TINY, f"--workdir={workdir}")
    assert refused.rc == 78 and "no intact checkpoint" in refused.stderr and "Traceback" not in refused.stderr


def devices(count):
    """Environment in which one CPU is `count` devices."""
    return {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}


def test_eight_devices_go_on_as_four_and_as_one_in_another_folder(run_module, tmp_path):
    constant = ("--config.schedule.name=constant", "--config.log_every_steps=1", "--config.evaluation.every_epochs=0.0")
    short, long = "--config.num_steps=8", "--config.num_steps=14"
    mesh = ("--config.mesh.data=2", "--config.mesh.fsdp=4")
    first = run_module("main", *TINY, *constant, short, *mesh, f"--workdir={tmp_path / 'first'}", env=devices(8))
    assert first.rc == 0 and "on 8 x cpu" in first.stdout, first.stderr
    losses = {}
    for count, mesh in ((4, ("--config.mesh.fsdp=2",)), (1, ())):
        workdir = tmp_path / f"on_{count}"
        shutil.copytree(tmp_path / "first", workdir)
        flags = (*TINY, *constant, long, "--allow_changes", *mesh, f"--workdir={workdir}")
        result = run_module("main", *flags, env=devices(count))
        assert result.rc == 0 and "resuming at step 8 of 14" in result.stdout, result.stderr
        assert "changed since the run began: mesh.fsdp: 4 -> " in result.stdout
        lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        losses[count] = [line["train/loss"] for line in lines if "train/loss" in line]
        assert len(losses[count]) == 14
    np.testing.assert_allclose(losses[4], losses[1], rtol=1e-5)


OTHER_CLASSES = """
from configs.solids import get_config as solids
from perceiver_jax.config import section

def get_config(variants=""):
    config = solids("tiny")
    with config.unlocked():
        config.data = section("data", "modelnet", path={path!r}, num_points=10)
    return config
"""


def first_values(workdir):
    return {key: value for key, value in states(workdir).items() if key.startswith("['params']")}


def test_fine_tuning_takes_the_trunk_and_says_what_it_does(finished, run_module, tmp_path):
    write_modelnet(tmp_path / "data")
    shutil.copytree(finished[0], tmp_path / "source")
    (tmp_path / "other.py").write_text(OTHER_CLASSES.format(path=str(tmp_path / "data")))
    still = ("--config.optimizer.learning_rate=0.0", "--config.batch_size=8", "--config.num_steps=1")
    begin = (f"--config={tmp_path / 'other.py'}", *still, f"--config.init_from={tmp_path / 'source'}")
    begin += (f"--workdir={tmp_path / 'tuned'}", f"--config.init.checkpoint={STEPS}")
    refused = run_module("main", *begin)
    assert refused.rc == 78 and "head/kernel: float32 (32, 16) there, float32 (32, 3) here" in refused.stderr
    tuned = run_module("main", *begin, "--config.init.skip=head")
    assert tuned.rc == 0, tuned.stderr
    head = f"beginning with {tmp_path / 'source'} at step {STEPS}: "
    assert head in tuned.stdout and "newly made: head/kernel (skipped by name)" in tuned.stdout
    theirs, ours = first_values(finished[0]), first_values(tmp_path / "tuned")
    assert {key for key in ours if ours[key] != theirs[key]} <= {key for key in ours if "['head']" in key}
    assert len(ours) > 20 and ours["['params']['head']['kernel']"] != theirs["['params']['head']['kernel']"]
    record = json.loads((tmp_path / "tuned" / "run.json").read_text())["init_from"]
    assert len(record["loaded"]) == len(ours) - 2 and len(record["made"]) == len(record["skipped"]) == 2
    shutil.rmtree(tmp_path / "source")
    longer = run_module("main", *begin, "--config.init.skip=head", "--config.num_steps=2", "--allow_changes")
    assert longer.rc == 0 and "resuming at step 1 of 2" in longer.stdout, longer.stderr
    assert json.loads((tmp_path / "tuned" / "run.json").read_text())["init_from"] == record


def test_fine_tuning_begins_with_the_loss_of_its_source(finished, run_module, tmp_path):
    still = ("--config.optimizer.learning_rate=0.0", "--config.num_steps=1", "--config.schedule.warmup_epochs=0.0")
    result = run_module("main", *TINY, *still, f"--config.init_from={finished[0]}", f"--workdir={tmp_path / 'run'}")
    assert result.rc == 0 and "0 skipped, 0 newly made" in result.stdout, result.stderr
    source = json.loads((tmp_path / "run" / "run.json").read_text())["init_from"]["source"]
    best = next(
        line for line in metrics(finished[0]) if source.endswith(f"at step {line['step']}") and VALIDATION in line
    )
    assert metrics(tmp_path / "run")[-1][VALIDATION] == best[VALIDATION]


def test_steps_that_are_not_finite_end_the_run_and_are_never_saved(run_module, tmp_path):
    workdir = tmp_path / "run"
    result = run_module("main", *TINY, "--config.optimizer.learning_rate=1e30", f"--workdir={workdir}")
    assert result.rc == 78 and "not finite in 10 steps in a row" in result.stderr, result.stderr
    examples = json.loads((workdir / "non_finite.json").read_text())["examples"]
    assert [len(batch) for batch in examples] == [64] * 10
    for values in states(workdir).values():
        assert np.isfinite(np.frombuffer(values, np.float32)).all() or len(values) < 8
