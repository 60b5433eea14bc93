# SPDX-License-Identifier: Apache-2.0
"""PCD files, ascii, binary and compressed; what is broken is named by its line or record."""

import struct

import h5py
import numpy as np
import pytest

from perceiver_jax.data.pcd import read_pcd, unpack_lzf
from perceiver_jax.errors import ConfigError

POINTS = np.float32([[0.5, -1, 2], [3, 4, -5.25], [1e-3, 0, 7]])
NORMALS = np.float32([[0, 0, 1], [1, 0, 0], [0, -1, 0]])


def pcd(kind, fields="x y z", size="4 4 4", types="F F F", count="1 1 1", points=3):
    return (
        f"# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS {fields}\nSIZE {size}\nTYPE {types}\n"
        f"COUNT {count}\nWIDTH {points}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA {kind}\n"
    ).encode()


def lines(table):
    return "".join(" ".join(map(str, row)) + "\n" for row in table.tolist()).encode()


def lzf(content):
    """What liblzf, which HDF5 files may be packed with, makes of some bytes."""
    with h5py.File("packed", "w", driver="core", backing_store=False) as file:
        stored = file.create_dataset("x", data=np.frombuffer(content, "u1"), chunks=(len(content),), compression="lzf")
        return stored.id.read_direct_chunk((0,))[1]


def literal(content):
    """A stream of LZF without a reference."""
    pieces = [content[start : start + 32] for start in range(0, len(content), 32)]
    return b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)


def compressed(content, packed=None):
    """The body of a compressed file of what the fields hold, one after the other."""
    packed = packed or lzf(content)
    return struct.pack("<II", len(packed), len(content)) + packed


def written(tmp_path, name, content):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path / name


def test_pcd_ascii_and_binary(tmp_path):
    np.testing.assert_array_equal(read_pcd(written(tmp_path, "a.pcd", pcd("ascii") + lines(POINTS))), POINTS)
    np.testing.assert_array_equal(read_pcd(written(tmp_path, "b.pcd", pcd("binary") + POINTS.tobytes())), POINTS)


def test_pcd_compressed(tmp_path):
    points = np.repeat(POINTS, 500, axis=0).astype("<f4")
    body = compressed(points.T.tobytes())
    assert len(body) < points.nbytes / 10
    file = written(tmp_path, "a.pcd", pcd("binary_compressed", points=1500) + body)
    np.testing.assert_array_equal(read_pcd(file), points)
    pairs, heights = np.arange(6, dtype="u1").reshape(3, 2), POINTS[:, 2].astype("<f8")
    columns = POINTS[:, 0].tobytes() + pairs.tobytes() + POINTS[:, 1].tobytes() + heights.tobytes()
    head = pcd("binary_compressed", "x rgb y z", "4 1 4 8", "F U F F", "1 2 1 1")
    file = written(tmp_path, "b.pcd", head + compressed(columns, literal(columns)))
    np.testing.assert_array_equal(read_pcd(file), POINTS)


def test_lzf():
    random = np.random.default_rng(0)
    for content in (bytes(9000), b"abcd" * 4000, random.integers(0, 2, 20_000).astype("u1").tobytes()):
        packed = lzf(content)
        assert len(packed) < len(content) and unpack_lzf(packed) == content
    noise = random.bytes(1000)
    assert unpack_lzf(literal(noise)) == noise
    assert unpack_lzf(b"\x01ab\x20\x01\x00z\xe0\x03\x00") == b"ababa" + b"z" * 13  # the last two reach into themselves
    assert unpack_lzf(b"\x00a\x20\x01") == b"a" and unpack_lzf(b"\x00a\xff") == b"a"  # too far back; cut off


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
        (pcd("binary_gzip"), "lines 1..11: not a PCD header .DATA binary_gzip: expected ascii, binary or"),
        (pcd("ascii", points=-1), "lines 1..11: not a PCD header .-1 points: expected at least 1"),
        (pcd("ascii", count="2 1 1"), r"lines 1..11: not a PCD header \(field x is .*: expected one number"),
        (pcd("ascii", types="V F F"), r"lines 1..11: not a PCD header"),
        (pcd("binary_compressed") + b"123", "the compressed records are cut off: got 3 bytes"),
        (pcd("binary_compressed") + compressed(b"123", literal(b"123"))[:-1], "the compressed records are cut off"),
        (
            pcd("binary_compressed") + compressed(POINTS.tobytes(), literal(POINTS.tobytes()[:-8])),
            "the compressed records are damaged: expected 3 of 12 bytes, got 28 bytes",
        ),
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


def test_normals_that_are_not_there(tmp_path):
    with pytest.raises(ConfigError, match="record 0 has no normal_x, normal_y, normal_z: its fields are x, y, z"):
        read_pcd(written(tmp_path, "a.pcd", pcd("ascii") + lines(POINTS)), normals=True)
