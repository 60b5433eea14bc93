# SPDX-License-Identifier: Apache-2.0
"""A dashboard on paper: plain values (`figures/panels.py`) in, a matplotlib figure out."""

from typing import Any

import numpy as np

from perceiver_jax.figures import canvas
from perceiver_jax.figures.lettering import lettered
from perceiver_jax.figures.panels import BLUE, GREY, Bars, Dashboard, Line, Panel, Table

WIDTH, HEIGHT, ROW = 17.0, 4.2, 0.32  # inches: of the page, of a row of panels, of a row of a table
DASHES = {"solid": "-", "dashed": "--", "dotted": ":"}
OFFSETS = ((10, 22), (10, -26), (-12, 34), (-12, -38))
"""Where the names of points stand, in turn, so that neighbours do not cover each other; in points."""


def draw(dashboard: Dashboard) -> Any:
    """The figure, to be saved by `savefig`."""
    heights = [_height(row) for row in dashboard.rows]
    figure = canvas.new(WIDTH, sum(heights) + 0.6)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    with lettered(dashboard.title.split()) as words:
        figure.suptitle(" ".join(words), fontsize=15, fontweight="bold", parse_math=False)
    bands = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for band, row in zip(bands, dashboard.rows, strict=True):
        for axes, part in zip(band.subplots(1, len(row), squeeze=False)[0], row, strict=True):
            axes.set_title(part.title, fontsize=11, fontweight="bold", parse_math=False)
            DRAW[type(part)](axes, part)
    return figure


def _height(row) -> float:
    if all(isinstance(part, Table) for part in row):
        return max(len(part.rows) + 1 for part in row) * ROW + 0.5
    return HEIGHT


def _panel(axes, panel: Panel) -> None:
    for x, word in panel.rules:
        axes.axvline(x, color=GREY, linewidth=0.8, linestyle=":")
        axes.annotate(
            word,
            (x, 1),
            xycoords=("data", "axes fraction"),
            xytext=(2, -2),
            textcoords="offset points",
            fontsize=7,
            color=GREY,
            va="top",
            rotation=90,
        )
    if panel.zero:
        axes.axhline(0, color=GREY, linewidth=0.8)
    if panel.log:
        axes.set_yscale("log")
    for line in panel.lines:
        _line(axes, line)
    for note, offset in zip(panel.notes, OFFSETS * len(panel.notes), strict=False):
        _note(axes, note, offset)
    if panel.percent:
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.grid(alpha=0.25)
    axes.margins(x=0.04, y=0.12)
    if panel.lines:
        axes.legend(fontsize=8, framealpha=0.8)


def _line(axes, line: Line) -> None:
    axes.plot(
        line.x,
        line.y,
        color=line.color,
        linestyle=DASHES[line.dashes],
        marker="o" if line.marks else None,
        markersize=3.5,
        linewidth=1.0 if line.explains else 1.8,
        alpha=0.7 if line.explains else 1.0,
        label=line.label,
    )
    if line.band is not None:
        axes.fill_between(line.x, *line.band, color=line.color, alpha=0.18, linewidth=0)


def _note(axes, note, offset: tuple[int, int]) -> None:
    axes.plot([note.x], [note.y], marker="o", markersize=7, markerfacecolor="none", markeredgecolor="black")
    right = note.x > np.mean(axes.get_xlim())  # text goes towards the middle
    axes.annotate(
        note.text,
        (note.x, note.y),
        xytext=(-abs(offset[0]) if right else abs(offset[0]), offset[1]),
        textcoords="offset points",
        ha="right" if right else "left",
        fontsize=8,
        arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.7},
        bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "alpha": 0.8, "linewidth": 0},
        parse_math=False,
    )


def _bars(axes, bars: Bars) -> None:
    names, values = list(bars.values), np.asarray(list(bars.values.values()), float)
    places = np.arange(len(names))[::-1]
    axes.barh(places, np.nan_to_num(values), color=BLUE, alpha=0.75, height=0.6)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(places, names, fontsize=9)
    low, high = min(0.0, np.nanmin(values, initial=0)), max(1.0, np.nanmax(values, initial=1))
    axes.set_xlim(low - 0.02 * (high - low), high + 0.22 * (high - low))
    for place, value in zip(places, values, strict=True):
        text = "not known" if np.isnan(value) else f"{value:.4f}"
        end = (max(np.nan_to_num(value), 0), place)
        axes.annotate(text, end, xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.grid(axis="x", alpha=0.25)


def _table(axes, table: Table) -> None:
    axes.axis("off")
    rows = [list(row) for row in table.rows]
    place = {"loc": "upper center", "cellLoc": "left"}
    drawn = axes.table(rows, colLabels=list(table.head) or None, bbox=(0, 0, 1, 1), **place)
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(9)
    drawn.auto_set_column_width(range(len(rows[0])))
    for (row, column), cell in drawn.get_celld().items():
        cell.set_edgecolor("#dddddd")
        cell.get_text().set_parse_math(False)
        if (table.head and row == 0) or (not table.head and column == 0):
            cell.set_facecolor("#f0f0f0")
            cell.get_text().set_fontweight("bold")


DRAW = {Panel: _panel, Bars: _bars, Table: _table}
