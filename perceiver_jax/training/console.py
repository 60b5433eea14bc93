# SPDX-License-Identifier: Apache-2.0
"""What a person sees of a run: a progress bar on a terminal, plain lines elsewhere."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PERCENT = ("accuracy",)
SHOWN = ("loss", "accuracy", "top5_accuracy", "fg_ari", "ari", "mbo", "learning_rate", "examples_per_second")


class Console:
    """Prints lines, above the bar where there is one; `quiet` prints nothing (every process but the first)."""

    def __init__(self, *, quiet: bool = False):
        self._quiet = quiet
        self._bar = None
        self._task = None
        self._terminal = sys.stdout.isatty() and not quiet

    def say(self, line: str) -> None:
        """One line."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            self._print(line)

    def _print(self, line: str) -> None:
        """Trains on in silence when nobody reads any more (`... | head`)."""
        try:
            print(line, flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._quiet = True

    @contextmanager
    def progress(self, done: int, total: int) -> Iterator[None]:
        """A bar over the steps of the run while the context is open."""
        if not self._terminal:
            yield
            return
        from rich import progress  # a fifth of a second that a piped run need not pay

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("eta"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}"),
        )
        try:
            with progress.Progress(*columns) as self._bar:
                self._task = self._bar.add_task("training", total=total, completed=done, note="")
                yield
        finally:
            self._bar = None

    def advance(self, done: int) -> None:
        """Moves the bar to `done` steps."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done)

    def metrics(self, step: int, total: int, epoch: float, name: str, values: dict[str, float]) -> None:
        """One line of metrics, and the bar's note."""
        parts = [format_metric(key, values[key]) for key in SHOWN if key in values]
        self.say(f"step {step:>6}/{total}  epoch {epoch:6.1f}  {name:<10}  " + "  ".join(parts))
        if self._bar is not None and name == "train":
            self._bar.update(self._task, note=format_metric("loss", values.get("loss", float("nan"))))


def format_metric(name: str, value: float) -> str:
    """`accuracy 93.21 %`, `loss 0.1234`, `learning_rate 1.00e-03`."""
    if name.endswith(PERCENT):
        return f"{name} {100 * value:.2f} %"
    if name == "learning_rate":
        return f"lr {value:.2e}"
    if name == "examples_per_second":
        return f"{value:,.0f} examples/s"
    return f"{name} {value:.4f}"


def duration(seconds: float) -> str:
    """`1 h 02 min`, `3 min 05 s`, `42 s`."""
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"


def where_time_went(seconds: dict[str, float], starts: int) -> str:
    """`time of 3 starts: 12 min 40 s, goodput 81 %: step 81 %, compile 9 %, ...`, the longest first.

    Goodput is the share of steps that nobody had to take again, of all time since the first start.
    """
    whole = sum(seconds.values())
    shares = sorted(seconds.items(), key=lambda item: -item[1])
    parts = ", ".join(f"{phase} {100 * part / whole:.0f} %" for phase, part in shares if part >= 0.005 * whole)
    goodput = 100 * seconds.get("step", 0.0) / whole if whole else 0.0
    return f"time of {starts} start{'s' * (starts > 1)}: {duration(whole)}, goodput {goodput:.0f} %: {parts}"
