# SPDX-License-Identifier: Apache-2.0
"""Examples of a source as a person looks at them: images, clouds, curves or text."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from perceiver_jax.data import text
from perceiver_jax.data.images import ImageAugmentation
from perceiver_jax.data.source import Source
from perceiver_jax.figures import clouds, images, sequences

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Example:
    """One of them: a picture (height, width, 3), uint8, or a text; neither where nothing can be drawn."""

    picture: np.ndarray | None = None
    text: str | None = None


def sheet(source: Source, batch: Batch, titles: Sequence[str], **layout: Any) -> np.ndarray | None:
    """The examples of a batch side by side under their titles; None for data that no picture is drawn of.

    Args:
        layout: `columns`, where the figure's own number does not fit.
    """
    name, inputs = _inputs(batch)
    draw = SHEETS.get(name) or (_curves if "mask" in batch else _images)
    if draw is _images and inputs.ndim != 4:
        return None
    return draw(source, batch | {"inputs": inputs}, titles, **layout)


def read(source: Source, split: str, ids: Sequence[int]) -> list[Example]:
    """The examples of these ids, as evaluated."""
    if not len(ids):
        return []
    batch = source.load(split, np.asarray(ids), None)
    name, inputs = _inputs(batch)
    if name == "tokens":
        return [Example(text=text.decode(tokens)) for tokens in inputs]
    rows = [{key: values[k : k + 1] for key, values in batch.items()} for k in range(len(ids))]
    return [Example(picture=sheet(source, row, [""], columns=1)) for row in rows]


def _inputs(batch: Batch) -> tuple[str, np.ndarray]:
    """The one array that is neither label nor mask."""
    return next((name, array) for name, array in batch.items() if name not in ("label", "mask"))


def _clouds(source: Any, batch: Batch, titles: Sequence[str], **layout: Any) -> np.ndarray:
    return clouds.contact_sheet(batch["inputs"][..., :3], titles, up_axis=source.up_axis, **layout)


def _curves(source: Source, batch: Batch, titles: Sequence[str], **layout: Any) -> np.ndarray:
    return sequences.curve_sheet(batch["inputs"], batch["mask"], titles, **layout)


def _texts(source: Source, batch: Batch, titles: Sequence[str], **layout: Any) -> np.ndarray:
    return sequences.text_sheet([text.decode(tokens) for tokens in batch["inputs"]], titles, **layout)


def _images(source: Source, batch: Batch, titles: Sequence[str], **layout: Any) -> np.ndarray:
    shown = batch["inputs"]
    if isinstance(source, ImageAugmentation):
        shown = source.unpermuted(shown)
    return images.contact_sheet(shown, titles, **layout)


SHEETS = {"points": _clouds, "sequence": _curves, "tokens": _texts, "image": _images}
"""How a batch is drawn, by the name of its input; of your own data: what has a mask is a sequence, else an image."""
