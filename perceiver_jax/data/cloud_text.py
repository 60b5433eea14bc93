# SPDX-License-Identifier: Apache-2.0
"""Lines of numbers, checked one by one only where something is wrong; and the clouds that are nothing else.

`modelnet40_normal_resampled` writes a cloud as lines `x,y,z,nx,ny,nz`.
"""

import itertools
import pathlib
from collections.abc import Sequence

import numpy as np

from perceiver_jax.errors import ConfigError


def read_text(file: pathlib.Path, num_points: int, normals: bool = False) -> np.ndarray:
    """The first points of a file of lines `x,y,z,nx,ny,nz`, (points, 3 or 6) float32; fewer if it has fewer.

    Raises:
        ConfigError: names the line that is not six finite numbers.
    """
    with open(file, errors="replace") as stream:
        lines = list(itertools.islice(stream, num_points))
    table = read_numbers(file, lines, range(1, len(lines) + 1), 6, "x,y,z,nx,ny,nz", ",")
    return table[:, : 6 if normals else 3].astype(np.float32)


def read_numbers(
    file: pathlib.Path,
    lines: Sequence[str],
    numbers: Sequence[int],
    width: int,
    what: str,
    delimiter: str | None = None,
) -> np.ndarray:
    """The first `width` numbers of every line, float64 (lines, width), finite.

    Args:
        numbers: of the lines in the file, for the message.
        what: stands in a line, for the message.
        delimiter: between numbers; None is any white space.

    Raises:
        ConfigError: names the first line that is something else.
    """
    if not lines:
        raise ConfigError(f"{file}: line 1: no points: expected lines {what!r}. Fetch it again.")
    try:
        if lines[0].strip():  # numpy would warn of lines that are all empty
            table = np.loadtxt(lines, delimiter=delimiter, usecols=range(width), ndmin=2, comments=None)
            if len(table) == len(lines) and _are_float32(table):
                return table
    except ValueError:
        pass  # only now look for the line
    for number, line in zip(numbers, lines, strict=True):
        if not _are_numbers(line.split(delimiter)[:width], width):
            raise ConfigError(f"{file}: line {number}: expected finite numbers {what!r}, got {line.strip()[:60]!r}.")
    raise ConfigError(f"{file}: lines {numbers[0]}..{numbers[-1]}: expected finite numbers {what!r}.")


def _are_numbers(words: Sequence[str], width: int) -> bool:
    try:
        return len(words) == width and _are_float32(np.array([float(word) for word in words]))
    except ValueError:
        return False


def _are_float32(values: np.ndarray) -> bool:
    """Finite, and so as float32 too."""
    return bool((np.abs(values) <= np.finfo(np.float32).max).all())
