# SPDX-License-Identifier: Apache-2.0
"""Opening a run folder: is it new, does its config fit, and what is recorded before the first step.

`config.json` holds the resolved config, so that a default that changes later changes no old run; `run.json` everything
else a later command or a reader needs.
"""

import contextlib
import hashlib
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import jax

from perceiver_jax import config as configs
from perceiver_jax.data import pipeline
from perceiver_jax.errors import ConfigError
from perceiver_jax.files import write_json
from perceiver_jax.reports import comparison
from perceiver_jax.reports.comparison import RunFiles
from perceiver_jax.reports.examples import samples
from perceiver_jax.training import disk, exchange, processes
from perceiver_jax.training.checkpoint import Checkpoints
from perceiver_jax.training.console import Console
from perceiver_jax.training.folder_lock import FolderLock
from perceiver_jax.training.placement import table
from perceiver_jax.training.record import differences, num_parameters, parameter_table, run_record, summary_table
from perceiver_jax.training.settings import Training
from perceiver_jax.training.state import TrainState
from perceiver_jax.training.writers import Overview
from perceiver_jax.weights.transfer import Transfer

HARMLESS = (
    "attention_maps",
    "log_every_steps",
    "evaluation.batch_size",
    "checkpoint",
    "pipeline",
    "profile",
    "mesh",
    "max_bad_steps",
    "data.path",
    "watchdog",
)
"""Keys and sections that change neither what is computed at a step nor when decisions are taken."""
ONCE = ("init_from",)
"""Those that change nothing either as soon as there is a checkpoint, which holds what the run began with."""
RUNS = Path("runs")
"""Where runs go that no --workdir names."""
SHARED_SECONDS = 60.0
"""After which another host sees a new file at the latest, unless the folder is another one there."""
LONGEST_LINE = 300
"""Characters of a difference that is said; a thousand class names are more."""


def open_run(
    workdir: Path,
    config: dict[str, Any],
    training: Training,
    state: TrainState,
    console: Console,
    *,
    transfer: Transfer,
    allow_changes: bool,
) -> contextlib.AbstractContextManager:
    """Creates the folder, or checks that the run in it is this one; then writes `config.json` and `run.json`.

    Args:
        transfer: what a new run begins with.

    Returns:
        AbstractContextManager: holds the folder for the run; process 0 does so, and does all of this for the others.

    Raises:
        ConfigError: the folder cannot be written; the config differs in what is computed and `allow_changes` is off;
            the newest checkpoint does not fit; not all processes have the same folder.
        Retry: another run has the folder, or the disk is full.
    """
    locks: list[FolderLock] = []

    def hold() -> str:
        lock = _hold(workdir, config, training, state, console, transfer=transfer, allow_changes=allow_changes)
        locks.append(lock)
        return mark_of(workdir)

    mark = exchange.on_first("run folder", hold)
    try:
        check_shared(workdir, mark)
    except ConfigError:
        for lock in locks:
            lock.release()
        raise
    return locks[0] if locks else contextlib.nullcontext()


def mark_of(workdir: Path) -> str:
    """Tells one start of one run from every other: of `run.json`, which each start writes; "" without it."""
    try:
        return hashlib.sha256((workdir / "run.json").read_bytes()).hexdigest()
    except OSError:
        return ""


def check_shared(workdir: Path, mark: str) -> None:
    """Returns in all processes when each finds in the folder what process 0 has just written.

    Raises:
        ConfigError: in all of them, after `SHARED_SECONDS`; names those that do not, and their hosts.
    """
    deadline = time.monotonic() + SHARED_SECONDS
    while mark_of(workdir) != mark and time.monotonic() < deadline:
        time.sleep(min(SHARED_SECONDS, 1.0))
    here = f"process {jax.process_index()} on {platform.node()}"
    processes.refuse(
        "run folder",
        [] if mark_of(workdir) == mark else [here],
        f"{workdir} is not one folder for all processes: what process 0 has written there is not found by ",
        ". Use a --workdir that all hosts share.",
    )


def _hold(
    workdir: Path,
    config: dict[str, Any],
    training: Training,
    state: TrainState,
    console: Console,
    *,
    transfer: Transfer,
    allow_changes: bool,
) -> FolderLock:
    with contextlib.ExitStack() as on_failure:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            lock = FolderLock(workdir)
            on_failure.callback(lock.release)
            record = run_record(training, state) | {"init_from": transfer.record()}
            if (workdir / "config.json").exists():
                record = _go_on(workdir, config, record, state, console, allow_changes=allow_changes)
            with Checkpoints(workdir / "checkpoints"):
                pass  # removes left-overs, which may fill the disk
            _check_space(workdir, training, state)
            write_json(workdir / "run.json", record)
            write_json(workdir / "config.json", config)
        except OSError as error:
            raise disk.explain(error, workdir, "opening the run folder") or error from error
        on_failure.pop_all()
    _describe(record, state, training, console)
    for line in transfer.lines():
        console.say(line)
    return lock


def is_new(workdir: Path) -> bool:
    """Whether training begins at step 0 here; the same for all processes."""
    return exchange.on_first("new run", lambda: _is_new(workdir))


def _is_new(workdir: Path) -> bool:
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.latest() is None


def _check_space(workdir: Path, training: Training, state: TrainState) -> None:
    """Room for a checkpoint, and for all that will be kept: the newest, the best and the one being written."""
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    settings = training.settings
    saves = 1 + (settings.num_steps // settings.checkpoint_every if settings.checkpoint_every else 0)
    kept = settings.keep_latest + 2 + (settings.num_steps // settings.keep_every if settings.keep_every else 0)
    disk.check_space(workdir / "checkpoints", size, min(saves, kept))


def overview(config: dict[str, Any], training: Training, state: TrainState) -> Overview:
    """For TensorBoard: config, parameter table, samples of the data, and hparams with the scores they led to."""
    found = samples(training.source)
    monitored = training.controls.best.metric
    return Overview(
        texts=_texts(config, state) | found.get("texts", {}),
        hparams={key: value for key, value in configs.flat(config).items() if not is_harmless(key)},
        metrics=list(dict.fromkeys((f"validation/{monitored}", "validation/loss", "train/loss"))),
        images=found.get("images", {}),
        clouds=found.get("clouds", {}),
    )


def _texts(config: dict[str, Any], state: TrainState) -> dict[str, str]:
    """The config and the parameter table as Markdown."""
    rows = "\n".join(f"| {row['path']} | {row['shape']} |" for row in parameter_table(state.params))
    return {
        "config": f"```json\n{json.dumps(config, indent=1)}\n```",
        "parameters": f"{num_parameters(state.params):,} parameters\n\n| path | shape |\n|---|---|\n{rows}",
    }


def _go_on(
    workdir: Path,
    config: dict[str, Any],
    record: dict[str, Any],
    state: TrainState,
    console: Console,
    *,
    allow_changes: bool,
) -> dict[str, Any]:
    """The record of the run in the folder, going on as `record` says; what has changed is said or refused."""
    record = json.loads(json.dumps(record))
    before = record | configs.load(workdir / "run.json")
    changes = configs.differences(configs.load(workdir / "config.json"), json.loads(json.dumps(config)))
    changes += configs.differences(_data_facts(before), _data_facts(record), "the data's ")
    changes = [line[:LONGEST_LINE] for line in changes]
    new = _is_new(workdir)
    serious = [line for line in changes if not is_harmless(line.partition(":")[0], begun=not new)]
    refusal = f"{workdir} holds a run with another config ({'; '.join(serious)})"
    _check_fits(workdir, state, f"{refusal}: " if serious else "")
    if serious and not allow_changes:
        raise ConfigError(
            f"{refusal}. Use another --workdir, or --allow_changes to go on with the new values from here."
        )
    for line in changes:
        console.say(f"changed since the run began: {line}")
    _say_differences(before, record, console)
    kept = {"started": before["started"], "restarts": before.get("restarts", 0) + 1}
    kept |= {"changes": before.get("changes", []) + changes}
    return record | kept | ({} if new else {"init_from": before["init_from"]})


def _check_fits(workdir: Path, state: TrainState, prefix: str) -> None:
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        try:
            checkpoints.check_fits(state)
        except ConfigError as error:
            raise ConfigError(f"{prefix}{error}") from None


def is_harmless(key: str, *, begun: bool = False) -> bool:
    """Whether a change of the config's `key` may be made in a run that goes on.

    Args:
        begun: the run has a checkpoint.
    """
    return any(key == name or key.startswith(f"{name}.") for name in HARMLESS + (ONCE if begun else ()))


def _data_facts(record: dict[str, Any]) -> dict[str, Any]:
    """What decides the order of the data and what is learned, beside the config."""
    return {"num_examples": record["num_examples"], **{key: record["spec"][key] for key in ("arrays", "class_names")}}


def _say_differences(before: dict[str, Any], record: dict[str, Any], console: Console) -> None:
    """One line; the run goes on, since moving to another machine is what a run folder is for."""
    lines = differences(before, record)
    if lines:
        console.say(f"other machine or versions than at the last start, so not bit for bit: {'; '.join(lines)}")


def _describe(record: dict[str, Any], state: TrainState, training: Training, console: Console) -> None:
    for module, count in summary_table(state.params):
        console.say(f"  {module:<32} {count:>12,}")
    console.say(f"  {'parameters':<32} {record['num_parameters']:>12,}")
    source, settings = training.source, training.settings
    if training.mesh.size > 1:
        for line in table(state, training.mesh, settings.batch_size):
            console.say(line)
    sizes = ", ".join(f"{source.num_examples(split):,} {split}" for split in source.splits)
    console.say(f"{sizes} examples" + (f" in {len(names)} classes" if (names := source.spec.class_names) else ""))
    for note in [*pipeline.notes(source), *training.task.notes(source.spec)]:
        console.say(note)
    flops = "" if training.flops_per_example is None else f", {training.flops_per_example / 1e9:,.2f} GFLOP per example"
    epochs = settings.num_steps / settings.steps_per_epoch
    console.say(f"{settings.num_steps:,} steps of {settings.batch_size} ({epochs:.1f} epochs){flops}")


def default_workdir(config_file: str) -> Path:
    """`configs/modelnet40.py:paper,tiny` -> `runs/modelnet40-paper-tiny`."""
    file, _, variants = config_file.partition(":")
    return RUNS / "-".join([Path(file).stem, *filter(None, variants.split(","))])


def chosen(workdir: str, runs: Path = RUNS) -> Path:
    """The run folder that a command was told, or the newest one under `runs`, which is then named on the terminal.

    Raises:
        ConfigError: it is not a run folder, or there is none.
    """
    if workdir:
        folder = Path(workdir)
        if not (folder / "config.json").is_file():
            raise ConfigError(
                f"{folder} is not a run folder: it has no config.json. Name what main was given as --workdir."
            )
        return folder
    found = [file.parent for file in runs.glob("*/config.json")]
    if not found:
        raise ConfigError(
            f"--workdir is missing and there is no run in {runs}/. Train one: python -m perceiver_jax.main."
        )
    newest = max(found, key=_last_written)
    print(f"run: {newest} (the newest; --workdir names another)")
    return newest


def read_files(folder: Path) -> RunFiles:
    """What the run holds, to be put beside others."""
    config, record = (configs.load(folder / name) for name in ("config.json", "run.json"))
    return comparison.read(folder, configs.flat(config), record)


def _last_written(run: Path) -> float:
    return max((run / name).stat().st_mtime for name in ("config.json", "metrics.jsonl") if (run / name).exists())
