# SPDX-License-Identifier: Apache-2.0
"""What a run writes down about itself: `metrics.jsonl`, always, and TensorBoard event files through CLU.

`metrics.jsonl` has one flat JSON object a call: {"step", "time", name: value, ...}; `time` is in seconds
since 1970. Floats come back exactly; those that JSON lacks are the strings "NaN", "Infinity" and "-Infinity",
which `metrics.history` turns back. A line is in the file when the call returns; event files are written in the
background.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from perceiver_jax.errors import ConfigError, Retry
from perceiver_jax.metrics.history import FILE, complete_lines, decode
from perceiver_jax.training import disk

RESERVED = ("step", "time")


def count_lines(workdir: str | Path) -> int:
    """Complete lines in `metrics.jsonl`: what a checkpoint remembers, to go on from there."""
    return len(complete_lines(Path(workdir) / FILE))


class Overview(NamedTuple):
    """What a run says of itself before its first step.

    Attributes:
        texts: title -> Markdown (the config, the parameters).
        hparams: flat; `metrics` names the scalars whose last values belong to them.
        images, clouds: samples of the data, as `Writers.images` and `Writers.point_clouds` take them.
    """

    texts: Mapping[str, str]
    hparams: Mapping[str, Any]
    metrics: Sequence[str] = ()
    images: Mapping[str, np.ndarray] = {}
    clouds: Mapping[str, np.ndarray] = {}


class Writers:
    """Writes metrics and what is to be looked at; a context manager. Only process 0 writes anything.

    clu and tensorboardX are imported here, not with the module.
    """

    def __init__(
        self,
        workdir: str | Path,
        *,
        start_step: int = 0,
        keep_lines: int | None = None,
        process_index: int | None = None,
    ):
        """Opens the files and takes back what a run that was cut off wrote after the step it resumes from.

        Args:
            workdir: the run folder; made if missing.
            start_step: steps done. Lines of later steps are removed, in one atomic replacement, and
                TensorBoard is told to drop its events of later steps.
            keep_lines: how many lines stay, instead of judging by their step.
            process_index: None is that of this process.

        Raises:
            Retry: the disk is full.
            ConfigError: the folder cannot be written.
        """
        self._path = Path(workdir).absolute() / FILE
        self._file = None
        if (jax.process_index() if process_index is None else process_index) != 0:
            return
        with self._explained("opening the metrics"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _cut_back(self._path, start_step, keep_lines)
            self._file = open(self._path, "a")  # noqa: SIM115 (closed by `close`)
            self._open_events(start_step)

    def _open_events(self, start_step: int) -> None:
        from perceiver_jax.training import clu_without_tensorflow

        metric_writers = clu_without_tensorflow.install()
        resumes = any(self._path.parent.glob("events.out.tfevents.*"))
        self._tensorboard = clu_without_tensorflow.SummaryWriter(
            str(self._path.parent), purge_step=start_step + 1 if resumes else None
        )
        self._clu = metric_writers.MultiWriter([metric_writers.AsyncWriter(self._tensorboard)])

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Numbers or arrays of one element; appended to `metrics.jsonl` when this returns."""
        if self._file is None:
            return
        values = {name: _number(value) for name, value in values.items()}
        assert not set(RESERVED) & values.keys(), values.keys()
        line = {"step": int(step), "time": time.time(), **_encode(values)}
        with self._explained(f"writing the metrics of step {step}"):
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
            self._clu.write_scalars(int(step), values)

    def images(self, step: int, images: Mapping[str, Any]) -> None:
        """(H, W, C) or (N, H, W, C), C = 1 or 3; float in [0, 1] or uint8."""
        with self._explained("writing the metrics"):
            if self._file is not None:
                self._clu.write_images(int(step), images)

    def point_clouds(self, step: int, clouds: Mapping[str, Any], colors: Mapping[str, Any] | None = None) -> None:
        """(points, 3) or (N, points, 3); colors of the same shape and name, float in [0, 1] or uint8."""
        with self._explained("writing the metrics"):
            if self._file is not None:
                self._tensorboard.write_point_clouds(int(step), clouds, colors)

    def texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Markdown."""
        with self._explained("writing the metrics"):
            if self._file is not None:
                self._clu.write_texts(int(step), texts)

    def histograms(self, step: int, arrays: Mapping[str, Any]) -> None:
        """Histograms of all values of an array."""
        with self._explained("writing the metrics"):
            if self._file is not None:
                self._clu.write_histograms(int(step), arrays)

    def hparams(self, hparams: Mapping[str, Any], metrics: Sequence[str] = ()) -> None:
        """A flat mapping, and the scalars to show beside it; call it once per run. What is no number becomes text."""
        with self._explained("writing the metrics"):
            if self._file is not None:
                self._tensorboard.write_hparams(hparams, metrics)

    def overview(self, overview: "Overview") -> None:
        """What stands beside the curves, at step 0."""
        self.texts(0, overview.texts)
        self.hparams(overview.hparams, overview.metrics)
        self.images(0, overview.images)
        self.point_clouds(0, overview.clouds)

    def flush(self) -> None:
        """Returns when everything is in the files; call it before a save: a resumed run lacks nothing."""
        if self._file is None:
            return
        with self._explained("writing the metrics"):
            os.fsync(self._file.fileno())
            self._clu.flush()

    def close(self) -> None:
        """Flushes and closes; can be called twice."""
        file, self._file = self._file, None
        if file is None:
            return
        with self._explained("writing the metrics"):
            with contextlib.suppress(OSError):  # a line that could not be written was reported when it was written
                file.close()
            self._clu.close()

    @contextlib.contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """Turns what the disk raises, now or to CLU's thread before, into one clear error."""
        try:
            yield
        except Exception as error:
            raise disk.explain(error, self._path.parent, doing) or error from error

    def __enter__(self) -> "Writers":
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            self.close()
        except (Retry, ConfigError):  # the disk; what is on its way already tells why the run ends
            if error is None:
                raise


def _cut_back(path: Path, step: int, count: int | None) -> None:
    """Leaves `count` lines, or those up to `step`; the old file or the new one is there at any moment."""
    if not path.exists():
        return
    lines = complete_lines(path)
    kept = [s for s in lines if decode(s)["step"] <= step] if count is None else lines[:count]
    scratch = path.with_suffix(".tmp")
    with open(scratch, "w") as file:
        file.writelines(line + "\n" for line in kept)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def _number(value: Any) -> int | float:
    value = np.asarray(value).reshape(()).item()
    return value if isinstance(value, int) else float(value)


def _encode(values: dict[str, Any]) -> dict[str, Any]:
    names = {math.inf: "Infinity", -math.inf: "-Infinity"}
    return {key: names.get(x, x) if x == x else "NaN" for key, x in values.items()}
