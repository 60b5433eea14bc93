# SPDX-License-Identifier: Apache-2.0
"""Where the prepared form of a set lies, and how it gets there once: fingerprint, lock, partial folder, rename.

A set is prepared into ROOT/KEY, where KEY follows from all that decides its content, so that another set never
answers in its name. It is made as ROOT/KEY.partial under the lock of ROOT and renamed when it is whole: an interrupted
preparation leaves only what the next call removes. What is stored is for `prepared_clouds`.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from perceiver_jax.errors import ConfigError, Retry

LOG = logging.getLogger(__name__)
VERSION = 1  # of what is stored; another one is prepared anew
FULL = (errno.ENOSPC, errno.EDQUOT)
WRITING = (*FULL, errno.EFBIG, errno.EIO, errno.EROFS)  # what a disk may answer to a library that writes


def fingerprint(folder: pathlib.Path, files: list[str], **decides: Any) -> str:
    """A short hash of the files' names, sizes and times of change and of whatever else decides the content."""
    stats = [(file, (stat := (folder / file).stat()).st_size, stat.st_mtime_ns) for file in files]
    return key(files=stats, **decides)


def key(**decides: Any) -> str:
    """A short hash of JSON-able values."""
    text = json.dumps({"version": VERSION, **decides}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def roots(path: pathlib.Path, prepared_path: str = "") -> list[pathlib.Path]:
    """Folders where the prepared form of the set at `path` may lie: the given one, or next to it, or the cache."""
    if prepared_path:
        return [pathlib.Path(prepared_path).expanduser().absolute()]
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    path = path.absolute()
    return [path.with_name(f"{path.name}.prepared"), cache / "perceiver_jax" / path.name]


def prepare(candidates: list[pathlib.Path], name: str, make: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """The folder `name` in one of the candidates, made by `make(folder)` if it is in none; one process makes it.

    Raises:
        ConfigError: none of the candidates can be written; whatever `make` raises.
        Retry: the disk is full.
    """
    for root in candidates:
        if (root / name).is_dir():
            return root / name
    root = _writable(candidates)
    with locked(root):
        if not (root / name).is_dir():
            partial = root / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            LOG.info("preparing %s, once", root / name)
            try:
                partial.mkdir()
                make(partial)
                os.rename(partial, root / name)
            except (OSError, RuntimeError) as error:
                if not (code := _errno(error)):
                    raise
                raise _translated(error, code, root) from error
            finally:
                shutil.rmtree(partial, ignore_errors=True)  # of what failed; what is whole has another name
    return root / name


@contextlib.contextmanager
def locked(root: pathlib.Path) -> Iterator[None]:
    """Holds the lock of a folder, which ends with the process; waits for whoever has it, and says so."""
    handle = os.open(root / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            LOG.info("waiting for another process that prepares %s", root)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _writable(candidates: list[pathlib.Path]) -> pathlib.Path:
    """The first that can be made and written to; says when it is not the one next to the data."""
    problems = []
    for root in candidates:
        try:
            root.mkdir(parents=True, exist_ok=True)
            os.close(os.open(root / ".lock", os.O_RDWR | os.O_CREAT, 0o666))
        except OSError as error:
            problems.append(f"{root} ({error.strerror})")
            continue
        if problems:
            LOG.warning("%s cannot be written: the prepared data go to %s", ", ".join(problems), root)
        return root
    raise ConfigError(
        f"nowhere to put the prepared data: cannot write {', '.join(problems)}. "
        "Name a folder: --config.data.prepared_path=DIR"
    )


def _errno(error: Exception) -> int | None:
    """The system's code; array_record only spells it out, in a RuntimeError."""
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    return next((code for code in WRITING if os.strerror(code) in str(error)), None)


def _translated(error: Exception, code: int, root: pathlib.Path) -> Exception:
    reason = getattr(error, "strerror", None) or (str(error) if isinstance(error, OSError) else os.strerror(code))
    if code in FULL:
        return Retry(f"{root}: {reason}. Make room, or name another folder: --config.data.prepared_path=DIR")
    where = f", {error.filename}" if getattr(error, "filename", None) else ""
    return ConfigError(f"preparing into {root} failed ({reason}{where}). Mend it and run the command again.")
