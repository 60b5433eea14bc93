# SPDX-License-Identifier: Apache-2.0
"""Variants of a config that are to be compared: those that its file names, or all combinations of swept values.

A file may also name the config of a stage that begins with its runs (SVQ's prior); that is one more variant.
"""

import itertools
import re
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from perceiver_jax import command_line, experiment, stages
from perceiver_jax import config as configs
from perceiver_jax.errors import ConfigError
from perceiver_jax.registry import nearest

BASE = "base"
NAMED = "ABLATIONS"
"""What a config file calls the names of the variants that `ablate` compares with the config itself."""
NEXT = "NEXT_STAGES"
"""What it calls the stages that begin with a run of it: name -> file beside it."""
OF_BOTH_STAGES = ("batch_size", "num_steps", "num_epochs", "seed", "log_every_steps", "evaluation", "checkpoint")
"""Keys of flags that mean the same in any stage; models, data and their optimizers differ."""


class Variant(NamedTuple):
    """A config and what is changed in it.

    Attributes:
        name: as a part of a file's name.
        config: what --config names.
        overrides: flags --config.KEY=VALUE.
        follows: the variant with whose run of the same seed this one begins; "" for none.
    """

    name: str
    config: str
    overrides: tuple[str, ...] = ()
    follows: str = ""

    def arguments(self, given: Sequence[str]) -> list[str]:
        """Of `main`.

        Args:
            given: flags for all variants, which come first; a stage that follows takes those of `OF_BOTH_STAGES`.
        """
        if self.follows:
            given = [flag for flag in given if re.split(r"[.=]", flag.removeprefix("--config."))[0] in OF_BOTH_STAGES]
        return [f"--config={self.config}", *given, *self.overrides]


def chosen(config: str, sweeps: Sequence[str], only: Sequence[str]) -> list[Variant]:
    """The variants of a config file.

    Args:
        config: what --config names.
        sweeps: KEY=VALUE,VALUE,...; without, the file's own variants and the config itself.
        only: names; without, all. What one follows comes with it.

    Raises:
        ConfigError: a sweep or name that there is not, or fewer than two variants.
    """
    found = swept(config, sweeps) if sweeps else named(config)
    names = [variant.name for variant in found]
    if unknown := [name for name in only if name not in names]:
        raise ConfigError(
            f"--only={unknown[0]} is no variant{nearest(unknown[0], names)}. There are: {', '.join(names)}."
        )
    if len(found) < 2:
        raise ConfigError(
            f"{config} has no {NAMED} to compare it with. Give values: --sweep=model.KEY=VALUE,VALUE or name variants "
            "of the file in it."
        )
    only = {*only, *(variant.follows for variant in found if variant.name in only)}
    return [variant for variant in found if not only or variant.name in only]


def named(config: str) -> list[Variant]:
    """The config itself, with each variant that its file names for this, and the stages that follow it."""
    file, _, argument = config.partition(":")
    said = runpy.run_path(file)
    changed = [Variant(name, f"{file}:{f'{argument},{name}'.lstrip(',')}") for name in said.get(NAMED, ())]
    size = argument.partition(",")[0]
    later = [
        Variant(name, f"{Path(file).with_name(beside)}{size and f':{size}'}", follows=BASE)
        for name, beside in said.get(NEXT, {}).items()
    ]
    return [Variant(BASE, config), *changed, *later]


def swept(config: str, sweeps: Sequence[str]) -> list[Variant]:
    """A variant for each combination of values, named by the last words of their keys."""
    axes = []
    for sweep in sweeps:
        key, equals, values = sweep.partition("=")
        options = [value for value in re.split(r",(?![^(\[]*[)\]])", values) if value]
        if not equals or not options:
            raise ConfigError(f"--sweep={sweep}: expected KEY=VALUE,VALUE,... as model.num_slots=4,6.")
        axes.append([(key.removeprefix("config."), value) for value in options])
    return [_swept(config, pairs) for pairs in itertools.product(*axes)]


def _swept(config: str, pairs: Sequence[tuple[str, str]]) -> Variant:
    name = "-".join(f"{key.rpartition('.')[2]}={value}" for key, value in pairs)
    return Variant(re.sub(r"[^\w.=-]+", "_", name), config, tuple(f"--config.{key}={value}" for key, value in pairs))


def check(variants: Sequence[Variant], given: Sequence[str]) -> tuple[int, str]:
    """Builds every variant as `main` does; for a process of its own, since it may take the accelerator.

    A stage that follows another needs its run, which is not there yet: its config alone is read.

    Returns:
        tuple: the first seed, and the split to evaluate.

    Raises:
        ConfigError: all that is wrong with the first variant with which anything is.
    """
    for variant in variants:
        sys.argv = ["main", *variant.arguments(given)]
        try:
            config = configs.to_dict(command_line.parsed_config(sys.argv))
            if not variant.follows:
                seed, splits = config["seed"], experiment.build(stages.resolve(config)).source.splits
        except ConfigError as error:
            raise ConfigError(f"variant {variant.name}: {error}") from None
    return seed, "test" if "test" in splits else "validation"
