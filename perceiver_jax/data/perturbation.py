# SPDX-License-Identifier: Apache-2.0
"""Clouds that were turned, moved, scaled or thinned out, to measure what a model stands; nothing is trained on them.

A cloud is perturbed as evaluation would show it, and normalised again in the same way: what the normalisation takes out
(translation, scale) then changes nothing, and that is part of what is measured. Lengths are in units of the normalised
cloud. The numbers follow from (SEED, kind, example id): a cloud is perturbed alike at every strength and in every run.
"""

import dataclasses

import numpy as np

from perceiver_jax.data import randomness
from perceiver_jax.data.points import PointAugmentation, rotate, rotate_about, rotations, shift, stretch
from perceiver_jax.data.source import Source
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError

SEED = 0
FULL_TURN = 180.0
STRENGTHS: dict[str, tuple[float, ...]] = {
    "rotation_up": (15.0, 45.0, 90.0, 180.0),  # degrees about the up axis, up to this, either way
    "rotation_any": (15.0, 45.0, 90.0, 180.0),  # degrees about a random axis, up to this; 180: any rotation
    "translation": (0.1, 0.3, 1.0),  # along each axis, up to this, either way
    "scale": (1.25, 2.0, 5.0),  # of the cloud, by a factor between 1 / this and this
    "stretch": (1.1, 1.25, 1.5),  # the same for each axis by itself
    "dropped_points": (0.25, 0.5, 0.75, 0.9),  # share of the points that is left out
}

UNITS = {"rotation_up": " deg", "rotation_any": " deg", "scale": "x", "stretch": "x"}


def check_clouds(source: Source) -> None:
    """Raises ConfigError for data that are no point clouds."""
    if not isinstance(source, PointAugmentation):
        raise ConfigError(
            f"perturbations are for point clouds: got {type(source).__name__} with {', '.join(source.spec.arrays)}. "
            "Use a run on clouds (solids, modelnet)."
        )


@dataclasses.dataclass(frozen=True)
class Perturbed:
    """A source of clouds, perturbed; only for evaluation.

    Attributes:
        kind: a key of STRENGTHS.
        strength: in the unit stated there.

    Raises:
        ConfigError: the source has no clouds, or no such kind.
    """

    source: Source
    kind: str
    strength: float

    def __post_init__(self):
        check_clouds(self.source)
        if self.kind not in STRENGTHS:
            raise ConfigError(f"perturbation {self.kind!r} is unknown: expected one of {', '.join(STRENGTHS)}.")

    @property
    def spec(self) -> Spec:
        spec = self.source.spec
        _, channels = spec.arrays["points"].shape
        arrays = spec.arrays | {"points": ArraySpec((self._kept(self._num_points()), channels), "float32")}
        return dataclasses.replace(spec, arrays=arrays, max_length=None)

    @property
    def splits(self) -> tuple[str, ...]:
        return self.source.splits

    def num_examples(self, split: str) -> int:
        return self.source.num_examples(split)

    def labels(self, split: str) -> np.ndarray:
        return self.source.labels(split)

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        arrays = self.source.load(split, ids, epoch)
        points = self._perturb(arrays["points"], np.asarray(ids))
        return arrays | {"points": self.source.apply(points, ids, None)}

    def _perturb(self, points: np.ndarray, ids: np.ndarray) -> np.ndarray:
        key = randomness.keys(SEED, f"perturb {self.kind}", ids)
        if self.kind == "rotation_up":
            limit = np.radians(self.strength)
            return rotate_about(points, randomness.uniform(key, (), -limit, limit), self.source.up_axis)
        if self.kind == "rotation_any":
            return rotate(points, rotations(key) if self.strength >= FULL_TURN else turns(key, self.strength))
        if self.kind == "translation":
            return shift(points, randomness.uniform(key, (3,), -self.strength, self.strength))
        if self.kind == "dropped_points":
            order = randomness.uniform(key, (points.shape[1],)).argsort(1, kind="stable")
            kept = np.sort(order[:, : self._kept(points.shape[1])], axis=1)
            return np.take_along_axis(points, kept[..., None], axis=1)
        exponent = randomness.uniform(key, (1, 3 if self.kind == "stretch" else 1), -1.0, 1.0)
        return stretch(points, np.float32(self.strength) ** exponent)

    def _num_points(self) -> int:
        """Points of a cloud in evaluation."""
        return getattr(self.source, "num_evaluation_points", None) or self.source.spec.arrays["points"].shape[0]

    def _kept(self, num_points: int) -> int:
        if self.kind != "dropped_points":
            return num_points
        return max(1, num_points - round(self.strength * num_points))


def turns(key: np.ndarray, limit: float) -> np.ndarray:
    """Rotations about random axes by up to `limit` degrees, (batch, 3, 3), by Rodrigues' formula."""
    numbers = randomness.normal(key, (3,)).astype(np.float64)
    x, y, z = (numbers / np.linalg.norm(numbers, axis=1, keepdims=True)).T
    zero = np.zeros_like(x)
    cross = np.stack([np.stack(row, -1) for row in ([zero, -z, y], [z, zero, -x], [-y, x, zero])], 1)
    angle = np.radians(limit) * randomness.uniform(key ^ randomness.GAMMA, ()).astype(np.float64)[:, None, None]
    return (np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)).astype(np.float32)
