# SPDX-License-Identifier: Apache-2.0
"""Turns what a full or read-only disk raises, in any library, into one clear error."""

import errno
import logging
import os
import shutil
from pathlib import Path

from perceiver_jax.errors import ConfigError, Retry
from perceiver_jax.training.ledger import Ledger

log = logging.getLogger(__name__)

FULL = {errno.ENOSPC, errno.EDQUOT}
UNWRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST}


def explain(error: BaseException, path: Path, doing: str, *, needed: int = 0, hint: str = "") -> Exception | None:
    """The error to raise instead of `error`, or None if it is not about the disk.

    Args:
        error: what was raised.
        path: the file or folder that was to be written.
        doing: what failed, e.g. "saving step 40".
        needed: bytes that were to be written, where known.
        hint: a sentence on what is still intact; default what the run's ledger says.
    """
    hint = hint or saved(path)
    if _reason(error, FULL):
        return _full(path, f"while {doing}", needed, hint)
    if reason := _reason(error, UNWRITABLE):
        return ConfigError(
            f"{path}: cannot be written while {doing} ({reason}). {hint}Make it writable or choose another --workdir."
        )
    return None


def check_space(folder: Path, one: int, num_kept: int) -> None:
    """Looks, before anything is computed, whether the checkpoints that are to come fit on the disk.

    Args:
        folder: where they go.
        one: bytes of one checkpoint.
        num_kept: how many lie there at most, the one that is being written included.

    Raises:
        Retry: not even one more fits.
    """
    there, free = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()), _free(folder)
    if free < one:
        raise _full(folder, "for a checkpoint", one, saved(folder))
    if free + there < num_kept * one:
        log.warning(
            "%s: %d checkpoints of %.1f MB will not fit: %.1f MB free. Free some space before it runs out.",
            *(folder, num_kept, one / 1e6, free / 1e6),
        )


def saved(path: Path) -> str:
    """A sentence on the last good step of the run that `path` belongs to; nothing where there is no run."""
    for folder in (path, *path.parents):
        for ledger in (folder / "committed.jsonl", folder / "checkpoints" / "committed.jsonl"):
            if ledger.is_file():
                step = max(Ledger(ledger, read_only=True).promises, default=None)
                return "No step is saved yet. " if step is None else f"Step {step} is saved. "
    return ""


def _full(path: Path, when: str, needed: int, hint: str) -> Retry:
    size = f"{needed / 1e6:.1f} MB needed, " if needed else ""
    return Retry(
        f"{path}: no space left {when}: {size}{_free(path) / 1e6:.1f} MB free. {hint}"
        "Free some space and run the same command again."
    )


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
