# SPDX-License-Identifier: Apache-2.0
"""Asked to stop: the first SIGTERM or Ctrl-C lets the step finish and the state be saved, the second ends at once."""

import os
import signal
import sys
import threading

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Preemption:
    """Context in which the signals set `requested` instead of ending the process.

    Python runs a signal handler only between bytecodes of the main thread, which may be inside a compile for minutes.
    So a thread reads the wake-up descriptor that C writes to at once, and that thread acts on a second signal.
    """

    def __init__(self):
        self.requested = False
        self._count = 0

    def __enter__(self) -> "Preemption":
        if threading.current_thread() is not threading.main_thread():
            self._previous = None
            return self
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._previous = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
        self._previous_descriptor = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, daemon=True, name="signals").start()
        return self

    def _listen(self) -> None:
        while number := os.read(self._read, 1):
            if number[0] not in SIGNALS:
                continue
            self._count += 1
            self.requested = True
            if self._count == 1:
                print(
                    "\nasked to stop: finishing this step and saving; a second signal ends at once",
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
