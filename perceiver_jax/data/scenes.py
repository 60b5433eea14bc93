# SPDX-License-Identifier: Apache-2.0
"""Procedural scenes of several objects with their true masks and attributes; example i follows from set_seed and i.

`Shapes`: discs, squares and triangles on black. `Sprites`: squares, ellipses and hearts with turns, as the published
Multi-dSprites (https://github.com/google-deepmind/multi_object_datasets), whose outlines are drawn here anew. Later
objects hide earlier ones. An object is drawn into the square around it alone, with those of its shape and about its
size of a whole batch at once.
"""

import dataclasses
import itertools
import math
import operator
from collections.abc import Callable

import numpy as np

from perceiver_jax.data import randomness
from perceiver_jax.data.procedural import Procedural, check_counts
from perceiver_jax.data.properties import Property, encoded, num_columns
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError

ATTRIBUTES = ("present", "shape", "x", "y", "size", "angle", "red", "green", "blue", "visible")
"""Columns of the array `attributes`: shape is an index into the source's `shapes`, x, y and size are shares of the
image (size: of the circle around the object, its radius), angle in radians, colours from 0 to 1, visible the share of
the object's pixels that nothing hides."""
GRID = 4  # pixels: how far such squares reach from their middle is a multiple of it
SPAN = 6.0  # an image is as wide as the floor of CLEVR's scenes, so that distances between objects compare


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Two discs, and below their middles the right angle whose sides touch them."""
    side, down = np.abs(1.1 * x), 1.1 * y + 0.25
    discs = np.hypot(side - 0.45, down + 0.1) - 0.5
    outer, inner = side + down - 0.35 - math.sqrt(0.5), side - down - 0.55
    return np.minimum(discs, np.maximum(np.maximum(outer, inner) / math.sqrt(2), -down - 0.1))


OUTLINES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    # negative inside, about the distance to the edge outside; within a circle of radius 1; x to the right, y down
    "circle": lambda x, y: np.hypot(x, y) - 1,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) - math.sqrt(0.5),
    "triangle": lambda x, y: np.maximum(np.abs(x) * math.sqrt(0.75) - y / 2, y) - 0.5,
    "ellipse": lambda x, y: (np.hypot(x, 2 * y) - 1) / 2,
    "heart": _heart,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenes(Procedural):
    """What the procedural scenes share: `image` uint8 RGB, `objects` (0 background, 1 .. the objects), `attributes`.

    Attributes:
        size: height and width in pixels.
        min_objects, max_objects: how many an image has, each number as often.
        num_train, num_validation, num_test, set_seed: as in Procedural.
        min_radius, max_radius: of the circle around an object, as shares of the image.
        num_colours, num_sizes: so many hues and radii, evenly spaced, instead of any; with both, examples also have
            `properties` (place, size, shape, colour) of what is not hidden, the targets of set prediction.
        seed: not used; a scene is never augmented.

    Raises:
        ConfigError: a size or range is impossible.
    """

    size: int = 64
    min_objects: int = 2
    max_objects: int = 6
    num_train: int = 50_000
    num_validation: int = 512
    num_test: int = 1_000
    min_radius: float = 0.1
    max_radius: float = 0.18
    num_colours: int = 0
    num_sizes: int = 0
    seed: int = 0

    shapes = ("circle", "square", "triangle")
    turned = False

    def __post_init__(self):
        check_counts(self)
        problems = [
            f"{name}={getattr(self, name)}: expected at least {least}."
            for name, least in {"size": 8, "min_objects": 0, "num_colours": 0, "num_sizes": 0}.items()
            if getattr(self, name) < least
        ]
        if not max(self.min_objects, 1) <= self.max_objects <= 254:
            problems.append(
                f"max_objects={self.max_objects}: expected min_objects={self.min_objects} or more, up to 254."
            )
        if not 0 < self.min_radius <= self.max_radius <= 0.5:
            problems.append(
                f"min_radius={self.min_radius}, max_radius={self.max_radius}: expected 0 < min_radius <= max_radius <= "
                "0.5."
            )
        if problems:
            raise ConfigError(" ".join(problems))

    @property
    def spec(self) -> Spec:
        arrays = {
            "image": ArraySpec((self.size, self.size, 3), "uint8"),
            "objects": ArraySpec((self.size, self.size), "uint8"),
            "attributes": ArraySpec((self.max_objects, len(ATTRIBUTES)), "float32"),
        }
        if self._properties:
            arrays["properties"] = ArraySpec((self.max_objects, num_columns(self._properties)), "float32")
        return Spec(arrays, properties=self._properties)

    @property
    def _properties(self) -> tuple[Property, ...]:
        if not (self.num_colours and self.num_sizes):
            return ()
        classes = {"size": self.num_sizes, "shape": len(self.shapes), "colour": self.num_colours}
        return *(Property(axis, scale=SPAN) for axis in "xy"), *(Property(*each) for each in classes.items())

    def labels(self, split: str) -> np.ndarray:
        """How many objects each image has."""
        return self._counts(self._key(split, np.arange(self.num_examples(split)), "count"))

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        ids = np.asarray(ids)

        def key(stream: str) -> np.ndarray:
            return self._key(split, ids, stream)

        attributes = self._attributes(key)
        objects, pixels = self._draw(attributes)
        colours = np.concatenate([self._background(key)[:, None], attributes[..., 6:9]], 1)
        places = objects + np.arange(len(ids))[:, None, None] * colours.shape[1]
        image = (255 * colours + 0.5).astype(np.uint8).reshape(-1, 3).take(places, axis=0)
        counts = np.stack([np.bincount(row.ravel(), minlength=self.max_objects + 1)[1:] for row in objects])
        attributes[..., -1] = counts / np.maximum(pixels, 1)
        batch = {"image": image, "objects": objects, "attributes": attributes}
        if self._properties:
            shape, x, y = np.moveaxis(attributes[..., 1:4], -1, 0)
            size = _few(self._numbers(key)[..., 3], self.num_sizes)
            colour = _few(randomness.uniform(key("colour"), (self.max_objects, 3))[..., 0], self.num_colours)
            batch["properties"] = encoded(self._properties, (x, y, size, shape, colour), attributes[..., -1] > 0)
        return batch

    def _key(self, split: str, ids: np.ndarray, stream: str) -> np.ndarray:
        return randomness.keys(self.set_seed, f"{type(self).__name__} {split} {stream}", ids)

    def _counts(self, key: np.ndarray) -> np.ndarray:
        span = self.max_objects - self.min_objects + 1
        return (self.min_objects + np.floor(randomness.uniform(key, ()) * span)).astype(np.int32)

    def _numbers(self, key: Callable[[str], np.ndarray]) -> np.ndarray:
        """(batch, max_objects, 5) from 0 to 1: what decides shape, x, y, size and angle."""
        return randomness.uniform(key("attributes"), (self.max_objects, 5))

    def _attributes(self, key: Callable[[str], np.ndarray]) -> np.ndarray:
        """(batch, max_objects, attributes); rows beyond an image's objects are zero."""
        numbers = self._numbers(key)
        present = np.arange(self.max_objects) < self._counts(key("count"))[:, None]
        share = (
            _few(numbers[..., 3], self.num_sizes) / max(self.num_sizes - 1, 1) if self.num_sizes else numbers[..., 3]
        )
        radius = self.min_radius + (self.max_radius - self.min_radius) * share
        place = radius[..., None] + (1 - 2 * radius[..., None]) * numbers[..., 1:3]  # the whole object in the image
        angle = 2 * np.pi * numbers[..., 4] * self.turned
        shape = np.floor(numbers[..., 0] * len(self.shapes))
        rows = [present, shape, place[..., 0], place[..., 1], radius, angle]
        attributes = np.concatenate(
            [np.stack(rows, -1), self._colours(key("colour")), present[..., None]], -1, dtype=np.float32
        )
        return attributes * present[..., None]

    def _colours(self, key: np.ndarray) -> np.ndarray:
        """(batch, max_objects, 3) in [0, 1]: bright, saturated."""
        hue, saturation, value = np.moveaxis(randomness.uniform(key, (self.max_objects, 3)), -1, 0)
        hue = _few(hue, self.num_colours) / self.num_colours if self.num_colours else hue
        return from_hsv(hue, 0.6 + 0.4 * saturation, 0.6 + 0.4 * value)

    def _background(self, key: Callable[[str], np.ndarray]) -> np.ndarray:
        """(batch, 3) in [0, 1]."""
        return np.zeros((len(key("background")), 3), np.float32)

    def _draw(self, attributes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(batch, size, size) uint8, the objects that are seen, and (batch, max_objects), how many pixels each has."""
        objects = np.zeros((len(attributes), self.size, self.size), np.uint8)
        pixels, boxes = np.zeros(attributes.shape[:2], np.int64), []
        reach = GRID * np.ceil(attributes[..., 4] * self.size / GRID).astype(np.int64)
        for index, most in itertools.product(range(len(self.shapes)), np.unique(reach[attributes[..., 0] > 0])):
            alike = (attributes[..., 0] > 0) & (attributes[..., 1] == index) & (reach == most)
            row, number = np.nonzero(alike)
            inside, top, left = self._inside(self.shapes[index], attributes[alike], int(most))
            pixels[alike] = inside.sum((1, 2))
            boxes += zip(number, row, top, left, inside, strict=True)
        for number, row, top, left, inside in sorted(boxes, key=operator.itemgetter(0)):
            height, width = inside.shape
            objects[row, top : top + height, left : left + width][inside] = number + 1
        return objects, pixels

    def _inside(self, shape: str, attributes: np.ndarray, reach: int) -> tuple[np.ndarray, ...]:
        """Which pixels of a square around each of these objects are its own, and its first row and column."""
        x, y, radius, angle = (attributes[:, k, None, None] for k in range(2, 6))
        width = min(2 * reach + 1, self.size)
        middle = np.floor(attributes[:, 2:4] * self.size).astype(np.int64)
        left, top = np.clip(middle - reach, 0, self.size - width).T
        across, down = (first[:, None] + np.arange(width) for first in (left, top))
        right = ((across + 0.5) / self.size)[:, None, :].astype(np.float32) - x
        below = ((down + 0.5) / self.size)[:, :, None].astype(np.float32) - y
        cosine, sine = np.cos(angle) / radius, np.sin(angle) / radius
        return OUTLINES[shape](cosine * right + sine * below, cosine * below - sine * right) <= 0, top, left


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shapes(Scenes):
    """Discs, squares and triangles in bright colours on black."""


def _few(numbers: np.ndarray, count: int) -> np.ndarray:
    """Numbers from 0 to 1 to classes 0 .. count - 1."""
    return np.floor(numbers * count)


VARIANTS = {  # least and most sprites, background, colours of the sprites
    "colored_on_grayscale": (2, 5, "gray", "bright"),
    "colored_on_colored": (1, 4, "rgb", "rgb"),
    "binarized": (2, 3, "black", "white"),
}
BACKGROUNDS = ("gray", "colour", "rgb", "black")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sprites(Scenes):
    """Squares, ellipses and hearts with any turn, on one colour: Multi-dSprites' variants.

    Attributes:
        variant: of the published set: "colored_on_grayscale" (2 to 5 bright sprites), "colored_on_colored" (1 to 4
            sprites, all colours random red, green and blue), "binarized" (2 or 3 white ones on black).
        min_objects, max_objects: other numbers than the variant's.
        background: another than the variant's: "gray", "colour" (random hue, saturation and value), "rgb" (random red,
            green and blue) or "black".

    Raises:
        ConfigError: also an unknown variant or background, or `num_colours` of one whose sprites are not bright.
    """

    min_objects: int | None = None
    max_objects: int | None = None
    min_radius: float = 0.12
    max_radius: float = 0.24
    variant: str = "colored_on_grayscale"
    background: str = ""

    shapes = ("square", "ellipse", "heart")
    turned = True

    def __post_init__(self):
        if self.variant not in VARIANTS:
            raise ConfigError(f"variant={self.variant!r}: expected one of {', '.join(VARIANTS)}.")
        *counts, background, colours = VARIANTS[self.variant]
        for name, count in zip(("min_objects", "max_objects"), counts, strict=True):
            object.__setattr__(self, name, count if getattr(self, name) is None else getattr(self, name))
        object.__setattr__(self, "background", self.background or background)
        super().__post_init__()
        if self.background not in BACKGROUNDS:
            raise ConfigError(f"background={self.background!r}: expected one of {', '.join(BACKGROUNDS)}.")
        if self.num_colours and colours != "bright":
            raise ConfigError(f"num_colours={self.num_colours}: expected 0 with variant={self.variant!r}.")

    def _colours(self, key: np.ndarray) -> np.ndarray:
        colours = VARIANTS[self.variant][-1]
        if colours == "bright":
            return super()._colours(key)
        numbers = randomness.uniform(key, (self.max_objects, 3))
        return np.ones_like(numbers) if colours == "white" else numbers

    def _background(self, key: Callable[[str], np.ndarray]) -> np.ndarray:
        numbers = randomness.uniform(key("background"), (3,))
        colours = {"gray": numbers[:, :1].repeat(3, 1), "colour": from_hsv(*numbers.T)}
        colours |= {"rgb": numbers, "black": 0 * numbers}
        return colours[self.background]


def from_hsv(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """(..., 3) red, green and blue from 0 to 1 (Smith 1978)."""
    sector = np.mod(np.stack([hue * 6 + shift for shift in (5, 3, 1)], -1), 6)
    away = np.clip(np.minimum(sector, 4 - sector), 0, 1)
    return value[..., None] * (1 - saturation[..., None] * away)
