# SPDX-License-Identifier: Apache-2.0
"""What is due when, by hand."""

from perceiver_jax.training.cadence import every


def due(n, last):
    return [step for step in range(0, last + 1) if every(step, n, last)]


def test_every_third_and_the_last():
    assert due(3, 10) == [3, 6, 9, 10]


def test_the_last_is_not_doubled():
    assert due(5, 10) == [5, 10]


def test_zero_is_never():
    assert due(0, 10) == []


def test_longer_than_the_run_is_once_at_the_end():
    assert due(100, 10) == [10]
