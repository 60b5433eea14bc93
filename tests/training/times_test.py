# SPDX-License-Identifier: Apache-2.0
"""Where time went: by phase, over starts, with what was done twice; a damaged or full disk costs lines alone."""

import json
import time

import pytest

from perceiver_jax.training.times import FILE, Times, process_age


def take_steps(times, first, last):
    for step in range(first, last + 1):
        now = time.monotonic()
        times.spent("data", now, now + 1)
        times.step = step
        times.spent("step", now + 1, now + 3)


def test_steps_taken_twice_are_told_from_the_others(tmp_path):
    first = Times(tmp_path, 10.0)
    take_steps(first, 1, 6)
    first.write()
    take_steps(first, 7, 7)  # killed before it wrote again
    second = Times(tmp_path)
    take_steps(second, 5, 8)  # from a checkpoint of step 4
    assert (first.totals()["initialise"], second.totals()["initialise"]) == pytest.approx((10, 10), abs=1)
    totals = {phase: round(seconds) for phase, seconds in second.totals().items() if phase != "initialise"}
    assert totals == {"data": 10, "step": 16, "replayed": 4} and second.starts() == 2
    second.write()
    assert Times(tmp_path).totals() == pytest.approx(second.totals(), abs=0.01)


def test_what_lies_between_two_starts_is_lost(tmp_path):
    now = time.time()
    lines = [(now - 100, {"initialise": 10, "step": 20}), (now - 60, {"step": 35}), (now - 30, {"step": 25})]
    for start, seconds in lines:
        with open(tmp_path / FILE, "a") as file:
            file.write(json.dumps({"start": f"{start:.3f}", "reached": 1, **seconds}) + "\n")
    times = Times(tmp_path)
    assert times.totals()["lost"] == pytest.approx(10, abs=0.1)  # a finished run is looked at: nothing is lost
    times.step = 1
    assert times.totals()["lost"] == pytest.approx(10 + 5, abs=1)


def test_what_is_no_line_of_ours_is_passed_over(tmp_path):
    times = Times(tmp_path, 5.0)
    take_steps(times, 1, 2)
    times.write()
    with open(tmp_path / FILE, "a") as file:
        file.write('[]\n{"start": "1", "reached": "x"}\nnonsense\n{"start": "2", "st')
    assert Times(tmp_path).totals() == pytest.approx(times.totals(), abs=0.01)
    assert [json.loads(line)["reached"] for line in (tmp_path / FILE).read_text().splitlines()[:1]] == [2]


def test_a_start_that_finds_nothing_to_do_writes_nothing(tmp_path):
    times = Times(tmp_path, 5.0)
    times.spent("restore", 0.0, 1.0)
    times.write()
    assert list(tmp_path.iterdir()) == [] and times.totals()["restore"] == 1.0


def test_a_folder_that_cannot_be_written_loses_the_line_alone(tmp_path):
    times = Times(tmp_path / "missing")
    take_steps(times, 1, 1)
    times.write()
    assert times.totals()["step"] == pytest.approx(2)


def test_a_process_knows_its_age():
    assert 0 < process_age() < 86_400
