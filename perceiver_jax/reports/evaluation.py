# SPDX-License-Identifier: Apache-2.0
"""The report of an evaluation: figures, and one page with numbers, mistakes, the config and how to get there again."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.figures import canvas, confidence, confusion, images
from perceiver_jax.reports import page
from perceiver_jax.reports.analysis import Predictions
from perceiver_jax.reports.examples import Example

FIGURES = {
    "confusion_matrix": "Confusion matrix: rows the true class, columns the predicted one",
    "confidence_histogram": "How many examples have which confidence",
    "confidence_analysis": "Accuracy by confidence",
}
NAME = "report.html"
SCORES = ("precision", "recall", "f1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What the report is made of.

    Attributes:
        title: names run and split.
        results: as in results.json, the analysis included.
        class_names: of the rows of the confusion matrix.
        examples: the most confident mistakes, in the order of `results["mistakes"]`.
        config, record: of the run (`config.json`, `run.json`).
        command: that evaluated it.
    """

    title: str
    results: Mapping[str, Any]
    predictions: Predictions
    class_names: Sequence[str]
    examples: Sequence[Example]
    config: Mapping[str, Any]
    record: Mapping[str, Any]
    command: str


def write(folder: Path, report: Report, formats: Sequence[str]) -> None:
    """Writes the three figures, each in all formats, and `report.html`, which has them in it."""
    pictures = {name: _files(folder, name, figure, formats) for name, figure in _figures(report).items()}
    (folder / NAME).write_text(page.page(report.title, _sections(report, pictures)), encoding="utf-8")


def _files(folder: Path, name: str, figure: Any, formats: Sequence[str]) -> bytes:
    """Writes a figure and returns it as PNG."""
    files = {kind: canvas.rendered(figure, kind) for kind in {*formats, "png"}}
    for kind in formats:
        (folder / f"{name}.{kind}").write_bytes(files[kind])
    return files["png"]


def _figures(report: Report) -> dict[str, Any]:
    results, predictions = report.results, report.predictions
    sure, correct = predictions.confidence, predictions.correct
    return {
        "confusion_matrix": confusion.figure(np.asarray(results["confusion"]), report.class_names),
        "confidence_histogram": confidence.histogram(sure, correct),
        "confidence_analysis": confidence.analysis(sure, correct, results["calibration"], results["ece"]),
    }


def _sections(report: Report, pictures: Mapping[str, bytes]) -> list[tuple[str, str]]:
    results = report.results
    figures = {name: page.picture(png, FIGURES[name]) for name, png in pictures.items()}
    return [
        ("Numbers", _numbers(results)),
        ("Confusions", figures["confusion_matrix"] + _confused(results)),
        ("Confidence", figures["confidence_histogram"] + figures["confidence_analysis"] + _calibration(results)),
        ("Most confident mistakes", page.cards(map(_card, report.examples, results["mistakes"]))),
        ("Classes", _classes(results)),
        ("On perturbed data", _perturbed(results.get("perturb", {}))),
        ("How to reproduce it", _reproduction(report)),
        (
            "Config",
            page.listing(json.dumps(report.config, indent=1, ensure_ascii=False), folded="every resolved value"),
        ),
    ]


def _numbers(results: Mapping[str, Any]) -> str:
    shares = ("accuracy", "ece", "mce", "recall", "precision", "f1", "mean_confidence")
    rows = [
        (name.replace("_", " "), f"{100 * value:.2f} %" if name.endswith(shares) else f"{value:.4f}")
        for name, value in results.items()
        if isinstance(value, float)
    ]
    where = f"{results['num_examples']:,} examples of split {results['split']}, checkpoint of step {results['step']:,}."
    return page.paragraph(where) + page.table(("score", "value"), rows)


def _confused(results: Mapping[str, Any]) -> str:
    rows = [
        (pair["true"], pair["predicted"], pair["count"], f"{100 * pair['share']:.1f} %")
        for pair in results["most_confused"]
    ]
    return page.table(("most confused: true class", "predicted", "examples", "of the true class"), rows)


def _calibration(results: Mapping[str, Any]) -> str:
    rows = [
        (
            f"{100 * row['low']:.1f} - {100 * row['high']:.1f} %",
            f"{row['count']:,}",
            f"{100 * row['confidence']:.2f} %",
            f"{100 * row['accuracy']:.2f} %",
        )
        for row in results["calibration"]
        if row["count"]
    ]
    return page.table(("confidence", "examples", "mean confidence", "accuracy"), rows)


def _card(example: Example, mistake: Mapping[str, Any]) -> tuple[str, str]:
    caption = (
        f"{100 * mistake['confidence']:.1f} % sure of {mistake['predicted']}; "
        f"it is {mistake['true']} (example {mistake['id']})"
    )
    if example.text is not None:
        return page.passage(example.text), caption
    return page.picture(images.png(example.picture), caption) if example.picture is not None else "", caption


def _classes(results: Mapping[str, Any]) -> str:
    rows = [
        (f"{name} (#{k})", *(f"{100 * scores[key]:.1f} %" for key in SCORES), f"{scores['support']:,}")
        for k, (name, scores) in enumerate(results["per_class"].items())
    ]
    return page.table(("class", *SCORES, "examples"), rows)


def _perturbed(perturb: Mapping[str, Any]) -> str:
    rows = [
        (kind.replace("_", " "), strength, f"{100 * accuracy:.2f} %")
        for kind, scores in perturb.get("accuracy", {}).items()
        for strength, accuracy in scores.items()
    ]
    return page.table(("perturbation", "strength", "accuracy"), rows)


def _reproduction(report: Report) -> str:
    record = report.record
    commit = record.get("git") or ""
    lines = [f"git checkout {commit.removesuffix('-dirty')}", "pip install -r requirements.txt"] if commit else []
    shown = page.listing("\n".join([*lines, str(record.get("command", "")), report.command]))
    if commit.endswith("-dirty"):
        shown += page.paragraph("The code had changes that were not committed.")
    facts = {name: record.get(name, "") for name in ("started", "git", "python", "machine", "processor", "devices")}
    facts |= record.get("versions") or {}
    rows = [(name, ", ".join(map(str, v.values())) if isinstance(v, Mapping) else v) for name, v in facts.items()]
    return shown + page.table(("trained with", ""), rows, words=True)
