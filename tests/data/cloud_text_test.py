# SPDX-License-Identifier: Apache-2.0
"""Clouds of lines: read up to the points wanted; the line that is broken is named."""

import numpy as np
import pytest

from perceiver_jax.data.cloud_text import read_text
from perceiver_jax.errors import ConfigError

POINTS = np.float32([[0.5, -1, 2], [3, 4, -5.25], [1e-3, 0, 7]])
NORMALS = np.float32([[0, 0, 1], [1, 0, 0], [0, -1, 0]])


def written(tmp_path, name, content):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path / name


def test_text_is_read_up_to_the_points_wanted(tmp_path):
    text = "".join(",".join(f"{x:.6f}" for x in row) + "\n" for row in np.concatenate([POINTS, NORMALS], 1))
    file = written(tmp_path, "a.txt", text + "broken\n")
    np.testing.assert_allclose(read_text(file, 3), POINTS, atol=1e-6)
    np.testing.assert_allclose(read_text(file, 2, normals=True)[:, 3:], NORMALS[:2])
    assert read_text(file, 3).dtype == np.float32
    with pytest.raises(ConfigError, match=r"a.txt: line 4: expected finite numbers 'x,y,z,nx,ny,nz', got 'broken'"):
        read_text(file, 10)


@pytest.mark.parametrize("line", ["1,2,3", "1,2,3,4,5,nan", "1,2,3,4,5,x", "", "1 2 3 4 5 6"])
def test_a_broken_line_of_text_is_named(tmp_path, line):
    file = written(tmp_path, "a.txt", f"1,2,3,4,5,6\n{line}\n1,2,3,4,5,6\n")
    with pytest.raises(ConfigError, match="a.txt: line 2"):
        read_text(file, 10)


def test_an_empty_file_is_named_without_a_warning(tmp_path, recwarn):
    for text in ("", "\n\n"):
        with pytest.raises(ConfigError, match="a.txt: line 1: "):
            read_text(written(tmp_path, "a.txt", text), 10)
    assert not recwarn.list
