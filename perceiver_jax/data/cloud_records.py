# SPDX-License-Identifier: Apache-2.0
"""What PCD and PLY share: a header in lines, then a record a point, ascii or binary, with x, y, z among its fields."""

import pathlib

import numpy as np

from perceiver_jax.data.cloud_text import read_numbers
from perceiver_jax.errors import ConfigError

NORMALS = (("normal_x", "normal_y", "normal_z"), ("nx", "ny", "nz"))
LONGEST_HEADER = 100  # lines; a file that has not come to its data by then is something else


def split_header(file: pathlib.Path, last: bytes) -> tuple[list[str], bytes]:
    """Header lines up to the one that starts with `last`, and what follows it.

    Raises:
        ConfigError: there is no such line.
    """
    content = file.read_bytes()
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


def no_header(file: pathlib.Path, header: list[str], error: object) -> ConfigError:
    """What is raised for a header that says something else than it should."""
    kind = file.suffix[1:].upper()
    return ConfigError(f"{file}: lines 1..{len(header)}: not a {kind} header ({error}). Fetch it again.")


def check_record(row: np.dtype, count: int) -> None:
    """Raises ValueError for a header without points, or with anything but one number for a coordinate."""
    if count < 1:
        raise ValueError(f"{count} points: expected at least 1")
    if not row.names:
        raise ValueError("no fields: expected x, y and z")
    for name in ("x", "y", "z", *NORMALS[0], *NORMALS[1]):
        if name in row.names and (row[name].shape or row[name].kind not in "fiu"):
            raise ValueError(f"field {name} is {row[name]}: expected one number")


def binary_records(file: pathlib.Path, body: bytes, row: np.dtype, count: int) -> np.ndarray:
    """`count` records of the type `row`.

    Raises:
        ConfigError: names the record that is cut off.
    """
    if len(body) < count * row.itemsize:
        raise ConfigError(
            f"{file}: record {len(body) // row.itemsize} is cut off: expected {count} records of {row.itemsize} bytes, "
            f"got {len(body)} bytes. Fetch it again."
        )
    return np.frombuffer(body, row, count)


def ascii_records(file: pathlib.Path, body: bytes, row: np.dtype, count: int, header: int) -> np.ndarray:
    """The same, from lines behind a header of `header` lines.

    Raises:
        ConfigError: names the line.
    """
    lines = body.decode("ascii", errors="replace").splitlines()[:count]
    if len(lines) < count:
        raise ConfigError(f"{file}: line {header + len(lines)} is the last: expected {count} points.")
    widths = [int(np.prod(row[name].shape)) for name in row.names]
    numbers = range(header + 1, header + 1 + count)
    columns = read_numbers(file, lines, numbers, sum(widths), " ".join(row.names))
    table, starts = np.zeros(count, row), np.cumsum([0, *widths])
    for name, start, width in zip(row.names, starts, widths, strict=False):
        table[name] = columns[:, start : start + width].reshape(table[name].shape)
    return table


def coordinates(file: pathlib.Path, table: np.ndarray, normals: bool) -> np.ndarray:
    """x, y, z and, where asked for, the normal, (points, 3 or 6) float32.

    Raises:
        ConfigError: names the field that is missing or the record that is not finite.
    """
    names = table.dtype.names
    known = next((three for three in NORMALS if set(three) <= set(names)), NORMALS[0])
    wanted = ("x", "y", "z", *(known if normals else ()))
    if missing := [name for name in wanted if name not in names]:
        raise ConfigError(f"{file}: record 0 has no {', '.join(missing)}: its fields are {', '.join(names)}.")
    points = np.stack([table[name] for name in wanted], axis=-1).astype(np.float32)
    if not np.isfinite(points).all():
        record = np.flatnonzero(~np.isfinite(points).all(1))[0]
        raise ConfigError(f"{file}: record {record} is not finite: {points[record].tolist()}. Remove it.")
    return points
