# SPDX-License-Identifier: Apache-2.0
"""Turns what a full or read-only disk raises, in any library, into one clear error."""

import errno
import shutil
from pathlib import Path

from perceiver_jax.errors import ConfigError, Retry

FULL = ("No space left on device", "Disk quota exceeded")
READ_ONLY = ("Read-only file system", "Permission denied")


def explain(
    error: BaseException, path: Path, doing: str, *, needed: int = 0, hint: str = ""
) -> Exception | None:
    """The error to raise instead of `error`, or None if it is not about the disk.

    Args:
        error: what was raised.
        path: the file or folder that was to be written.
        doing: what failed, e.g. "saving step 40".
        needed: bytes that were to be written, where known.
        hint: a sentence on what is still intact.
    """
    text = " ".join(f"{type(e).__name__}: {e}" for e in _chain(error))
    if any(e.errno in (errno.ENOSPC, errno.EDQUOT) for e in _chain(error) if isinstance(e, OSError)) or _any(
        FULL, text
    ):
        size = f"{needed / 1e6:.1f} MB needed, " if needed else ""
        return Retry(
            f"{path}: no space left while {doing}: {size}{_free(path) / 1e6:.1f} MB free. {hint}"
            "Free some space and run the same command again."
        )
    if _any(READ_ONLY, text):
        return ConfigError(
            f"{path}: cannot be written while {doing}. {hint}Make it writable or choose another --workdir."
        )
    return None


def _any(phrases: tuple[str, ...], text: str) -> bool:
    return any(phrase in text for phrase in phrases)


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
