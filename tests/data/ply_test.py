# SPDX-License-Identifier: Apache-2.0
"""PLY files, ascii and binary in both orders; what is broken is named by its line or record."""

import numpy as np
import pytest

from perceiver_jax.data.ply import read_ply
from perceiver_jax.errors import ConfigError

POINTS = np.float32([[0.5, -1, 2], [3, 4, -5.25], [1e-3, 0, 7]])
NORMALS = np.float32([[0, 0, 1], [1, 0, 0], [0, -1, 0]])


def ply(kind, normals=False, points=3):
    names = ["x", "y", "z", *(["nx", "ny", "nz"] if normals else [])]
    properties = "".join(f"property float {name}\n" for name in names)
    faces = "element face 1\nproperty list uchar int vertex_indices\n"
    return f"ply\nformat {kind} 1.0\ncomment made\nelement vertex {points}\n{properties}{faces}end_header\n".encode()


def lines(table):
    return "".join(" ".join(map(str, row)) + "\n" for row in table.tolist()).encode()


def written(tmp_path, name, content):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path / name


@pytest.mark.parametrize(
    ("kind", "order"), [("binary_little_endian", "<f4"), ("binary_big_endian", ">f4"), ("ascii", None)]
)
def test_ply(tmp_path, kind, order):
    both = np.concatenate([POINTS, NORMALS], 1)
    body = lines(both) if order is None else both.astype(order).tobytes()
    file = written(tmp_path, "a.ply", ply(kind, normals=True) + body + b"3 0 1 2\n")
    np.testing.assert_array_equal(read_ply(file), POINTS)
    np.testing.assert_array_equal(read_ply(file, normals=True), both)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ply\nformat ascii 1.0\n", "line 1: no .ply header: no line end_header"),
        (ply("ascii").replace(b"vertex 3", b"edge 3"), "lines 1..10: not a PLY header .expected ply first"),
        (ply("ascii", points=0), "lines 1..10: not a PLY header .0 points: expected at least 1"),
        (b"ply\nformat ascii 1.0\nelement vertex 3\nend_header\n", "lines 1..4: not a PLY header .no fields"),
        (ply("binary"), "lines 1..10: not a PLY header"),
        (ply("binary_little_endian") + b"12345678", "record 0 is cut off"),
        (ply("ascii") + b"1 2 3\n1 2 3\n1 x 3\n", "line 13: expected finite numbers 'x y z', got '1 x 3'"),
    ],
)
def test_broken_ply_is_named(tmp_path, content, message):
    with pytest.raises(ConfigError, match=f"a.ply: {message}"):
        read_ply(written(tmp_path, "a.ply", content))
