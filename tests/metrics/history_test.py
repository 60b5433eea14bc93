# SPDX-License-Identifier: Apache-2.0
"""Reading metrics.jsonl; that it holds what was written is tests/training/writers_test.py."""

import math

import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.metrics.history import FILE, history


def test_complete_lines_in_order_with_what_json_lacks(tmp_path):
    assert history(tmp_path) == []
    (tmp_path / FILE).write_text('{"step": 1, "a": "NaN"}\n{"step": 2, "a": "-Infinity"}\n{"step": 3, "a"')
    first, second = history(tmp_path)
    assert math.isnan(first["a"]) and second == {"step": 2, "a": -math.inf}


@pytest.mark.parametrize(
    "line", ["x", "[1]", '{"a": 1}', '{"step": 1.5}', '{"step": 1, "a": "b"}', '{"step": 1, "a": []}']
)
def test_a_line_of_another_kind_is_named(tmp_path, line):
    (tmp_path / FILE).write_text(line + "\n")
    with pytest.raises(ConfigError, match="not ours"):
        history(tmp_path)
