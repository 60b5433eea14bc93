# SPDX-License-Identifier: Apache-2.0
"""What devices tell each other in a compiled program, read from the text of its HLO.

Bytes are those of the results on one device. What a loop does counts as often as the loop turns, where XLA knows it.
"""

import math
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
WITH_OPERANDS = ("all-gather", "collective-permute")
"""Of whose asynchronous form the operands stand before the results."""
BYTES = {"pred": 1, "bf16": 2, **{f"{kind}{bits}": max(bits // 8, 1) for kind in "suf" for bits in (4, 8, 16, 32, 64)}}

COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) .*\{$")
COLLECTIVE = re.compile(rf"= (.+?) ({'|'.join(KINDS)})(-start)?\(")
CALLED = re.compile(r"(body|condition|calls|to_apply|branch_computations|called_computations)=(\{[^}]*\}|%?[\w.-]+)")
TURNS = re.compile(r'known_trip_count"?:\{"?n"?:"?(\d+)')
BOUND = re.compile(r"= s32\[\]\S* constant\((\d+)\)")
CONDITION = re.compile(r"condition=%?([\w.-]+)")
SHAPE = re.compile(r"([a-z]+\d*)(?:e\d+m\d+\w*)?\[([\d,]*)\]")

Shape = tuple[int, ...]


class Collective(NamedTuple):
    """One operation of the program.

    Attributes:
        shapes: of its results on one device.
        num_bytes: of all of them, each time.
        times: how often it runs in a step.
    """

    kind: str
    shapes: tuple[Shape, ...]
    num_bytes: int
    times: int


class Total(NamedTuple):
    """All operations of a kind."""

    kind: str
    count: int
    num_bytes: int


def collectives(hlo: str) -> list[Collective]:
    """Those of the program, in the order of its computations."""
    lines = _computations(hlo)
    times = _times(lines)
    matches = [(COLLECTIVE.search(line), times[name]) for name in lines if times[name] for line in lines[name]]
    return [_collective(match, count) for match, count in matches if match]


def totals(found: Iterable[Collective]) -> list[Total]:
    """By kind, the most bytes first."""
    found = list(found)
    rows = []
    for kind in {collective.kind for collective in found}:
        same = [collective for collective in found if collective.kind == kind]
        count = sum(collective.times for collective in same)
        rows.append(Total(kind, count, sum(collective.times * collective.num_bytes for collective in same)))
    return sorted(rows, key=lambda row: (-row.num_bytes, row.kind))


def gathered_inputs(found: Iterable[Collective], input_size: int, parameters: Iterable[Shape]) -> list[Shape]:
    """What is gathered, is no parameter, and is at least as large as the input of one example.

    Args:
        input_size: elements of an example's largest array.
        parameters: shapes of the state, which fsdp gathers by design, and gradients by parts; of stacked ones each
            layer may come by itself. They are known by their number of elements: XLA changes their shapes.
    """
    sizes = {math.prod(shape[first:]) for shape in parameters for first in (0, 1)}
    own = sizes | {3 * size for size in sizes}  # query, key and value as one
    gathered = [shape for collective in found if collective.kind == "all-gather" for shape in collective.shapes]
    return [shape for shape in gathered if math.prod(shape) >= input_size and math.prod(shape) not in own]


def _collective(match: re.Match, times: int) -> Collective:
    result, kind, start = match.groups()
    shapes = [(name, tuple(int(size) for size in sizes.split(",") if size)) for name, sizes in SHAPE.findall(result)]
    if start and kind in WITH_OPERANDS:
        shapes = [shape for shape in shapes if shape != ("u32", ())]  # of the runtime
        shapes = shapes[len(shapes) // 2 :]
    num_bytes = sum(math.prod(shape) * BYTES.get(name, 1) for name, shape in shapes)
    return Collective(kind, tuple(shape for _, shape in shapes), num_bytes, times)


def _computations(hlo: str) -> dict[str, list[str]]:
    """Name -> lines; the one that the program begins with is last."""
    found: dict[str, list[str]] = {}
    lines, entry = [], ""
    for line in hlo.splitlines():
        if match := COMPUTATION.match(line):
            lines = found.setdefault(match[2], [])
            entry = match[2] if match[1] else entry
        elif " = " in line:
            lines.append(line)
    return {name: found[name] for name in (*(name for name in found if name != entry), entry) if name in found}


def _times(lines: dict[str, list[str]]) -> dict[str, int]:
    """How often each computation runs."""
    times = dict.fromkeys(lines, 0)

    def run(name: str, count: int) -> None:
        times[name] += count
        for line in lines[name]:
            for how, callee in _called(line):
                if callee in lines:
                    run(callee, count * (_turns(line, lines) if how == "body" else 1))

    if lines:
        run(list(lines)[-1], 1)
    return times


def _turns(line: str, lines: dict[str, list[str]]) -> int:
    """Of a loop: what XLA says, or what it counts to from zero, as JAX's loops do; 1 where neither is there."""
    if known := TURNS.search(line):
        return int(known[1])
    condition = CONDITION.search(line)
    text = "\n".join(lines.get(condition[1], [])) if condition else ""
    bounds = BOUND.findall(text)
    return int(bounds[0]) if len(bounds) == 1 and "direction=LT" in text else 1


def _called(line: str) -> Iterator[tuple[str, str]]:
    for how, names in CALLED.findall(line):
        for name in names.strip("{}").split(","):
            yield how, name.strip().removeprefix("%")
