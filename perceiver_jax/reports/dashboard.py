# SPDX-License-Identifier: Apache-2.0
"""How a training went, from its metrics: `figures/dashboard.png`, and the same to click, `figures/dashboard.html`.

Row 1: score and loss over epochs, what is known now. Row 2: the gap between train and held out with a verdict, the
rolling mean, five metrics. Row 3: tables. With --enhanced_attention a row on how attention evolved.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.errors import ConfigError
from perceiver_jax.figures import canvas
from perceiver_jax.figures.dashboard import draw
from perceiver_jax.figures.dashboard_page import page
from perceiver_jax.figures.panels import BLUE, GREEN, ORANGE, Bars, Dashboard, Line, Note, Panel, Table
from perceiver_jax.files import write_all
from perceiver_jax.metrics import progress
from perceiver_jax.reports.attention_curves import attention_panels
from perceiver_jax.reports.curves import Curve, Curves, read_curves

WINDOW = 5
"""Values of the rolling mean."""
RATES = {"learning_rate": "learning rate", "examples_per_second": "examples per second"}


def write(run: Path, formats: Sequence[str], flags: Any) -> list[Path]:
    """Writes the dashboard of a run.

    Raises:
        ConfigError: the run has no metrics, too few, or none of an epoch that is asked for.
    """
    curves = read_curves(run)
    epochs = chosen_epochs(curves, flags.epochs)
    dashboard = contents(curves, flags.experiment_name or run.resolve().name, epochs)
    if flags.enhanced_attention:
        dashboard = Dashboard(dashboard.title, [*dashboard.rows, attention_panels(run, epochs)])
    figure, folder = draw(dashboard), run / "figures"
    files = {folder / f"dashboard.{kind}": canvas.rendered(figure, kind) for kind in formats}
    return write_all(files | {folder / "dashboard.html": page(dashboard).encode()})


def chosen_epochs(curves: Curves, words: Sequence[str]) -> list[int]:
    """The epochs that --epochs names.

    Raises:
        ConfigError: one is no number, or nothing is recorded at its end.
    """
    known = curves.epochs()
    unknown = [word for word in words if not word.strip().isdecimal() or int(word) not in known]
    if unknown:
        some = ", ".join(map(str, known)) if len(known) <= 20 else f"{known[0]} to {known[-1]}, {len(known)} in all"
        raise ConfigError(
            f"--epochs={','.join(words)}: nothing is recorded of {', '.join(unknown)}; there are {some or 'none'}."
        )
    return sorted({int(word) for word in words})


def contents(curves: Curves, title: str, epochs: Sequence[int] = ()) -> Dashboard:
    """What the dashboard of these curves shows, with lines at `epochs`."""
    rows = [
        [_scores(curves, epochs), _losses(curves, epochs), _now(curves)],
        [_gap(curves), _rolling(curves), _five(curves)],
        [_summary(curves)],
    ]
    return Dashboard(title, rows + ([[_at_epochs(curves, epochs)]] if epochs else []))


def _both(curves: Curves, metric: str, **look: Any) -> list[Line]:
    """Train and held out, those that there are."""
    found = {"train": curves.train(metric), curves.held_out: curves.other(metric)}
    looks = ({"color": BLUE}, {"color": ORANGE, "dashes": "dashed", "marks": True})
    pairs = zip(found.items(), looks, strict=True)
    return [Line(label=name, x=c.x, y=c.y, **own, **look) for (name, c), own in pairs if len(c.x)]


def _scores(curves: Curves, epochs: Sequence[int]) -> Panel:
    """The score with its trends; in a run without one another metric of its task, or else the learning rate."""
    score = curves.score()
    if not score:
        metric = curves.of_task() or "learning_rate"
        return Panel(title=_name(metric), x_label=curves.unit, lines=_both(curves, metric), rules=_rules(epochs))
    lines = _both(curves, score)
    trends = [(line, progress.trend(line.x, line.y)) for line in lines]
    lines += [
        Line(label=f"{line.label}, trend", x=line.x, y=y, color=line.color, dashes="dotted", explains=True)
        for line, y in trends
        if y is not None
    ]
    title = f"{_name(score)} with polynomial trends"
    return Panel(
        title=title, x_label=curves.unit, lines=lines, notes=_best(curves, score), rules=_rules(epochs), percent=True
    )


def _losses(curves: Curves, epochs: Sequence[int]) -> Panel:
    lines, rate = _both(curves, "loss"), curves.train("learning_rate")
    drops = [(float(rate.x[k]), f"rate {rate.y[k]:.2g}") for k in progress.rate_drops(rate.y)]
    log = progress.wants_log(*(line.y for line in lines))
    title = "Loss, logarithmic" if log else "Loss"
    return Panel(
        title=title,
        x_label=curves.unit,
        lines=lines,
        notes=_best(curves, "loss"),
        rules=[*_rules(epochs), *drops],
        log=log,
    )


def _best(curves: Curves, metric: str) -> list[Note]:
    """The best and the last value, held out where it was measured."""
    curve = (curves.other(metric) if len(curves.other(metric).x) else curves.train(metric)).real()
    if not len(curve.x):
        return []
    best = _place_of_best(curve, metric)
    last = len(curve.x) - 1
    notes = {best: "best", last: "last"} if best != last else {last: "best and last"}
    return [Note(curve.x[k], curve.y[k], f"{word}: {_value(metric, curve.y[k])}") for k, word in notes.items()]


def _rules(epochs: Sequence[int]) -> list[tuple[float, str]]:
    return [(float(epoch), f"epoch {epoch}") for epoch in epochs]


def _gap(curves: Curves) -> Panel:
    """Train minus held out, and what it means."""
    score = curves.score()
    metric = score if score and len(curves.train(score).x) and len(curves.other(score).x) else "loss"
    train, other = curves.train(metric), curves.other(metric).real()
    at = train.at(other.x)
    fit = progress.fit_by_loss if metric == "loss" else progress.fit_by_score
    verdict = fit(at, other.y)
    line = Line(label=f"train - {curves.held_out or 'held out'}", x=other.x, y=at - other.y, color=GREEN, marks=True)
    percent = metric != "loss"
    return Panel(
        title=f"Gap in {_name(metric).lower()}: {verdict.word}",
        x_label=f"{curves.unit}\n{verdict.reason}",
        lines=[line] if len(other.x) else [],
        percent=percent,
        zero=True,
    )


def _rolling(curves: Curves) -> Panel:
    metric = curves.score() or "loss"
    lines = []
    for line in _both(curves, metric):
        mean, low, high = progress.rolling(line.y, WINDOW)
        lines.append(Line(label=line.label, x=line.x, y=mean, color=line.color, dashes=line.dashes, band=(low, high)))
    title = f"{_name(metric)}: mean of the last {WINDOW} values, 95 % band"
    return Panel(title=title, x_label=curves.unit, lines=lines, percent=metric != "loss")


def _five(curves: Curves) -> Bars:
    """Of the last value in each epoch; NaN where nothing was measured, or the score is no fraction."""
    held, losses = curves.other(curves.score()).real().per_epoch().y, curves.other("loss").real().per_epoch().y
    train = curves.train(curves.score()).real().y
    last = [float(values[-1]) if len(values) else math.nan for values in (train, held)]
    return Bars(
        f"Metrics ({curves.held_out or 'nothing held out'}, not clipped)",
        {
            "Stability\n1 - std(last 10 epochs)": progress.stability(held),
            "Convergence\n1 - |loss - loss before|": progress.convergence(losses),
            "Generalization\n1 - |train - held out|": progress.generalization(*last),
            "Improvement\nlast - first": progress.improvement(held),
            "Overfitting\nmax(0, train - held out)": progress.overfitting(*last),
        },
    )


def _now(curves: Curves) -> Table:
    """The latest of everything."""
    rows = [("step", f"{curves.last_step:,}")]
    for metric in dict.fromkeys(["loss", curves.score()]):
        for split in ("train", curves.held_out):
            curve = curves.by_name.get(f"{split}/{metric}")
            if metric and curve is not None:
                rows.append((f"{split} {_name(metric).lower()}", _value(metric, curve.y[-1])))
    rows += [(words, f"{curve.y[-1]:,.4g}") for name, words in RATES.items() if len((curve := curves.train(name)).x)]
    rows.append(("since the first line", _duration(curves.seconds)))
    rows += [(f"not finite in {name}", f"{count} values") for name, count in _not_finite(curves).items()]
    return Table("Statistics at the last line", (), rows)


def _not_finite(curves: Curves) -> dict[str, int]:
    counts = {name: int((~np.isfinite(curve.y)).sum()) for name, curve in curves.by_name.items()}
    return {name: count for name, count in counts.items() if count}


def _summary(curves: Curves) -> Table:
    """Best, first and last of each split."""
    metrics = [name for name in (curves.score(), "loss") if name]
    words = {"loss": "least loss"} | {name: f"best {_name(name).lower()}" for name in metrics if name != "loss"}
    head = ["", *(word for name in metrics for word in (words[name], "at", "first", "last")), "values"]
    rows = []
    for split, of in (("train", curves.train), (curves.held_out, curves.other)):
        if count := max(len(of(name).x) for name in metrics):
            cells = [cell for name in metrics for cell in _cells(of(name).real(), name, curves.unit)]
            rows.append([split, *cells, str(count)])
    return Table("Summary", head, rows)


def _cells(curve: Curve, metric: str, unit: str) -> list[str]:
    """The best value, when it was, the first and the last."""
    if not len(curve.x):
        return ["-"] * 4
    best = _place_of_best(curve, metric)
    return [_value(metric, curve.y[best]), f"{unit} {curve.x[best]:g}", *(_value(metric, curve.y[k]) for k in (0, -1))]


def _place_of_best(curve: Curve, metric: str) -> int:
    return int(np.argmin(curve.y) if metric == "loss" else np.argmax(curve.y))


def _at_epochs(curves: Curves, epochs: Sequence[int]) -> Table:
    """A row for each epoch that was asked for."""
    metrics = [name for name in (curves.score(), "loss") if name]
    head = ["epoch", *(f"{split} {_name(m).lower()}" for m in metrics for split in ("train", curves.held_out))]
    at = np.asarray(epochs, float)
    columns = [[_value(m, y) for y in curve.at(at)] for m in metrics for curve in (curves.train(m), curves.other(m))]
    return Table(
        "At the chosen epochs", head, [[f"{epoch}", *cells] for epoch, *cells in zip(epochs, *columns, strict=True)]
    )


def _name(metric: str) -> str:
    return metric.replace("_", " ").capitalize()


def _value(metric: str, value: float) -> str:
    return f"{value:.4g}" if metric == "loss" else f"{100 * value:.2f} %"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
