# SPDX-License-Identifier: Apache-2.0
"""What does not move is ended with its stacks; what is slow where it may be, or was stopped and continued, is not."""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.training import loop, watchdog
from perceiver_jax.training.times import FILE, Times
from perceiver_jax.training.watchdog import Limits, Watchdog
from tests.training.toy import make_training

ROOT = str(Path(__file__).resolve().parents[2])


def limits(**seconds):
    values = {field.name: 60.0 for field in dataclasses.fields(Limits)} | {"step_medians": 20.0}
    return Limits(**values | seconds)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(watchdog, "POLL", 0.02)


@pytest.fixture
def ended(monkeypatch):
    """Exit codes that the loop's watchdog asked for, and what it does then."""
    codes, then = [], threading.Event()

    def end(code):
        codes.append(code)
        then.set()

    monkeypatch.setattr(loop, "Watchdog", functools.partial(Watchdog, end=end))
    return codes, then


def test_silence_past_the_limit_ends_the_process_with_its_stacks(tmp_path, capfd):
    over = threading.Event()
    codes, times = [], Times(tmp_path)
    times.step = 1

    def end(code):
        codes.append(code)
        over.set()

    account = {"spent": times.spent, "keep": times.write}
    with Watchdog(tmp_path, limits(data_seconds=0.2), end=end, **account) as dog:
        dog.beat("save")
        dog.beat("data")
        assert over.wait(30)
    assert codes == [75]
    assert {"compile", "save"} <= json.loads((tmp_path / FILE).read_text()).keys() - {"data"}  # the hang itself is lost
    (stacks,) = tmp_path.glob("stacks-*.txt")
    for text in (stacks.read_text(), capfd.readouterr().err):
        assert "hang: nothing moved for 0 s (config.watchdog.data_seconds=0.2)" in text
        assert "in test_silence_past_the_limit" in text  # the main thread's stack


def test_stacks_that_cannot_be_written_do_not_keep_it(tmp_path):
    over = threading.Event()
    with Watchdog(tmp_path / "gone", limits(compile_seconds=0.1), end=lambda code: over.set()):
        assert over.wait(30)


def test_limits_grow_with_slow_steps_and_many_files(tmp_path):
    dog = Watchdog(tmp_path, limits(step_seconds=0.5, save_seconds=3.0))
    assert dog.limit("step") == 0.5 and dog.limit("save", 4) == 12.0
    for _ in range(3):
        dog.beat("step")
        began = time.monotonic()
        while time.monotonic() < began + 0.1:
            pass
        dog.beat("data")
    assert dog.limit("step") > 2.0


def test_a_process_waits_for_another_for_as_long_as_that_one_may_take(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    dog = Watchdog(tmp_path, limits(step_seconds=1.0, data_seconds=5.0, evaluation_seconds=3.0, save_seconds=30.0))
    assert dog.limit("step") == 61.0  # the other one may compile
    for _ in range(2 * watchdog.RECENT):
        dog.beat("data")
        dog.beat("step")
    assert (dog.limit("data"), dog.limit("step"), dog.limit("evaluation")) == (5.0, 6.0, 8.0)
    dog.beat("save", 4)
    dog.beat("data")
    assert (dog.limit("data"), dog.limit("step")) == (5.0, 121.0)  # process 0 may save for longer


def test_a_beat_costs_next_to_nothing(tmp_path):
    with Watchdog(tmp_path, limits()) as dog:
        began = time.process_time()
        for _ in range(10_000):
            dog.beat("data")
            dog.beat("step")
        assert (time.process_time() - began) / 20_000 < 20e-6


def test_a_stopped_process_has_not_hung(tmp_path):
    script = """
import dataclasses, pathlib, sys, time, types
from perceiver_jax.training import watchdog
watchdog.POLL = 0.1
watchdog.time = types.SimpleNamespace(monotonic=lambda: 100 * time.monotonic(), strftime=time.strftime)
limits = watchdog.Limits(**{field.name: 20.0 for field in dataclasses.fields(watchdog.Limits)})
with watchdog.Watchdog(pathlib.Path("."), limits) as dog:
    print("ready", flush=True)
    sys.stdin.readline()
    dog._thread.join(0.5)
"""
    command, pipes = [sys.executable, "-c", script], dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    with subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ROOT}, text=True, **pipes) as p:
        assert p.stdout.readline() == "ready\n"
        p.send_signal(signal.SIGSTOP)
        time.sleep(0.5)  # 50 s of its clock, more than the limit, which it may take while it runs
        p.send_signal(signal.SIGCONT)
        p.communicate("\n", timeout=60)
        assert p.returncode == 0


def test_a_beat_begins_anew(tmp_path, monkeypatch):
    """By a clock of its own, which goes on by a second with each look."""
    monkeypatch.setattr(watchdog, "POLL", 1.0)
    clock = types.SimpleNamespace(monotonic=lambda: float(len(looks)), strftime=time.strftime)
    monkeypatch.setattr(watchdog, "time", clock)
    for every, looked, ended in ((2, 100, []), (9, 5, [75])):
        looks, codes = [], []
        dog = Watchdog(tmp_path, limits(evaluation_seconds=3.5), end=codes.append)
        dog.beat("evaluation")

        def look(_, dog=dog, looks=looks, every=every):
            looks.append(None)
            if len(looks) % every == 0:
                dog.beat("evaluation")
            return len(looks) == 100

        monkeypatch.setattr(dog._closed, "wait", look)
        dog._watch()
        assert codes == ended and len(looks) <= looked


def test_each_batch_of_an_evaluation_and_both_ends_of_a_profile_are_a_beat(tmp_path, monkeypatch):
    training = make_training(num_steps=8, profile_start=2, profile_steps=2)
    running = loop._Loop(training, tmp_path, loop.Console(quiet=True), loop.Preemption())
    beat, phases = running.watchdog.beat, []
    monkeypatch.setattr(running.watchdog, "beat", lambda phase, times=1: phases.append(phase) or beat(phase, times))
    running.run(None)
    step, batch = ["data", "step"], ["data", "evaluation", "evaluation"]
    steps = ["data", "compile", *step, "profile", *step * 2, "profile", *step * 4]
    evaluation = ["data", "compile", "evaluation", *batch * 3, "compile"]
    assert [phase for phase in phases if phase != "save"] == steps + evaluation


def test_a_step_that_hangs_is_found(tmp_path, ended):
    codes, then = ended

    def rate(step):
        if step == 5:
            then.wait(60)
        return np.float32(0.01)

    training = make_training(limits=limits(step_seconds=1.0, step_medians=1.0))
    schedule = lambda step: jax.pure_callback(rate, jax.ShapeDtypeStruct((), jnp.float32), step)  # noqa: E731
    loop.train(dataclasses.replace(training, schedule=schedule), tmp_path)
    assert codes == [75]
    assert "config.watchdog.step_seconds=1" in next(tmp_path.glob("stacks-*.txt")).read_text()
