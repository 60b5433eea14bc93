# SPDX-License-Identifier: Apache-2.0
"""Procedural solids as point clouds, the set that is always there: example i follows from the set_seed and i.

The classes are those of `shapes`; random proportions, stretch, orientation, uneven density and noise are
added here.
"""

import dataclasses

import numpy as np

from perceiver_jax.data import randomness, shapes
from perceiver_jax.data.points import PointAugmentation, normalize, rotate, rotations
from perceiver_jax.data.procedural import Procedural, check_counts
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError

LARGEST = np.float32(1 - 2.0**-24)  # a power may round up to 1, which is no surface coordinate
MOST_STRETCH, MOST_UNEVENNESS = 0.15, 0.35  # at variation 1: of an axis; log2 of the exponent on u, v


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solids(Procedural, PointAugmentation):
    """Clouds of `num_points` points, classes in turn (the class of example i is i modulo their number).

    Attributes:
        num_points: points of a cloud.
        num_train, num_validation, num_test, set_seed: as in Procedural.
        noise: standard deviation of a point off the surface, the solid having radius 1.
        variation: 0 = one shape a class (turned at random), 1 = the full range of proportions and density.

    Raises:
        ConfigError: a size or range is impossible.
    """

    num_points: int = 512
    num_train: int = 65536
    num_validation: int = 1024
    num_test: int = 2048
    noise: float = 0.02
    variation: float = 0.5
    normalize: str = "cube"

    def __post_init__(self):
        super().__post_init__()
        check_counts(self, "num_points")
        if self.noise < 0 or not 0 <= self.variation <= 1:
            raise ConfigError(f"noise={self.noise}, variation={self.variation}: expected noise >= 0, variation 0..1.")

    @property
    def spec(self) -> Spec:
        arrays = {"points": ArraySpec((self.num_points, 3), "float32"), "label": ArraySpec((), "int32")}
        return Spec(arrays, class_names=shapes.NAMES)

    def labels(self, split: str) -> np.ndarray:
        return (np.arange(self.num_examples(split)) % len(shapes.NAMES)).astype(np.int32)

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        ids = np.asarray(ids)
        label = (ids % len(shapes.NAMES)).astype(np.int32)
        return {"points": self.apply(self._clouds(split, ids, label), ids, epoch), "label": label}

    def _clouds(self, split: str, ids: np.ndarray, label: np.ndarray) -> np.ndarray:
        def key(stream):
            return randomness.keys(self.set_seed, f"solids {split} {stream}", ids)

        half = self.variation / 2
        shape = randomness.uniform(key("shape"), (8,), 0.5 - half, 0.5 + half)
        u, v = randomness.uniform(key("surface"), (2, self.num_points)).transpose(1, 0, 2)
        unevenness = np.exp2(MOST_UNEVENNESS * (2 * shape[:, 3:5] - 1))
        u, v = (np.minimum(w ** unevenness[:, k, None], LARGEST) for k, w in enumerate((u, v)))
        points = shapes.sample(label, shape[:, :3], u, v)
        stretch = 1 + MOST_STRETCH * (2 * shape[:, 5:] - 1)
        turn = rotations(key("turn")) * stretch[:, None]
        noise = np.float32(self.noise) * randomness.normal(key("noise"), (self.num_points, 3))
        return normalize(rotate(points, turn), "sphere") + noise
