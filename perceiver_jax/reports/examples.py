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

NUM_SAMPLES = 8
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
    """The examples of these ids, as evaluated, each at its own length."""
    return [_example(source, source.load(split, np.array([index]), None)) for index in ids]


def _example(source: Source, batch: Batch) -> Example:
    name, inputs = _inputs(batch)
    if name == "tokens":
        return Example(text=text.decode(inputs[0]))
    return Example(picture=sheet(source, batch, [""], columns=1))


def samples(source: Source) -> dict[str, dict[str, Any]]:
    """The first training examples for a dashboard, in what it draws itself: `images`, `clouds` or `texts`, by name."""
    ids = np.arange(min(NUM_SAMPLES, source.num_examples("train")))
    batch = source.load("train", ids, 0)
    name, inputs = _inputs(batch)
    titles = [source.spec.class_names[label] for label in batch["label"]] if "label" in batch else [""] * len(ids)
    if name == "image":
        return {"images": {"samples": sheet(source, batch, titles)}}
    if name == "points":
        upright = np.roll(inputs[..., :3], 1 - "xyz".index(source.up_axis), axis=-1)  # the dashboard's y points up
        return {"clouds": {f"samples/{k} {title}": upright[k] for k, title in enumerate(titles)}}
    if name == "tokens":
        passages = zip(titles, map(text.decode, inputs), strict=True)
        return {"texts": {f"samples/{k} {title}": f"```\n{words}\n```" for k, (title, words) in enumerate(passages)}}
    return {}


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
