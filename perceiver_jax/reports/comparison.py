# SPDX-License-Identifier: Apache-2.0
"""Several runs side by side: what differs between their configs, their scores, their curves.

Runs whose configs differ in nothing but the seed are one group, with the mean and the standard deviation over them.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from perceiver_jax.errors import ConfigError
from perceiver_jax.figures import canvas, curves
from perceiver_jax.files import read_json
from perceiver_jax.metrics.history import history
from perceiver_jax.reports import page

SHOWN = 30  # differences on the terminal
WORDS = {True: ("best", max), False: ("lowest", min)}


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """What a run folder holds.

    Attributes:
        config: flat, dotted key -> value.
        lines: of metrics.jsonl.
        test: the newest results on the test split, if there are any.
    """

    folder: Path
    config: Mapping[str, Any]
    record: Mapping[str, Any]
    lines: Sequence[Mapping[str, float]]
    test: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of one config, which differ in their seeds."""

    name: str
    runs: tuple[RunFiles, ...]

    @property
    def config(self) -> Mapping[str, Any]:
        """Of the first."""
        return self.runs[0].config


def read(folder: Path, config: Mapping[str, Any], record: Mapping[str, Any]) -> RunFiles:
    """Reads what a run folder holds beside its config, flat, and its record.

    Raises:
        ConfigError: nothing was logged in it yet.
    """
    lines = history(folder)
    if not lines:
        raise ConfigError(f"{folder} has no metrics yet. Train it first, or leave it out.")
    found = sorted(folder.glob("evaluation/test-*/results.json"), key=os.path.getmtime)
    return RunFiles(folder, config, record, lines, read_json(found[-1]) if found else {})


def grouped(runs: Sequence[RunFiles], ignored: Callable[[str], bool]) -> list[Group]:
    """Groups in the order of their first run, named by what their folders' names begin with alike.

    Args:
        ignored: of a config's key: a difference in it makes no other group.
    """
    by_config: dict[str, list[RunFiles]] = {}
    for run in runs:
        kept = {key: value for key, value in sorted(run.config.items()) if not ignored(key)}
        by_config.setdefault(json.dumps(kept), []).append(run)
    names = [_name(group) for group in by_config.values()]
    full = [", ".join(run.folder.name for run in group) for group in by_config.values()]
    names = [whole if names.count(name) > 1 else name for name, whole in zip(names, full, strict=True)]
    return [Group(name, tuple(group)) for name, group in zip(names, by_config.values(), strict=True)]


def _name(group: Sequence[RunFiles]) -> str:
    common = os.path.commonprefix([run.folder.name for run in group])
    if len(group) == 1:
        return common
    return f"{common.rstrip('-_. ') or group[0].folder.name} ({len(group)} seeds)"


def differences(groups: Sequence[Group], ignored: Callable[[str], bool]) -> dict[str, list[Any]]:
    """Key -> its value in each group, for keys whose values differ; "-" where a config lacks the key."""
    keys = sorted({key for group in groups for key in group.config if not ignored(key)})
    values = {key: [group.config.get(key, "-") for group in groups] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


def scores(group: Group) -> dict[str, list[float]]:
    """Name -> a value for each run that has it: parameters, steps, step time, the monitored metric, test scores."""
    metric, mode = group.config["evaluation.metric"], group.config["evaluation.mode"]
    word, best = WORDS[mode == "max"]
    found: dict[str, list[float]] = {}
    for run in group.runs:
        monitored = _values(run, f"validation/{metric}")[1]
        values = {"parameters": run.record["num_parameters"], "steps": run.lines[-1]["step"]}
        values |= {f"{word} validation {metric}": best(monitored)} if len(monitored) else {}
        times = [line["train/step_time_p50"] for line in run.lines if "train/step_time_p50" in line]
        values |= {"step time (ms)": 1000 * float(np.median(times))} if times else {}
        values |= {f"test {name}": value for name, value in run.test.items() if isinstance(value, float)}
        for name, value in values.items():
            found.setdefault(name, []).append(float(value))
    return found


def _values(run: RunFiles, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and values of a metric."""
    rows = [(line["step"] / run.record["steps_per_epoch"], line[name]) for line in run.lines if name in line]
    epochs, values = np.asarray(rows, float).reshape(-1, 2).T
    return epochs, values


def text(name: str, values: Sequence[float]) -> str:
    """A score as mean ± standard deviation (of a sample), accuracies in per cent."""
    if name in ("parameters", "steps"):
        return " / ".join(f"{value:,.0f}" for value in dict.fromkeys(values))
    factor, digits, unit = (100, 2, " %") if name.endswith("accuracy") else (1, 4, "")
    mean = f"{factor * np.mean(values):.{digits}f}"
    spread = f" ± {factor * np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{mean}{spread}{unit}"


def tables(groups: Sequence[Group], differing: Mapping[str, Sequence[Any]]) -> dict[str, tuple[list[str], list[list]]]:
    """Title -> headers and rows: the configs first."""
    names = [group.name for group in groups]
    all_scores = [scores(group) for group in groups]
    rows = [
        [name, *(text(name, found[name]) if name in found else "-" for found in all_scores)]
        for name in dict.fromkeys(name for found in all_scores for name in found)
    ]
    changed = [[key, *map(_shown, values)] for key, values in differing.items()]
    return {"differences": (["config", *names], changed), "scores": (["score", *names], rows)}


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def show(found: Mapping[str, tuple[list[str], list[list]]], file: str = "comparison.html") -> None:
    """The tables on the terminal; all rows are in the file."""
    console = Console(highlight=False, markup=False)
    for title, (headers, rows) in found.items():
        table = Table(box=SIMPLE_HEAD)
        for header in headers:
            table.add_column(header, overflow="fold")
        for row in rows[:SHOWN]:
            table.add_row(*row)
        console.print(table if rows else f"no {title}: the configs are alike but for their seeds")
        if len(rows) > SHOWN:
            console.print(f"and {len(rows) - SHOWN} more {title} in {file}")


def figure(groups: Sequence[Group]) -> Any:
    """Curves over epochs: loss in training, loss and the monitored metric in validation."""
    metric = groups[0].config["evaluation.metric"]
    names = dict.fromkeys(["train/loss", "validation/loss", f"validation/{metric}"])
    panels = {name.replace("/", " "): [_curve(group, name) for group in groups] for name in names}
    return curves.figure(panels, [group.name for group in groups], "epoch")


def _curve(group: Group, name: str) -> curves.Curve | None:
    """Mean and standard deviation over the runs that have a value at an epoch."""
    by_epoch: dict[float, list[float]] = {}
    for run in group.runs:
        for epoch, value in zip(*_values(run, name), strict=True):
            by_epoch.setdefault(epoch, []).append(value)
    if not by_epoch:
        return None
    epochs = sorted(by_epoch)
    spread = [np.std(by_epoch[x], ddof=1) if len(by_epoch[x]) > 1 else 0.0 for x in epochs]
    return curves.Curve(np.array(epochs), np.array([np.mean(by_epoch[x]) for x in epochs]), np.array(spread))


def write(
    folder: Path, groups: Sequence[Group], found: Mapping[str, tuple[list[str], list[list]]], formats: Sequence[str]
) -> None:
    """Writes `comparison.html`, one page that is whole in itself, and the figure in all formats."""
    drawn = figure(groups)
    files = {kind: canvas.rendered(drawn, kind) for kind in {*formats, "png"}}
    for kind in formats:
        (folder / f"comparison.{kind}").write_bytes(files[kind])
    (headers, changed), (columns, rows) = found["differences"], found["scores"]
    where = "\n".join(f"{group.name}: {', '.join(str(run.folder) for run in group.runs)}" for group in groups)
    sections = [
        ("What differs between the configs", page.table(headers, changed, words=True)),
        ("Scores", page.table(columns, rows)),
        ("Curves", page.picture(files["png"], "curves of loss and score")),
        ("Runs", page.listing(where)),
    ]
    content = page.page(f"{sum(len(group.runs) for group in groups)} runs", sections)
    (folder / "comparison.html").write_text(content, encoding="utf-8")
