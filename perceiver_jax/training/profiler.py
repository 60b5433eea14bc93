# SPDX-License-Identifier: Apache-2.0
"""A window of steps that JAX's profiler records, for TensorBoard."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax


class Profiler:
    """Records steps `start + 1` to `start + num_steps` into the run folder; 0 of them is none. Process 0 does it.

    Args:
        pause: called before what takes long.
    """

    def __init__(self, workdir: Path, start: int, num_steps: int, *, pause: Callable[[], object], say: Callable):
        self._folder, self._first, self._num_steps = workdir / "profile", start + 1, num_steps
        self._pause, self._say = pause, say
        self._tracing = False

    def before(self, step: int, state: Any) -> None:
        """Opens the window before this step, or closes it.

        Args:
            state: what the steps so far have made.
        """
        if self._num_steps and step == self._first and jax.process_index() == 0:
            self._pause()
            jax.profiler.start_trace(str(self._folder))
            self._tracing = True
        if step == self._first + self._num_steps:
            self.end(state)

    def end(self, state: Any) -> None:
        """Closes the window, if it is open."""
        if not self._tracing:
            return
        self._pause()
        jax.block_until_ready(state)
        jax.profiler.stop_trace()
        self._tracing = False
        self._say(f"profile written: tensorboard --logdir {self._folder}")
