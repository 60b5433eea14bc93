# SPDX-License-Identifier: Apache-2.0
"""Lines as people read them."""

import pytest

from perceiver_jax.training.console import Console, duration, format_metric, where_time_went


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (125.0, "2 min 05 s"), (3725.0, "1 h 02 min")]
)
def test_duration(seconds, expected):
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("accuracy", 0.93214, "accuracy 93.21 %"),
        ("loss", 0.12345, "loss 0.1235"),
        ("learning_rate", 1e-3, "lr 1.00e-03"),
        ("examples_per_second", 12345.6, "12,346 examples/s"),
    ],
)
def test_metric(name, value, expected):
    assert format_metric(name, value) == expected


def test_piped_output_is_plain_lines(capsys):
    console = Console()
    with console.progress(0, 10):
        console.metrics(5, 10, 0.5, "train", {"loss": 1.0, "unknown": 2.0})
        console.advance(5)
    assert capsys.readouterr().out == "step      5/10  epoch    0.5  train       loss 1.0000\n"


def test_quiet_says_nothing(capsys):
    Console(quiet=True).say("hello")
    assert capsys.readouterr().out == ""


def test_where_the_time_went_begins_with_the_most():
    line = where_time_went({"compile": 20.0, "step": 99.8, "save": 0.2}, 2)
    assert line == "time of 2 starts: 2 min 00 s, goodput 83 %: step 83 %, compile 17 %"
    assert where_time_went({}, 1) == "time of 1 start: 0 s, goodput 0 %: "
