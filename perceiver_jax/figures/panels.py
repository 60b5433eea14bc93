# SPDX-License-Identifier: Apache-2.0
"""What a dashboard shows, as plain values: `dashboard.py` draws it on paper, `dashboard_page.py` to click.

Colours are Okabe and Ito's, which colour-blind readers tell apart; curves also differ in their dashes and marks.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A curve.

    Attributes:
        dashes: solid, dashed or dotted.
        marks: a dot at each value.
        band: lower and upper edge, shaded.
        explains: it belongs to a curve of the same colour, and is thinner.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    color: str
    dashes: str = "solid"
    marks: bool = False
    band: tuple[np.ndarray, np.ndarray] | None = None
    explains: bool = False


@dataclasses.dataclass(frozen=True)
class Note:
    """A point of a curve that is named."""

    x: float
    y: float
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves on common axes.

    Attributes:
        percent: y is a fraction that is shown as a percentage.
        log: y has a logarithmic axis.
        rules: x of vertical lines, with a word for each.
        zero: a horizontal line at 0.
    """

    title: str
    x_label: str
    y_label: str = ""
    lines: Sequence[Line] = ()
    notes: Sequence[Note] = ()
    rules: Sequence[tuple[float, str]] = ()
    percent: bool = False
    log: bool = False
    zero: bool = False


@dataclasses.dataclass(frozen=True)
class Bars:
    """Values by name; NaN is "not known"."""

    title: str
    values: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of words under a head; without a head, names and values."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Dashboard:
    """Rows of panels, from the top."""

    title: str
    rows: Sequence[Sequence[Panel | Bars | Table]]
