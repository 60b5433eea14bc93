# SPDX-License-Identifier: Apache-2.0
"""Files and folders that must be whole: a reader sees the old one or the new one, of a file also after a power cut."""

import contextlib
import ctypes
import json
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.errors import ConfigError

DAMAGED = (OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, OverflowError)
DAMAGED += (struct.error, zipfile.BadZipFile, zlib.error)
"""What NumPy raises for a .npz file that is cut off or changed."""


def write_json(file: Path, value: Any) -> None:
    """Replaces `file` atomically by `value` as JSON."""
    write_bytes(file, json.dumps(value, indent=1).encode())


def write_bytes(file: Path, content: bytes) -> None:
    """Replaces `file` atomically by `content`."""
    partial = file.with_name(file.name + ".partial")
    with open(partial, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, file)


def write_all(files: Mapping[Path, bytes]) -> list[Path]:
    """Writes finished files, whose folders are made; returns them.

    Raises:
        ConfigError: one cannot be written.
    """
    for file, content in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(file, content)
        except OSError as error:
            reason = f"{file} cannot be written ({error.strerror})"
            raise ConfigError(f"{reason}. Make room or give write access.") from error
    return list(files)


def write_arrays(file: Path, arrays: Mapping[str, Any]) -> None:
    """Replaces `file` atomically by the arrays, as .npz; two commands may do so at a time."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as stream:
            np.savez(stream, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file of ours; ConfigError where it is damaged."""
    try:
        with np.load(file) as arrays:
            return dict(arrays)
    except DAMAGED as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{file} cannot be read ({reason}). Restore it from a copy.") from None


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file of ours.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: it holds something else.
    """
    try:
        value = json.loads(file.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{file}: not valid JSON ({reason}). Restore it, or start a new run folder.") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{file}: holds a {type(value).__name__}: expected an object {{...}}. Restore it.")
    return value


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new, empty folder beside `folder` that takes its place when the block ends well, and else is removed.

    A reader of `folder` sees all the old files or all the new ones. The folders above it are made.

    Raises:
        OSError: it cannot be written.
    """
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
    scratch.mkdir()
    try:
        yield scratch
        if folder.exists():
            _exchange(scratch, folder)
        else:
            os.rename(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _exchange(left: Path, right: Path) -> None:
    """Swaps two folders in one step or, on a file system that has no such step, in two."""
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux
    if swap is not None and swap(here, os.fsencode(left), here, os.fsencode(right), exchange) == 0:
        return
    old = left.with_name(f"{left.name}.old")
    os.rename(right, old)
    os.rename(left, right)
    os.rename(old, left)
