# SPDX-License-Identifier: Apache-2.0
"""Procedural images, a set that is always there: one figure on a background; example i follows from the set_seed and i.

Ten kinds of figure with random place, size, turn and colours; the kind is the class.
"""

import dataclasses

import numpy as np

from perceiver_jax.data import randomness
from perceiver_jax.data.images import ImageAugmentation
from perceiver_jax.data.procedural import Procedural, check_counts
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError

SMALLEST, LARGEST = 0.35, 0.8  # of a figure: half its size, of half the image
MARGIN = 0.35  # a figure's place: at most so far from the centre
DARK, LIGHT = (0.0, 0.4), (0.6, 1.0)  # each channel of the two colours; a coin says which is the figure's


def _polygon(corners: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A regular polygon of radius 1."""
    sector = 2 * np.pi / corners
    angle = np.mod(np.arctan2(y, x), sector) - sector / 2
    return np.hypot(x, y) * np.cos(angle) - np.cos(sector / 2)


def _bars(number: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Parallel bars in a disc."""
    return np.maximum(np.hypot(x, y) - 1, -np.cos(np.pi * number * x) * 0.5)


FIGURES = {  # inside where negative, for coordinates of a figure of size 1
    "disc": lambda x, y: np.hypot(x, y) - 0.85,
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.7) - 0.25,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.75,
    "frame": lambda x, y: np.abs(np.maximum(np.abs(x), np.abs(y)) - 0.65) - 0.2,
    "triangle": lambda x, y: _polygon(3, x, y),
    "bar": lambda x, y: np.maximum(np.abs(x) - 0.95, np.abs(y) - 0.25),
    "cross": lambda x, y: np.minimum(
        np.maximum(np.abs(x) - 0.95, np.abs(y) - 0.25), np.maximum(np.abs(y) - 0.95, np.abs(x) - 0.25)
    ),
    "crescent": lambda x, y: np.maximum(np.hypot(x, y) - 0.9, 0.75 - np.hypot(x - 0.5, y)),
    "ellipse": lambda x, y: np.hypot(x, 2.2 * y) - 0.95,
    "bars": lambda x, y: _bars(2, x, y),
}
NAMES = tuple(FIGURES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawings(Procedural, ImageAugmentation):
    """Images of `size` x `size` pixels, uint8 RGB, classes in turn (the class of example i is i modulo their number).

    Attributes:
        size: height and width as drawn; `image_size` resizes afterwards.
        num_train, num_validation, num_test, set_seed: as in Procedural.
        noise: standard deviation of the pixels' noise, of 255.

    Raises:
        ConfigError: a size or range is impossible.
    """

    size: int = 16
    num_train: int = 8192
    num_validation: int = 512
    num_test: int = 1024
    noise: float = 8.0

    def __post_init__(self):
        super().__post_init__()
        check_counts(self, "size")
        if self.noise < 0:
            raise ConfigError(f"noise={self.noise}: expected 0 or more.")

    @property
    def spec(self) -> Spec:
        arrays = {"image": ArraySpec(self.shape((self.size, self.size, 3)), "uint8"), "label": ArraySpec((), "int32")}
        return Spec(arrays, class_names=NAMES, mean=(127.5,) * 3, std=(64.0,) * 3)

    def labels(self, split: str) -> np.ndarray:
        return (np.arange(self.num_examples(split)) % len(NAMES)).astype(np.int32)

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        ids = np.asarray(ids)
        label = (ids % len(NAMES)).astype(np.int32)
        return {"image": self.apply(self._draw(split, ids, label), ids, epoch), "label": label}

    def pictured(self, split: str, ids: np.ndarray) -> dict[str, np.ndarray]:
        """Also where the figure is."""
        ids = np.asarray(ids)
        cover = self._cover(split, ids, (ids % len(NAMES)).astype(np.int32))
        inside = self.apply((cover * 255).astype(np.uint8), ids, None)[..., 0] > 127
        return super().pictured(split, ids) | {"object": inside}

    def _draw(self, split: str, ids: np.ndarray, label: np.ndarray) -> np.ndarray:
        cover = self._cover(split, ids, label)
        background, colour = _colours(self._key(split, "colour", ids))
        image = background[:, None, None] * (1 - cover) + colour[:, None, None] * cover
        noise = randomness.normal(self._key(split, "noise", ids), image.shape[1:])
        image = 255 * image + np.float32(self.noise) * noise
        return np.clip(image + 0.5, 0, 255).astype(np.uint8)

    def _key(self, split: str, stream: str, ids: np.ndarray) -> np.ndarray:
        return randomness.keys(self.set_seed, f"drawings {split} {stream}", ids)

    def _cover(self, split: str, ids: np.ndarray, label: np.ndarray) -> np.ndarray:
        """How much of each pixel the figure covers, (batch, size, size, 1)."""

        def key(stream):
            return self._key(split, stream, ids)

        place = randomness.uniform(key("place"), (2,), -MARGIN, MARGIN)
        extent = randomness.uniform(key("extent"), (), SMALLEST, LARGEST)
        turn = randomness.uniform(key("turn"), (), 0.0, 2 * np.pi)
        grid = (np.arange(self.size, dtype=np.float32) + 0.5) / self.size * 2 - 1
        down, right = np.meshgrid(grid, grid, indexing="ij")
        right = (right - place[:, 0, None, None]) / extent[:, None, None]
        down = (down - place[:, 1, None, None]) / extent[:, None, None]
        cosine, sine = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
        x, y = cosine * right + sine * down, cosine * down - sine * right
        inside = np.empty(x.shape, np.float32)
        for index, figure in enumerate(FIGURES.values()):
            rows = label == index
            inside[rows] = figure(x[rows], y[rows])
        edge = 2 / self.size / extent[:, None, None]  # a pixel wide, so that edges are smooth
        return np.clip(0.5 - inside / edge, 0, 1)[..., None]


def _colours(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Background and figure, (batch, 3) each in [0, 1]."""
    numbers = randomness.uniform(key, (7,))
    dark = DARK[0] + (DARK[1] - DARK[0]) * numbers[:, :3]
    light = LIGHT[0] + (LIGHT[1] - LIGHT[0]) * numbers[:, 3:6]
    swap = numbers[:, 6:] < 0.5
    return np.where(swap, light, dark), np.where(swap, dark, light)
