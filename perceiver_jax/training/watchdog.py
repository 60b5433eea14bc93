# SPDX-License-Identifier: Apache-2.0
"""A run that no longer moves says where it stands and ends, so that it can be started again.

The loop beats when it enters a phase and whenever something moved in it. A thread looks on; when no beat came for
longer than the phase's limit, the stacks of all threads go to stderr and into the run folder, and the process ends
with 75. Nothing here waits for a device, and the train step knows nothing of it. The thread is Python: what hangs
without giving the interpreter back is not seen.
"""

import dataclasses
import faulthandler
import os
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

from perceiver_jax.errors import EX_TEMPFAIL

POLL = 0.5
"""Seconds between two looks."""
LAST_WORDS = 10.0
"""Seconds that writing the stacks may take: what hangs may be the disk or the reader of stderr."""
NUM_DURATIONS = 101
"""Steps whose median is the measure of a step."""
RECENT = 8
"""Latest phases of a process in which another one may still be: of two steps, or two batches of an evaluation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """How long each phase may go without a beat, of the process itself; infinity is for ever.

    Attributes:
        compile_seconds: the first state, and the first step and evaluation of batches of a shape, which compile.
        step_seconds: a training step, unless `step_medians` times the median of the latest steps is more.
        data_seconds: waiting for a batch.
        evaluation_seconds: a batch of an evaluation.
        save_seconds, restore_seconds: a file of a checkpoint.
        profile_seconds: starting the profiler, and writing what it recorded.
    """

    compile_seconds: float
    step_seconds: float
    step_medians: float
    data_seconds: float
    evaluation_seconds: float
    save_seconds: float
    restore_seconds: float
    profile_seconds: float


class _Beat(NamedTuple):
    phase: str
    times: int
    at: float


class Watchdog:
    """Context in which the run is watched.

    All processes of a run go through the same phases and wait for each other at each step. So in all but `data` one may
    take, beside its own limit, the longest of its latest phases: the process that it waits for, and that is to blame,
    may be in there still, and ends first.

    Args:
        folder: of the run; gets `stacks-TIME.txt`.
        spent: told each phase that has ended, with its begin and end by the monotonic clock.
        keep: called before a hang ends the process, so that what `spent` was told is kept.
        end: what ends the process.
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        *,
        spent: Callable[[str, float, float], object] = lambda *_: None,
        keep: Callable[[], object] = lambda: None,
        end: Callable[[int], object] = os._exit,
    ):
        self._folder, self._limits, self._end = folder, limits, end
        self._spent, self._keep = spent, keep
        self._durations: deque[float] = deque(maxlen=NUM_DURATIONS)
        self._closed = threading.Event()
        self._alone = jax.process_count() == 1
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._last = _Beat("compile", 1, time.monotonic())
        self._recent.append(self._own("compile", 1))

    def beat(self, phase: str, times: int = 1) -> None:
        """Says that the run moves, and what it does from here on; costs less than a microsecond.

        Args:
            phase: one that `Limits` has seconds for.
            times: how many times the phase's limit it may take (the files of a checkpoint).
        """
        now, last = time.monotonic(), self._last
        if last.phase == "step":
            self._durations.append(now - last.at)
        self._last = _Beat(phase, times, now)
        self._recent.append(self._own(phase, times))
        self._spent(last.phase, last.at, now)

    def limit(self, phase: str, times: int = 1) -> float:
        """Seconds that it may take now."""
        seconds = self._own(phase, times)
        if phase == "step" and self._durations:
            seconds = max(seconds, self._limits.step_medians * statistics.median(list(self._durations)))
        return seconds if self._alone or phase == "data" else seconds + max(list(self._recent))

    def _own(self, phase: str, times: int) -> float:
        return getattr(self._limits, f"{phase}_seconds") * times

    def __enter__(self) -> "Watchdog":
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.beat(self._last.phase)
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        """Counts its own looks, not the clock: a process that was stopped and continued has not hung meanwhile."""
        seen, quiet, looked = self._last, 0.0, time.monotonic()
        while not self._closed.wait(POLL):
            now, last = time.monotonic(), self._last
            quiet = quiet + min(now - looked, POLL) if last is seen else 0.0
            seen, looked = last, now
            if quiet > self.limit(last.phase, last.times):
                self._expire(last, quiet)
                return

    def _expire(self, beat: _Beat, quiet: float) -> None:
        forced = threading.Timer(LAST_WORDS, self._end, [EX_TEMPFAIL])
        forced.daemon = True
        forced.start()
        key = f"{beat.phase}_seconds"
        line = f"hang: nothing moved for {quiet:.0f} s (config.watchdog.{key}={getattr(self._limits, key):g})"
        if not self._alone and beat.phase != "data":
            line += ", perhaps for another process"
        file = self._folder / f"stacks-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        try:
            print(f"error: {line}; stacks: {file}; run the same command to go on", file=sys.stderr, flush=True)
            faulthandler.dump_traceback(sys.stderr)
            with open(file, "w") as stream:
                print(line, file=stream, flush=True)
                faulthandler.dump_traceback(stream)
            self._keep()
        except OSError as error:
            print(f"the stacks could not be written: {error}", file=sys.stderr, flush=True)
        finally:
            forced.cancel()
            self._end(EX_TEMPFAIL)
