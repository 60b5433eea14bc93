# SPDX-License-Identifier: Apache-2.0
"""CLU's metric writers without TensorFlow: event files are written by tensorboardX.

`clu.metric_writers` imports TensorFlow for its summary writer without declaring it: 1.3 GB on disk and 6.7 s
of import, for writing event files. `install` puts this module in that writer's place, before clu is imported
and only where TensorFlow is absent; `create_default_writer`, `ReportProgress` and `Profile` then work.
TensorBoard reads the files as usual.
"""

import importlib.util
import sys
import time
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

REPLACED = "clu.metric_writers.summary_writer"


def install() -> ModuleType:
    """Returns `clu.metric_writers`, importable without TensorFlow."""
    if REPLACED not in sys.modules and importlib.util.find_spec("tensorflow") is None:
        sys.modules[REPLACED] = sys.modules[__name__]
    from clu import metric_writers

    metric_writers.MetricWriter.register(SummaryWriter)
    return metric_writers


class SummaryWriter:
    """CLU's MetricWriter interface on tensorboardX; also writes point clouds."""

    def __init__(self, logdir: str, *, purge_step: int | None = None):
        """Opens a new event file, later in TensorBoard's order than every other one in `logdir`.

        Args:
            logdir: where the file goes.
            purge_step: TensorBoard drops what earlier files hold of this and later steps.
        """
        import tensorboardX

        self._writer = tensorboardX.SummaryWriter(
            logdir, purge_step=purge_step, flush_secs=10, filename_suffix=f".{time.time_ns():020d}"
        )

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Numbers, or arrays of one element."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, float(np.asarray(value).reshape(())), step)

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """(H, W, C), or (N, H, W, C) as NAME/0, NAME/1, ...; C = 1 or 3; float in [0, 1] or uint8."""
        for name, value in images.items():
            value = _to_bytes(np.asarray(value))
            tagged = [(name, value)] if value.ndim == 3 else [(f"{name}/{i}", x) for i, x in enumerate(value)]
            for tag, image in tagged:
                self._writer.add_image(tag, image, step, dataformats="HWC")

    def write_point_clouds(self, step: int, clouds: Mapping[str, Any], colors: Mapping[str, Any] | None = None) -> None:
        """(points, 3) or (N, points, 3); colors of the same shape and name, float in [0, 1] or uint8."""
        for name, value in clouds.items():
            shape = (-1, *np.shape(value)[-2:])
            points = np.asarray(value, np.float32).reshape(shape)
            color = _to_bytes(np.asarray(colors[name])).reshape(shape) if name in (colors or {}) else None
            self._writer.add_mesh(name, points, color, config_dict={}, global_step=step)

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Markdown."""
        for name, text in texts.items():
            self._writer.add_text(name, text, step)

    def write_histograms(
        self, step: int, arrays: Mapping[str, Any], num_buckets: Mapping[str, int] | None = None
    ) -> None:
        """Histograms of all values of an array."""
        for name, values in arrays.items():
            bins = (num_buckets or {}).get(name) or 30
            self._writer.add_histogram(name, np.asarray(values, np.float64).ravel(), step, bins=bins)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Into this event file; tensorboardX's own way would make a folder beside it."""
        from tensorboardX.summary import hparams as summaries

        plain = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in hparams.items()}
        for summary in summaries(plain, {}):
            self._writer.file_writer.add_summary(summary)

    def write_summaries(self, step: int, values: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> None:
        """Not supported by tensorboardX: an error, nothing is dropped silently."""
        raise NotImplementedError("raw summaries need TensorFlow")

    def write_videos(self, step: int, videos: Mapping[str, Any]) -> None:
        """As CLU's own summary writer, none are written."""

    def write_audios(self, step: int, audios: Mapping[str, Any], *, sample_rate: int) -> None:
        """(N, T, C) in [-1, 1]."""
        for name, value in audios.items():
            for i, audio in enumerate(np.asarray(value)):
                self._writer.add_audio(f"{name}/{i}", audio, step, sample_rate=sample_rate)

    def flush(self) -> None:
        """Returns when what was written so far is in the file."""
        self._writer.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._writer.close()


def _to_bytes(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    return np.round(255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)
