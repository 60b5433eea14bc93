# SPDX-License-Identifier: Apache-2.0
"""The metrics of a run as they stand in its `metrics.jsonl`; what writes them is `training/writers.py`.

Each line is a flat JSON object {"step", "time", name: value, ...}. Floats come back exactly; those that JSON lacks are
the strings "NaN", "Infinity" and "-Infinity".
"""

import json
from pathlib import Path
from typing import Any

from perceiver_jax.errors import ConfigError

FILE = "metrics.jsonl"


def history(workdir: str | Path) -> list[dict[str, Any]]:
    """All lines of `metrics.jsonl` as dicts, in the order written; an incomplete last line is left out."""
    return [decode(line) for line in complete_lines(Path(workdir) / FILE)]


def complete_lines(path: Path) -> list[str]:
    """The lines of the file that end; none where there is no file."""
    text = path.read_text(errors="replace") if path.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def decode(line: str) -> dict[str, Any]:
    """A line as numbers by name.

    Raises:
        ConfigError: it is not one of ours.
    """
    try:
        values = {key: float(x) if isinstance(x, str) else x for key, x in json.loads(line).items()}
        if type(values["step"]) is int and all(isinstance(x, int | float) for x in values.values()):
            return values
    except (ValueError, AttributeError, KeyError, RecursionError):
        pass
    raise ConfigError(f"{FILE} holds a line that is not ours: {line[:80]!r}. Remove that line.")
