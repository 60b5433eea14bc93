# SPDX-License-Identifier: Apache-2.0
"""A window of steps that JAX's profiler records, for TensorBoard. Process 0 does it while the others wait."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from perceiver_jax.training import exchange


class Profiler:
    """Records steps `start + 1` to `start + num_steps` into the run folder; 0 of them is none.

    Args:
        pause: called before what takes long, in every process.
    """

    def __init__(self, workdir: Path, start: int, num_steps: int, *, pause: Callable[[], object], say: Callable):
        self._folder, self._first, self._num_steps = workdir / "profile", start + 1, num_steps
        self._pause, self._say = pause, say
        self._open = False

    def before(self, step: int, state: Any) -> None:
        """Opens the window before this step, or closes it.

        Args:
            state: what the steps so far have made.
        """
        if self._num_steps and step == self._first:
            self._pause()
            exchange.on_first("profile", lambda: jax.profiler.start_trace(str(self._folder)))
            self._open = True
        if self._open and step == self._first + self._num_steps:
            self._pause()
            jax.block_until_ready(state)
            exchange.on_first("profile written", self._write)
            self._open = False

    def end(self, state: Any) -> None:
        """Closes the window, if it is open; waits for nobody, since the run may end here with an error."""
        if self._open and jax.process_index() == 0:
            self._pause()
            jax.block_until_ready(state)
            self._write()

    def _write(self) -> None:
        jax.profiler.stop_trace()
        self._open = False
        self._say(f"profile written: tensorboard --logdir {self._folder}")
