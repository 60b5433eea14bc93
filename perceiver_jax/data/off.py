# SPDX-License-Identifier: Apache-2.0
"""A mesh in the Object File Format (Geomview), checked line by line.

The counts stand on the second line or, in many files of ModelNet, on the first, right behind `OFF`. Sampling the
surface is for `prepared_clouds`.
"""

import dataclasses
import pathlib

import numpy as np

from perceiver_jax.data.cloud_text import read_numbers
from perceiver_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Vertices float64 (vertices, 3) and triangles int64 (faces, 3)."""

    vertices: np.ndarray
    faces: np.ndarray


def read_off(file: pathlib.Path) -> Mesh:
    """A mesh; polygons become fans of triangles.

    Raises:
        ConfigError: names the line.
    """
    lines = [line.partition("#")[0].strip() for line in file.read_text(errors="replace").splitlines()]
    num_vertices, num_faces, rows = _counts(file, lines)
    if len(rows) < num_vertices + num_faces:
        raise ConfigError(
            f"{file}: line {len(lines)} is the last: expected {num_vertices} vertices and {num_faces} faces, "
            f"got {len(rows)} lines. Fetch it again."
        )
    vertices = _numbers_at(file, lines, rows[:num_vertices], 3, "x y z")
    return Mesh(vertices, _triangles(file, lines, rows[num_vertices : num_vertices + num_faces], num_vertices))


def _counts(file: pathlib.Path, lines: list[str]) -> tuple[int, int, list[int]]:
    """Counts of vertices and faces, and the indices of the lines with something on them behind the counts."""
    kept = [index for index, line in enumerate(lines) if line]
    if not kept or not lines[kept[0]].startswith("OFF"):
        raise ConfigError(f"{file}: line 1: expected OFF, got {lines[0][:40] if lines else ''!r}. Fetch it again.")
    if counts := lines[kept[0]][3:].split():
        place, rows = kept[0], kept[1:]
    else:
        place, rows = (kept[1] if len(kept) > 1 else kept[0]), kept[2:]
        counts = lines[place].split() if len(kept) > 1 else []
    if len(counts) < 2 or not all(count.isdecimal() for count in counts[:2]):
        raise ConfigError(f"{file}: line {place + 1}: expected the counts of vertices and faces, got {counts}.")
    return int(counts[0]), int(counts[1]), rows


def _numbers_at(file: pathlib.Path, lines: list[str], rows: list[int], width: int, what: str) -> np.ndarray:
    return read_numbers(file, [lines[row] for row in rows], [row + 1 for row in rows], width, what)


def _triangles(file: pathlib.Path, lines: list[str], rows: list[int], num_vertices: int) -> np.ndarray:
    """Faces, `count i j k ...`."""
    table = _numbers_at(file, lines, rows, 4, "count i j k")
    corners = table[:, 1:]
    inside = ((corners >= 0) & (corners < num_vertices) & (corners == np.floor(corners))).all(1)
    if not inside.all():
        row = rows[int(np.flatnonzero(~inside)[0])]
        raise ConfigError(f"{file}: line {row + 1}: expected vertices 0..{num_vertices - 1}, got {lines[row][:60]!r}.")
    corners, polygons = corners.astype(np.int64), table[:, 0] != 3
    if not polygons.any():
        return corners
    fans = [fan for index in np.flatnonzero(polygons) for fan in _fan(file, lines, rows[index], num_vertices)]
    return np.concatenate([corners[~polygons], np.array(fans, np.int64).reshape(-1, 3)])


def _fan(file: pathlib.Path, lines: list[str], row: int, num_vertices: int) -> list[tuple[int, int, int]]:
    """The triangles of a polygon."""
    words = lines[row].split()
    count = int(words[0]) if words[0].isdecimal() else 0
    corners = [int(word) for word in words[1 : 1 + count] if word.isdecimal() and int(word) < num_vertices]
    if count < 3 or len(corners) < count:
        raise ConfigError(
            f"{file}: line {row + 1}: expected a count of at least 3 and as many vertices 0..{num_vertices - 1}, "
            f"got {lines[row][:60]!r}."
        )
    return [(corners[0], corners[k], corners[k + 1]) for k in range(1, count - 1)]
