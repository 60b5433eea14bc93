# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a config, found before anything is compiled and said all at once.

A part checks its own fields where it is built; here values are checked against each other, the data and the devices.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from perceiver_jax.data.source import Source, VariableLength
from perceiver_jax.data.spec import Spec
from perceiver_jax.errors import ConfigError
from perceiver_jax.tasks.base import Task, zeros_batch
from perceiver_jax.training.sharding import batch_shards

Section = Mapping[str, Any]
NOT_NEGATIVE = (
    "max_bad_steps",
    "attention_maps.every",
    "attention_maps.max_bytes",
    "evaluation.every_epochs",
    "checkpoint.every_epochs",
    "checkpoint.keep_every_epochs",
    "plateau.patience",
    "early_stopping.patience",
    "pipeline.num_workers",
    "pipeline.prefetch",
    "profile.start_step",
    "profile.num_steps",
)


class Problems:
    """Collects what is wrong, so that it is said all at once."""

    def __init__(self):
        self._found: list[str] = []

    def add(self, *problems: str) -> None:
        self._found += problems

    def attempt(self, build: Callable, *arguments, **values) -> Any:
        """What `build` returns, or None if it finds something wrong."""
        try:
            return build(*arguments, **values)
        except ConfigError as error:
            self.add(str(error))

    def raise_all(self) -> None:
        if self._found:
            raise ConfigError(" ".join(self._found))


def wrong_values(config: Section, splits: tuple[str, ...]) -> list[str]:
    """Numbers of a run that cannot be, a sentence each."""
    evaluation, checkpoint, batch_size = config["evaluation"], config["checkpoint"], config["batch_size"]
    rules = {  # key: (is it in range, what was expected)
        "micro_batches": (
            config["micro_batches"] >= 1 and batch_size % config["micro_batches"] == 0,
            f"a divisor of batch_size={batch_size}",
        ),
        "num_epochs": (config["num_steps"] is not None or config["num_epochs"] > 0, "more than 0, or num_steps"),
        "num_steps": (config["num_steps"] is None or config["num_steps"] > 0, "more than 0, or None for num_epochs"),
        "ema_decay": (0 <= config["ema_decay"] < 1, "at least 0 and less than 1"),
        "log_every_steps": (config["log_every_steps"] >= 1, "at least 1"),
        "attention_maps.num_examples": (config["attention_maps"]["num_examples"] >= 1, "at least 1"),
        "checkpoint.keep_latest": (checkpoint["keep_latest"] >= 1, "at least 1"),
        "evaluation.batch_size": ((evaluation["batch_size"] or 1) > 0, "at least 1, or None for batch_size"),
        "plateau.factor": (0 < config["plateau"]["factor"] < 1, "between 0 and 1"),
    }
    for key in NOT_NEGATIVE:
        rules[key] = (_value(config, key) >= 0, "at least 0")
    for name in ("evaluation", "plateau", "early_stopping"):
        rules[f"{name}.mode"] = (config[name]["mode"] in ("min", "max"), "'min' or 'max'")
    for name, limit in config["watchdog"].items():
        rules[f"watchdog.{name}"] = (limit > 0, "more than 0, or inf for no limit")
    problems = [f"{key}={_value(config, key)!r}: expected {what}." for key, (good, what) in rules.items() if not good]
    if evaluation["every_epochs"] > 0 and "validation" not in splits:
        problems.append(
            f"evaluation needs a validation split: the data has {', '.join(splits)}. "
            "Raise config.data.validation_fraction, or set config.evaluation.every_epochs=0."
        )
    return problems


def _value(config: Section, key: str) -> Any:
    return functools.reduce(lambda section, name: section[name], key.split("."), config)


def unknown_metrics(config: Section, task: Task, spec: Spec) -> list[str]:
    """Metrics that decisions hang on and that the task does not have."""
    names = metric_names(task, spec)
    return [
        f"{section}.metric={config[section]['metric']!r} is unknown: the task has {', '.join(names)}."
        for section in ("evaluation", "plateau", "early_stopping")
        if config[section]["metric"] not in names
    ]


def metric_names(task: Task, spec: Spec) -> list[str]:
    """Names of the numbers that an evaluation gives, found without computing it."""

    def statistics(rng):
        batch = zeros_batch(spec)
        return task.evaluate(task.init(rng, spec), batch, {name: rng for name in task.rng_streams})

    stats = jax.eval_shape(statistics, jax.random.key(0))
    return list(task.summarize(jax.tree.map(lambda leaf: np.zeros(leaf.shape), stats)))


def uneven(task: Task, source: Source, mesh: Mesh) -> list[str]:
    """Arrays that the model reads and that the mesh does not split evenly along their second axis, a sentence each."""
    parts, specs = mesh.shape["sequence"], [source.spec]
    if isinstance(source, VariableLength):
        specs = [source.spec.at_length(length) for length in source.padded_lengths]
    read = [jax.eval_shape(lambda spec=spec: task.inputs(zeros_batch(spec))) for spec in specs]
    shapes = {array.shape for array in jax.tree.leaves(read)}
    return [
        f"mesh.sequence={parts} does not divide an input of shape {shape[1:]}: expected a divisor of {shape[1]:,}. "
        "Use another mesh.sequence, or inputs of a multiple of it."
        for shape in sorted(shapes)
        if len(shape) > 1 and shape[1] % parts
    ]


def unsplittable(config: Section, mesh: Mesh) -> list[str]:
    """A batch must fill its shards, and heads be split evenly; says which numbers do."""
    model = config["model"] if isinstance(config["model"], Mapping) else {}  # what else it is, its builder says
    return [*_unsplittable_batches(config, mesh), *_unsplittable_heads(model, mesh.shape["tensor"])]


def _unsplittable_heads(model: Section, tensor: int) -> list[str]:
    """A device has whole heads, or a head whole devices: heads cut elsewhere would be gathered at each step."""
    heads = {name: number for name, number in model.items() if name.endswith("_heads")}
    return [
        f"model.{name}={number} does not split over mesh.tensor={tensor}. Use a multiple or a divisor of {tensor}."
        for name, number in heads.items()
        if isinstance(number, int) and number > 0 and number % tensor and tensor % number
    ]


def _unsplittable_batches(config: Section, mesh: Mesh) -> list[str]:
    shards, problems = batch_shards(mesh), []
    processes = len({device.process_index for device in mesh.devices.flat})
    layout = f"{shards} devices ({processes} processes x {mesh.size // processes})"
    sizes = {
        "batch_size": (config["batch_size"], shards * max(config["micro_batches"], 1)),
        "evaluation.batch_size": (config["evaluation"]["batch_size"] or config["batch_size"], shards),
    }
    for name, (size, multiple) in sizes.items():
        if size % multiple and multiple % max(config["micro_batches"], 1) == 0 and shards > 1:
            low = size - size % multiple
            options = " or ".join(str(n) for n in (low, low + multiple) if n)
            what = layout if multiple == shards else f"{layout} x micro_batches={config['micro_batches']}"
            problems.append(f"{name}={size} does not split over {what}. Use a multiple of {multiple}, e.g. {options}.")
    return problems
