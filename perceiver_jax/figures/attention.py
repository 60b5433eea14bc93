# SPDX-License-Identifier: Apache-2.0
"""Figures of attention maps: six panels on one epoch, and how maps evolve over epochs; arrays in, Figure out.

Maps are relative: 1 is what each input would get if all got the same. What is compared has the same colour scale.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from perceiver_jax.figures import canvas

COLORMAPS = {
    "viridis": "general analysis; perceptually uniform, also for colour-blind readers and in grey",
    "plasma": "to highlight peaks; high contrast",
    "inferno": "values of a wide range; good for print",
    "jet": "the classic picture; most contrast, but it shows edges where there are none",
    "hot": "heat maps; temperature by intuition",
    "cool": "detailed analysis; calm tones",
    "seismic": "bipolar data: red is more, blue less than an even spread, which is white",
}
DIVERGING = "seismic"
SCALE = "attention (1 = evenly spread)"
PEAKS_MARKED = 12
LONGEST_TITLE = 26
MOST_TICKS = 8
BINS, LINEAR = 30, 50  # of the distribution, and the most inputs in a bin for which its axis is linear


@dataclasses.dataclass(frozen=True)
class Look:
    """Colormap, opacity of overlays, and where the colour scale ends: larger values have the colour of its end."""

    colormap: str
    alpha: float
    top: float

    def colours(self) -> dict[str, Any]:
        """Arguments of Matplotlib."""
        from matplotlib.colors import Normalize, TwoSlopeNorm

        top = max(self.top, 1.001)
        norm = TwoSlopeNorm(1.0, 0.0, top) if self.colormap == DIVERGING else Normalize(0.0, top)
        return {"cmap": self.colormap, "norm": norm}


def comprehensive(
    view: Any,
    maps: np.ndarray,
    peaks: np.ndarray,
    statistics: Mapping[str, np.ndarray],
    titles: Sequence[str],
    predicted: Sequence[str],
    *,
    heading: str,
    look: Look,
) -> Any:
    """Original, attention, overlay; statistics, distribution, peaks.

    Args:
        view: draws example k (`attention_views`).
        maps: (examples, inputs), relative; NaN where there is no input.
        peaks: (examples, inputs), which are peaks.
        statistics: name -> one number an example.
        predicted: what the model takes each example for, with how much confidence.
    """
    figure = canvas.new(16.0, 10.5)
    figure.suptitle(heading, fontsize=12, parse_math=False)
    panels = figure.subfigures(2, 3, wspace=0.02, hspace=0.02).ravel()
    colours = look.colours()
    _cells(panels[0], view, titles, lambda axes, k: view.original(axes, k), f"Original{view.note}")
    drawn = _cells(panels[1], view, titles, lambda axes, k: view.heat(axes, k, maps[k], **colours), "Attention")
    _colorbar(panels[1], drawn)
    drawn = _cells(
        panels[2], view, titles, lambda axes, k: view.overlay(axes, k, maps[k], look.alpha, **colours), "Overlay"
    )
    _colorbar(panels[2], drawn)
    _table(panels[3], statistics, titles, predicted)
    _distribution(panels[4], maps, titles)
    highest = [_highest(maps[k], peaks[k]) for k in range(len(maps))]
    marked = f"Peaks: more than 2 standard deviations above the mean, at most {PEAKS_MARKED}"
    _cells(panels[5], view, titles, lambda axes, k: view.peaks(axes, k, highest[k]), marked)
    return figure


def evolution(
    view: Any,
    maps: Mapping[float, np.ndarray],
    statistics: Mapping[float, Mapping[str, np.ndarray]],
    titles: Sequence[str],
    *,
    heading: str,
    look: Look,
) -> Any:
    """A row for each example: as it is, then its overlay at each epoch; below, the statistics over epochs.

    Args:
        maps: epoch -> (examples, inputs), as in `comprehensive`, in ascending order.
        statistics: epoch -> name -> one number an example.
    """
    epochs = _some(list(maps), view.most_epochs)
    width, height = view.cell
    rows, columns = len(titles), len(epochs) + 1
    size = max(columns * width + 1.0, 9.0), rows * height + 4.0
    figure = canvas.new(*size)
    figure.suptitle(heading, fontsize=12, parse_math=False)
    top, bottom = figure.subfigures(2, 1, height_ratios=[rows * height + 0.6, 3.0])
    grid = top.subplots(rows, columns, squeeze=False)
    colours, drawn = look.colours(), None
    for k in range(rows):
        view.original(grid[k, 0], k)
        grid[k, 0].set_title(_short(titles[k]), fontsize=8, parse_math=False)
        for column, epoch in enumerate(epochs, 1):
            drawn = view.overlay(grid[k, column], k, maps[epoch][k], look.alpha, **colours)
            if k == 0:
                grid[k, column].set_title(f"epoch {epoch_name(epoch)}", fontsize=9)
    top.colorbar(drawn, ax=grid, fraction=0.02, pad=0.01, extend="max", label=SCALE)
    _trends(bottom, statistics, titles)
    return figure


TRENDS = {
    "entropy_share": "entropy, share of the greatest",
    "std_relative": "standard deviation (of 1 = evenly spread)",
    "on_object": "share of attention on the object",
}


def _trends(figure: Any, statistics: Mapping[float, Mapping[str, np.ndarray]], titles: Sequence[str]) -> None:
    epochs = list(statistics)
    names = [name for name in TRENDS if name in statistics[epochs[0]]]
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        values = np.asarray([statistics[epoch][name] for epoch in epochs])
        for k, style in zip(range(values.shape[1]), canvas.line_styles(), strict=False):
            axes.plot(epochs, values[:, k], linewidth=0.9, alpha=0.7, label=_short(titles[k]), **style)
        axes.plot(epochs, values.mean(1), color="black", linewidth=2.2, marker="o", markersize=4, label="mean")
        if name == "on_object":
            even = statistics[epochs[0]]["object_share"].mean()
            axes.axhline(even, color="0.5", linestyle=":", label="evenly spread")
        axes.set_xlabel("epoch", fontsize=9)
        axes.set_title(TRENDS[name], fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if len(epochs) <= MOST_TICKS:
            axes.set_xticks(epochs, [epoch_name(epoch) for epoch in epochs])
        axes.margins(y=0.15)
    axes.legend(fontsize=6.5, loc="center left", bbox_to_anchor=(1.01, 0.5))


def _cells(figure: Any, view: Any, titles: Sequence[str], draw: Any, title: str) -> Any:
    """One cell an example; returns what the last one drew."""
    count = len(titles)
    columns = min(view.columns, count)
    grid = figure.subplots(-(-count // columns), columns, squeeze=False).ravel()
    figure.suptitle(title, fontsize=10)
    drawn = None
    for k, axes in enumerate(grid):
        if k < count:
            drawn = draw(axes, k)
            axes.set_title(_short(titles[k]), fontsize=7.5, pad=2, parse_math=False)
        else:
            axes.set_axis_off()
    return drawn


def _colorbar(figure: Any, drawn: Any) -> None:
    bar = figure.colorbar(drawn, ax=figure.axes, fraction=0.035, pad=0.02, extend="max")
    bar.set_label(SCALE, fontsize=8)
    bar.ax.tick_params(labelsize=7)


COLUMNS = {
    "mean": ("mean", "{:.2g}"),
    "std": ("std. dev.", "{:.2g}"),
    "entropy": ("entropy\n(nats)", "{:.2f}"),
    "entropy_share": ("of the\ngreatest", "{:.1%}"),
    "peaks": ("peaks", "{:.0f}"),
    "on_object": ("on\nobject", "{:.1%}"),
    "object_share": ("object's\nsize", "{:.1%}"),
}


def _table(figure: Any, statistics: Mapping[str, np.ndarray], titles: Sequence[str], predicted: Sequence[str]) -> None:
    axes = figure.subplots()
    axes.set_axis_off()
    figure.suptitle("Statistics", fontsize=10)
    shown = {name: column for name, column in COLUMNS.items() if name in statistics}
    rows = [
        [_short(title, 14), _short(guess, 18), *(form.format(statistics[name][k]) for name, (_, form) in shown.items())]
        for k, (title, guess) in enumerate(zip(titles, predicted, strict=True))
    ]
    rows.append(["all", "", *(form.format(statistics[name].mean()) for name, (_, form) in shown.items())])
    table = axes.table(
        rows,
        colLabels=["class", "predicted", *(head for head, _ in shown.values())],
        loc="upper center",
        cellLoc="center",
        edges="horizontal",
    )
    table.auto_set_font_size(False)
    table.set_fontsize(7.5)
    table.auto_set_column_width(list(range(len(shown) + 2)))
    for (row, _), cell in table.get_celld().items():
        cell.set_height(0.13 if row == 0 else 0.085)
        cell.get_text().set_parse_math(False)


def _distribution(figure: Any, maps: np.ndarray, titles: Sequence[str]) -> None:
    axes = figure.subplots()
    figure.suptitle("Distribution", fontsize=10)
    bins, most = np.linspace(0, np.nanmax(maps), BINS + 1), 0
    for k, style in zip(range(len(maps)), canvas.line_styles(), strict=False):
        real = maps[k][np.isfinite(maps[k])]
        counts, *_ = axes.hist(real, bins, histtype="step", linewidth=1.2, label=_short(titles[k]), **style)
        most = max(most, counts.max())
    axes.axvline(1, color="0.5", linewidth=1, linestyle=":", label="evenly spread")
    if most > LINEAR:
        axes.set_yscale("log")
    axes.set_xlabel(SCALE, fontsize=9)
    axes.set_ylabel("inputs", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=7)


def epoch_name(epoch: float) -> str:
    """With up to two decimals."""
    return f"{epoch:.2f}".rstrip("0").rstrip(".")


def _highest(values: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    places = np.flatnonzero(peaks)
    return places[np.argsort(-values[places])][:PEAKS_MARKED]


def _some(epochs: list[float], most: int) -> list[float]:
    """As many as there is room for, evenly spread, the first and the last among them."""
    if len(epochs) <= most:
        return epochs
    return [epochs[i] for i in np.linspace(0, len(epochs) - 1, most).round().astype(int)]


def _short(title: str, length: int = LONGEST_TITLE) -> str:
    return title if len(title) <= length else title[: length - 1] + "…"
