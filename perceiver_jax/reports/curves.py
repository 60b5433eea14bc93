# SPDX-License-Identifier: Apache-2.0
"""The curves of a run: its metrics over epochs, in training and held out, from `metrics.jsonl` alone.

Where the run's record is missing, the axis counts steps instead of epochs.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.errors import ConfigError
from perceiver_jax.files import read_json
from perceiver_jax.metrics.history import FILE, history

HELD_OUT = ("test", "validation")
"""Splits that training does not see, the one to prefer first."""
SCORES = ("accuracy", "fg_ari", "ari", "miou", "mbo", "top5_accuracy")
"""Metrics that are fractions and of which more is better, the ones to prefer first."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """Values of one metric in the order of training; `x` in epochs, or in steps."""

    x: np.ndarray
    y: np.ndarray

    def real(self) -> "Curve":
        """Without what is not finite."""
        keep = np.isfinite(self.y)
        return Curve(self.x[keep], self.y[keep])

    def at(self, x: np.ndarray) -> np.ndarray:
        """Between the values, straight lines; NaN where there is none."""
        known = self.real()
        return np.interp(x, known.x, known.y) if len(known.x) else np.full(len(x), np.nan)

    def per_epoch(self) -> "Curve":
        """The last value of each epoch that has one."""
        epoch = np.ceil(self.x - 1e-9)
        last = np.append(np.diff(epoch) > 0, True) if len(epoch) else np.zeros(0, bool)
        return Curve(self.x[last], self.y[last])


EMPTY = Curve(np.zeros(0), np.zeros(0))


@dataclasses.dataclass(frozen=True)
class Curves:
    """All of a run's curves, by "split/metric".

    Attributes:
        unit: "epoch" or "step", what x counts.
        held_out: the split beside train; "" where nothing was evaluated.
        seconds: between the first line and the last, pauses included.
    """

    by_name: dict[str, Curve]
    unit: str
    held_out: str
    last_step: int
    seconds: float

    def train(self, metric: str) -> Curve:
        return self.by_name.get(f"train/{metric}", EMPTY)

    def other(self, metric: str) -> Curve:
        """Of the held-out split."""
        return self.by_name.get(f"{self.held_out}/{metric}", EMPTY)

    def score(self) -> str:
        """The best known metric that is a fraction; "" for a run with none."""
        return next((name for name in SCORES if len(self.train(name).x) or len(self.other(name).x)), "")

    def of_task(self) -> str:
        """A held-out metric beside the loss; "" where there is none."""
        names = (name.partition("/")[::2] for name in self.by_name)
        return next((metric for split, metric in names if split == self.held_out and metric != "loss"), "")

    def epochs(self) -> list[int]:
        """Whole epochs after which something was evaluated, or logged where nothing was."""
        curves = [c for name, c in self.by_name.items() if name.startswith(f"{self.held_out or 'train'}/")]
        return sorted({int(x) for curve in curves for x in curve.x if x == int(x)})


def read_curves(run: Path) -> Curves:
    """The curves of a run folder.

    Raises:
        ConfigError: there is no metric, or no curve of two values.
    """
    rows = history(run)
    if not rows:
        raise ConfigError(f"{run} has no metrics: {FILE} is missing or empty. Train until the first line is logged.")
    steps_per_epoch = _steps_per_epoch(run)
    by_name = _curves(rows, steps_per_epoch or 1)
    curves = Curves(
        by_name,
        unit="epoch" if steps_per_epoch else "step",
        held_out=next((split for split in HELD_OUT if any(name.startswith(f"{split}/") for name in by_name)), ""),
        last_step=rows[-1]["step"],
        seconds=rows[-1].get("time", 0.0) - rows[0].get("time", 0.0),
    )
    _check(run, [curve for name in ("loss", curves.score()) for curve in (curves.train(name), curves.other(name))])
    return curves


def _check(run: Path, curves: list[Curve]) -> None:
    values, real = (max(len(curve.x) for curve in some) for some in (curves, [curve.real() for curve in curves]))
    if values and not real:
        raise ConfigError(f"{run}: no value of its curves in {FILE} is finite. Train anew, e.g. with a lower rate.")
    if real < 2:
        raise ConfigError(f"{run}: a curve needs two values, {FILE} has {real} of each. Train on, or log more often.")


def _steps_per_epoch(run: Path) -> int:
    """0 where the run's record does not say."""
    file = run / "run.json"
    return int(read_json(file).get("steps_per_epoch", 0)) if file.exists() else 0


def _curves(rows: Sequence[dict[str, Any]], steps_per_unit: int) -> dict[str, Curve]:
    names = dict.fromkeys(name for row in rows for name in row if "/" in name)
    found = {name: [(row["step"] / steps_per_unit, row[name]) for row in rows if name in row] for name in names}
    return {name: Curve(*np.asarray(pairs, float).T) for name, pairs in found.items()}
