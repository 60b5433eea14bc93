# SPDX-License-Identifier: Apache-2.0
"""What matplotlib's figures share: a new one, colours that colour-blind readers tell apart, pixels and files.

matplotlib is imported where it is used: it costs a second.
"""

import io
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from perceiver_jax.errors import ConfigError

DPI = 120
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito 2008, without yellow, which is too light for a line on white."""
FORMATS = ("png", "svg", "pdf")
STYLES = ("-", "--", ":", "-.")


def check_formats(formats: Sequence[str]) -> None:
    """ConfigError unless `--format` names some of `FORMATS`."""
    if not formats or not set(formats) <= set(FORMATS):
        raise ConfigError(f"--format={','.join(formats)}: expected some of {', '.join(FORMATS)}.")


def new(width: float, height: float) -> Any:
    """An empty white figure of so many inches, whose parts make room for each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def line_styles() -> Iterator[dict[str, str]]:
    """Colour and style of one line after the other; the first seven differ in colour, 28 in one of both."""
    yield from ({"color": colour, "linestyle": style} for style in STYLES for colour in COLOURS)


def pixels(figure: Any) -> np.ndarray:
    """uint8 (height, width, 3)."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def picture(image: np.ndarray) -> Any:
    """A figure that is the image, uint8 (height, width, 3), pixel by pixel."""
    figure = new(image.shape[1] / DPI, image.shape[0] / DPI)
    figure.figimage(image)
    return figure


def saved(figure: Any, file: str | pathlib.Path | None) -> Any:
    """The figure, written into a file of one of `FORMATS` where one is named.

    Raises:
        ConfigError: it cannot be written.
    """
    if file is None:
        return figure
    file = pathlib.Path(file)
    check_formats([file.suffix.lower()[1:]])
    try:
        file.write_bytes(rendered(figure, file.suffix.lower()[1:]))
    except OSError as error:
        raise ConfigError(f"{file} cannot be written ({error.strerror}). Name another.") from error
    return figure


def rendered(figure: Any, kind: str) -> bytes:
    """The figure as a file of one of `FORMATS`."""
    stream = io.BytesIO()
    figure.savefig(stream, format=kind)
    return stream.getvalue()
