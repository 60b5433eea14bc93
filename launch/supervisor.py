# SPDX-License-Identifier: Apache-2.0
"""Starts processes that belong together, passes on what they say and what they are told, and starts them again.

When one fails the others are killed with all that they started. Exit codes decide: 75, or an end by a signal (134:
JAX's runtime gave up, 137: killed, perhaps for memory, 139: crashed), is worth another try; 78 and 1 are not.
Needs no JAX.
"""

import contextlib
import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

AGAIN, WRONG, GIVEN_UP = 75, 78, 1
SIGNALS = (signal.SIGTERM, signal.SIGINT)
RESTARTS = 4
"""How many in a row may be without progress."""
GRACE = 10.0
"""Seconds that the others have to end by themselves, and say why, after one has failed."""
LONGEST_PAUSE = 60.0
PR_SET_PDEATHSIG = 1


class Command(NamedTuple):
    """A process to start; `name` stands before each line that it prints."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]


class Supervisor:
    """Runs groups of processes until one group ends well or another try is not worth it; a context manager.

    SIGTERM and Ctrl-C, while it is open, go to all processes; after one of them nothing is started again.
    """

    def __init__(self, *, restarts: int = RESTARTS, pause: float = 1.0, grace: float = GRACE):
        """Args:
        restarts: how many in a row may be without progress.
        pause: seconds before the first restart, twice as many before each further one without progress.
        grace: seconds that the others have after one has failed.
        """
        self._restarts, self._pause, self._grace = restarts, pause, grace
        self._asked = threading.Event()
        self._processes: list[subprocess.Popen] = []

    def __enter__(self) -> "Supervisor":
        self._previous = {number: signal.signal(number, self._forward) for number in SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._kill()

    def run(self, commands: Callable[[], Sequence[Command]], progress: Callable[[], Any] = lambda: None) -> int:
        """The exit code that it comes to.

        Args:
            commands: what to start, asked before each try.
            progress: something that has changed when a try was not in vain.
        """
        fruitless, before = 0, progress()
        while True:
            code = self.attempt(commands())
            if code != AGAIN or self._asked.is_set():
                return code
            fruitless, before = (fruitless if before == (now := progress()) else 0), now
            if fruitless == self._restarts:
                _say(f"given up: {fruitless} restarts in a row without progress")
                return GIVEN_UP
            pause = min(self._pause * 2**fruitless, LONGEST_PAUSE)
            fruitless += 1
            _say(f"restart in {pause:g} s (number {fruitless} of {self._restarts} since the last progress)")
            if self._asked.wait(pause):
                return AGAIN

    def attempt(self, commands: Sequence[Command]) -> int:
        """Runs one group to its end."""
        ended: queue.Queue[tuple[Command, int]] = queue.Queue()
        codes: list[int] = []
        with self._started(commands, ended):
            deadline = None
            while len(codes) < len(commands):
                try:
                    command, code = ended.get(timeout=deadline and max(deadline - time.monotonic(), 0))
                except queue.Empty:
                    self._kill()
                    deadline = None
                    continue
                codes.append(code if code >= 0 else 128 - code)
                if codes[-1]:
                    _say(f"process {command.name} ended with {codes[-1]}")
                if codes[-1] and len(list(filter(None, codes))) == 1:
                    deadline = time.monotonic() + self._grace
        return verdict(codes)

    @contextlib.contextmanager
    def _started(self, commands: Sequence[Command], ended: queue.Queue) -> Iterator[None]:
        """The processes run inside, with threads that read what they print; nothing of them is left behind."""
        threads = []
        try:
            for command in commands:
                process = _start(command)
                self._processes.append(process)
                for source, sink in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
                    threads.append(threading.Thread(target=_copy, args=[source, sink, command.name]))
                threads.append(threading.Thread(target=lambda c=command, p=process: ended.put((c, p.wait()))))
            for thread in threads:
                thread.start()
            if self._asked.is_set():  # meanwhile
                self._forward(signal.SIGTERM)
            yield
        finally:
            self._kill()
            for thread in threads:
                thread.join()
            self._processes = []

    def _forward(self, number: int, *_) -> None:
        self._asked.set()
        for process in self._processes:
            process.send_signal(number)

    def _kill(self) -> None:
        """The processes and all that they started."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def verdict(codes: Sequence[int]) -> int:
    """The exit code of a group: the first that is not 0, of its processes in the order in which they ended."""
    if WRONG in codes:
        return WRONG
    first = next(filter(None, codes), 0)
    return AGAIN if first >= 128 else first


def followed() -> Callable[[], None] | None:
    """A `preexec_fn`: the process is asked to stop should the one that started it be killed. None outside Linux."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _start(command: Command) -> subprocess.Popen:
    """In a group of its own, and asked to stop should the supervisor be killed."""
    return subprocess.Popen(
        command.argv,
        env=dict(command.env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=followed(),
    )


def _copy(source: Any, sink: Any, name: str) -> None:
    with source:
        for line in source:
            with contextlib.suppress(BrokenPipeError, ValueError):  # nobody reads any more
                sink.write(f"[{name}] {line.decode(errors='replace').rstrip()}\n")
                sink.flush()


def _say(line: str) -> None:
    print(f"supervisor: {line}", file=sys.stderr, flush=True)
