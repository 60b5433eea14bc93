# SPDX-License-Identifier: Apache-2.0
"""One file of one shape -> its points or its mesh: .txt with normals, .off, .pcd and .ply, checked line by line.

What each file says is documented by its format: OFF by Geomview, PCD by the Point Cloud Library, PLY by Turk (1994).
Which files make a set is for `layouts`.
"""

import dataclasses
import itertools
import pathlib

import numpy as np

from perceiver_jax.errors import ConfigError

PCD_TYPES = {"F": "f", "I": "i", "U": "u"}
PLY_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2"},
    **{"int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"},
}
NORMALS = (("normal_x", "normal_y", "normal_z"), ("nx", "ny", "nz"))
LONGEST_HEADER = 100  # lines; a file that has not come to its data by then is something else


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Vertices float64 (vertices, 3) and triangles int64 (faces, 3)."""

    vertices: np.ndarray
    faces: np.ndarray


def read_text(file: pathlib.Path, num_points: int, normals: bool = False) -> np.ndarray:
    """The first points of a file of lines `x,y,z,nx,ny,nz`, (points, 3 or 6) float32; fewer if it has fewer.

    Raises:
        ConfigError: names the line that is not six finite numbers.
    """
    with open(file, errors="replace") as stream:
        lines = list(itertools.islice(stream, num_points))
    table = _numbers(file, lines, 1, 6, "x,y,z,nx,ny,nz", ",")
    return table[:, : 6 if normals else 3].astype(np.float32)


def read_off(file: pathlib.Path) -> Mesh:
    """A mesh in the Object File Format; polygons become fans of triangles.

    The counts stand on the second line or, in many files of ModelNet, on the first, right behind `OFF`.

    Raises:
        ConfigError: names the line.
    """
    lines = [line.partition("#")[0].strip() for line in file.read_text(errors="replace").splitlines()]
    kept = [number for number, line in enumerate(lines) if line]
    if not kept or not lines[kept[0]].startswith("OFF"):
        raise ConfigError(f"{file}: line 1: expected OFF, got {lines[0][:40] if lines else ''!r}. Fetch it again.")
    if counts := lines[kept[0]][3:].split():
        place, rows = kept[0], kept[1:]
    else:
        place, rows = (kept[1] if len(kept) > 1 else kept[0]), kept[2:]
        counts = lines[place].split() if len(kept) > 1 else []
    if len(counts) < 2 or not all(count.isdecimal() for count in counts[:2]):
        raise ConfigError(f"{file}: line {place + 1}: expected the counts of vertices and faces, got {counts}.")
    num_vertices, num_faces = int(counts[0]), int(counts[1])
    if len(rows) < num_vertices + num_faces:
        raise ConfigError(
            f"{file}: line {len(lines)} is the last: expected {num_vertices} vertices and {num_faces} faces, "
            f"got {len(rows)} lines. Fetch it again."
        )
    parts = rows[:num_vertices], rows[num_vertices : num_vertices + num_faces]
    vertices = _numbers_at(file, lines, parts[0], 3, "x y z")
    return Mesh(vertices, _triangles(file, lines, parts[1], num_vertices))


def read_pcd(file: pathlib.Path, normals: bool = False) -> np.ndarray:
    """The points of a PCD file, ascii or binary, (points, 3 or 6) float32.

    Raises:
        ConfigError: names the line, or the record of the binary data.
    """
    header, body = _header(file, file.read_bytes(), b"DATA")
    words = {line[0]: line[1:] for line in map(str.split, header) if line and not line[0].startswith("#")}
    try:
        names, kinds, count = words["FIELDS"], words["TYPE"], int(words["POINTS"][0])
        repeats = [int(n) for n in words.get("COUNT", ["1"] * len(names))]
        fields = [
            (name, f"<{PCD_TYPES[kind]}{size}", (repeat,) if repeat > 1 else ())
            for name, kind, size, repeat in zip(names, kinds, words["SIZE"], repeats, strict=True)
        ]
        how, row = words["DATA"][0], np.dtype(fields)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ConfigError(f"{file}: lines 1..{len(header)}: not a PCD header ({error}). Fetch it again.") from error
    if how not in ("ascii", "binary"):
        raise ConfigError(
            f"{file}: line {len(header)}: DATA {how} is not read: expected ascii or binary. "
            "Convert it: pcl_convert_pcd_ascii_binary IN OUT 1"
        )
    return _columns(file, _table(file, body, row, count, how == "ascii", len(header)), normals)


def read_ply(file: pathlib.Path, normals: bool = False) -> np.ndarray:
    """The vertices of a PLY file, ascii or binary, (points, 3 or 6) float32; faces are not looked at.

    Raises:
        ConfigError: names the line, or the record of the binary data.
    """
    header, body = _header(file, file.read_bytes(), b"end_header")
    words = [line for line in map(str.split, header) if line and line[0] not in ("comment", "obj_info")]
    elements = [index for index, line in enumerate(words) if line[0] == "element"]
    try:
        if words[0] != ["ply"] or words[elements[0]][1] != "vertex":
            raise ValueError("expected ply first, and element vertex before the others")
        how = next(line[1] for line in words if line[0] == "format")
        order = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}[how]
        end = elements[1] if len(elements) > 1 else len(words) - 1
        row = np.dtype([(name, order + PLY_TYPES[kind]) for _, kind, name in words[elements[0] + 1 : end]])
        count = int(words[elements[0]][2])
    except (KeyError, ValueError, IndexError, TypeError, StopIteration) as error:
        raise ConfigError(f"{file}: lines 1..{len(header)}: not a PLY header ({error}). Fetch it again.") from error
    return _columns(file, _table(file, body, row, count, how == "ascii", len(header)), normals)


def _header(file: pathlib.Path, content: bytes, last: bytes) -> tuple[list[str], bytes]:
    """Header lines up to the one that starts with `last`, and what follows it."""
    lines, start = [], 0
    while len(lines) < LONGEST_HEADER and start < len(content):
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        line, start = content[start:end], end + 1
        lines.append(line.decode("ascii", errors="replace").strip())
        if line.startswith(last):
            return lines, content[start:]
    first = lines[0][:40] if lines else ""
    raise ConfigError(
        f"{file}: line 1: no {file.suffix} header: no line {last.decode()}, begins {first!r}. Fetch it again."
    )


def _table(file: pathlib.Path, body: bytes, row: np.dtype, count: int, ascii: bool, header: int) -> np.ndarray:
    """The records behind a header of `header` lines."""
    if not ascii:
        if len(body) < count * row.itemsize:
            broken = len(body) // max(row.itemsize, 1)
            raise ConfigError(
                f"{file}: record {broken} is cut off: expected {count} records of {row.itemsize} bytes, "
                f"got {len(body)} bytes. Fetch it again."
            )
        return np.frombuffer(body, row, count)
    lines = body.decode("ascii", errors="replace").splitlines()[:count]
    if len(lines) < count:
        raise ConfigError(f"{file}: line {header + len(lines)} is the last: expected {count} points.")
    width = sum(int(np.prod(row[name].shape)) for name in row.names)
    columns = _numbers(file, lines, header + 1, width, " ".join(row.names), None)
    table, start = np.zeros(count, row), 0
    for name in row.names:
        size = int(np.prod(row[name].shape))
        table[name] = columns[:, start] if row[name].shape == () else columns[:, start : start + size]
        start += size
    return table


def _columns(file: pathlib.Path, table: np.ndarray, normals: bool) -> np.ndarray:
    """x, y, z and, where asked for, the normal, all finite."""
    names = table.dtype.names or ()
    known = next((three for three in NORMALS if set(three) <= set(names)), ())
    wanted = ("x", "y", "z", *((known or NORMALS[0]) if normals else ()))
    if missing := [name for name in wanted if name not in names]:
        raise ConfigError(f"{file}: record 0 has no {', '.join(missing)}: its fields are {', '.join(names)}.")
    points = np.stack([table[name] for name in wanted], axis=-1).astype(np.float32)
    if not np.isfinite(points).all():
        record = np.flatnonzero(~np.isfinite(points).all(1))[0]
        raise ConfigError(f"{file}: record {record} is not finite: {points[record].tolist()}. Remove it.")
    return points


def _numbers(
    file: pathlib.Path, lines: list[str], first: int, width: int, what: str, delimiter: str | None
) -> np.ndarray:
    """The first `width` numbers of every line, float64, finite; `first` is the number of the first line."""
    if not lines:
        raise ConfigError(f"{file}: line {first}: no points: expected lines {what!r}. Fetch it again.")
    try:
        table = np.loadtxt(lines, delimiter=delimiter, usecols=range(width), ndmin=2, comments=None)
        if len(table) == len(lines) and np.isfinite(table).all():
            return table
    except ValueError:
        pass  # only now look for the line
    for number, line in enumerate(lines, first):
        if not _are_numbers(line.split(delimiter)[:width], width):
            raise ConfigError(f"{file}: line {number}: expected finite numbers {what!r}, got {line.strip()[:60]!r}.")
    raise ConfigError(f"{file}: lines {first}..{first + len(lines) - 1}: expected finite numbers {what!r}.")


def _are_numbers(words: list[str], width: int) -> bool:
    try:
        return len(words) == width and bool(np.isfinite([float(word) for word in words]).all())
    except ValueError:
        return False


def _numbers_at(file: pathlib.Path, lines: list[str], rows: list[int], width: int, what: str) -> np.ndarray:
    """`_numbers` of some lines, which are named by their own numbers."""
    try:
        return _numbers(file, [lines[row] for row in rows], 1, width, what, None)
    except ConfigError as error:
        for row in rows:
            if not _are_numbers(lines[row].split()[:width], width):
                raise ConfigError(
                    f"{file}: line {row + 1}: expected finite numbers {what!r}, got {lines[row][:60]!r}."
                ) from error
        raise


def _triangles(file: pathlib.Path, lines: list[str], rows: list[int], num_vertices: int) -> np.ndarray:
    """Faces of OFF, `count i j k ...`."""
    table = _numbers_at(file, lines, rows, 4, "count i j k").astype(np.int64)
    polygons = table[:, 0] != 3
    inside = ((table[:, 1:] >= 0) & (table[:, 1:] < num_vertices)).all(1)
    if not inside.all():
        row = rows[int(np.flatnonzero(~inside)[0])]
        raise ConfigError(f"{file}: line {row + 1}: expected vertices 0..{num_vertices - 1}, got {lines[row][:60]!r}.")
    if not polygons.any():
        return table[:, 1:]
    fans = [fan for index in np.flatnonzero(polygons) for fan in _fan(file, lines, rows[index], num_vertices)]
    return np.concatenate([table[~polygons, 1:], np.array(fans, np.int64).reshape(-1, 3)])


def _fan(file: pathlib.Path, lines: list[str], row: int, num_vertices: int) -> list[tuple[int, int, int]]:
    """The triangles of a polygon."""
    words = lines[row].split()
    count = int(float(words[0]))
    corners = [int(word) for word in words[1 : 1 + count] if word.isdecimal() and int(word) < num_vertices]
    if count < 3 or len(corners) < count:
        raise ConfigError(
            f"{file}: line {row + 1}: expected a count of at least 3 and as many vertices 0..{num_vertices - 1}, "
            f"got {lines[row][:60]!r}."
        )
    return [(corners[0], corners[k], corners[k + 1]) for k in range(1, count - 1)]
