# SPDX-License-Identifier: Apache-2.0
"""What a step compiled for other devices needs there, as a table on the terminal."""

from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


def print_compiled(facts: dict[str, Any]) -> None:
    """The table, and in one line whether the input is gathered on any device."""
    console = Console(highlight=False, markup=False)
    mesh = " x ".join(f"{axis}={size}" for axis, size in facts["mesh"].items())
    console.print(f"{facts['topology']}: {facts['chip']}, mesh {mesh}, {facts['batch_size']} examples a step")
    for note in facts["notes"]:
        console.print(note)
    table = Table("on each device", "", box=SIMPLE_HEAD)
    table.columns[1].justify = "right"
    for row in (*_memory(facts), *_operations(facts)):
        table.add_row(*row)
    console.print(table)
    if facts["memory"]:
        console.print(_gathered(facts["gathered"]))


def _memory(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for what, size in (facts["memory"] or {}).items():
        yield f"memory: {what}", f"{size / 2**20:,.1f} MiB"
    has = f"{facts['gibibytes']} GiB" if facts["gibibytes"] else "not known"
    yield "memory: the chip has", has
    yield "fits", "yes" if facts["memory"] else f"no: needs {facts['overflow']}"


def _operations(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, what in (("flops", "FLOPs, by formula"), ("xla_flops", "FLOPs, XLA's count (a loop's body once)")):
        if facts[name] is not None:
            yield what, f"{facts[name] / 1e9:,.1f} G"
    for row in facts["collectives"]:
        yield f"{row['kind']} ({row['count']:,})", f"{row['num_bytes'] / 2**20:,.1f} MiB"
    if facts["memory"] and not facts["collectives"]:
        yield "collectives", "none"


def _gathered(shapes: list[list[int]]) -> str:
    if not shapes:
        return "The input is not gathered: no device gets more of it than its own rows."
    return f"The input is gathered on every device: {', '.join(map(str, shapes))}."
