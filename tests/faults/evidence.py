# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind, to be compared bit for bit with what another left; and waiting for what is to come."""

import json
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

SMALL = ("main", "--config=tests/faults/small.py")
LAST = 64
"""The step at which the small run stops early."""
CLOCK = ("time", "wait", "per_second", "mfu", "memory")


def outcome(workdir: Path) -> dict:
    """All that must not depend on whether the run was interrupted."""
    folder = workdir / "checkpoints" / str(LAST)
    return {
        "state": saved_state(folder),
        "progress": json.loads((folder / "progress" / "metadata").read_text()),
        "metrics": metrics(workdir),
        "test": json.loads((workdir / "evaluation" / "results.json").read_text()),
    }


def saved_state(step: Path) -> dict[str, bytes]:
    """Every leaf of a checkpoint, by path."""
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore((step / "state").absolute())
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


def metrics(workdir: Path) -> list[dict]:
    """`metrics.jsonl` without what the clock wrote."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not any(word in key for word in CLOCK)} for line in lines]


def last_step(workdir: Path) -> int:
    """Of the last line of metrics; 0 before the first."""
    lines = (workdir / "metrics.jsonl").read_text().split("\n")[:-1]
    return json.loads(lines[-1])["step"] if lines else 0


def promised(workdir: Path) -> set[int]:
    file = workdir / "checkpoints" / "committed.jsonl"
    return {json.loads(line)["step"] for line in file.read_text().splitlines()} if file.exists() else set()


def unfinished_saves(workdir: Path) -> list[Path]:
    return list((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def wait_until(condition, process, seconds: float = 300.0) -> None:
    """Looks every millisecond."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode}: {process.stderr.read()[-2000:]}"
        assert time.monotonic() < deadline, "did not come"
        time.sleep(0.001)


def wait_for_line(stream, words: str) -> None:
    """Reads until a line with these words."""
    assert any(words in line for line in stream), f"{words!r} did not come"
