# SPDX-License-Identifier: Apache-2.0
"""The logging window: sums, the state of an open one, what is timed, and when a run gives up."""

import json
import time

import numpy as np
import pytest

from perceiver_jax.metrics.statistics import Mean
from perceiver_jax.training.meter import Meter, NonFiniteError
from perceiver_jax.training.step import Report

IDS = np.arange(4)


def report(loss, weight=1.0, bad_steps=0, rate=0.1):
    mean = Mean(np.float32(loss * weight), np.float32(weight))
    return Report({"loss": mean}, np.float32(rate), np.int32(bad_steps))


def test_window_is_the_weighted_mean_of_its_steps():
    meter = Meter(3)
    for loss, weight in ((1.0, 1.0), (4.0, 3.0)):
        meter.push(report(loss, weight), IDS, 0.0)
    assert meter.take()[0]["loss"].value() == pytest.approx(3.25)
    meter.push(report(7.0), IDS, 0.0)
    assert meter.take()[0]["loss"].value() == 7.0


def test_report_is_fetched_one_step_late():
    meter = Meter(1)
    meter.push(report(1.0, bad_steps=1), IDS, 0.0)  # not looked at yet
    with pytest.raises(NonFiniteError):
        meter.push(report(1.0), IDS, 0.0)


def test_open_window_goes_through_json():
    whole, first = Meter(3), Meter(3)
    for loss in (0.1, 0.2, 0.3):
        whole.push(report(loss), IDS, 0.0)
    for loss in (0.1, 0.2):
        first.push(report(loss), IDS, 0.0)
    state = json.loads(json.dumps(first.state()))
    second = Meter(3, state)
    assert second.state() == state
    second.push(report(0.3, rate=0.7), IDS, 0.0)
    assert second.take()[0] == whole.take()[0]
    assert second.learning_rate == pytest.approx(0.7)


def test_only_steps_after_steps_are_timed():
    meter = Meter(3)
    meter.push(report(1.0), IDS, 5.0)  # the first: compilation
    assert meter.take()[1] == {}
    meter.push(report(1.0), IDS, 0.5)
    meter.stop_clock()
    meter.push(report(1.0), IDS, 5.0)  # the first after an evaluation
    timing = meter.take()[1]
    assert timing["data_wait"] == 0.5 and 0 < timing["host_time"] < timing["step_time"] < 1
    assert timing["step_time_p50"] <= timing["step_time_p95"] and meter.latest == timing


def test_host_time_ends_where_a_step_is_ready_to_be_dispatched():
    meter = Meter(3)
    meter.push(report(1.0), IDS, 0.0)
    meter.push(report(1.0), IDS, 0.0, time.perf_counter() + 9.0)
    assert meter.take()[1]["host_time"] == pytest.approx(9.0, abs=1.0)


def test_bad_steps_in_a_row_end_the_run_with_their_ids():
    meter = Meter(2)
    for bad_steps in (1, 0, 1, 2):
        meter.push(report(1.0, bad_steps=bad_steps), IDS + bad_steps, 0.0)
    with pytest.raises(NonFiniteError, match="2 steps in a row") as error:
        meter.flush()
    assert error.value.batches == [[1, 2, 3, 4], [2, 3, 4, 5]]


def test_zero_never_gives_up():
    meter = Meter(0)
    for bad_steps in range(1, 50):
        meter.push(report(1.0, bad_steps=bad_steps), IDS, 0.0)
    meter.flush()
