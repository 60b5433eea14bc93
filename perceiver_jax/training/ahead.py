# SPDX-License-Identifier: Apache-2.0
"""A training step compiled ahead of time for TPUs that are not here: what one of them would need for it.

`libtpu` holds the compiler; it describes a slice by its name ("v5e:16x16") without any hardware.
"""

import importlib.util
import math
import re
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from perceiver_jax.errors import ConfigError
from perceiver_jax.training.collectives import Shape, Total, collectives, gathered_inputs, totals
from perceiver_jax.training.lowering import abstract_batch, lowered_step
from perceiver_jax.training.memory import EXHAUSTED
from perceiver_jax.training.settings import Training
from perceiver_jax.training.state import TrainState

MEMORY = {"TPU v4": 32, "TPU v5 lite": 16, "TPU v5": 95, "TPU v6 lite": 32}
"""GiB of one chip by its `device_kind`, from Google's documentation."""
INSTALL = 'pip install -c requirements.txt "jax[tpu]"'
OVERFLOW = re.compile(
    r"([\d.]+[KMGT])\D{0,40}exceeds available HBM \(([\d.]+[KMGT])\)|[Uu]sed ([\d.]+[KMGT]) of ([\d.]+[KMGT])"
)


class Memory(NamedTuple):
    """Bytes on one device; `outputs` without those that take the place of arguments."""

    arguments: int
    outputs: int
    temporaries: int
    peak: int


class Compiled(NamedTuple):
    """What a step needs on each device.

    Attributes:
        mesh: axis -> size.
        chip: its `device_kind`; `gibibytes` of memory, None where it is not known.
        memory: None where the step does not fit.
        overflow: what the compiler says then.
        flops: by the model's formula, None without one; `xla_flops` counts a loop's body once.
        gathered: shapes of the inputs that are put together on a device.
    """

    topology: str
    mesh: dict[str, int]
    chip: str
    gibibytes: int | None
    batch_size: int
    notes: list[str]
    memory: Memory | None = None
    overflow: str = ""
    flops: float | None = None
    xla_flops: float | None = None
    collectives: tuple[Total, ...] = ()
    gathered: tuple[Shape, ...] = ()


def topology_devices(name: str, slices: int = 1) -> list[jax.Device]:
    """The devices of a slice, or of several, to compile for.

    Raises:
        ConfigError: libtpu is missing or knows no such slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(f"the TPU compiler is missing. Install it: {INSTALL}")
    try:
        several = {"num_slices": slices} if slices > 1 else {}
        return list(topologies.get_topology_desc(platform="tpu", topology_name=name, **several).devices)
    except Exception as error:  # whatever libtpu finds wrong with it
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"--topology={name} is no slice of TPUs ({reason}). Use one as v5e:2x4, v5e:16x16, v5p:2x2x2 or v6e:4x4."
        ) from error


def compile_step(training: Training, state: TrainState, topology: str) -> Compiled:
    """Compiles the train step for the devices of the training's mesh.

    Args:
        state: abstract, with its shardings.
    """
    mesh, settings, source = training.mesh, training.settings, training.source
    chip = mesh.devices.flat[0].device_kind
    with jax.set_mesh(mesh):
        notes = training.task.notes(source.spec)
    found = Compiled(topology, dict(mesh.shape), chip, MEMORY.get(chip), settings.batch_size, notes)
    if training.flops_per_example is not None:
        found = found._replace(flops=training.flops_per_example * settings.batch_size / mesh.size)
    try:
        compiled = lowered_step(training, state).compile()
    except RuntimeError as error:
        if EXHAUSTED not in str(error):
            raise
        return found._replace(overflow=overflow(str(error)))
    operations = collectives(compiled.as_text())
    return found._replace(
        memory=_memory(compiled.memory_analysis()),
        xla_flops=compiled.cost_analysis().get("flops"),
        collectives=tuple(totals(operations)),
        gathered=tuple(gathered_inputs(operations, _input_size(training), [x.shape for x in jax.tree.leaves(state)])),
    )


def facts(compiled: Compiled) -> dict[str, Any]:
    """JSON-able."""
    memory = compiled.memory and compiled.memory._asdict()
    return compiled._asdict() | {"memory": memory, "collectives": [row._asdict() for row in compiled.collectives]}


def overflow(message: str) -> str:
    """What XLA says of memory that does not suffice, in short."""
    match = OVERFLOW.search(message)
    if match is None:
        return " ".join(message.split())[:200]
    needed, available = (match[1], match[2]) if match[1] else (match[3], match[4])
    return f"{needed}iB of {available}iB"


def _memory(analysis: Any) -> Memory:
    outputs = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    arguments, temporaries = analysis.argument_size_in_bytes, analysis.temp_size_in_bytes
    return Memory(arguments, outputs, temporaries, analysis.peak_memory_in_bytes or arguments + outputs + temporaries)


def _input_size(training: Training) -> int:
    """Elements of an example's largest array."""
    return max(math.prod(array.shape) for array in jax.tree.leaves(abstract_batch(training, 1)))
