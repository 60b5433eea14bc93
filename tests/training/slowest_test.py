# SPDX-License-Identifier: Apache-2.0
"""Which process is named; two real ones are in `many_processes_test.py`."""

from perceiver_jax.training.slowest import remark, slowest


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
