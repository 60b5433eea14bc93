# SPDX-License-Identifier: Apache-2.0
"""A JSON file, and a folder, is replaced whole or not at all."""

import json
import os
import sys
import threading

import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.files import replacing, write_all, write_json


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


def fill(folder, number):
    for name in ("a", "b"):
        (folder / name).write_text(str(number))


def texts(folder):
    return [file.read_text() for file in sorted(folder.iterdir())]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    """Whatever Python asks of the system meanwhile, the folder is there before it."""
    folder, events, watching = tmp_path / "above" / "results", [], threading.Event()

    def look(event, arguments):
        if watching.is_set():
            events.append((event, os.path.isdir(folder)))

    sys.addaudithook(look)  # stays; it does nothing after this test
    with replacing(folder) as scratch:
        fill(scratch, 0)
    watching.set()
    with replacing(folder) as scratch:
        fill(scratch, 1)
        (scratch / "b").unlink()
        assert texts(folder) == ["0", "0"]
    watching.clear()
    assert len(events) > 5 and [event for event, there in events if not there] == []
    assert texts(folder) == ["1"] and [path.name for path in folder.parent.iterdir()] == ["results"]


def test_a_failure_leaves_the_old_folder(tmp_path):
    folder = tmp_path / "results"
    with replacing(folder) as scratch:
        fill(scratch, 0)
    with pytest.raises(NotADirectoryError), replacing(folder) as scratch:
        fill(scratch, 1)
        (scratch / "a" / "below a file").touch()
    assert {file.read_text() for file in folder.iterdir()} == {"0"} and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "file").touch()
    with pytest.raises(OSError), replacing(tmp_path / "file" / "results"):
        pass


def test_files_are_written_with_their_folders_or_said_to_be_unwritable(tmp_path):
    first, second = tmp_path / "figures" / "a.png", tmp_path / "figures" / "b.html"
    assert write_all({first: b"1", second: b"2"}) == [first, second]
    assert write_all({first: b"3"}) == [first] and first.read_bytes() == b"3"
    assert sorted(first.parent.iterdir()) == [first, second]
    with pytest.raises(ConfigError, match="cannot be written"):
        write_all({first / "below a file": b""})
