# SPDX-License-Identifier: Apache-2.0
"""All processes stop at the same point, whichever of them was asked to.

The processes of a run go through the same points, each in its own time: the batches that they read. Whoever is asked to
stop tells all. A thread of each process then says how many points it has passed, and from there on its loop passes none
until all have said theirs: they stop at the largest number, which none has gone beyond.
"""

import threading
from collections.abc import Callable

from perceiver_jax.errors import Retry
from perceiver_jax.training import exchange

ASKED = "stop"


class Agreement:
    """Where to stop; `follow` begins to listen."""

    def __init__(self):
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._passed = 0
        self._told = self._lost = False
        self._stop: int | None = None

    def follow(self, known: Callable[[], object]) -> None:
        """Listens, in a thread, until `close`; calls `known` when it is known where to stop."""
        threading.Thread(target=self._follow, args=[known], name="agreement").start()

    def close(self) -> None:
        """Listens no longer."""
        self._over.set()

    def ask(self) -> None:
        """Tells all processes that they are to stop."""
        exchange.tell(ASKED, True)

    def is_here(self) -> bool:
        """Whether all stop before the next point; waits until that is known, if somebody has asked.

        Raises:
            Retry: another process was lost meanwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._told or self._lost or self._stop is not None)
            if self._lost:
                raise Retry("another process was lost while all were to stop; run the same command to go on")
            return self._stop is not None and self._passed >= self._stop

    def pass_point(self) -> bool:
        """Goes beyond the next point, unless all stop before it."""
        with self._changed:
            stops = self.is_here()
            self._passed += not stops
            return not stops

    def _follow(self, known: Callable[[], object]) -> None:
        try:
            if exchange.wait_for(ASKED, self._over) is None:
                return
            with self._changed:
                self._told, passed = True, self._passed
            stop = max(exchange.gather("stop at", passed))
        except RuntimeError:  # the processes have parted, or the coordinator is gone
            with self._changed:
                self._lost = self._told
                self._changed.notify_all()
            return
        with self._changed:
            self._stop = stop
            self._changed.notify_all()
        known()
