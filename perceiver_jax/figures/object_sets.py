# SPDX-License-Identifier: Apache-2.0
"""Sets of objects where they are, predicted and true, drawn in milliseconds.

A cross is what a slot says, in the slot's colour, a ring a true object; the line between the two is green where all
classes are right and red where one is not. Numbers are the classes, one digit a property. With two coordinates the
places are those of the image, with three they are seen from above, beside no image.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped, UInt8

from perceiver_jax.figures.images import contact_sheet
from perceiver_jax.figures.slot_views import pixels, slot_colours

SIDE = 192  # pixels of a cell, at least
ARM = 5  # of a cross; radius of a ring
RIGHT, WRONG = (0, 200, 0), (220, 0, 0)


class Objects(NamedTuple):
    """Of each image.

    Attributes:
        places: coordinates from 0 to 1.
        classes: of each property.
        present: whether there is one.
    """

    places: Float[np.ndarray, "batch objects axes"]
    classes: Int[np.ndarray, "batch objects properties"]
    present: Bool[np.ndarray, "batch objects"]

    @classmethod
    def of(cls, properties: Mapping[str, Num[np.ndarray, "batch objects"]], sure: float) -> "Objects":
        """From properties by name; floating point ones are coordinates, `confidence` more than `sure` is an object."""
        confidence = properties["confidence"]
        rest = [array for name, array in properties.items() if name != "confidence"]
        places = [array for array in rest if array.dtype.kind == "f"]
        classes = [array for array in rest if array.dtype.kind != "f"]
        empty = np.zeros((*confidence.shape, 0))
        return cls(
            np.stack(places, -1) if places else empty,
            np.stack(classes, -1) if classes else empty.astype(int),
            confidence > sure,
        )


def sheet(
    images: Shaped[np.ndarray, "batch height width colors"],
    predicted: Objects,
    true: Objects | None = None,
    pairs: Int[np.ndarray, "batch num_slots"] | None = None,
) -> UInt8[np.ndarray, "_ _ 3"]:
    """A picture of each image, with how many objects were predicted, and of how many, above it.

    Args:
        pairs: the true object of each slot, -1 for none.
    """
    factor = -(-SIDE // max(images.shape[1:3]))
    large = pixels(images).repeat(factor, 1).repeat(factor, 2)
    if predicted.places.shape[-1] != 2:
        large = np.full_like(large, 255)
    cells, titles = [], []
    for k, cell in enumerate(large):
        here = Objects(*(array[k] for array in predicted))
        there = None if true is None else Objects(*(array[k] for array in true))
        cells.append(_drawn(cell, here, there, None if pairs is None else pairs[k]))
        titles.append(f"{here.present.sum()} objects" + ("" if there is None else f" of {there.present.sum()}"))
    return contact_sheet(np.stack(cells), titles, columns=4)


def _drawn(
    cell: UInt8[np.ndarray, "height width 3"],
    predicted: Objects,
    true: Objects | None,
    pairs: Int[np.ndarray, "num_slots"] | None,
) -> UInt8[np.ndarray, "height width 3"]:
    from PIL import Image, ImageDraw

    image = Image.fromarray(cell)
    draw = ImageDraw.Draw(image)
    size = np.array(cell.shape[1::-1])
    if true is not None:
        for (x, y), classes in zip(true.places[true.present][:, :2] * size, true.classes[true.present], strict=True):
            draw.ellipse((x - ARM, y - ARM, x + ARM, y + ARM), outline="white", width=3)
            draw.ellipse((x - ARM, y - ARM, x + ARM, y + ARM), outline="black", width=1)
            _write(draw, (x - 3 * len(classes), y + ARM), classes)
    for slot in map(int, np.flatnonzero(predicted.present)):
        (x, y), colour = predicted.places[slot, :2] * size, tuple(map(int, slot_colours(slot + 1)[slot]))
        if true is not None and pairs is not None and pairs[slot] >= 0 and true.present[pairs[slot]]:
            same = (true.classes[pairs[slot]] == predicted.classes[slot]).all()
            draw.line((x, y, *true.places[pairs[slot], :2] * size), fill=RIGHT if same else WRONG, width=2)
        for width, fill in ((5, "white"), (3, colour)):
            draw.line((x - ARM, y - ARM, x + ARM, y + ARM), fill=fill, width=width)
            draw.line((x - ARM, y + ARM, x + ARM, y - ARM), fill=fill, width=width)
        _write(draw, (x - 3 * predicted.classes.shape[1], y - 3 * ARM), predicted.classes[slot])
    return np.asarray(image)


def _write(draw, place: tuple[float, float], classes: Int[np.ndarray, "properties"]) -> None:
    draw.text(place, "".join(map(str, classes)), fill="black", stroke_width=1, stroke_fill="white", font_size=9)
