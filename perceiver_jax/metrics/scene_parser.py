# SPDX-License-Identifier: Apache-2.0
"""An exact parser of procedural scenes: which objects an image holds, and whether each is one that the set draws.

An object is valid if its silhouette is, where nothing hides it, that of one of the set's shapes at the best place, size
and angle, and its colour is bright. Nothing is known of where an image comes from, so that a model's samples and
held-out images are judged alike. `scene_regions` finds the objects, `silhouettes` fits the shapes.
"""

import colorsys
import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from perceiver_jax.metrics.scene_regions import STEP, Region, regions_of
from perceiver_jax.metrics.silhouettes import Fit, Mask, Outline, fit

THRESHOLD = 0.9
"""Least overlap of a valid object. Of 60 objects each, alone on black, sharp or blurred (sigma 0.8 pixels): 97 to 100 %
of the true ones of 64 and 32 pixels are above it. At 64 pixels 0 % of those stretched 1.7 : 1, of bitten ones, of two
in one and of the other set's, 0 to 12 % of those stretched 1.35 : 1, 2 to 3 % of random blobs, 3 to 8 % of halves. At
32 pixels, where an object is 8 to 15 wide, 0 to 13 % of these (stretched 1.35 : 1: 28 to 37 %), of Sprites 7 to 60 %.
"""
SLACK = 1.2
"""Radii may be smaller and larger by this factor than the set's."""
BRIGHT = 0.5
"""The least saturation and value of a colour; the sets draw 0.6 and more."""
HUES = ("red", "yellow", "green", "cyan", "blue", "magenta")
"""Classes of colours, a sixth of the circle each, pure red in the middle of the first."""

Image = UInt8[np.ndarray, "size size 3"]


@dataclasses.dataclass(frozen=True)
class Object:
    """One object of an image.

    Attributes:
        shape: the one that fits best.
        hue: one of `HUES`; "" where it has no one bright colour.
        x, y, radius: in shares of the image; angle: in radians.
        overlap: of its silhouette and the fit, where both can be seen (intersection over union).
        valid: whether shape and colour are the set's.
        mask: its pixels.
    """

    shape: str
    hue: str
    x: float
    y: float
    radius: float
    angle: float
    overlap: float
    valid: bool
    mask: np.ndarray = dataclasses.field(repr=False, compare=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneParser:
    """What a set draws, and how exactly an object has to be that.

    Attributes:
        outlines: name -> shape.
        radii: the least and the largest of the circle around an object, in shares of the image.
        counts: the least and the most objects of an image.
        turned: objects have any angle.
        threshold: the least overlap of a valid object.
    """

    outlines: Mapping[str, Outline]
    radii: tuple[float, float]
    counts: tuple[int, int] = (1, 254)
    turned: bool = False
    threshold: float = THRESHOLD

    def parse(self, image: Image) -> list[Object]:
        """The objects; parts of one colour that are one shape together, hidden in between, are one object."""
        regions = regions_of(image)
        covered = np.zeros(image.shape[:2], bool)
        for region in regions:
            covered |= region.mask
        return [found for alike in _alike(regions) for found in self._objects(alike, covered)]

    def _objects(self, regions: Sequence[Region], covered: Mask) -> list[Object]:
        if len(regions) > 1:
            whole = self._object(Region(np.any([part.mask for part in regions], 0), regions[0].colour), covered)
            if whole.valid:
                return [whole]
        return [self._object(region, covered) for region in regions]

    def _object(self, region: Region, covered: Mask) -> Object:
        shape, best = self._shape(region.mask, covered & ~region.mask)
        hue, size = hue_of(region.colour), len(covered)
        place = (best.x / size, best.y / size, best.radius / size, best.angle)
        valid = bool(hue) and best.overlap >= self.threshold
        return Object(shape, hue, *place, best.overlap, valid, region.mask)

    def _shape(self, mask: Mask, hidden: Mask) -> tuple[str, Fit]:
        radii = (self.radii[0] / SLACK * len(mask), self.radii[1] * SLACK * len(mask))
        fits = {name: fit(outline, mask, hidden, radii, turned=self.turned) for name, outline in self.outlines.items()}
        return max(fits.items(), key=lambda pair: pair[1].overlap)


def generation_accuracy(parser: SceneParser, images: UInt8[np.ndarray, "images size size 3"]) -> dict[str, Any]:
    """How many images are scenes of the set: `accuracy` counts those with an object of which all objects are valid.

    Returns:
        dict: `accuracy` with the ends `low` and `high` of its 95 % interval; `count_accuracy` of images that also have
            as many objects as the set draws; `valid_objects` their share of all objects, `num_objects` how many images
            have how many, `num_images`.
    """
    parsed = [parser.parse(image) for image in images]
    valid = [found.valid for objects in parsed for found in objects]
    whole = [len(objects) for objects in parsed if all(found.valid for found in objects)]
    good, (fewest, most) = sum(count > 0 for count in whole), parser.counts
    low, high = interval(good, len(parsed))
    counts = Counter(map(len, parsed))
    return {
        "accuracy": good / max(len(parsed), 1),
        "low": low,
        "high": high,
        "count_accuracy": sum(fewest <= count <= most for count in whole) / max(len(parsed), 1),
        "valid_objects": sum(valid) / max(len(valid), 1),
        "num_objects": {str(count): counts[count] for count in sorted(counts)},
        "num_images": len(parsed),
    }


def interval(hits: int, tries: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (1927)."""
    from scipy.stats import binomtest  # takes a second

    if not tries:
        return 0.0, 1.0
    ends = binomtest(hits, tries).proportion_ci(0.95, "wilson")
    return float(ends.low), float(ends.high)


def _alike(regions: Iterable[Region]) -> list[list[Region]]:
    """Regions of one colour together."""
    groups: list[list[Region]] = []
    for region in regions:
        group = next((g for g in groups if np.linalg.norm(g[0].colour - region.colour) < STEP), None)
        if group is None:
            groups.append([region])
        else:
            group.append(region)
    return groups


def hue_of(colour: Float[np.ndarray, "3"]) -> str:
    """The class of a colour from 0 to 255; "" where it is none, or too grey or dark."""
    if not np.isfinite(colour).all():
        return ""
    hue, saturation, value = colorsys.rgb_to_hsv(*(float(share) / 255 for share in colour))
    return HUES[round(6 * hue) % 6] if min(saturation, value) >= BRIGHT else ""
