# SPDX-License-Identifier: Apache-2.0
"""A dashboard to click: plain values (`figures/panels.py`) in, one HTML page that asks for nothing else out."""

import html
import math
from typing import Any

import numpy as np

from perceiver_jax.figures.panels import BLUE, GREY, Bars, Dashboard, Line, Panel, Table

ROW, TABLE_ROW, GAP = 400, 28, 100  # pixels: height of a row of panels, of a row of a table, between rows
COLUMNS = 6
"""Of the grid; rows of one, two and three panels divide it."""
DASHES = {"solid": "solid", "dashed": "dash", "dotted": "dot"}
OFFSETS = ((30, -35), (30, 35), (50, -60), (50, 60))
"""Where the names of points stand, in turn, in pixels to the middle and down."""
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""What the browser lets the page load: what is in it."""


def page(dashboard: Dashboard) -> str:
    """The page, with plotly.js in it."""
    figure = _grid(dashboard)
    for r, row in enumerate(dashboard.rows, 1):
        for c, part in enumerate(row):
            ADD[type(part)](figure, part, r, 1 + c * COLUMNS // len(row))
    settings = {"displaylogo": False, "responsive": True, "toImageButtonOptions": {"format": "svg"}}
    body = figure.to_html(include_plotlyjs=True, full_html=False, config=settings)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{html.escape(dashboard.title)}</title></head><body>{body}</body></html>\n"
    )


def _grid(dashboard: Dashboard) -> Any:
    from plotly.subplots import make_subplots  # here: costs half a second

    specs = []
    for row in dashboard.rows:
        span = COLUMNS // len(row)
        cells = [{"type": "table" if isinstance(part, Table) else "xy", "colspan": span} for part in row]
        specs.append([cell for first in cells for cell in (first, *[None] * (span - 1))])
    heights = [_height(row) for row in dashboard.rows]
    total = sum(heights) + GAP * (len(heights) + 1)
    figure = make_subplots(
        rows=len(heights),
        cols=COLUMNS,
        specs=specs,
        row_heights=heights,
        vertical_spacing=GAP / total,
        horizontal_spacing=0.035,
        subplot_titles=[f"<b>{html.escape(part.title)}</b>" for row in dashboard.rows for part in row],
    )
    title = {"text": f"<b>{html.escape(dashboard.title)}</b>", "x": 0.5}
    figure.update_layout(template="plotly_white", height=total, title=title, hovermode="closest")
    return figure


def _height(row) -> int:
    if all(isinstance(part, Table) for part in row):
        return max(len(part.rows) + 1 for part in row) * TABLE_ROW
    return ROW


def _panel(figure, panel: Panel, row: int, column: int) -> None:
    place = {"row": row, "col": column}
    legend = _legend(figure, panel, **place) if panel.lines else None
    for line in panel.lines:
        _line(figure, line, place, legend)
    figure.update_xaxes(title_text="<br>".join(html.escape(panel.x_label).splitlines()), **place)
    kind = {"type": "log", "exponentformat": "power", "dtick": 1} if panel.log else {}
    figure.update_yaxes(title_text=panel.y_label, tickformat=".0%" if panel.percent else None, **kind, **place)
    if panel.zero:
        figure.add_hline(y=0, line={"color": GREY, "width": 1}, exclude_empty_subplots=False, **place)
    for x, word in panel.rules:
        label = {"text": html.escape(word), "textangle": -90, "font": {"size": 9}}
        dots = {"color": GREY, "width": 1, "dash": "dot"}
        figure.add_vline(x=x, line=dots, annotation=label, exclude_empty_subplots=False, **place)
    ends = [edge for line in panel.lines for edge in (line.x.min(), line.x.max())]
    for note, (right, down) in zip(panel.notes, OFFSETS * len(panel.notes), strict=False):
        figure.add_annotation(
            x=note.x,
            y=math.log10(note.y) if panel.log else note.y,
            text=html.escape(note.text),
            ax=-right if note.x > (min(ends) + max(ends)) / 2 else right,
            ay=down,
            arrowhead=6,
            bgcolor="rgba(255,255,255,0.8)",
            **place,
        )


def _legend(figure, panel: Panel, row: int, col: int) -> str:
    """A legend inside these axes, at the right: below curves that rise, above others."""
    x, y = next(figure.select_xaxes(row=row, col=col)), next(figure.select_yaxes(row=row, col=col))
    name = "legend" + x.plotly_name.removeprefix("xaxis")
    first = panel.lines[0].y[np.isfinite(panel.lines[0].y)]
    place = {"y": y.domain[0], "yanchor": "bottom"} if len(first) and first[-1] > first[0] else {"y": y.domain[1]}
    look = {"x": x.domain[1], "xanchor": "right", "bgcolor": "rgba(255,255,255,0.7)", "font": {"size": 10}}
    figure.update_layout({name: {"yanchor": "top"} | place | look})
    return name


def _line(figure, line: Line, place: dict[str, int], legend: str | None) -> None:
    if line.band is not None:
        low, high = line.band
        real = np.isfinite(low) & np.isfinite(high)
        around = np.concatenate([line.x[real], line.x[real][::-1]]), np.concatenate([high[real], low[real][::-1]])
        shade = {"fill": "toself", "opacity": 0.2, "line": {"width": 0}, "fillcolor": line.color, "mode": "lines"}
        figure.add_scatter(x=around[0], y=around[1], showlegend=False, hoverinfo="skip", **shade, **place)
    figure.add_scatter(
        x=line.x,
        y=line.y,
        name=html.escape(line.label),
        mode="lines+markers" if line.marks else "lines",
        line={"color": line.color, "dash": DASHES[line.dashes], "width": 1.2 if line.explains else 2.2},
        legend=legend,
        **place,
    )


def _bars(figure, bars: Bars, row: int, column: int) -> None:
    names, values = list(bars.values), list(bars.values.values())
    place = {"row": row, "col": column}
    look = {"orientation": "h", "marker_color": BLUE, "opacity": 0.3, "showlegend": False}
    figure.add_bar(x=np.nan_to_num(values), y=names, **look, **place)
    for name, value in bars.values.items():  # on the bars: beside them is the next panel
        number = "not known" if math.isnan(value) else f"{value:.4f}"
        text = f"<b>{number}</b> " + "<br>".join(html.escape(line) for line in name.splitlines())
        figure.add_annotation(x=0, y=name, text=text, xanchor="left", align="left", showarrow=False, **place)
    figure.update_yaxes(autorange="reversed", showticklabels=False, **place)
    figure.update_xaxes(range=(min(0, np.nanmin(values, initial=0)), max(1, np.nanmax(values, initial=1))), **place)


def _table(figure, table: Table, row: int, column: int) -> None:
    cells = [[html.escape(text) for text in texts] for texts in zip(*table.rows, strict=True)]
    head = [f"<b>{html.escape(text)}</b>" for text in table.head] or [""] * len(cells)
    align = {"align": "left", "height": TABLE_ROW - 4}
    figure.add_table(
        header={"values": head, **align, "height": TABLE_ROW if table.head else 0},
        cells={"values": cells, **align},
        row=row,
        col=column,
    )


ADD = {Panel: _panel, Bars: _bars, Table: _table}
