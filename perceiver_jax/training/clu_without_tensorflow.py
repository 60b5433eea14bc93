# SPDX-License-Identifier: Apache-2.0
"""CLU's metric writers without TensorFlow: event files are written by tensorboardX.

`clu.metric_writers` imports TensorFlow for its summary writer without declaring it: 1.3 GB on disk and 6.7 s
of import, for writing event files. `install` puts this module in that writer's place, before clu is imported
and only where TensorFlow is absent; `create_default_writer`, `ReportProgress` and `Profile` then work.
TensorBoard reads the files as usual.
"""

import importlib.util
import os
import sys
import time
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

REPLACED = "clu.metric_writers.summary_writer"
FLUSH_SECONDS = 10
"""TensorBoard sees what is no older than this, as long as something is written."""


def install() -> ModuleType:
    """Returns `clu.metric_writers`, importable without TensorFlow."""
    if REPLACED not in sys.modules and importlib.util.find_spec("tensorflow") is None:
        sys.modules[REPLACED] = sys.modules[__name__]
    from clu import metric_writers

    metric_writers.MetricWriter.register(SummaryWriter)
    return metric_writers


class SummaryWriter:
    """CLU's MetricWriter interface on tensorboardX; also writes point clouds.

    Events go to the file in the call itself: tensorboardX's own thread dies of a full disk without a word, and its
    queue then blocks for ever. CLU's AsyncWriter keeps the calls out of the loop's way and passes their errors on.
    """

    def __init__(self, logdir: str, *, purge_step: int | None = None):
        """Opens a new event file, later in TensorBoard's order than every other one in `logdir`.

        Args:
            logdir: where the file goes.
            purge_step: TensorBoard drops what earlier files hold of this and later steps.

        Raises:
            OSError: the disk is full or cannot be written; so does every other method.
        """
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        os.makedirs(logdir, exist_ok=True)
        self._events = EventsWriter(os.path.join(logdir, "events"), filename_suffix=f".{time.time_ns():020d}")
        self._flushed = time.monotonic()
        if purge_step is not None:
            self._write(purge_step, file_version="brain.Event:2")
            self._write(purge_step, session_log=SessionLog(status=SessionLog.START))

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Numbers, or arrays of one element."""
        from tensorboardX import summary

        for name, value in scalars.items():
            self._write(step, summary=summary.scalar(name, float(np.asarray(value).reshape(()))))

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """(H, W, C), or (N, H, W, C) as NAME/0, NAME/1, ...; C = 1 or 3; float in [0, 1] or uint8."""
        from tensorboardX import summary

        for name, value in images.items():
            value = _to_bytes(np.asarray(value))
            tagged = [(name, value)] if value.ndim == 3 else [(f"{name}/{i}", x) for i, x in enumerate(value)]
            for tag, image in tagged:
                self._write(step, summary=summary.image(tag, image, dataformats="HWC"))

    def write_point_clouds(self, step: int, clouds: Mapping[str, Any], colors: Mapping[str, Any] | None = None) -> None:
        """(points, 3) or (N, points, 3); colors of the same shape and name, float in [0, 1] or uint8."""
        from tensorboardX import summary

        for name, value in clouds.items():
            shape = (-1, *np.shape(value)[-2:])
            points = np.asarray(value, np.float32).reshape(shape)
            color = _to_bytes(np.asarray(colors[name])).reshape(shape) if name in (colors or {}) else None
            self._write(step, summary=summary.mesh(name, points, color, None, config_dict={}))

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Markdown."""
        from tensorboardX import summary

        for name, text in texts.items():
            self._write(step, summary=summary.text(name, text))

    def write_histograms(
        self, step: int, arrays: Mapping[str, Any], num_buckets: Mapping[str, int] | None = None
    ) -> None:
        """Histograms of all values of an array."""
        from tensorboardX import summary

        for name, values in arrays.items():
            bins = (num_buckets or {}).get(name) or 30
            self._write(step, summary=summary.histogram(name, np.asarray(values, np.float64).ravel(), bins))

    def write_hparams(self, hparams: Mapping[str, Any], metrics: Sequence[str] = ()) -> None:
        """Into this event file; tensorboardX's own way would make a folder beside it.

        Args:
            metrics: names of scalars; TensorBoard shows their last values beside the hparams.
        """
        from tensorboardX import summary

        plain = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in hparams.items()}
        experiment, start, _ = summary.hparams(plain, dict.fromkeys(metrics))
        for part in (experiment, start):
            self._write(0, summary=part)

    def write_summaries(self, step: int, values: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> None:
        """Not supported by tensorboardX: an error, nothing is dropped silently."""
        raise NotImplementedError("raw summaries need TensorFlow")

    def write_videos(self, step: int, videos: Mapping[str, Any]) -> None:
        """As CLU's own summary writer, none are written."""

    def write_audios(self, step: int, audios: Mapping[str, Any], *, sample_rate: int) -> None:
        """(N, T, C) in [-1, 1]."""
        from tensorboardX import summary

        for name, value in audios.items():
            for i, audio in enumerate(np.asarray(value)):
                self._write(step, summary=summary.audio(f"{name}/{i}", audio, sample_rate=sample_rate))

    def flush(self) -> None:
        """Returns when what was written so far is on the disk."""
        self._events.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._events.close()

    def _write(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._events.write_event(Event(step=int(step), wall_time=time.time(), **content))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()


def _to_bytes(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    return np.round(255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)
