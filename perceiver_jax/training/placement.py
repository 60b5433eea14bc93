# SPDX-License-Identifier: Apache-2.0
"""What lies where on the mesh, and how much of it one device holds: a table for the start of a run."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from perceiver_jax.training.sharding import AXES, batch_shards
from perceiver_jax.training.state import TrainState


class Placed(NamedTuple):
    """Arrays of one kind that are split over the same axes.

    Attributes:
        kind: parameters, optimizer, average or other.
        axes: of the mesh, those they are split over; none where every device holds all of them.
        num_bytes: of all; `per_device` of what one device holds.
    """

    kind: str
    axes: tuple[str, ...]
    num_arrays: int
    num_bytes: int
    per_device: int


def placed(state: TrainState) -> list[Placed]:
    """The arrays of a state, real or abstract, by kind and axes."""
    kinds = {"parameters": state.params, "optimizer": state.opt_state, "average": state.ema, "other": state.extra}
    return [row for kind, tree in kinds.items() for row in _rows(kind, tree)]


def table(state: TrainState, mesh: Mesh, batch_size: int) -> list[str]:
    """Lines to print."""
    shape = " x ".join(f"{axis}={size}" for axis, size in mesh.shape.items())
    rows = placed(state)
    processes = f"{jax.process_count()} process" + ("es" if jax.process_count() > 1 else "")
    split = f"{batch_size // batch_shards(mesh)} rows"
    lines = [
        f"mesh {shape}: {mesh.size} devices of {processes}",
        f"  {'':<12}{'split over':<14}{'arrays':>8}{'all':>16}{'a device':>16}",
        f"  {'batch':<12}{_batch_axes(mesh):<14}{'':>8}{f'{batch_size} rows':>16}{split:>16}",
    ]
    for row in rows:
        axes = ", ".join(row.axes) or "nothing"
        lines.append(f"  {row.kind:<12}{axes:<14}{row.num_arrays:>8}{_bytes(row.num_bytes)}{_bytes(row.per_device)}")
    whole, share = (sum(getattr(row, name) for row in rows) for name in ("num_bytes", "per_device"))
    return [*lines, f"  {'in all':<12}{'':<22}{_bytes(whole)}{_bytes(share)}"]


def _batch_axes(mesh: Mesh) -> str:
    return "data, fsdp" + (", sequence" if mesh.shape["sequence"] > 1 else "")


def _rows(kind: str, tree: Any) -> Iterator[Placed]:
    by_axes: dict[tuple[str, ...], list[Any]] = {}
    for leaf in jax.tree.leaves(tree):
        by_axes.setdefault(tuple(axis for axis in AXES if axis in leaf.sharding.spec), []).append(leaf)
    for axes, leaves in sorted(by_axes.items(), reverse=True):
        sizes = [math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves]
        shares = [math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves]
        yield Placed(kind, axes, len(leaves), sum(sizes), sum(shares))


def _bytes(number: int) -> str:
    return f"{number:>14,} B"
