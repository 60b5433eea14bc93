# SPDX-License-Identifier: Apache-2.0
"""One HTML page that is whole in itself: no script, nothing fetched, readable on paper. Everything is escaped here."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What the page itself allows a browser to load."""
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; overflow-wrap: anywhere } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem }
img { max-width: 100% } pre, .text { font: 13px/1.4 ui-monospace, monospace; white-space: pre-wrap }
pre { background: #f5f5f5; padding: .8rem; overflow-wrap: anywhere }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .9rem .2rem 0; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child, .words td, .words th { text-align: left; overflow-wrap: anywhere }
.wide { overflow-x: auto } .note { color: #555 }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 1rem }
.card { border: 1px solid #ddd; padding: .6rem; overflow-wrap: anywhere } .card img { display: block; margin: auto }
.card .text { max-height: 14rem; overflow: auto } .card p { margin: .5rem 0 0 }
"""


def page(title: str, sections: Iterable[tuple[str, str]]) -> str:
    """A page of sections (heading, HTML); those without content are left out."""
    body = "\n".join(f"<section><h2>{escape(heading)}</h2>\n{html}</section>" for heading, html in sections if html)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width"><meta http-equiv="Content-Security-Policy" '
        f'content="{escape(POLICY)}">\n<style>{STYLE}</style></head>\n'
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, words: bool = False) -> str:
    """A table; numbers to the right, or all to the left where cells are `words`. Empty without rows."""
    cells = ["".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows]
    if not cells:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in headers)
    body = "".join(f"<tr>{row}</tr>\n" for row in cells)
    kind = ' class="words"' if words else ""
    return f'<div class="wide"><table{kind}><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>\n'


def picture(png: bytes, description: str) -> str:
    """A PNG file inside the page."""
    data = base64.b64encode(png).decode()
    return f'<img alt="{escape(description)}" src="data:image/png;base64,{data}">\n'


def paragraph(text: str) -> str:
    """A remark."""
    return f'<p class="note">{escape(text)}</p>\n'


def passage(text: str) -> str:
    """Text as it was written, line breaks included."""
    return f'<div class="text">{escape(text)}</div>\n'


def listing(text: str, *, folded: str = "") -> str:
    """Code or a file; behind a line to click where `folded` says what it is."""
    shown = f"<pre>{escape(text)}</pre>\n"
    return f"<details><summary>{escape(folded)}</summary>{shown}</details>\n" if folded else shown


def cards(items: Iterable[tuple[str, str]]) -> str:
    """Boxes side by side: HTML, and a line of text below. Empty without items."""
    boxes = "".join(f'<div class="card">{html}<p>{escape(caption)}</p></div>\n' for html, caption in items)
    return f'<div class="cards">{boxes}</div>\n' if boxes else ""
