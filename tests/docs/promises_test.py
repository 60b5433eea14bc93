# SPDX-License-Identifier: Apache-2.0
"""Each promise of `reliability.md` names tests that are there, and `launch.md` files of tests that are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE = re.compile(r"`(?:tests/)?([\w/]+_test\.py)`")


def named(row):
    """(file below tests/, part of a test's name or "") of each test that the last cell of a row names."""
    file, found = "", []
    for word in re.findall(r"`[^`]+`", row.rpartition(" | ")[2]):
        if match := FILE.fullmatch(word):
            file = match[1]
        found.append((file, "" if match else word.strip("`")))
    return found


def promises():
    """The rows of tables whose last column is headed `test`."""
    heading = None
    for line in (ROOT / "docs" / "reliability.md").read_text().splitlines():
        if not line.startswith("|"):
            heading = None
        elif heading is None:
            heading = line
        elif heading.endswith("| test |") and not line.startswith("|---"):
            yield line


def lacks(file, name):
    path = ROOT / "tests" / file
    return not path.is_file() or not re.search(rf"def test_\w*{re.escape(name)}", path.read_text())


def test_the_check_sees():
    assert named("| a | `docs/promises_test.py`: `check_sees`, `nothing` |") == [
        ("docs/promises_test.py", ""),
        ("docs/promises_test.py", "check_sees"),
        ("docs/promises_test.py", "nothing"),
    ]
    assert not lacks("docs/promises_test.py", "check_sees")
    assert lacks("docs/promises_test.py", "nothing") and lacks("no_test.py", "")


@pytest.mark.parametrize("row", list(promises()), ids=lambda row: row[2:60])
def test_a_promise_names_tests_that_are_there(row):
    assert named(row)
    assert [place for place in named(row) if lacks(*place)] == []


def test_launch_names_files_that_are_there():
    files = FILE.findall((ROOT / "docs" / "launch.md").read_text())
    assert files and [file for file in files if lacks(file, "")] == []
