# SPDX-License-Identifier: Apache-2.0
"""`committed.jsonl`: which checkpoints are promised. A step that has no line here was never promised.

One JSON object a line, appended and synced, never rewritten: {"step", "manifest", "score", "time", "check"}
promises a step (again: gives it another score), {"step", "withdrawn", "time", "check"} takes the promise back
before the folder goes. `check` is a CRC-32 of the rest, so that a flipped byte cannot turn one promise into
another. An incomplete last line is a write that was cut off: it promised nothing.
"""

import dataclasses
import json
import math
import os
import time
import zlib
from pathlib import Path
from typing import SupportsFloat

from perceiver_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Promise:
    """A checkpoint that is whole on disk.

    Attributes:
        manifest: SHA-256 of the step's `manifest.json`.
        score: of the evaluation at this step, higher is better; None where there was none.
        time: seconds since 1970 when it was promised.
    """

    step: int
    manifest: str
    score: SupportsFloat | None
    time: float


class Ledger:
    """The promises of one run.

    Attributes:
        promises: step -> Promise, of the steps whose promise stands.
        num_lines: complete lines, damaged or not.
        damaged_lines: numbers (from 1) of lines that cannot be trusted; what they promised is unknown.
    """

    def __init__(self, path: Path, *, read_only: bool = False):
        """Reads `path`; unless `read_only`, makes it if missing and cuts off an incomplete last line."""
        self.path = path
        self.promises: dict[int, Promise] = {}
        self.damaged_lines: list[int] = []
        self.num_lines = 0
        intact = self._read()
        if not read_only:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            os.ftruncate(self._file, len(intact))
            if intact and not intact.endswith(b"\n"):
                os.write(self._file, b"\n")
            _sync(self._file, path.parent)

    def promise(self, promise: Promise) -> None:
        """Promises a step, or gives a promised one another score; on disk when it returns."""
        score = None if promise.score is None else float(promise.score)
        promise = dataclasses.replace(promise, score=score if score is not None and math.isfinite(score) else None)
        self._append(dataclasses.asdict(promise))
        self.promises[promise.step] = promise

    def withdraw(self, step: int, reason: str) -> None:
        """Takes the promise of a step back; on disk when it returns."""
        self._append({"step": step, "withdrawn": reason, "time": time.time()})
        self.promises.pop(step, None)

    def _append(self, entry: dict) -> None:
        line = json.dumps(entry | {"check": _check(entry)}).encode() + b"\n"
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(28, "No space left on device", str(self.path))
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, size)
            raise

    def _read(self) -> bytes:
        """Takes the lines in; returns the content without an incomplete last line."""
        content = self.path.read_bytes() if self.path.exists() else b""
        lines = content.splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            entry, rest = _parse(line)
            if entry is None and number == len(lines) and not line.endswith(b"\n"):
                return content.removesuffix(line)
            self.num_lines = number
            if entry is None or rest:
                self.damaged_lines.append(number)
            if entry is None:
                continue
            if "withdrawn" in entry:
                self.promises.pop(entry["step"], None)
            else:
                self.promises[entry["step"]] = Promise(**entry)
        return content

    def close(self) -> None:
        """Releases the file."""
        if hasattr(self, "_file"):
            os.close(self._file)
            del self._file


def require(folder: Path) -> None:
    """Raises a ConfigError if step folders lie in `folder` without a ledger, which no run of ours leaves
    behind.
    """
    steps = sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit())
    if steps and not (folder / "committed.jsonl").exists():
        raise ConfigError(
            f"{folder}: holds steps {steps} but no committed.jsonl, so none of them can be trusted. "
            "Put that file back, or move the folder away to start afresh."
        )


def _parse(line: bytes) -> tuple[dict | None, str]:
    """The entry of a line (None if it is not one of ours, byte for byte) and what stands behind it."""
    try:
        text = line.decode()
        entry, end = json.JSONDecoder().raw_decode(text)
        check = entry.pop("check")
        return (entry, text[end:].strip()) if check == _check(entry) else (None, "")
    except (ValueError, KeyError, AttributeError, TypeError):
        return None, ""


def _check(entry: dict) -> str:
    return f"{zlib.crc32(json.dumps(entry, sort_keys=True).encode()):08x}"


def _sync(file: int, folder: Path) -> None:
    os.fsync(file)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
