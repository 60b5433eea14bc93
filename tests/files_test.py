# SPDX-License-Identifier: Apache-2.0
"""A JSON file is replaced whole or not at all."""

import json

import pytest

from perceiver_jax.files import write_json


def test_round_trip_and_no_left_over(tmp_path):
    file = tmp_path / "a.json"
    for value in ({"a": [1, 2.5, None]}, {"b": 1}):
        write_json(file, value)
        assert json.loads(file.read_text()) == value
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    assert json.loads(file.read_text()) == {"a": 1}
