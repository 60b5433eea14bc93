# SPDX-License-Identifier: Apache-2.0
"""Which process is named; two real ones are in `many_processes_test.py`."""

from perceiver_jax.training.console import Console
from perceiver_jax.training.slowest import compare_processes, remark, slowest
from perceiver_jax.training.writers import Writers
from tests.training.side_by_side import side_by_side


def test_one_process_is_not_compared():
    assert slowest(0.5) == {}


def test_a_process_is_named_where_it_stands_out_and_holds_up_the_others():
    found = {"slowest": 3, "slowest_host_time": 0.050, "median_host_time": 0.004}
    assert remark(found, 0.06) == (
        "process 3 is the slowest: data and Python take it 50.0 ms of a step of 60.0 ms, "
        "half of the processes less than 4.0 ms"
    )
    assert remark(found, 0.1) == ""  # its devices take longer
    assert remark(found | {"median_host_time": 0.045}, 0.06) == ""


def test_one_that_timed_no_step_is_passed_over_and_keeps_nobody_waiting(tmp_path):
    assert side_by_side(3, lambda index: slowest([None, 0.1, 0.3][index]))[0] == {
        "slowest": 2,
        "slowest_host_time": 0.3,
        "median_host_time": 0.2,
    }
    writers, console = Writers(tmp_path, process_index=1), Console(quiet=True)
    timings = [{}, {"host_time": 0.1, "step_time": 0.2}]
    assert side_by_side(2, lambda index: compare_processes(8, timings[index], writers, console)) == [None, None]
    assert side_by_side(2, lambda index: slowest([0.1, 0.3][index]))[1]["slowest"] == 1
