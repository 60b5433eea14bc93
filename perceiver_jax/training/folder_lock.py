# SPDX-License-Identifier: Apache-2.0
"""One run per folder: the second is refused and told who has it.

`flock` is held for life and ends with the process, however it ends. Some file systems do not have it, and on some it
holds for one host only; so the holder keeps a heartbeat too, and whoever comes from another host goes by that.
"""

import fcntl
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perceiver_jax.errors import Retry
from perceiver_jax.training.heartbeat import Heartbeat, Held, Owner

NAME = ".lock"
HEARTBEAT = ".heartbeat"


class FolderLock:
    """Holds the folder until it is released or the process ends; a context manager.

    Args:
        flock: the system call that locks an open file.
        times: `interval` and `stale` of the heartbeat.

    Raises:
        Retry: another process holds it.
    """

    def __init__(self, folder: Path, *, flock: Callable[[int, int], Any] = fcntl.flock, **times: float):
        owner = Owner(os.getpid(), platform.node(), time.strftime("%Y-%m-%d %H:%M:%S"))
        self._file = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = _lock(self._file, flock)
            self._heartbeat = Heartbeat(folder / HEARTBEAT, owner, alone_on_host=locked, **times)
        except Held as holder:
            os.close(self._file)
            raise Retry(f"{folder} is in use by {holder}. Wait for it, stop it, or use another --workdir.") from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(owner).encode(), 0)

    def release(self) -> None:
        """Lets the next run in."""
        self._heartbeat.stop()
        os.close(self._file)

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, *_) -> None:
        self.release()


def _lock(file: int, flock: Callable[[int, int], Any]) -> bool:
    """Whether the lock was taken: False where the file system has none. Raises Held if another process has it."""
    try:
        flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Held(os.pread(file, 1000, 0).decode(errors="replace") or "an unknown process") from None
    except OSError:  # ENOTSUP, ENOLCK, ENOSYS: it differs
        return False
    return True
