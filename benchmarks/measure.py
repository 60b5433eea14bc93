# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: a process for each thing measured, bursts in rotating order, spreads, tables, JSON.

Load and clock of a machine drift. Everything that is compared is therefore measured in the same rounds, each round in
another order, and compared within the round; the median of those ratios counts, never the ratio of two bests.
"""

import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import pkgutil
import platform
import re
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from perceiver_jax.errors import ConfigError
from perceiver_jax.invocation import command

SETTLE = 0.1
"""Seconds between bursts, in which the threads of the last one come to rest."""
MOST_CALLS = 1000
"""Calls in a burst, at most."""
Times = dict[str, dict[str, list[float]]]


class Worker:
    """An object in a process of its own, called over a pipe; a context manager.

    Args:
        place: "module:class" of the object, imported in that process alone.
        arguments: of its constructor, picklable.
    """

    def __init__(self, name: str, place: str, *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, place, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """What the method returns there.

        Raises:
            ConfigError: raised there, with the name of what was measured.
            RuntimeError: anything else that was raised there, with its traceback, or the process died.
        """
        try:
            self._pipe.send((method, arguments))
            kind, answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise RuntimeError(f"{self.name}: its process died with exit code {self._process.exitcode}") from None
        if kind == "ConfigError":
            raise ConfigError(f"{self.name}: {answer}")
        if kind == "error":
            raise RuntimeError(f"{self.name}: {answer}")
        return answer

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self._pipe.close()
        self._process.join(timeout=10)
        self._process.kill()


def _serve(pipe, place: str, arguments: tuple) -> None:
    """The other end of a Worker: makes the object at the first call, answers until the pipe is closed."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes share a GPU
    os.environ.setdefault("KERAS_BACKEND", "jax")
    target = None
    while True:
        try:
            method, values = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            target = target or pkgutil.resolve_name(place)(*arguments)
            pipe.send(("answer", getattr(target, method)(*values)))
        except ConfigError as error:
            pipe.send(("ConfigError", str(error)))
        except Exception as error:
            pipe.send(("error", f"{error}\n{traceback.format_exc()}"))


def interleave(bursts: Mapping[tuple[str, str], Callable[[int], float]], rounds: int, seconds: float) -> Times:
    """Times of all bursts, round after round, each round beginning with the next one.

    Args:
        bursts: (name, what) -> a function that makes so many calls and returns the seconds that one took.
        seconds: that a burst should take; at least one call is made.

    Returns:
        Times: name -> what -> seconds of one call, by round.
    """
    counts = {}
    for key, burst in bursts.items():
        burst(1)  # warm
        counts[key] = max(1, min(MOST_CALLS, round(seconds / max(burst(1), 1e-9))))
    keys, times = list(bursts), {}
    for turn in range(rounds):
        first = turn % len(keys)
        for name, what in keys[first:] + keys[:first]:
            time.sleep(SETTLE)
            bursts[name, what](
                1
            )  # memory that lay idle since the last burst may have gone back to a virtual machine's host
            taken = bursts[name, what](counts[name, what])
            times.setdefault(name, {}).setdefault(what, []).append(taken)
    return times


def spread(values: Sequence[float], scale: float = 1.0) -> dict[str, Any]:
    """min, median, max and the values by round, each times `scale`."""
    scaled = [value * scale for value in values]
    return {"min": min(scaled), "median": statistics.median(scaled), "max": max(scaled), "rounds": scaled}


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of the ratios within a round."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def peak_memory() -> float:
    """MB of this process at its peak.

    Linux's own count for the program now running: `ru_maxrss` would begin with the peak of the process that started it.
    """
    try:
        return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e3
    except (OSError, TypeError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1e6 if sys.platform == "darwin" else 1e3)


def versions(*packages: str) -> dict[str, str]:
    """Of the installed packages."""
    return {name: importlib.metadata.version(name) for name in packages}


def require(extra: str, *packages: str) -> None:
    """ConfigError with the command to run if one of an extra's packages is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} not installed. Run: {Path(sys.executable).name} -m pip install "
            f'-c requirements.txt ".[{extra}]"'
        )


def machine() -> dict[str, Any]:
    """Command, CPU, threads, load (a busy machine measures itself), Python and commit."""
    from perceiver_jax.training.record import git_version  # with JAX, and a command starts itself anew before that

    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return {
        "command": command(),
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg()[0],
        "huge_pages": "glibc.malloc.hugetlb=1" in os.environ.get("GLIBC_TUNABLES", ""),
        "python": platform.python_version(),
        "commit": git_version(Path(__file__).parent),
    }


def describe(facts: Mapping[str, Any]) -> str:
    """One line of `machine`."""
    return (
        f"{facts['cpu']}, {facts['threads']} threads, load {facts['load']:.1f} before, commit {facts['commit'] or '?'}"
    )


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first column to the left, numbers to the right; by rich on a terminal."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None)
        for index, column in enumerate(columns):
            table.add_column(column, justify="right" if index else "left")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        cells = zip(row, widths, strict=True)
        print("  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(cells)))


def write_json(file: str, results: Mapping[str, Any]) -> None:
    """Writes the results where a file was named; ConfigError if it cannot be written."""
    if not file:
        return
    try:
        Path(file).write_text(json.dumps(results, indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"--json={file} cannot be written ({error.strerror}).") from error
    print(f"written: {file}")
