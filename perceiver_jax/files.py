# SPDX-License-Identifier: Apache-2.0
"""Small files that must be whole: a reader sees the old one or the new one, also after a power cut."""

import json
import os
from pathlib import Path
from typing import Any


def write_json(file: Path, value: Any) -> None:
    """Replaces `file` atomically by `value` as JSON."""
    partial = file.with_name(file.name + ".partial")
    with open(partial, "w") as stream:
        json.dump(value, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, file)
