# SPDX-License-Identifier: Apache-2.0
"""A JSON file, and a folder, is replaced whole or not at all."""

import json
import os
import threading

import pytest

from perceiver_jax.files import replacing, write_json


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


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    """Whoever opens the folder sees both files of one writing, at any moment."""
    folder, done, seen = tmp_path / "above" / "results", threading.Event(), []

    def look():
        while not done.is_set():
            handle = os.open(folder, os.O_RDONLY)  # one folder, even if another takes its place meanwhile
            names = os.listdir(handle)
            seen.append(names == [] or sorted(names) == ["a", "b"])
            os.close(handle)

    with replacing(folder) as scratch:
        fill(scratch, 0)
    reader = threading.Thread(target=look)
    reader.start()
    for number in range(1, 200):
        with replacing(folder) as scratch:
            fill(scratch, number)
            if number % 2:
                (scratch / "only odd").touch()
                (scratch / "only odd").unlink()
    done.set()
    reader.join()
    assert len(seen) > 10 and all(seen)
    assert {file.read_text() for file in folder.iterdir()} == {"199"}
    assert [path.name for path in folder.parent.iterdir()] == ["results"]


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
