# SPDX-License-Identifier: Apache-2.0
"""The table of an ablation, a row for each variant: as Markdown, CSV and picture, and on the terminal."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from perceiver_jax.figures import ablation, canvas
from perceiver_jax.files import write_all
from perceiver_jax.reports import comparison
from perceiver_jax.reports.comparison import Group, RunFiles

NAME = "ablation"
Scores = dict[str, dict[str, list[float]]]
"""Variant -> score -> a value of each run that has it."""


def write(folder: Path, title: str, runs: Mapping[str, Sequence[RunFiles]], errors: Mapping[str, str]) -> list[Path]:
    """Writes `ablation.md`, `.csv` and `.png`, and prints the table.

    Args:
        runs: variant -> those of its runs that are finished.
        errors: name of a run -> why it failed.
    """
    scores = {name: comparison.scores(Group(name, tuple(some))) if some else {} for name, some in runs.items()}
    counts = {name: len(some) for name, some in runs.items()}
    headers, rows = table(scores, counts)
    columns = [list(column) for column in zip(*rows, strict=True)]  # a terminal is higher than wide
    of_scores = [[header, *column] for header, column in zip(headers, columns, strict=True)]
    comparison.show({"scores": (of_scores[0], of_scores[1:])}, f"{NAME}.md")
    files = {"md": _markdown(title, headers, rows, errors).encode(), "csv": _csv(scores, counts).encode()}
    names = _names(scores)
    if names:
        values = {score: [scores[name].get(score, []) for name in scores] for score in names}
        texts = {score: [row[k] for row in rows] for k, score in enumerate(names, 2)}
        files["png"] = canvas.rendered(ablation.figure(list(scores), values, texts), "png")
    return write_all({folder / f"{NAME}.{kind}": content for kind, content in files.items()})


def table(scores: Scores, counts: Mapping[str, int]) -> tuple[list[str], list[list[str]]]:
    """Headers and rows: variant, number of runs, and mean ± standard deviation of each score."""
    names = _names(scores)
    cells = {
        name: [comparison.text(score, found[score]) if score in found else "-" for score in names]
        for name, found in scores.items()
    }
    return ["variant", "seeds", *names], [[name, str(counts[name]), *cells[name]] for name in scores]


def _names(scores: Scores) -> list[str]:
    return list(dict.fromkeys(name for found in scores.values() for name in found))


def _markdown(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], errors: Mapping[str, str]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (headers, *rows)]
    lines.insert(1, "|---" * len(headers) + "|")
    failed = [f"- {name}: {error}" for name, error in errors.items()]
    return "\n".join([f"# {title}", "", *lines, *(["", "Failed:", "", *failed] if failed else [])]) + "\n"


def _csv(scores: Scores, counts: Mapping[str, int]) -> str:
    """Numbers as they are; a deviation needs two runs."""
    stream, names = io.StringIO(), _names(scores)
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["variant", "seeds", *(f"{name} {kind}" for name in names for kind in ("mean", "std"))])
    for variant, found in scores.items():
        cells = [cell for name in names for cell in _numbers(found.get(name, []))]
        writer.writerow([variant, counts[variant], *cells])
    return stream.getvalue()


def _numbers(values: Sequence[float]) -> tuple[float | str, float | str]:
    mean = float(np.mean(values)) if values else ""
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else ""
