# SPDX-License-Identifier: Apache-2.0
"""The window: which steps it holds, and that it is closed where the run ends inside it."""

import jax.numpy as jnp

from perceiver_jax.training.profiler import Profiler
from tests.training.side_by_side import side_by_side


def test_the_window_holds_the_steps_that_were_asked_for(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda folder: calls.append("start"))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: calls.append("stop"))
    profiler = Profiler(tmp_path, 2, 2, pause=lambda: calls.append("pause"), say=calls.append)
    for step in range(1, 7):
        profiler.before(step, jnp.ones(()))
        calls.append(step)
    said = f"profile written: tensorboard --logdir {tmp_path / 'profile'}"
    assert calls == [1, 2, "pause", "start", 3, 4, "pause", "stop", said, 5, 6]


def test_a_run_that_ends_inside_closes_it_and_none_opens_none(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda folder: calls.append("start"))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: calls.append("stop"))
    for num_steps in (0, 9):
        profiler = Profiler(tmp_path, 0, num_steps, pause=lambda: None, say=lambda line: None)
        profiler.before(1, None)
        profiler.end(None)
        profiler.end(None)
    assert calls == ["start", "stop"]


def test_all_processes_pause_while_the_first_one_opens_and_writes(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda folder: calls.append("start"))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: calls.append("stop"))

    def run(index):
        profiler = Profiler(tmp_path, 0, 1, pause=lambda: calls.append(f"{index} pauses"), say=lambda line: None)
        for step in (1, 2):
            profiler.before(step, None)
            calls.append(f"{index} takes {step}")
        profiler.end(None)

    assert side_by_side(2, run) == [None, None]
    for own in ([call for call in calls if not call.startswith(other)] for other in "10"):
        names = [call.split()[-1] for call in own]
        assert names.count("start") == names.count("stop") == 1
        assert [name for name in names if name not in ("start", "stop")] == ["pauses", "1", "pauses", "2"]
        assert names.index("start") < names.index("1") and names.index("stop") < names.index("2")
