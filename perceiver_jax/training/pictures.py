# SPDX-License-Identifier: Apache-2.0
"""Pictures of every evaluation: what `Task.visualize` draws, in TensorBoard and in RUN/figures/validation/.

The files are NAME_STEP.png (8 digits). Examples are the first ones of the split, always the same, with the random
numbers of an evaluation; parameters are read, so nothing here changes a step.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from perceiver_jax.data.source import Source
from perceiver_jax.figures.images import png
from perceiver_jax.files import write_bytes
from perceiver_jax.tasks.base import Task, Variables
from perceiver_jax.training import disk
from perceiver_jax.training.sharding import replicated
from perceiver_jax.training.step import make_prediction_step
from perceiver_jax.training.writers import Writers

Arrays = dict[str, np.ndarray]


class Pictures:
    """Draws what a task shows of an evaluation of `split`.

    Args:
        seed: of the random numbers in evaluation.
    """

    def __init__(self, task: Task, source: Source, split: str, mesh: Mesh, workdir: Path, *, seed: int):
        self.task, self.source, self.split, self.mesh = task, source, split, mesh
        self.folder = workdir / "figures" / split
        self.step = jax.jit(make_prediction_step(task, seed=seed), out_shardings=replicated(mesh))

    def draw(self, done: int, variables: Variables, stats: dict[str, Any], writers: Writers) -> None:
        """Draws and writes the pictures after `done` steps; the first call compiles.

        Raises:
            Retry: the disk is full.
            ConfigError: the folder cannot be written.
        """
        batch, predictions = self._predicted(variables) if self.task.num_visualized else ({}, {})
        if jax.process_index() != 0:
            return
        images = self.task.visualize(predictions, batch, stats)
        writers.images(done, {f"{self.split}/{name}": image for name, image in images.items()})
        try:
            for name, image in images.items():
                self.folder.mkdir(parents=True, exist_ok=True)
                write_bytes(self.folder / f"{name}_{done:08d}.png", png(image))
        except OSError as error:
            raise disk.explain(error, self.folder, f"writing the pictures of step {done}") or error from error

    def _predicted(self, variables: Variables) -> tuple[Arrays, Arrays]:
        """The examples and what is predicted of them."""
        ids = np.arange(min(self.task.num_visualized, self.source.num_examples(self.split)))
        batch = self.source.load(self.split, ids, None)
        batch |= {"weight": np.ones(len(ids), np.float32), "id": ids.astype(np.int32)}
        placed = {name: jax.device_put(array, replicated(self.mesh)) for name, array in batch.items()}
        with jax.set_mesh(self.mesh):
            return batch, jax.device_get(self.step(variables, placed, np.int32(0)))
