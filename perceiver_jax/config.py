# SPDX-License-Identifier: Apache-2.0
"""Configs: the defaults every experiment shares, with their reasons; sections from constructors; variants; JSON.

A file in `configs/` starts from `default()`, adds one `section` for each part and ends with `vary`. Values are checked
against each other where the parts are built, in `experiment`.
"""

import json
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from perceiver_jax.errors import ConfigError
from perceiver_jax.files import read_json
from perceiver_jax.registry import find, nearest, printable
from perceiver_jax.value_types import problem

SECTIONS = ("data", "task", "model", "optimizer", "schedule")
"""What a config has beside the values that all configs share."""


def default() -> ConfigDict:
    """What every experiment has; the config file adds `data`, `task`, `model`, `optimizer` and `schedule`."""
    return ConfigDict(
        {
            # Initial parameters, order of the data, augmentation and dropout all follow from it.
            "seed": 0,
            "batch_size": 32,  # examples per step over all devices and processes
            "num_epochs": 100.0,
            "num_steps": placeholder(int),  # wins over num_epochs where set
            "micro_batches": 1,  # parts a batch is computed in, one after the other: less memory, the same step
            "ema_decay": 0.0,  # of the parameters' average, which is then what is evaluated; 0 keeps none
            "max_bad_steps": 10,  # non-finite steps in a row that end the run
            "log_every_steps": 50,
            "init_from": "",  # folder of a run whose parameters, averaged where it has averages, this one begins with
            # skip: path patterns that are made anew whatever is found; rename: "OLD=NEW" paths or folders.
            "init": {"checkpoint": "best", "skip": (), "rename": ()},
            "evaluation": {
                "every_epochs": 1.0,
                "batch_size": placeholder(int),
                "metric": "accuracy",
                "mode": "max",
            },
            # The newest two, since one may be damaged; the best by evaluation.metric; every so many epochs, if asked.
            "checkpoint": {"every_epochs": 1.0, "keep_latest": 2, "keep_every_epochs": 0.0},
            # patience counts evaluations without improvement of the validation metric; 0 switches the control off.
            "plateau": {
                "metric": "loss",
                "mode": "min",
                "patience": 0,
                "factor": 0.2,
                "min_delta": 0.0,
                "min_scale": 0.0,
            },
            "early_stopping": {"metric": "loss", "mode": "min", "patience": 0, "min_delta": 0.0},
            # Attention to the same examples, kept after the first epoch, every so many, and the last; 0 keeps none.
            # max_bytes: of one such file; larger maps (inputs x latents x heads x stages) are left out, which is said.
            "attention_maps": {"every": 10, "num_examples": 6, "max_bytes": 2**26},
            "mesh": {"data": -1, "fsdp": 1, "sequence": 1, "tensor": 1},  # -1: what the other axes leave
            "pipeline": {"num_workers": 0, "prefetch": 4},  # workers pay only where decoding is the cost
            "profile": {"start_step": 10, "num_steps": 0},
            # Past one of these nothing has moved: the run writes its stacks and ends with 75. All far beyond use.
            "watchdog": {
                "compile_seconds": 1800.0,  # the largest programs compile for minutes
                "step_seconds": 120.0,  # or, if that is more,
                "step_medians": 20.0,  # so many times the median of the latest steps
                "data_seconds": 600.0,  # the first batch may read whole files
                "evaluation_seconds": 600.0,  # a batch, its data included
                "save_seconds": 300.0,  # each 64 MB: a disk that writes less than 0.2 MB a second
                "restore_seconds": 300.0,  # each 64 MB, of every step that may have to be tried
                "profile_seconds": 1800.0,  # the profiler writes gigabytes for large programs
            },
        }
    )


def section(kind: str, name: str, **values: Any) -> ConfigDict:
    """A section of a config: every field of the part's constructor, so that each can be overridden by a flag.

    Args:
        kind: a table of `registry`: "data", "model", "adapter", "positions", "task", "optimizer", "schedule".
        values: what differs from the constructor's defaults.

    Raises:
        ConfigError: an unknown part or field, with the nearest known one; a field without default and value.
    """
    parameters = find(kind, name).parameters()
    fields: dict[str, Any] = {"name": name}
    nested = {key: value for key, value in values.items() if isinstance(value, ConfigDict)}
    unknown = [key for key in values if key not in parameters and key not in nested]
    if unknown:
        raise ConfigError(f"config.{kind}.{unknown[0]} is unknown{nearest(unknown[0], parameters)}.")
    for key, parameter in parameters.items():
        if key == "name" or key in nested:
            continue
        if key not in values and parameter.default is parameter.empty:
            raise ConfigError(f"config.{kind} ({name}) needs a value for {key}.")
        fields[key] = _plain(values.get(key, parameter.default), parameter.annotation)
    return ConfigDict(fields | nested)


def _plain(value: Any, annotation: Any) -> Any:
    """A value as ml_collections can hold and override it: None becomes a typed placeholder, a dtype its name."""
    if value is None:
        options = typing.get_args(annotation)
        return placeholder(next((plain for plain in (float, int, str) if plain in options), tuple))
    return value if isinstance(value, (bool, int, float, str, tuple, list)) else value.__name__


def vary(config: ConfigDict, argument: str, variants: Mapping[str, Callable[[ConfigDict], None]]) -> ConfigDict:
    """Applies the variants named in `argument` (`configs/x.py:paper,tiny`), in that order.

    Each variant changes the config in place and must not add a key.
    """
    config.lock()
    names = [name for name in argument.split(",") if name]
    for name in names:
        if name not in variants:
            known = ", ".join(variants) or "none"
            raise ConfigError(f"variant {name!r} is unknown{nearest(name, variants)}: this config has {known}.")
        with config.unlocked():
            variants[name](config)
    return config


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """The resolved values as plain, JSON-able dicts and lists: what a run's `config.json` holds."""
    return json.loads(json.dumps(config.to_dict()))


def load(file: Path) -> dict[str, Any]:
    """The resolved values of a run."""
    try:
        return read_json(file)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{file.parent} is not a run folder: it has no {file.name}.") from None


def wrong_fields(config: Any, *, complete: bool = True) -> list[str]:
    """Unknown keys, missing ones and values of a wrong type, a sentence each.

    The sections that `registry` builds are checked there.

    Args:
        complete: nothing may be missing, and there is nothing else. A run of an older version may differ in both.
    """
    return _wrong_fields(config, default(), SECTIONS, "config", complete)


def _wrong_fields(config: Any, expected: ConfigDict, more: tuple[str, ...], where: str, complete: bool) -> list[str]:
    if not isinstance(config, Mapping):
        return [f"{where}={config!r}: expected a section."]
    problems, known = [], [*expected, *more]
    if complete:
        problems += [
            f"{where}.{printable(str(key))} is unknown{nearest(str(key), known)}." for key in config if key not in known
        ]
        problems += [f"{where}.{key} is missing." for key in known if key not in config]
    for key in (key for key in expected if key in config):
        if isinstance(expected[key], ConfigDict):
            problems += _wrong_fields(config[key], expected[key], (), f"{where}.{key}", complete)
        else:
            kind = expected.get_type(key)
            wrong = problem(f"{where}.{key}", config[key], kind if expected[key] is not None else kind | None)
            problems += [wrong] if wrong else []
    return problems


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Lines `key: old -> new` for every value that differs."""
    lines = []
    for key in sorted({*old, *new}):
        left, right = old.get(key), new.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            lines += differences(left, right, f"{prefix}{key}.")
        elif left != right:
            lines.append(f"{prefix}{key}: {left!r} -> {right!r}")
    return lines
