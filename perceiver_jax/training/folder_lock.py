# SPDX-License-Identifier: Apache-2.0
"""One run per folder: the second is refused and told who has it."""

import fcntl
import os
import platform
import time
from pathlib import Path

from perceiver_jax.errors import Retry

NAME = ".lock"


class FolderLock:
    """Holds `flock` on a file in the folder until it is released or the process ends, however it ends.

    Raises:
        Retry: another process holds it.
    """

    def __init__(self, folder: Path):
        self._file = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._file, 1000, 0).decode(errors="replace") or "an unknown process"
            os.close(self._file)
            raise Retry(f"{folder} is in use by {owner}. Wait for it, stop it, or use another --workdir.") from None
        os.ftruncate(self._file, 0)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        os.pwrite(self._file, f"process {os.getpid()} on {platform.node()}, started {started}".encode(), 0)

    def release(self) -> None:
        """Lets the next run in."""
        os.close(self._file)
