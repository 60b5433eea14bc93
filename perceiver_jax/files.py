# SPDX-License-Identifier: Apache-2.0
"""Small files that must be whole: a reader sees the old one or the new one, also after a power cut."""

import json
import os
from pathlib import Path
from typing import Any

from perceiver_jax.errors import ConfigError


def write_json(file: Path, value: Any) -> None:
    """Replaces `file` atomically by `value` as JSON."""
    partial = file.with_name(file.name + ".partial")
    with open(partial, "w") as stream:
        json.dump(value, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, file)


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file of ours.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: it holds something else.
    """
    try:
        value = json.loads(file.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{file}: not valid JSON ({reason}). Restore it, or start a new run folder.") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{file}: holds a {type(value).__name__}: expected an object {{...}}. Restore it.")
    return value
