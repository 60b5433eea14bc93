# SPDX-License-Identifier: Apache-2.0
"""A sign of life in a file: who holds a folder, and until when that is believed.

The file says who made it and its time of change is the sign. It is made exclusively, and only one of several who find a
dead holder's file removes it. Ages are differences of times that the file system gave, so that clocks of two hosts need
not agree.
"""

import contextlib
import dataclasses
import json
import os
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

from perceiver_jax.errors import EX_TEMPFAIL

INTERVAL = 30.0
"""Seconds between two signs."""
STALE = 120.0
"""Seconds without a sign after which the holder counts as dead."""


class Held(Exception):
    """Somebody else holds it; says who."""


@dataclasses.dataclass(frozen=True)
class Owner:
    """A process, and when it began to hold."""

    pid: int
    host: str
    started: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, started {self.started}"


class Heartbeat:
    """Holds `file`, and refreshes it from a thread until `stop`.

    Args:
        alone_on_host: no other process of this host can hold it, so a file from this host is a dead one's.
        end: what ends this process when another has taken the file, which it may after `stale` seconds of silence.

    Raises:
        Held: by another process that is alive.
    """

    def __init__(
        self,
        file: Path,
        owner: Owner,
        *,
        alone_on_host: bool,
        interval: float = INTERVAL,
        stale: float = STALE,
        end: Callable[[int], object] = os._exit,
    ):
        self._file, self._owner, self._alone = file, owner, alone_on_host
        self._interval, self._stale, self._end = interval, stale, end
        self._content = json.dumps(dataclasses.asdict(owner)).encode()
        while not self._create():
            self._remove_dead()
        self._stopped = threading.Event()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def stop(self) -> None:
        """Gives the file up."""
        self._stopped.set()
        if self._read() == self._content:
            self._file.unlink(missing_ok=True)

    def _create(self) -> bool:
        """Makes the file; False if it is there."""
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        try:
            os.write(descriptor, self._content)
        except OSError:  # a full disk must not leave an empty file that looks alive
            self._file.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        return True

    def _remove_dead(self) -> None:
        content = self._read()
        if content is None:
            return
        holder = _owner(content)
        died_here = self._alone and holder is not None and holder.host == self._owner.host
        if not died_here and (age := self._age(self._file)) < self._stale:
            who = holder or "an unknown process"
            raise Held(f"{who}, last seen {max(age, 0):.0f} s ago (it counts as dead after {self._stale:.0f} s)")
        self._discard(content)

    def _discard(self, content: bytes) -> None:
        """Removes the file if it still has this content. Only who makes the marker of a dead holder may do so."""
        marker = self._file.with_name(f"{self._file.name}.dead-{zlib.crc32(content):08x}")
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            if self._age(marker) < self._stale:
                raise Held("another process that is taking it over") from None
            marker.unlink(missing_ok=True)  # that one died too
            return
        try:
            if self._read() == content:
                self._file.unlink(missing_ok=True)
        finally:
            marker.unlink(missing_ok=True)

    def _age(self, file: Path) -> float:
        """Seconds since the file's last sign."""
        now = self._file.with_name(f"{self._file.name}.now-{self._owner.host}-{self._owner.pid}")
        now.write_bytes(b"")
        try:
            return now.stat().st_mtime - file.stat().st_mtime
        except FileNotFoundError:
            return self._stale
        finally:
            now.unlink()

    def _read(self) -> bytes | None:
        try:
            return self._file.read_bytes()
        except FileNotFoundError:
            return None

    def _beat(self) -> None:
        while not self._stopped.wait(self._interval):
            with contextlib.suppress(OSError):  # a file system that is away for a moment, a folder that was moved
                content = self._read()
                if content is None:
                    self._create()
                elif content == self._content:
                    os.utime(self._file)
                elif not self._stopped.is_set():
                    print(
                        f"error: {self._file.parent} was taken over by {_owner(content)}", file=sys.stderr, flush=True
                    )
                    self._end(EX_TEMPFAIL)
                    return


def _owner(content: bytes) -> Owner | None:
    try:
        return Owner(**json.loads(content))
    except (ValueError, TypeError):
        return None
