# SPDX-License-Identifier: Apache-2.0
"""The attention of a run to look at by hand: `figures/demo.html`, one page that loads nothing, and a server of it.

Two epochs stand side by side; example, stage, head, latent, colours and alpha are controls. The page saves PNG and SVG
itself; --format=png,svg,pdf also draws its first view on paper. With --serve the page is served on this machine alone
and takes in what a running training adds.
"""

import html
import http.server
import json
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from perceiver_jax.errors import ConfigError
from perceiver_jax.files import write_all
from perceiver_jax.reports import attention_report
from perceiver_jax.reports.demo_data import demo_data, version

FOLDER = Path(__file__).parent
LOCAL = "127.0.0.1"
"""Nothing else is listened to: the page shows data that may not be for everyone."""


def write(run: Path, formats: Sequence[str], flags: Any) -> Iterator[Path]:
    """Writes the page and, with --serve, serves it until it is interrupted.

    Raises:
        ConfigError: the run has no attention maps, or not of these epochs, or the port is taken.
    """
    pair = chosen_pair(run, flags.epochs)
    paper = attention_report.drawn(run, sorted(set(pair)), (), formats, flags, evolution=True)
    files = {f"demo{Path(name).suffix}": content for name, content in paper.items()}
    files["demo.html"] = page(demo_data(run, pair)).encode()
    yield from write_all({run / "figures" / name: content for name, content in files.items()})
    if flags.serve:
        serve(run, flags.port)


def chosen_pair(run: Path, words: Sequence[str]) -> tuple[int, int]:
    """The steps of the two epochs that --epochs names, or the first and the last.

    Raises:
        ConfigError: these are not two epochs that there are maps of.
    """
    epochs = {f"{epoch:g}": step for step, epoch in attention_report.epochs_by_step(run).items()}
    if not words:
        return min(epochs.values()), max(epochs.values())
    if len(words) != 2 or not set(words) <= set(epochs):
        raise ConfigError(
            f"--epochs={','.join(words)}: expected two of those with attention maps, {', '.join(epochs)}."
        )
    left, right = (epochs[word] for word in words)
    return left, right


def page(data: dict[str, Any]) -> str:
    """The whole page."""
    from plotly.offline import get_plotlyjs  # here: costs a second

    parts = {
        "TITLE": html.escape(f"Attention of {data['about'].partition(':')[0]}"),
        "DATA": json.dumps(data).replace("</", "<\\/"),
        "SCRIPT": (FOLDER / "demo.js").read_text(),
        "PLOTLY": get_plotlyjs(),
    }
    return re.sub("@([A-Z]+)@", lambda place: parts[place[1]], (FOLDER / "demo.html").read_text())


def serve(run: Path, port: int) -> None:
    """Serves the page of a run, with its newest maps, until Ctrl-C.

    Raises:
        ConfigError: the port is taken.
    """
    try:
        server = _Server(run, port)
    except OSError as error:
        reason = f"--port={port} cannot be used ({error.strerror})"
        raise ConfigError(f"{reason}. Choose another one, or 0 for any.") from error
    print(f"serving at http://{LOCAL}:{server.server_port}/ until Ctrl-C", flush=True)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped")


class _Server(http.server.ThreadingHTTPServer):
    def __init__(self, run: Path, port: int):
        super().__init__((LOCAL, port), _Answers)
        self.run = run
        self.names = {f"{name}:{self.server_port}" for name in (LOCAL, "localhost")}

    def data(self) -> dict[str, Any]:
        """What the page shows now."""
        return demo_data(self.run, chosen_pair(self.run, ()))


class _Answers(http.server.BaseHTTPRequestHandler):
    """`/` is the page, `/data.json?have=VERSION` what is newer than that, if anything is."""

    def do_GET(self) -> None:
        address = urllib.parse.urlsplit(self.path)
        have = urllib.parse.parse_qs(address.query).get("have", [""])[0]
        if self.headers["Host"] not in self.server.names:  # another site's name for this machine
            self._answer(403)
        elif address.path == "/":
            self._answer(200, page(self.server.data()), "text/html; charset=utf-8")
        elif address.path != "/data.json":
            self._answer(404)
        elif have == version(self.server.run):
            self._answer(204)
        else:
            self._answer(200, json.dumps(self.server.data()), "application/json")

    def _answer(self, code: int, text: str = "", kind: str = "text/plain") -> None:
        content = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: Any) -> None:
        """Quiet: the page asks every other second."""
