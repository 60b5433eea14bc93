# SPDX-License-Identifier: Apache-2.0
"""Curves of several runs over the same axis, a panel for each quantity."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from perceiver_jax.figures import canvas
from perceiver_jax.figures.lettering import lettered

WIDTH, HEIGHT = 4.6, 3.8  # inches of a panel
LOG_RANGE = 10.0


class Curve(NamedTuple):
    """A mean over seeds and its spread on either side; no spread where there is one seed."""

    x: np.ndarray
    mean: np.ndarray
    spread: np.ndarray


def figure(panels: Mapping[str, Sequence[Curve | None]], names: Sequence[str], x_label: str) -> Any:
    """Panels side by side, a line for each name that has a curve there; a name looks alike in all of them.

    Args:
        panels: title -> a curve for each name.
    """
    looks = [look for look, _ in zip(canvas.line_styles(), names, strict=False)]
    with lettered(names) as labels:
        result = canvas.new(WIDTH * len(panels), HEIGHT + 0.25 * -(-len(names) // 3))
        cells = result.subplots(1, len(panels), squeeze=False)[0]
        for axes, (title, curves) in zip(cells, panels.items(), strict=True):
            axes.set_title(title, fontsize=10)
            axes.set_xlabel(x_label)
            for curve, look in zip(curves, looks, strict=True):
                if curve is not None:
                    _draw(axes, curve, look)
            _scale(axes, [curve.mean for curve in curves if curve is not None])
            axes.grid(color="0.9", linewidth=0.6)
        _legend(result, labels, looks)
    return result


def _draw(axes: Any, curve: Curve, look: dict[str, str]) -> None:
    marker = "o" if len(curve.x) < 15 else None
    axes.plot(curve.x, curve.mean, linewidth=1.5, marker=marker, markersize=3, **look)
    if np.any(curve.spread):
        axes.fill_between(
            curve.x, curve.mean - curve.spread, curve.mean + curve.spread, color=look["color"], alpha=0.15
        )


def _scale(axes: Any, values: Sequence[np.ndarray]) -> None:
    """A logarithmic axis with plain numbers for what shrinks by more than `LOG_RANGE`."""
    from matplotlib.ticker import LogLocator, NullFormatter

    finite = np.concatenate([np.zeros(0), *(array[np.isfinite(array)] for array in values)])
    if len(finite) and finite.min() > 0 and finite.max() > LOG_RANGE * finite.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:.3g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(result: Any, labels: Sequence[str], looks: Sequence[dict[str, str]]) -> None:
    from matplotlib.lines import Line2D

    legend = result.legend(
        [Line2D([], [], **look) for look in looks], labels, loc="outside lower center", ncols=3, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
