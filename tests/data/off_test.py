# SPDX-License-Identifier: Apache-2.0
"""Meshes in every form of the header; what is broken is named by its line."""

import numpy as np
import pytest

from perceiver_jax.data.off import read_off
from perceiver_jax.errors import ConfigError

SQUARE = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"


def written(tmp_path, name, content):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path / name


@pytest.mark.parametrize("head", ["OFF\n4 2 0\n", "OFF4 2 0\n", "OFF 4 2 0\n", "# made\nOFF\n\n4 2 5 # counts\n"])
def test_off_in_every_form_of_its_header(tmp_path, head):
    mesh = read_off(written(tmp_path, "a.off", f"{head}{SQUARE}3 0 1 2\n3 0 2 3\n"))
    np.testing.assert_array_equal(mesh.vertices[2], [1, 1, 0])
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_polygons_and_colours_of_off(tmp_path):
    mesh = read_off(written(tmp_path, "a.off", f"OFF\n4 2 0\n{SQUARE}4 0 1 2 3\n3 1 2 3 255 0 0\n"))
    assert sorted(mesh.faces.tolist()) == [[0, 1, 2], [0, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected OFF"),
        ("solid x\n", "line 1: expected OFF, got 'solid x'"),
        ("OFF\n", "line 1: expected the counts"),
        ("OFF\n4 x 0\n", "line 2: expected the counts"),
        (f"OFF\n4 2 0\n{SQUARE}3 0 1 2\n", "line 7 is the last: expected 4 vertices and 2 faces, got 5 lines"),
        ("OFF\n3 1 0\n0 0 0\n1 x 0\n1 1 0\n3 0 1 2\n", "line 4: expected finite numbers 'x y z', got '1 x 0'"),
        ("OFF\n3 1 0\n0 0 0\n\n1 nan 0\n1 1 0\n3 0 1 2\n", "line 5: expected finite"),
        ("OFF3 1 0\n0 0 0\n1 0 0\n1 1 0\n3 0 1 3\n", r"line 5: expected vertices 0..2, got '3 0 1 3'"),
        (f"OFF\n4 2 0\n{SQUARE}3 0 1 2\n3 0 0.5 2\n", "line 8: expected vertices 0..3, got '3 0 0.5 2'"),
        (f"OFF\n4 1 0\n{SQUARE}3 0 1 1e30\n", "line 7: expected vertices 0..3"),
        (f"OFF\n4 1 0\n{SQUARE}3.5 0 1 2 3\n", "line 7: expected a count of at least 3"),
        (f"OFF\n4 1 0\n{SQUARE}4 0 1 2 9\n", "line 7: expected a count of at least 3"),
        (f"OFF\n4 1 0\n{SQUARE}2 0 1 2\n", "line 7: expected a count of at least 3"),
    ],
)
def test_broken_off_is_named(tmp_path, text, message):
    with pytest.raises(ConfigError, match=f"a.off: {message}"):
        read_off(written(tmp_path, "a.off", text))
