# SPDX-License-Identifier: Apache-2.0
"""Opening a run folder: is it new, does its config fit, and what is recorded before the first step.

`config.json` holds the resolved config, so that a default that changes later changes no old run; `run.json` everything
else a later command or a reader needs.
"""

import json
from pathlib import Path
from typing import Any

from perceiver_jax import config as configs
from perceiver_jax.errors import ConfigError
from perceiver_jax.files import write_json
from perceiver_jax.training import disk
from perceiver_jax.training.checkpoint import Checkpoints
from perceiver_jax.training.console import Console
from perceiver_jax.training.folder_lock import FolderLock
from perceiver_jax.training.record import num_parameters, parameter_table, run_record, summary_table
from perceiver_jax.training.settings import Training
from perceiver_jax.training.state import TrainState

HARMLESS = (
    "log_every_steps",
    "evaluation.batch_size",
    "checkpoint.",
    "pipeline.",
    "profile.",
    "mesh.",
    "max_bad_steps",
    "data.path",
)
"""Keys that change neither what is computed at a step nor when decisions are taken."""


def open_run(
    workdir: Path,
    config: dict[str, Any],
    training: Training,
    state: TrainState,
    console: Console,
    *,
    allow_changes: bool,
) -> FolderLock:
    """Creates the folder, or checks that the run in it is this one; then writes `config.json` and `run.json`.

    Returns:
        FolderLock: holds the folder for this process.

    Raises:
        ConfigError: the folder cannot be written; the config differs in what is computed and `allow_changes` is off;
            the newest checkpoint does not fit.
        Retry: another run has the folder, or the disk is full.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(workdir)
        changes = _changes(workdir, config, console, allow_changes=allow_changes)
        with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
            checkpoints.check_fits(state)
        record = run_record(training, state)
        if (workdir / "run.json").exists():
            before = configs.load(workdir / "run.json")
            record |= {"started": before["started"], "restarts": before.get("restarts", 0) + 1}
            record["changes"] = before.get("changes", []) + changes
        write_json(workdir / "config.json", config)
        write_json(workdir / "run.json", record)
    except OSError as error:
        raise disk.explain(error, workdir, "opening the run folder") or error from error
    _describe(record, state, training, console)
    return lock


def texts(config: dict[str, Any], state: TrainState) -> dict[str, str]:
    """The config and the parameter table as Markdown, for TensorBoard."""
    rows = "\n".join(f"| {row['path']} | {row['shape']} |" for row in parameter_table(state.params))
    return {
        "config": f"```json\n{json.dumps(config, indent=1)}\n```",
        "parameters": f"{num_parameters(state.params):,} parameters\n\n| path | shape |\n|---|---|\n{rows}",
    }


def _changes(workdir: Path, config: dict[str, Any], console: Console, *, allow_changes: bool) -> list[str]:
    if not (workdir / "config.json").exists():
        return []
    changes = configs.differences(configs.load(workdir / "config.json"), json.loads(json.dumps(config)))
    serious = [line for line in changes if not line.startswith(HARMLESS)]
    if serious and not allow_changes:
        raise ConfigError(
            f"{workdir} holds a run with another config ({'; '.join(serious)}). Use another --workdir, or "
            "--allow_changes to go on with the new values from here."
        )
    for line in changes:
        console.say(f"changed since the run began: {line}")
    return changes


def _describe(record: dict[str, Any], state: TrainState, training: Training, console: Console) -> None:
    for module, count in summary_table(state.params):
        console.say(f"  {module:<32} {count:>12,}")
    console.say(f"  {'parameters':<32} {record['num_parameters']:>12,}")
    source, settings = training.source, training.settings
    sizes = ", ".join(f"{source.num_examples(split):,} {split}" for split in source.splits)
    console.say(f"{sizes} examples" + (f" in {len(names)} classes" if (names := source.spec.class_names) else ""))
    for note in training.task.notes(source.spec):
        console.say(note)
    flops = "" if training.flops_per_example is None else f", {training.flops_per_example / 1e9:,.2f} GFLOP per example"
    epochs = settings.num_steps / settings.steps_per_epoch
    console.say(f"{settings.num_steps:,} steps of {settings.batch_size} ({epochs:.1f} epochs){flops}")
