# SPDX-License-Identifier: Apache-2.0
"""Turns what a full or read-only disk raises, in any library, into one clear error."""

import errno
import os
import shutil
from pathlib import Path

from perceiver_jax.errors import ConfigError, Retry

FULL = {errno.ENOSPC, errno.EDQUOT}
UNWRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST}


def explain(error: BaseException, path: Path, doing: str, *, needed: int = 0, hint: str = "") -> Exception | None:
    """The error to raise instead of `error`, or None if it is not about the disk.

    Args:
        error: what was raised.
        path: the file or folder that was to be written.
        doing: what failed, e.g. "saving step 40".
        needed: bytes that were to be written, where known.
        hint: a sentence on what is still intact.
    """
    if _reason(error, FULL):
        size = f"{needed / 1e6:.1f} MB needed, " if needed else ""
        return Retry(
            f"{path}: no space left while {doing}: {size}{_free(path) / 1e6:.1f} MB free. {hint}"
            "Free some space and run the same command again."
        )
    if reason := _reason(error, UNWRITABLE):
        return ConfigError(
            f"{path}: cannot be written while {doing} ({reason}). {hint}Make it writable or choose another --workdir."
        )
    return None


def _reason(error: BaseException, codes: set[int]) -> str | None:
    """The system's words for a code that the error or a cause has, or (TensorStore) spells out."""
    for cause in _chain(error):
        found = {cause.errno} if isinstance(cause, OSError) else {c for c in codes if os.strerror(c) in str(cause)}
        if found & codes:
            return os.strerror(min(found & codes))
    return None


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and what caused it."""
    found = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _free(path: Path) -> int:
    existing = next(p for p in (path, *path.parents) if p.exists())
    return shutil.disk_usage(existing).free
