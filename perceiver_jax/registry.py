# SPDX-License-Identifier: Apache-2.0
"""The names a config may use, and what they build: literal tables, one for each kind of part.

To add a part: write it where it belongs, add one line here. The keys of its config section are the fields of its
constructor, with their defaults; fields that other parts decide (the number of classes, the seed) are `given`.
"""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from perceiver_jax.data.modelnet import ModelNet
from perceiver_jax.data.solids import Solids
from perceiver_jax.errors import ConfigError
from perceiver_jax.models.adapters import ImageAdapter, PointAdapter, SequenceAdapter
from perceiver_jax.models.perceiver import Perceiver, PerceiverEncoder
from perceiver_jax.models.positions import FourierPositions, LearnedPositions
from perceiver_jax.tasks.classification import Classification
from perceiver_jax.training.optim import make_optimizer
from perceiver_jax.training.schedules import make_schedule


@dataclasses.dataclass(frozen=True)
class Part:
    """What a name builds.

    Attributes:
        build: called with the section's values and what is `given`.
        constructors: whose parameters are the section's keys.
        given: parameters that do not stand in the section.
    """

    build: Callable[..., Any]
    constructors: tuple[Callable[..., Any], ...]
    given: tuple[str, ...] = ()

    def parameters(self) -> dict[str, inspect.Parameter]:
        """The keys of the section."""
        hidden = {"self", "parent", "name", *self.given}
        return {
            name: parameter
            for constructor in self.constructors
            for name, parameter in inspect.signature(constructor).parameters.items()
            if name not in hidden
        }


def _part(constructor: Callable[..., Any], *given: str) -> Part:
    return Part(constructor, (constructor,), given)


def _perceiver(*, adapter, num_classes: int, pooling: str, zero_head: bool, dtype: str, **encoder) -> Perceiver:
    return Perceiver(
        adapter=adapter,
        encoder=PerceiverEncoder(dtype=jnp.dtype(dtype), parent=None, **encoder),
        num_classes=num_classes,
        pooling=pooling,
        zero_head=zero_head,
    )


def _optimizer(*, learning_rate: float, **fields):
    """`learning_rate` stands in the optimizer's section, where people look for it, and goes to the schedule."""
    del learning_rate
    return make_optimizer(**fields)


def _rate(learning_rate: float):
    """The one key of the optimizer's section beside `make_optimizer`'s."""


PARTS: dict[str, dict[str, Part]] = {
    "data": {
        "solids": _part(Solids, "seed"),
        "modelnet": _part(ModelNet, "seed"),
    },
    "positions": {
        "fourier": _part(FourierPositions),
        "learned": _part(LearnedPositions),
    },
    "adapter": {
        "points": _part(PointAdapter, "positions"),
        "image": _part(ImageAdapter, "positions"),
        "sequence": _part(SequenceAdapter, "positions"),
    },
    "model": {
        "perceiver": Part(_perceiver, (Perceiver, PerceiverEncoder), ("adapter", "encoder", "num_classes")),
    },
    "task": {
        "classification": _part(Classification, "model", "input_name", "num_classes"),
    },
    "optimizer": {name: Part(_optimizer, (_rate, make_optimizer)) for name in ("lamb", "adamw", "adam")},
    "schedule": {
        name: Part(make_schedule, (make_schedule,), ("learning_rate", "num_steps", "steps_per_epoch"))
        for name in ("constant", "cosine", "flat_cosine", "multistep", "step")
    },
}


NAMED = ("optimizer", "schedule")
"""Kinds whose constructor serves all names and is told which."""


def find(kind: str, name: str) -> Part:
    """The part of this name; ConfigError names the known and nearest ones."""
    parts = PARTS[kind]
    if name not in parts:
        raise ConfigError(
            f"config.{kind}.name={name!r} is unknown{nearest(name, parts)}: expected one of {', '.join(parts)}."
        )
    return parts[name]


def build(kind: str, section: Mapping[str, Any], **given: Any) -> Any:
    """Builds the part a section describes; the section is splatted once into its constructor."""
    values = dict(section)
    part = find(kind, values.get("name", ""))
    if kind not in NAMED:
        values.pop("name")
    known = set(part.parameters()) | set(part.given) | {"name"}
    unknown = [key for key in values if key not in known]
    if unknown:
        raise ConfigError(f"config.{kind}.{unknown[0]} is unknown{nearest(unknown[0], known)}.")
    return part.build(**values, **given)


def nearest(word: str, known) -> str:
    """`; did you mean 'x'?` or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
