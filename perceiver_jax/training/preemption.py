# SPDX-License-Identifier: Apache-2.0
"""Asked to stop: the first SIGTERM or Ctrl-C lets the step finish and the state be saved, the second ends at once.

Several processes of a run stop at the same step, which they agree on.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from perceiver_jax.errors import Retry
from perceiver_jax.training.agreement import Agreement

SIGNALS = (signal.SIGTERM, signal.SIGINT)
WAKE = signal.SIGURG
"""What a thread of ours interrupts the main thread with; from elsewhere it says nothing."""


class Interrupted(BaseException):
    """A signal cut short what could be cut short; like KeyboardInterrupt no error that anybody handles on the way."""


class Preempted(Retry):
    """Stopped because it was asked to, with everything saved; all processes of a run are."""


class Preemption:
    """Context in which the signals set `requested` instead of ending the process.

    Python runs a signal handler only between bytecodes of the main thread, which may be inside a compile for minutes.
    So a thread reads the wake-up descriptor that C writes to at once, and that thread acts on a second signal. It waits
    for nobody: another one tells the other processes, by way of a coordinator that may not answer.

    Args:
        agreement: with the other processes of the run, where there are any.
    """

    def __init__(self, agreement: Agreement | None = None):
        self.requested = False
        self._agreement = agreement
        self._count = 0
        self._interruptible = self._waiting = ""

    def __enter__(self) -> "Preemption":
        if threading.current_thread() is not threading.main_thread():
            self._previous = None
            return self
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._previous = {number: signal.signal(number, self._interrupt) for number in SIGNALS}
        self._previous_descriptor = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._listener = threading.Thread(target=self._listen, daemon=True, name="signals")
        self._asking = threading.Thread(target=self.ask_others, daemon=True, name="asking")
        self._listener.start()
        if self._agreement:
            self._previous[WAKE] = signal.signal(WAKE, self._wake)
            main = threading.get_ident()
            self._agreement.follow(lambda: signal.pthread_kill(main, WAKE))
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

    @contextmanager
    def together(self, message: str) -> Iterator[None]:
        """As `interruptible`, for what every process does in turn: all are interrupted at the same one."""
        if self._agreement is None:
            with self.interruptible(message):
                yield
            return
        self._waiting = message
        try:
            if self._agreement.is_here():
                raise Interrupted(message)
            yield
        finally:
            self._waiting = ""
        if not self._agreement.pass_point():
            raise Interrupted(message)

    def _wake(self, *_) -> None:
        """The handler of `WAKE`: it is known where all stop."""
        if self._waiting and self._agreement.is_here():
            message, self._waiting = self._waiting, ""
            raise Interrupted(message)
        self._interrupt()

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
                self._asking.start()
                print(
                    "\nasked to stop: finishing the step and saving; a second signal ends at once",
                    file=sys.stderr,
                )
            else:
                os._exit(128 + number[0])
        os.close(self._read)

    def ask_others(self) -> None:
        """Tells the other processes of the run to stop; more than once is once."""
        if self._agreement is None:
            return
        try:
            self._agreement.ask()
        except RuntimeError as error:  # the coordinator is gone: the run is about to end anyhow
            print(f"the other processes could not be told to stop: {error}", file=sys.stderr)

    def __exit__(self, *_) -> None:
        if self._previous is None:
            return
        if self._agreement:
            self._agreement.close()
        signal.set_wakeup_fd(self._previous_descriptor)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self._write)  # ends the thread, when it has said what it read
        self._listener.join(timeout=5)
        if self._asking.ident is not None:
            self._asking.join(timeout=5)  # it may wait for a coordinator that is gone


@contextmanager
def stoppable() -> Iterator[Preemption]:
    """A `Preemption` for this run, of however many processes; what it interrupts ends as `Preempted`."""
    preemption = Preemption(Agreement() if jax.process_count() > 1 else None)
    try:
        with preemption:
            yield preemption
    except Interrupted as error:
        preemption.ask_others()  # its thread may not have come to it yet
        raise Preempted(str(error)) from None
