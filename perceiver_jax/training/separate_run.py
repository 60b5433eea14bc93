# SPDX-License-Identifier: Apache-2.0
"""A training in a process of its own: a crash or lack of memory ends this one alone, and a signal is passed on."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from perceiver_jax.errors import Retry
from perceiver_jax.files import read_json, write_json
from perceiver_jax.training.console import duration
from perceiver_jax.training.preemption import Preemption

DONE = "finished.json"
"""In the folder of such a run when it has ended well: its commands."""
POLL = 0.2  # seconds until a signal is passed on


class SeparateRun(NamedTuple):
    """A run of a variant, in a folder of its own.

    Attributes:
        commands: verb and flags of each, one after the other.
    """

    variant: str
    folder: Path
    commands: tuple[tuple[str, ...], ...]


class Failure(NamedTuple):
    """How a run ended that did not end well."""

    code: int
    error: str


def train(run: SeparateRun, preemption: Preemption) -> Failure | None:
    """Trains or goes on, unless it is finished.

    Raises:
        Retry: asked to stop.
    """
    done, record = run.folder / DONE, {"commands": [list(command) for command in run.commands]}
    if done.exists() and read_json(done) == record:
        print(f"{run.folder.name}: finished before", flush=True)
        return None
    log, began = run.folder.with_name(f"{run.folder.name}.log"), time.perf_counter()
    print(f"{run.folder.name}: training, see {log}", flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    for command in run.commands:
        code = _process(command, log, preemption)
        if preemption.requested:
            raise Retry(f"stopped in {run.folder.name}; run the same command to go on")
        if code:
            failure = Failure(code, f"{command[0]}: exit code {code}: {_last_line(log)}")
            print(f"{run.folder.name}: {failure.error}", flush=True)
            return failure
    write_json(done, record)
    print(f"{run.folder.name}: finished in {duration(time.perf_counter() - began)}", flush=True)
    return None


def _last_line(log: Path) -> str:
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] or [""]
    return said[-1].removeprefix("error: ")


def _process(command: Sequence[str], log: Path, preemption: Preemption) -> int:
    """In a session of its own, so that the terminal's Ctrl-C reaches it once, from here."""
    words = [sys.executable, "-m", f"perceiver_jax.{command[0]}", *command[1:]]
    with open(log, "ab") as stream:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
    asked = False
    while True:
        if preemption.requested and not asked:
            process.terminate()
            asked = True
        try:
            return process.wait(timeout=POLL)
        except subprocess.TimeoutExpired:
            continue
