# SPDX-License-Identifier: Apache-2.0
"""Attention of a few examples, always the same, kept in RUN/attention/ at the first, every n-th and the last epoch.

`STEP.npz` (8 digits) has what `Task.attention_maps` gives, numbers as float16, beside `id` and `label`; `examples.npz`
the examples as the source gave them; `about.json` what the axes are, how inputs lie in a picture, and which steps there
are. Nothing here changes a step: parameters are read, and examples come without augmentation. The reader is
`reports.attention_maps`.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from perceiver_jax.data.source import Pictured, Source
from perceiver_jax.data.spec import Spec
from perceiver_jax.figures.clouds import heat_colors
from perceiver_jax.files import read_arrays, read_json, write_arrays, write_json
from perceiver_jax.tasks.base import Task, Variables, zeros_batch
from perceiver_jax.training import disk
from perceiver_jax.training.cadence import every
from perceiver_jax.training.sharding import fetch, replicated
from perceiver_jax.training.writers import Writers

AXES = {
    "cross": ["example", "stage", "head", "latent", "input"],
    "latent": ["example", "layer", "head", "latent", "latent"],
    "latent_stage": ["layer"],
    "probabilities": ["example", "class"],
}
KINDS = {"points": "points", "tokens": "text", "sequence": "sequence", "image": "image"}
"""How examples are drawn, by the name of their array; what is `input` goes by its shape."""


@dataclasses.dataclass(frozen=True)
class CaptureSettings:
    """Attributes:
    every: epochs; 0 keeps nothing.
    num_examples: of the validation split, of as many classes as there are.
    max_bytes: of one file; with larger maps nothing is kept.
    """

    every: int = 0
    num_examples: int = 6
    max_bytes: int = 2**26


class Capture:
    """Keeps the maps of a run when they are due."""

    def __init__(
        self,
        task: Task,
        source: Source,
        mesh: Mesh,
        workdir: Path,
        settings: CaptureSettings,
        *,
        steps_per_epoch: int,
        num_steps: int,
        say: Callable[[str], None],
    ):
        self.source, self.mesh, self.folder, self.settings = source, mesh, workdir / "attention", settings
        self.steps_per_epoch, self.num_steps, self.say = steps_per_epoch, num_steps, say
        self.maps = task.attention_maps() if settings.every else None
        self.batch: dict[str, Any] = {}
        self.kept: set[int] = set()

    def begin(self, done: int) -> None:
        """Takes back what a run that was cut off kept after the step it goes on from."""
        file = self.folder / "about.json"
        if not file.exists():
            return
        content = read_json(file)
        steps = {step: epoch for step, epoch in content["steps"].items() if int(step) <= done}
        self.kept = {int(step) for step in steps}
        if jax.process_index() == 0 and steps != content["steps"]:
            write_json(file, content | {"steps": steps})
            for step in content["steps"].keys() - steps:
                (self.folder / f"{step}.npz").unlink(missing_ok=True)

    def due(self, done: int, *, last: bool = False) -> bool:
        """Whether maps are to be kept after `done` steps and are not there.

        Args:
            last: the run ends here, whatever was planned.
        """
        if self.maps is None or done in self.kept:
            return False
        epoch, total = self.steps_per_epoch, self.num_steps
        first = epoch if epoch < total else total // 2  # so that there are two to compare in any run
        return last or done == first or every(done, epoch * self.settings.every, total)

    def keep(self, done: int, variables: Variables, writers: Writers) -> None:
        """Writes the maps after `done` steps, and clouds also for TensorBoard, unless they are too large.

        Raises:
            Retry: the disk is full.
            ConfigError: the folder cannot be written.
        """
        if not self.batch:
            self._choose(variables)
        if self.maps is None:
            return
        with jax.set_mesh(self.mesh):
            maps = fetch(self.maps(variables, self.batch), self.mesh)
        half = {name: array.astype(np.float16) if array.dtype.kind == "f" else array for name, array in maps.items()}
        half |= {name: np.asarray(self.batch[name]) for name in ("id", "label") if name in self.batch}
        if jax.process_index() == 0:
            try:
                self._write(done, half)
            except OSError as error:
                raise disk.explain(error, self.folder, f"keeping the attention maps of step {done}") or error from error
        self.kept.add(done)
        if "points" in self.batch:
            points = np.asarray(self.batch["points"])[..., :3]
            heat = heat_colors(half["cross"].astype(np.float32).mean((1, 2, 3)))
            writers.point_clouds(done, {"attention": points}, {"attention": heat})

    def _write(self, done: int, arrays: dict[str, np.ndarray]) -> None:
        self.folder.mkdir(exist_ok=True)
        about_file, examples = self.folder / "about.json", self.folder / "examples.npz"
        if not about_file.exists() or not examples.exists():
            shown = {name: array for name, array in self.pictured.items() if name == "object"}
            write_arrays(examples, {name: np.asarray(array) for name, array in self.batch.items()} | shown)
            described = about(self.source.spec, self.batch, arrays["cross"].shape[-1], self.pictured.get("pixel_order"))
            write_json(about_file, described | {"split": self._split(), "steps": {}})
        write_arrays(self.folder / f"{done:08d}.npz", arrays)
        content = read_json(about_file)
        content["steps"][f"{done:08d}"] = round(done / self.steps_per_epoch, 4)
        write_json(about_file, content)

    def _choose(self, variables: Variables) -> None:
        """Loads the examples, and gives up, once, if their maps are too large."""
        split, ids = self._split(), self._ids()
        if (size := self._size(variables, len(ids))) > self.settings.max_bytes:
            self.say(
                f"attention maps are not kept: {size / 2**20:,.0f} MiB at a time for {len(ids)} examples, more than "
                f"config.attention_maps.max_bytes={self.settings.max_bytes:,}; fewer examples "
                "(config.attention_maps.num_examples) or more bytes keep them"
            )
            self.maps = None
            return
        batch = self.source.load(split, ids, None) | {"id": ids.astype(np.int32)}
        self.batch = {name: jax.device_put(array, replicated(self.mesh)) for name, array in batch.items()}
        self.pictured = self.source.pictured(split, ids) if isinstance(self.source, Pictured) else {}

    def _split(self) -> str:
        return "validation" if "validation" in self.source.splits else "train"

    def _ids(self) -> np.ndarray:
        """The examples that the run began with, whatever the settings are now."""
        if self.kept:
            return read_arrays(self.folder / "examples.npz")["id"]
        return chosen_ids(self.source.labels(self._split()), self.settings.num_examples)

    def _size(self, variables: Variables, number: int) -> int:
        """Bytes of what would be written of the longest examples; computes nothing."""
        shapes = jax.eval_shape(lambda v: self.maps(v, zeros_batch(self.source.spec, number)), variables)
        return sum(2 * math.prod(array.shape) for array in shapes.values())


def chosen_ids(labels: np.ndarray, number: int) -> np.ndarray:
    """The first example of each of `number` classes, spread over them; more of them where there are fewer classes."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    place = np.arange(len(labels)) - np.repeat(starts, np.diff(starts, append=len(labels)))
    rounds = order[np.lexsort((labels[order], place))]  # the first of every class, then the second of every class
    if number < len(starts):
        return rounds[np.linspace(0, len(starts) - 1, number).astype(np.int64)]
    return rounds[:number]


def about(spec: Spec, batch: dict[str, Any], num_inputs: int, pixel_order: np.ndarray | None) -> dict[str, Any]:
    """What a reader needs to know of the examples: their kind and how the inputs lie in a picture."""
    name = next(name for name in spec.arrays if name not in ("label", "mask"))
    kind = KINDS.get(name) or ("image" if batch[name].ndim == 4 and "mask" not in batch else "sequence")
    patch, grid = picture_grid(batch[name].shape[1:3], num_inputs) if kind == "image" else (1, None)
    return {
        "kind": kind,
        "array": name,
        "grid": grid,
        "patch": patch,
        "permutation": None if pixel_order is None else pixel_order.tolist(),
        "axes": AXES,
        "class_names": list(spec.class_names),
    }


def picture_grid(pixels: tuple[int, int], num_inputs: int) -> tuple[int, list[int] | None]:
    """(p, [rows, columns]) such that each input stands for p x p pixels; (1, None) if there is no such p."""
    for patch in range(1, max(pixels) + 1):
        grid = [math.ceil(side / patch) for side in pixels]
        if math.prod(grid) == num_inputs:
            return patch, grid
    return 1, None
