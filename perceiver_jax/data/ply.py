# SPDX-License-Identifier: Apache-2.0
"""The vertices of a file in the PLY format (Turk 1994), ascii or binary; faces are not looked at."""

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

TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2"},
    **{"int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"},
}
ORDERS = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}


def read_ply(file: pathlib.Path, normals: bool = False) -> np.ndarray:
    """The points of a file, (points, 3 or 6) float32.

    Raises:
        ConfigError: names the line, or the record of the binary data.
    """
    header, body = split_header(file, b"end_header")
    words = [line for line in map(str.split, header) if line and line[0] not in ("comment", "obj_info")]
    elements = [index for index, line in enumerate(words) if line[0] == "element"]
    try:
        if words[0] != ["ply"] or words[elements[0]][1] != "vertex":
            raise ValueError("expected ply first, and element vertex before the others")
        how = next(line[1] for line in words if line[0] == "format")
        end = elements[1] if len(elements) > 1 else len(words) - 1
        row = np.dtype([(name, ORDERS[how] + TYPES[kind]) for _, kind, name in words[elements[0] + 1 : end]])
        count = int(words[elements[0]][2])
        check_record(row, count)
    except (KeyError, ValueError, IndexError, TypeError, StopIteration) as error:
        raise no_header(file, header, error) from error
    if how == "ascii":
        return coordinates(file, ascii_records(file, body, row, count, len(header)), normals)
    return coordinates(file, binary_records(file, body, row, count), normals)
