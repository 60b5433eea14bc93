# SPDX-License-Identifier: Apache-2.0
"""Runs a tutorial and makes its notebook, from the root: `python docs/notebook.py docs/tutorial_cifar100.md`.

The Markdown file is the source. Each block of Python is a cell; so is a block of bash that is followed by one of text.
What a cell prints becomes the text block below it, and the notebook beside the file holds the same cells and outputs.
"""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

CELL = re.compile(r"^```(python|bash)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


class Part(NamedTuple):
    """Markdown, or a cell ("python", "bash") with what it printed."""

    kind: str
    text: str
    output: str = ""


def read(text: str) -> list[Part]:
    """The parts of a Markdown file, in order; bash without an output stays Markdown."""
    parts, end = [], 0
    for match in CELL.finditer(text):
        kind, code, output = match.groups()
        if kind == "bash" and output is None:
            continue
        parts += [Part("markdown", text[end : match.start()]), Part(kind, code, output or "")]
        end = match.end()
    return [*parts, Part("markdown", text[end:])]


def run(parts: list[Part]) -> list[Part]:
    """The parts with what their cells print now; Python's share one namespace. A cell that fails raises."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    return [part if part.kind == "markdown" else part._replace(output=_printed(part, namespace)) for part in parts]


def _printed(part: Part, namespace: dict[str, Any]) -> str:
    if part.kind == "bash":
        command = ["bash", "-euc", part.text]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    else:
        with contextlib.redirect_stdout(io.StringIO()) as stream:
            exec(compile(part.text, "cell", "exec"), namespace)
        printed = stream.getvalue()
    lines = [line.rstrip() for line in printed.strip("\n").splitlines()]
    return "".join(f"{line}\n" for line in lines)


def markdown(parts: list[Part]) -> str:
    """The Markdown file; `read` gives back the same parts."""
    return "".join(_block(part) for part in parts)


def _block(part: Part) -> str:
    if part.kind == "markdown":
        return part.text
    return f"```{part.kind}\n{part.text}```\n" + (f"\n```text\n{part.output}```\n" if part.output else "")


def notebook(parts: list[Part]) -> dict[str, Any]:
    """The notebook, in format 4.5."""
    written = [part for part in parts if part.text.strip()]
    return {
        "cells": [_cell(number, part) for number, part in enumerate(written)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(number: int, part: Part) -> dict[str, Any]:
    text = part.text.strip("\n")
    cell = {"id": f"cell-{number}", "metadata": {}}
    if part.kind == "markdown":
        return cell | {"cell_type": "markdown", "source": text.splitlines(keepends=True)}
    source = f"%%bash\n{text}" if part.kind == "bash" else text
    stream = {"name": "stdout", "output_type": "stream", "text": part.output.splitlines(keepends=True)}
    outputs = [stream] if part.output else []
    cell |= {"cell_type": "code", "execution_count": None, "outputs": outputs}
    return cell | {"source": source.splitlines(keepends=True)}


def main(file: Path) -> None:
    """Runs the cells of the file and writes both."""
    parts = run(read(file.read_text()))
    file.write_text(markdown(parts))
    file.with_suffix(".ipynb").write_text(json.dumps(notebook(parts), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
