# SPDX-License-Identifier: Apache-2.0
"""From a config to the parts of a run, and from a run folder back to them: the only reader of configs.

`build` makes the parts in the order in which they depend on each other: source, its spec, model, task, optimizer and
schedule, mesh. `load` needs nothing but the run folder.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from perceiver_jax import config as configs
from perceiver_jax.data.pipeline import evaluation_batches
from perceiver_jax.data.source import Source
from perceiver_jax.data.spec import Spec
from perceiver_jax.errors import ConfigError
from perceiver_jax.registry import build as build_part
from perceiver_jax.tasks.base import Task
from perceiver_jax.training.checkpoint import Checkpoints
from perceiver_jax.training.controls import Best, Controls, Patience, Plateau
from perceiver_jax.training.evaluation import evaluate
from perceiver_jax.training.loop import EVALUATION_SEED
from perceiver_jax.training.settings import Settings, Training
from perceiver_jax.training.sharding import batch_shards, make_mesh
from perceiver_jax.training.state import TrainState, abstract_state, state_maker
from perceiver_jax.training.step import make_evaluation_step

Section = Mapping[str, Any]


def build(config: Section) -> Training:
    """Everything a training loop needs.

    Args:
        config: resolved values, as `config.to_dict` gives them or a run's `config.json` holds them.

    Raises:
        ConfigError: all that is wrong with the config, before anything is compiled.
    """
    source = build_source(config)
    task = build_task(config, source.spec)
    _raise_problems(config, source)
    mesh = make_mesh(**config["mesh"])
    _raise_splits(config, mesh)
    settings = _settings(config, source)
    schedule = build_part(
        "schedule",
        config["schedule"],
        learning_rate=config["optimizer"]["learning_rate"],
        num_steps=settings.num_steps,
        steps_per_epoch=settings.steps_per_epoch,
    )
    return Training(
        task=task,
        source=source,
        optimizer=build_part("optimizer", config["optimizer"]),
        schedule=schedule,
        mesh=mesh,
        controls=_controls(config),
        settings=settings,
        flops_per_example=task.flops(source.spec),
    )


def build_source(config: Section) -> Source:
    """The data alone."""
    return build_part("data", config["data"], seed=config["seed"])


def build_task(config: Section, spec: Spec) -> Task:
    """The model and its task, from the spec of the data."""
    model = dict(config["model"])
    adapter = dict(model.pop("adapter"))
    positions = build_part("positions", adapter.pop("positions"))
    num_classes = len(spec.class_names)
    return build_part(
        "task",
        config["task"],
        model=build_part(
            "model",
            model,
            adapter=build_part("adapter", adapter, positions=positions),
            num_classes=num_classes,
        ),
        input_name=next(name for name in spec.arrays if name not in ("label", "mask")),
        num_classes=num_classes,
    )


def abstract_training_state(training: Training) -> TrainState:
    """Shapes, types and shardings of the training state, without computing it."""
    spec, ema = training.source.spec, training.settings.ema_decay > 0
    return abstract_state(state_maker(training.task, training.optimizer, spec, ema=ema), training.mesh)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run read back from its folder; the data is touched only when it is asked for.

    Attributes:
        spec: of the data the run was trained on.
        step: of the checkpoint that was read.
        variables: what evaluation uses: the averaged parameters where the run kept any.
    """

    workdir: Path
    config: Section
    spec: Spec
    task: Task
    mesh: Mesh
    step: int
    variables: dict[str, Any]

    def source(self) -> Source:
        """The data, which must have the shapes and classes the run was trained on."""
        source = build_source(self.config)
        if (source.spec.arrays, source.spec.class_names) != (self.spec.arrays, self.spec.class_names):
            raise ConfigError(
                f"the data does not fit the run {self.workdir}: expected {_describe(self.spec)}, got "
                f"{_describe(source.spec)}. Give the data the run was trained on with --data_path."
            )
        return source

    def evaluate(self, split: str, batch_size: int | None = None) -> dict[str, Any]:
        """The results of a split, JSON-able: `split`, `step`, `num_examples`, the metrics, and what the task adds."""
        source = self.source()
        step = jax.jit(make_evaluation_step(self.task, seed=EVALUATION_SEED))
        batch_size = batch_size or self.config["evaluation"]["batch_size"] or self.config["batch_size"]
        with evaluation_batches(source, split, batch_size) as batches:
            stats = evaluate(step, self.variables, batches, self.mesh)
        head = {"split": split, "step": self.step, "num_examples": source.num_examples(split)}
        return head | self.task.summarize(stats) | self.task.results(stats, self.spec.class_names)


def load(workdir: str | Path, checkpoint: str = "best", *, data_path: str = "") -> Run:
    """Reads a run folder, wherever it lies now.

    Args:
        checkpoint: "best", "latest" or a step.
        data_path: where the data lies on this machine, if not where the run found it.

    Raises:
        ConfigError: not a run folder, nothing saved in it yet, or no such checkpoint.
    """
    workdir = Path(workdir).absolute()
    config, record = configs.load(workdir / "config.json"), configs.load(workdir / "run.json")
    if data_path:
        config["data"]["path"] = data_path
    spec = Spec.from_dict(record["spec"])
    task, mesh = build_task(config, spec), make_mesh(**config["mesh"])
    make = state_maker(task, build_part("optimizer", config["optimizer"]), spec, ema=config["ema_decay"] > 0)
    checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
    if checkpoints.latest() is None:
        raise ConfigError(f"{workdir} holds no checkpoint yet. Train it first: {record['command']}")
    state, _, step = checkpoints.restore(
        abstract_state(make, mesh), int(checkpoint) if checkpoint.isdigit() else checkpoint
    )
    checkpoints.close()
    return Run(workdir, config, spec, task, mesh, step, state.variables())


def _describe(spec: Spec) -> str:
    arrays = ", ".join(f"{name} {array.shape}" for name, array in spec.arrays.items())
    return f"{arrays} in {len(spec.class_names)} classes"


def _settings(config: Section, source: Source) -> Settings:
    """Epochs become steps."""
    steps_per_epoch = max(source.num_examples("train") // config["batch_size"], 1)

    def steps(epochs: float) -> int:
        return max(round(epochs * steps_per_epoch), 1) if epochs > 0 else 0

    return Settings(
        seed=config["seed"],
        num_steps=config["num_steps"] or steps(config["num_epochs"]),
        steps_per_epoch=steps_per_epoch,
        batch_size=config["batch_size"],
        evaluation_batch_size=config["evaluation"]["batch_size"] or config["batch_size"],
        log_every=config["log_every_steps"],
        evaluate_every=steps(config["evaluation"]["every_epochs"]),
        checkpoint_every=steps(config["checkpoint"]["every_epochs"]),
        keep_every=steps(config["checkpoint"]["keep_every_epochs"]),
        keep_latest=config["checkpoint"]["keep_latest"],
        micro_batches=config["micro_batches"],
        ema_decay=config["ema_decay"],
        max_bad_steps=config["max_bad_steps"],
        profile_start=config["profile"]["start_step"],
        profile_steps=config["profile"]["num_steps"],
        **config["pipeline"],
    )


def _controls(config: Section) -> Controls:
    evaluation = config["evaluation"]
    return Controls(
        best=Best(metric=evaluation["metric"], mode=evaluation["mode"]),
        plateau=Plateau(**config["plateau"]),
        early_stopping=Patience(**config["early_stopping"]),
    )


def _raise_problems(config: Section, source: Source) -> None:
    """Collects everything that is wrong with the numbers of a run and raises once."""
    problems = []
    train, batch_size, micro = source.num_examples("train"), config["batch_size"], config["micro_batches"]
    if batch_size < 1:
        problems.append(f"batch_size={batch_size}: expected at least 1.")
    elif batch_size > train:
        problems.append(f"batch_size={batch_size} is more than the {train} training examples. Use at most {train}.")
    if micro < 1 or batch_size % max(micro, 1):
        problems.append(f"micro_batches={micro} does not divide batch_size={batch_size}. Use a divisor.")
    if not (config["num_steps"] or config["num_epochs"] > 0):
        problems.append(f"num_epochs={config['num_epochs']}: expected more than 0, or num_steps.")
    if not 0 <= config["ema_decay"] < 1:
        problems.append(f"ema_decay={config['ema_decay']}: expected at least 0 and less than 1.")
    if config["log_every_steps"] < 1:
        problems.append(f"log_every_steps={config['log_every_steps']}: expected at least 1.")
    if config["checkpoint"]["keep_latest"] < 1:
        problems.append(f"checkpoint.keep_latest={config['checkpoint']['keep_latest']}: expected at least 1.")
    if config["evaluation"]["every_epochs"] > 0 and "validation" not in source.splits:
        problems.append(f"evaluation needs a validation split: the data has {', '.join(source.splits)}.")
    for name in ("evaluation", "plateau", "early_stopping"):
        if config[name]["mode"] not in ("min", "max"):
            problems.append(f"{name}.mode={config[name]['mode']!r}: expected 'min' or 'max'.")
    if problems:
        raise ConfigError(" ".join(problems))


def _raise_splits(config: Section, mesh: Mesh) -> None:
    """A batch must fill its shards; says which sizes do."""
    shards = batch_shards(mesh)
    layout = f"{shards} devices ({jax.process_count()} processes x {jax.local_device_count()})"
    sizes = {
        "batch_size": (config["batch_size"], shards * config["micro_batches"]),
        "evaluation.batch_size": (config["evaluation"]["batch_size"] or config["batch_size"], shards),
    }
    for name, (size, multiple) in sizes.items():
        if size % multiple:
            low = size - size % multiple
            options = " or ".join(str(n) for n in (low, low + multiple) if n)
            what = f"{layout} x micro_batches={config['micro_batches']}" if multiple != shards else layout
            raise ConfigError(
                f"{name}={size} does not split over {what}. Use a multiple of {multiple}, e.g. {options}."
            )
