# SPDX-License-Identifier: Apache-2.0
"""A cloud in the PCD format (Point Cloud Library): ascii, binary, or binary_compressed."""

import pathlib

import numpy as np

from perceiver_jax.data.cloud_records import (
    ascii_records,
    binary_records,
    check_record,
    coordinates,
    no_header,
    split_header,
)
from perceiver_jax.errors import ConfigError

TYPES = {"F": "f", "I": "i", "U": "u"}
LITERALS = 32  # a control byte below it announces as many bytes, plus one, that are copied as they are
LONG = 7  # the length of a reference that the next byte adds to


def read_pcd(file: pathlib.Path, normals: bool = False) -> np.ndarray:
    """The points of a file, (points, 3 or 6) float32.

    Raises:
        ConfigError: names the line, or the record of the binary data.
    """
    header, body = split_header(file, b"DATA")
    row, count, how = _parse(file, header)
    if how == "ascii":
        table = ascii_records(file, body, row, count, len(header))
    elif how == "binary":
        table = binary_records(file, body, row, count)
    else:
        table = _compressed_records(file, body, row, count)
    return coordinates(file, table, normals)


def _parse(file: pathlib.Path, header: list[str]) -> tuple[np.dtype, int, str]:
    """Type of a record, number of records, and how they are written."""
    words = {line[0]: line[1:] for line in map(str.split, header) if line and not line[0].startswith("#")}
    try:
        names, kinds, count = words["FIELDS"], words["TYPE"], int(words["POINTS"][0])
        repeats = [int(n) for n in words.get("COUNT", ["1"] * len(names))]
        fields = [
            (name, f"<{TYPES[kind]}{size}", (repeat,) if repeat > 1 else ())
            for name, kind, size, repeat in zip(names, kinds, words["SIZE"], repeats, strict=True)
        ]
        row, how = np.dtype(fields), words["DATA"][0]
        check_record(row, count)
        if how not in ("ascii", "binary", "binary_compressed"):
            raise ValueError(f"DATA {how}: expected ascii, binary or binary_compressed")
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise no_header(file, header, error) from error
    return row, count, how


def _compressed_records(file: pathlib.Path, body: bytes, row: np.dtype, count: int) -> np.ndarray:
    """Two sizes, then all points of the first field, of the second, ..., together as one LZF stream."""
    sizes = np.frombuffer(body[: len(body) // 4 * 4][:8], "<u4")
    if len(sizes) < 2 or len(body) < 8 + sizes[0]:
        raise ConfigError(f"{file}: the compressed records are cut off: got {len(body)} bytes. Fetch it again.")
    columns = unpack_lzf(body[8 : 8 + int(sizes[0])])
    if len(columns) != count * row.itemsize:
        raise ConfigError(
            f"{file}: the compressed records are damaged: expected {count} of {row.itemsize} bytes, "
            f"got {len(columns)} bytes. Fetch it again."
        )
    table, start = np.empty(count, row), 0
    for name in row.names:
        table[name] = np.frombuffer(columns, row[name], count, start)
        start += count * row[name].itemsize
    return table


def unpack_lzf(packed: bytes) -> bytes:
    """What liblzf packed, up to the end or the first thing that cannot be: literal bytes, and references back to
    bytes that were written before, which may reach into what they write.
    """
    unpacked, at = bytearray(), 0
    try:
        while at < len(packed):
            control, at = packed[at], at + 1
            if control < LITERALS:
                unpacked += packed[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == LONG:
                length, at = length + packed[at], at + 1
            back = ((control & 31) << 8) + packed[at] + 1
            at, length = at + 1, length + 2
            if back > len(unpacked):
                break
            start = len(unpacked) - back
            piece = bytes(unpacked[start : start + length])
            unpacked += (piece * (length // len(piece) + 1))[:length]
    except IndexError:
        pass  # cut off: what came out is too short
    return bytes(unpacked)
