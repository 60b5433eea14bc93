# SPDX-License-Identifier: Apache-2.0
"""The open logging window: statistics of the steps since the last log line, and what they took.

A step's report is fetched when the next step has been dispatched, so that logging never makes a device wait. The sums
of an open window go into the checkpoint, so that the line a resumed run writes is the line it would have written.
"""

import time
from collections import deque
from typing import Any

import jax
import numpy as np

from perceiver_jax.errors import ConfigError
from perceiver_jax.metrics import statistics
from perceiver_jax.training.step import Report


class Meter:
    """Collects reports of train steps.

    Args:
        max_bad_steps: that many non-finite steps in a row end the run.
        state: what `state()` returned when the run was saved.
    """

    def __init__(self, max_bad_steps: int, state: dict | None = None):
        self._max_bad_steps = max_bad_steps
        self._pending: tuple[Report, np.ndarray] | None = None
        self._restored = [np.asarray(leaf, np.float64) for leaf in (state or {}).get("sums", [])]
        self._stats: dict[str, Any] | None = None
        self._bad_ids: deque[np.ndarray] = deque(maxlen=max(max_bad_steps, 1))
        self.learning_rate = float((state or {}).get("learning_rate", float("nan")))
        self._step_times: list[float] = []
        self._waits: list[float] = []
        self._host_times: list[float] = []
        self._clock: float | None = None
        self.latest: dict[str, float] = {}  # the times of the window that was taken last

    def push(self, report: Report, ids: np.ndarray, data_wait: float, ready: float | None = None) -> None:
        """Takes in the report of a dispatched step and fetches the one before it.

        Args:
            ready: when everything was for it to be dispatched, by `time.perf_counter`; None: now. On CPUs with
                collectives a step is computed while it is dispatched.
        """
        ready = time.perf_counter() if ready is None else ready
        self.flush()
        self._pending = (report, ids)
        now = time.perf_counter()
        if self._clock is not None:
            self._step_times.append(now - self._clock)
            self._host_times.append(ready - self._clock)
            self._waits.append(data_wait)
        self._clock = now

    def flush(self) -> None:
        """Fetches the held-back report; waits for its step."""
        if self._pending is None:
            return
        (stats, rate, bad_steps), ids = jax.device_get(self._pending[0]), self._pending[1]
        self._pending = None
        self._stats = statistics.add(self._stats, stats)
        if self._restored:
            leaves, tree = jax.tree.flatten(self._stats)
            restored = [leaf + saved for leaf, saved in zip(leaves, self._restored, strict=True)]
            self._stats, self._restored = jax.tree.unflatten(tree, restored), []
        self.learning_rate = float(rate)
        self._check(int(bad_steps), ids)

    def _check(self, bad_steps: int, ids: np.ndarray) -> None:
        if bad_steps == 0:
            self._bad_ids.clear()
            return
        self._bad_ids.append(ids)
        if 0 < self._max_bad_steps <= bad_steps:
            last = ", ".join(str(i) for i in self._bad_ids[-1][:8])
            raise NonFiniteError(
                f"loss, gradient or update was not finite in {bad_steps} steps in a row (last batch: examples {last}, "
                "...; all: non_finite.json). "
                "Lower config.optimizer.learning_rate, clip (config.optimizer.clip_norm=1.0) or check the data.",
                [batch.tolist() for batch in self._bad_ids],
            )

    def stop_clock(self) -> None:
        """Leaves the next step untimed: before it comes what is no training, and it finds an idle device."""
        self._clock = None

    def state(self) -> dict:
        """JSON-able sums of the open window."""
        self.flush()
        leaves = self._restored if self._stats is None else jax.tree.leaves(self._stats)
        return {"sums": [np.asarray(leaf).tolist() for leaf in leaves], "learning_rate": self.learning_rate}

    def take(self) -> tuple[dict[str, Any], dict[str, float]]:
        """The window's statistics, and its times in seconds if any step was timed; opens the next window."""
        self.flush()
        stats, times, waits, host = self._stats, self._step_times, self._waits, self._host_times
        self._stats, self._step_times, self._waits, self._host_times = None, [], [], []
        if not times:
            return stats, {}
        timing = {"step_time": np.mean(times), "data_wait": np.mean(waits), "host_time": np.mean(host)}
        timing |= {f"step_time_p{q}": np.percentile(times, q) for q in (50, 95)}
        self.latest = {name: float(value) for name, value in timing.items()}
        return stats, self.latest


class NonFiniteError(ConfigError):
    """Too many non-finite steps in a row.

    Attributes:
        batches: ids of the examples of those batches.
    """

    def __init__(self, message: str, batches: list[list[int]]):
        super().__init__(message)
        self.batches = batches
