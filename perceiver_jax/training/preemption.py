# SPDX-License-Identifier: Apache-2.0
"""Asked to stop: the first SIGTERM or Ctrl-C lets the step finish and the state be saved, the second ends at once."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(BaseException):
    """A signal cut short what could be cut short; like KeyboardInterrupt no error that anybody handles on the way."""


class Preemption:
    """Context in which the signals set `requested` instead of ending the process.

    Python runs a signal handler only between bytecodes of the main thread, which may be inside a compile for minutes.
    So a thread reads the wake-up descriptor that C writes to at once, and that thread acts on a second signal.
    """

    def __init__(self):
        self.requested = False
        self._count = 0
        self._interruptible = ""

    def __enter__(self) -> "Preemption":
        if threading.current_thread() is not threading.main_thread():
            self._previous = None
            return self
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._previous = {number: signal.signal(number, self._interrupt) for number in SIGNALS}
        self._previous_descriptor = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, daemon=True, name="signals").start()
        return self

    @contextmanager
    def interruptible(self, message: str) -> Iterator[None]:
        """Inside it a signal raises `Interrupted(message)` at once, as does one that came before: for waiting."""
        self._interruptible = message
        try:
            if self.requested:
                raise Interrupted(message)
            yield
        finally:
            self._interruptible = ""

    def _interrupt(self, *_) -> None:
        """The handler: runs in the main thread, and only while that runs Python or waits for a lock."""
        message, self._interruptible = self._interruptible, ""
        self.requested = True
        if message:
            raise Interrupted(message)

    def _listen(self) -> None:
        while number := os.read(self._read, 1):
            if number[0] not in SIGNALS:
                continue
            self._count += 1
            self.requested = True
            if self._count == 1:
                print(
                    "\nasked to stop: finishing the step and saving; a second signal ends at once",
                    file=sys.stderr,
                )
            else:
                os._exit(128 + number[0])
        os.close(self._read)

    def __exit__(self, *_) -> None:
        if self._previous is None:
            return
        signal.set_wakeup_fd(self._previous_descriptor)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self._write)  # ends the thread
