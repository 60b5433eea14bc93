# SPDX-License-Identifier: Apache-2.0
"""Files of single shapes: what the formats allow is read, and what is broken is named by line or record."""

import numpy as np
import pytest

from perceiver_jax.data.cloud_files import read_off, read_pcd, read_ply, read_text
from perceiver_jax.errors import ConfigError

POINTS = np.float32([[0.5, -1, 2], [3, 4, -5.25], [1e-3, 0, 7]])
NORMALS = np.float32([[0, 0, 1], [1, 0, 0], [0, -1, 0]])
SQUARE = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"


def pcd(kind, fields="x y z", size="4 4 4", types="F F F", count="1 1 1", points=3):
    return (
        f"# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS {fields}\nSIZE {size}\nTYPE {types}\n"
        f"COUNT {count}\nWIDTH {points}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA {kind}\n"
    ).encode()


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
        (f"OFF\n4 1 0\n{SQUARE}4 0 1 2 9\n", "line 7: expected a count of at least 3"),
        (f"OFF\n4 1 0\n{SQUARE}2 0 1 2\n", "line 7: expected a count of at least 3"),
    ],
)
def test_broken_off_is_named(tmp_path, text, message):
    with pytest.raises(ConfigError, match=f"a.off: {message}"):
        read_off(written(tmp_path, "a.off", text))


def test_pcd_ascii_and_binary(tmp_path):
    np.testing.assert_array_equal(read_pcd(written(tmp_path, "a.pcd", pcd("ascii") + lines(POINTS))), POINTS)
    np.testing.assert_array_equal(read_pcd(written(tmp_path, "b.pcd", pcd("binary") + POINTS.tobytes())), POINTS)


def test_pcd_with_other_fields(tmp_path):
    rows = np.zeros(3, [("rgb", "u1", (2,)), ("p", "<f8", (3,)), ("n", "<f4", (3,))])
    rows["p"], rows["n"] = POINTS, NORMALS
    head = ("rgb x y z normal_x normal_y normal_z", "1 8 8 8 4 4 4", "U F F F F F F", "2 1 1 1 1 1 1")
    file = written(tmp_path, "a.pcd", pcd("binary", *head) + rows.tobytes())
    np.testing.assert_array_equal(read_pcd(file, normals=True), np.concatenate([POINTS, NORMALS], 1))
    table = np.concatenate([np.ones((3, 2)), POINTS, NORMALS], 1)
    np.testing.assert_array_equal(read_pcd(written(tmp_path, "b.pcd", pcd("ascii", *head) + lines(table))), POINTS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: no .pcd header"),
        (b"<html>\n", "line 1: no .pcd header: no line DATA, begins '<html>'"),
        (b"VERSION 0.7\nDATA ascii\n", "lines 1..2: not a PCD header"),
        (pcd("binary", types="F F Q"), "lines 1..11: not a PCD header"),
        (pcd("binary_compressed"), "line 11: DATA binary_compressed is not read: expected ascii or binary"),
        (pcd("binary") + POINTS.tobytes()[:-5], "record 2 is cut off: expected 3 records of 12 bytes, got 31 bytes"),
        (pcd("ascii") + lines(POINTS[:2]), "line 13 is the last: expected 3 points"),
        (pcd("ascii") + b"1 2 3\n1 2\n1 2 3\n", "line 13: expected finite numbers 'x y z', got '1 2'"),
        (pcd("binary") + np.float32([[1, 2, 3], [1, np.nan, 3], [1, 2, 3]]).tobytes(), "record 1 is not finite"),
        (pcd("binary", "x y w") + POINTS.tobytes(), "record 0 has no z: its fields are x, y, w"),
    ],
)
def test_broken_pcd_is_named(tmp_path, content, message):
    with pytest.raises(ConfigError, match=f"a.pcd: {message}"):
        read_pcd(written(tmp_path, "a.pcd", content))


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
        (ply("binary"), "lines 1..10: not a PLY header"),
        (ply("binary_little_endian") + b"12345678", "record 0 is cut off"),
        (ply("ascii") + b"1 2 3\n1 2 3\n1 x 3\n", "line 13: expected finite numbers 'x y z', got '1 x 3'"),
    ],
)
def test_broken_ply_is_named(tmp_path, content, message):
    with pytest.raises(ConfigError, match=f"a.ply: {message}"):
        read_ply(written(tmp_path, "a.ply", content))


def test_normals_that_are_not_there(tmp_path):
    with pytest.raises(ConfigError, match="record 0 has no normal_x, normal_y, normal_z: its fields are x, y, z"):
        read_pcd(written(tmp_path, "a.pcd", pcd("ascii") + lines(POINTS)), normals=True)
