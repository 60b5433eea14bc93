# SPDX-License-Identifier: Apache-2.0
"""From a config to the parts of a run, and from a run folder back to them: the only reader of configs.

`build` makes the parts in the order in which they depend on each other: source, its spec, model, task, optimizer and
schedule, mesh. `load` needs nothing but the run folder.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from perceiver_jax import config as configs
from perceiver_jax.data.pipeline import Batches, evaluation_batches, train_plan, typical_spec
from perceiver_jax.data.source import Source
from perceiver_jax.data.spec import Spec
from perceiver_jax.errors import ConfigError
from perceiver_jax.registry import build as build_part
from perceiver_jax.tasks.base import Task
from perceiver_jax.training.capture import CaptureSettings
from perceiver_jax.training.checkpoint import Checkpoints
from perceiver_jax.training.controls import Best, Controls, Patience, Plateau
from perceiver_jax.training.evaluation import evaluate, predict
from perceiver_jax.training.loop import EVALUATION_SEED
from perceiver_jax.training.settings import Settings, Training
from perceiver_jax.training.sharding import batch_shards, batch_share, make_mesh, replicated
from perceiver_jax.training.state import TrainState, abstract_state, abstract_variables, state_maker
from perceiver_jax.training.step import make_evaluation_step, make_prediction_step
from perceiver_jax.training.watchdog import Limits
from perceiver_jax.validation import Problems, uneven, unknown_metrics, unsplittable, wrong_values
from perceiver_jax.weights.transfer import Transfer, transfer

Section = Mapping[str, Any]
MOST_STEPS = 2**31  # a step is an int32
NEEDED_TO_LOAD = ("seed", "batch_size", "ema_decay", "evaluation", *configs.SECTIONS)


def build(config: Section, *, source: Source | None = None, devices: Sequence[jax.Device] | None = None) -> Training:
    """Everything a training loop needs.

    Args:
        config: resolved values, as `config.to_dict` gives them or a run's `config.json` holds them.
        source: in place of the config's.
        devices: of the mesh, in place of all there are.

    Raises:
        ConfigError: all that is wrong with the config, before anything is compiled.
    """
    problems = Problems()
    problems.add(*configs.wrong_fields(config))
    problems.raise_all()  # nothing can be built of these
    source = source or build_source(config)
    plan = train_plan(source, config["batch_size"], config["seed"])
    settings = _settings(config, plan.steps_per_epoch)
    problems.add(*wrong_values(config, source.splits))
    if settings.num_steps >= MOST_STEPS:
        problems.add(f"num_epochs={config['num_epochs']} are {settings.num_steps:,} steps: expected less than 2**31.")
    optimizer = problems.attempt(build_part, "optimizer", config["optimizer"])
    schedule = optimizer and problems.attempt(
        build_part,
        "schedule",
        config["schedule"],
        learning_rate=config["optimizer"]["learning_rate"],
        num_steps=settings.num_steps,
        steps_per_epoch=settings.steps_per_epoch,
    )
    mesh = problems.attempt(make_mesh, **config["mesh"], devices=devices)
    if mesh is not None:
        problems.add(*unsplittable(config, mesh))
    task = problems.attempt(build_task, config, source.spec)
    if task is not None and mesh is not None:
        problems.add(*_traced_problems(config, task, source, mesh))
    problems.raise_all()
    return Training(
        task=task,
        source=source,
        optimizer=optimizer,
        schedule=schedule,
        mesh=mesh,
        controls=_controls(config),
        settings=settings,
        flops_per_example=task.flops(typical_spec(source, plan)),
    )


def _traced_problems(config: Section, task: Task, source: Source, mesh: Mesh) -> list[str]:
    """What the shapes of the data tell: inputs that the mesh cannot split, metrics that there are not."""
    if found := uneven(task, source, mesh):
        return found
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # attention says what it cannot split
        try:
            return unknown_metrics(config, task, source.spec)
        except ConfigError as error:
            return [str(error)]


def build_source(config: Section) -> Source:
    """The data alone."""
    return build_part("data", config["data"], seed=config["seed"])


def build_task(config: Section, spec: Spec) -> Task:
    """The model and its task, from the spec of the data."""
    return build_part("task", config["task"], model=build_part("model", config["model"], spec=spec), spec=spec)


def abstract_training_state(training: Training) -> TrainState:
    """Shapes, types and shardings of the training state, without computing it."""
    spec, ema = training.source.spec, training.settings.ema_decay > 0
    return abstract_state(state_maker(training.task, training.optimizer, spec, ema=ema), training.mesh)


def initial_values(config: Section, state: TrainState) -> Transfer:
    """What a new run begins with: from the run that `init_from` names, or nothing.

    Args:
        state: abstract; what is needed.

    Raises:
        ConfigError: there is no such run or checkpoint, or it does not fit.
    """
    if not config["init_from"]:
        return Transfer()
    init = config["init"]
    run = load(config["init_from"], init["checkpoint"])
    source = f"{run.workdir} at step {run.step}"
    needed = {"params": state.params, **state.extra}
    return transfer(run.variables, needed, source=source, skip=init["skip"], rename=init["rename"])


@dataclasses.dataclass(frozen=True)
class Run:
    """A run read back from its folder; the data is touched only when it is asked for.

    Attributes:
        spec: of the data the run was trained on.
        step: of the checkpoint that was read.
        variables: what evaluation uses: the averaged parameters where the run kept any.
        changes: of the task's fields, since it was read.
    """

    workdir: Path
    config: Section
    spec: Spec
    task: Task
    mesh: Mesh
    step: int
    variables: dict[str, Any]
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def changed(self, **fields: Any) -> "Run":
        """The same run, whose task has other values of some fields; None is no change.

        Raises:
            ConfigError: the task has no such field.
        """
        fields = {name: value for name, value in fields.items() if value is not None}
        known = {field.name for field in dataclasses.fields(self.task)}
        if unknown := [f"--{name}" for name in fields if name not in known]:
            raise ConfigError(
                f"{' and '.join(unknown)}: the task of {self.workdir} ({self.config['task']['name']}) has no such "
                "field: expected a run of object discovery or set prediction. Leave it out."
            )
        return dataclasses.replace(self, task=dataclasses.replace(self.task, **fields), changes=fields)

    def source(self) -> Source:
        """The data, which must have the shapes and classes the run was trained on."""
        source = build_source(self.config)
        if (source.spec.arrays, source.spec.class_names) != (self.spec.arrays, self.spec.class_names):
            raise ConfigError(
                f"the data does not fit the run {self.workdir}: expected {_describe(self.spec)}, got "
                f"{_describe(source.spec)}. Give the data the run was trained on with --data_path."
            )
        return source

    def evaluate(
        self,
        split: str,
        batch_size: int | None = None,
        source: Source | None = None,
        on_batch: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """The results of a split, JSON-able: `split`, `step`, `num_examples`, the metrics, and what the task adds.

        Args:
            batch_size: default the run's; rounded up to what the devices can share, since padding counts nothing.
            source: the data, where it has been read already.
            on_batch: called after each batch.
        """
        source = source or self.source()
        with self._batches(source, split, batch_size) as batches:
            stats = evaluate(self._evaluation_step, self.variables, batches, self.mesh, on_batch)
        head = {"split": split, "step": self.step, "num_examples": source.num_examples(split)}
        head |= self.changes
        return head | self.task.summarize(stats) | self.task.results(stats, self.spec.class_names)

    def predictions(
        self,
        split: str,
        batch_size: int | None = None,
        source: Source | None = None,
        *,
        num_examples: int | None = None,
    ) -> dict[str, np.ndarray]:
        """What the task predicts of every example of a split, and its `id`: a row each, in the order of ids.

        Args:
            num_examples: only of so many, always the same.
        """
        step = jax.jit(make_prediction_step(self.task, seed=EVALUATION_SEED), out_shardings=replicated(self.mesh))
        with self._batches(source or self.source(), split, batch_size, num_examples) as batches:
            return predict(step, self.variables, batches, self.mesh)

    def _batches(self, source: Source, split: str, batch_size: int | None, num_examples: int | None = None) -> Batches:
        batch_size = batch_size or self.config["evaluation"]["batch_size"] or self.config["batch_size"]
        batch_size += -batch_size % batch_shards(self.mesh)
        share = batch_share(self.mesh)
        processes = {"process_index": share.index, "process_count": share.count}
        return evaluation_batches(source, split, batch_size, num_examples=num_examples, **processes)

    @functools.cached_property
    def _evaluation_step(self) -> Callable:
        """Compiled once for all evaluations of the run."""
        step = make_evaluation_step(self.task, seed=EVALUATION_SEED)
        return jax.jit(step, out_shardings=replicated(self.mesh))


def run_mesh(workdir: str | Path) -> Mesh:
    """The mesh a run was trained on, where this machine's devices make it up; else all of them along data.

    Raises:
        ConfigError: not a run folder.
    """
    config = configs.load(Path(workdir) / "config.json")
    try:
        return make_mesh(**config["mesh"]) if "mesh" in config else make_mesh()
    except ConfigError:
        return make_mesh()


def load(workdir: str | Path, checkpoint: str = "best", *, data_path: str = "", mesh: Mesh | None = None) -> Run:
    """Reads a run folder, wherever it lies now.

    Args:
        checkpoint: "best", "latest" or a step.
        data_path: where the data lies on this machine, if not where the run found it.
        mesh: what it is to run on, e.g. `run_mesh`; default all devices of this machine along data, which takes inputs
            of any length, and which each hold the whole model.

    Raises:
        ConfigError: not a run folder, nothing saved in it yet, or no such checkpoint.
    """
    if checkpoint not in ("best", "latest") and not checkpoint.isdecimal():
        raise ConfigError(f"checkpoint={checkpoint!r}: expected best, latest or a step.")
    workdir = Path(workdir).absolute()
    config, record = configs.load(workdir / "config.json"), configs.load(workdir / "run.json")
    spec = _check_run(workdir, config, record)
    if data_path:
        config["data"]["path"] = data_path
    task, mesh = build_task(config, spec), mesh or make_mesh()
    needed = abstract_variables(task, spec, mesh, ema=config["ema_decay"] > 0)
    checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
    if checkpoints.latest() is None:
        raise ConfigError(f"{workdir} holds no checkpoint yet. Train it first: {record['command']}")
    fields, _, step = checkpoints.restore(needed, int(checkpoint) if checkpoint.isdecimal() else checkpoint, part=True)
    checkpoints.close()
    extra = fields.pop("extra", {})
    (params,) = fields.values()
    return Run(workdir, config, spec, task, mesh, step, {"params": params, **extra})


def _check_run(workdir: Path, config: Section, record: Section) -> Spec:
    """The spec of the data; ConfigError if the two files lack what `load` needs."""
    problems = Problems()
    problems.add(*configs.wrong_fields(config, complete=False))
    needed = {"config.json": (config, NEEDED_TO_LOAD), "run.json": (record, ("spec", "command"))}
    for file, (content, keys) in needed.items():
        problems.add(*(f"{file} has no {key}." for key in keys if key not in content))
    spec = problems.attempt(Spec.from_dict, record.get("spec", {}))
    try:
        problems.raise_all()
    except ConfigError as error:
        raise ConfigError(f"{workdir}: {error} Restore the file from a copy.") from None
    return spec


def _describe(spec: Spec) -> str:
    arrays = ", ".join(f"{name} {array.shape}" for name, array in spec.arrays.items())
    return f"{arrays} in {len(spec.class_names)} classes"


def _settings(config: Section, steps_per_epoch: int) -> Settings:
    """Epochs become steps."""

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
        limits=Limits(**config["watchdog"]),
        attention=CaptureSettings(**config["attention_maps"]),
        **config["pipeline"],
    )


def _controls(config: Section) -> Controls:
    evaluation = config["evaluation"]
    return Controls(
        best=Best(metric=evaluation["metric"], mode=evaluation["mode"]),
        plateau=Plateau(**config["plateau"]),
        early_stopping=Patience(**config["early_stopping"]),
    )
