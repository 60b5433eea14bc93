# SPDX-License-Identifier: Apache-2.0
"""Where the time of a run went, over all its starts: `time.jsonl` in the run folder.

Each line is what one start has spent so far, in seconds by phase, and the step it has `reached`; the last line of a
start counts. What a start did after it, until it was killed or hung, and the pause until the next one are in none: they
are `LOST`, as the times of the starts tell.
"""

import contextlib
import json
import os
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax

from perceiver_jax.metrics.history import complete_lines

FILE = "time.jsonl"
PHASES = ("initialise", "compile", "data", "step", "replayed", "evaluation", "save", "restore", "profile")
"""initialise: until the loop begins; data: waiting for it; replayed: steps that an earlier start had taken already and
not saved. With compile goes what is drawn of an evaluation."""
LOST = "lost"
"""Between the last line of a start and the beginning of the next one."""


class Times:
    """What this start spends, and what those before it spent.

    Args:
        folder: of the run.
        age: seconds since this start began.

    Attributes:
        step: the last one that was taken; None until there is something to do, and nothing is written.
    """

    def __init__(self, folder: Path, age: float = 0.0):
        self._path = folder / FILE
        self._start = f"{time.time() - age:.3f}"
        self._seconds: Counter[str] = Counter()
        self._began: float | None = time.monotonic() - age
        self._earlier = _last_lines(self._path)
        self._reached = max((line["reached"] for line in self._earlier.values()), default=0)
        self.step: int | None = None

    def spent(self, phase: str, since: float, until: float) -> None:
        """Counts a phase that went from one time of the monotonic clock to another; the first one ends the start."""
        if self._began is not None:
            self._seconds["initialise"] += max(since - self._began, 0.0)
            self._began = None
        replayed = phase == "step" and self.step is not None and self.step <= self._reached
        self._seconds["replayed" if replayed else phase] += until - since

    def write(self) -> None:
        """Appends a line. Only process 0 writes, and a disk that is full loses the line, not the run."""
        if jax.process_index() != 0 or self.step is None:
            return
        seconds = {phase: round(self._seconds[phase], 3) for phase in PHASES if self._seconds[phase]}
        line = {"start": self._start, "reached": max(self.step, self._reached), **seconds}
        with contextlib.suppress(OSError), open(self._path, "a") as file:
            file.write(json.dumps(line) + "\n")

    def starts(self) -> int:
        """How often the run was started, this time included."""
        return len(self._earlier) + 1

    def totals(self) -> dict[str, float]:
        """Seconds by phase since the run was first started, `LOST` among them; phases that took none are left out."""
        lines = [*self._earlier.values(), self._seconds]
        sums = {phase: sum(line.get(phase, 0.0) for line in lines) for phase in PHASES}
        sums[LOST] = sum(self._gaps())
        return {phase: seconds for phase, seconds in sums.items() if seconds}

    def _gaps(self) -> list[float]:
        """Seconds between the last line of each start and the next start; one that found nothing to do is none."""
        spans = {float(start): sum(line.get(phase, 0.0) for phase in PHASES) for start, line in self._earlier.items()}
        starts = sorted([*spans, *([] if self.step is None else [float(self._start)])])
        return [max(later - start - spans[start], 0.0) for start, later in pairwise(starts)]


def process_age() -> float:
    """Seconds since this process began, its imports included; 0 where the system does not say."""
    try:
        began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return 0.0


def _last_lines(path: Path) -> dict[str, dict[str, Any]]:
    """Start -> its last line; what is no line of ours is passed over."""
    found = {}
    for text in complete_lines(path):
        try:
            line = json.loads(text)
            float(line["start"])
            found[line["start"]] = {"reached": 0} | {key: float(x) for key, x in line.items() if key != "start"}
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return found
