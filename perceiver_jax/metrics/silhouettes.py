# SPDX-License-Identifier: Apache-2.0
"""The place, size and angle at which a shape is most like a silhouette of which parts may be hidden.

A search without derivatives: from starts that area and middle suggest, and from many others where something hides the
silhouette, the best fits are varied less and less. Random numbers are the same in every search.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A shape within a circle of radius 1 around the origin: (x to the right, y down) -> negative inside."""
Mask = Bool[np.ndarray, "height width"]
Fits = Float[np.ndarray, "fits 4"]

KEPT, TRIED, ROUNDS, SHRINK = 3, 16, 8, 0.65
"""Each round varies each of the `KEPT` best fits `TRIED` times, each round less by `SHRINK`."""
SPREAD = np.array([0.16, 0.16, 0.12, 0.25])
"""Of the first round: x, y and radius in radii, angle in radians."""
ANGLES, STARTS = 10, 48
"""Starts of what may be turned, and of what may be hidden."""
ENOUGH = 0.98
"""A fit this good is not improved."""
MARGIN = 3  # pixels around a silhouette in which there must be nothing of the shape


class Fit(NamedTuple):
    """A shape's best fit; x, y and radius in pixels, the angle in radians.

    Attributes:
        overlap: intersection over union of what can be seen of both.
    """

    overlap: float
    x: float
    y: float
    radius: float
    angle: float


def fit(outline: Outline, mask: Mask, hidden: Mask, radii: tuple[float, float], *, turned: bool) -> Fit:
    """The best fit of a shape to the mask.

    Args:
        hidden: pixels that other objects cover, which tell nothing of this one.
        radii: the least and the largest, in pixels.
        turned: whether the shape may have any angle.
    """
    view = _view(mask, hidden)
    occluded = bool((ndimage.binary_dilation(mask, np.ones((3, 3)), 2) & hidden).any())
    fits = _starts(outline, view, radii, turned, occluded)
    overlaps = _overlaps(outline, view, fits)
    for spread in SPREAD * SHRINK ** np.arange(ROUNDS)[:, None]:
        best = np.argsort(-overlaps, kind="stable")[:KEPT]
        fits, overlaps = fits[best], overlaps[best]
        if overlaps[0] >= ENOUGH:
            break
        varied = _varied(fits, spread * [1, 1, 1, turned], radii)
        fits, overlaps = np.concatenate([fits, varied]), np.concatenate([overlaps, _overlaps(outline, view, varied)])
    best = np.argmax(overlaps)
    return Fit(float(overlaps[best]), *map(float, fits[best]))


class _View(NamedTuple):
    """The pixels that tell something: middles, and whether the silhouette has them."""

    x: Float[np.ndarray, "pixels"]
    y: Float[np.ndarray, "pixels"]
    inside: Bool[np.ndarray, "pixels"]
    box: Float[np.ndarray, "2 2"]


def _view(mask: Mask, hidden: Mask) -> _View:
    """Around the silhouette, beyond the image too: no object is cut by its border."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]], np.float32)
    y, x = np.mgrid[rows[0] - MARGIN : rows[-1] + 1 + MARGIN, columns[0] - MARGIN : columns[-1] + 1 + MARGIN]
    window = (y.clip(0, len(mask) - 1), x.clip(0, mask.shape[1] - 1))
    outside = (y != window[0]) | (x != window[1])
    known = outside | ~hidden[window]
    inside = mask[window] & ~outside
    return _View(*((axis[known] + 0.5).astype(np.float32) for axis in (x, y)), inside[known], box)


def _overlaps(outline: Outline, view: _View, fits: Fits) -> Float[np.ndarray, "fits"]:
    x, y, radius, angle = fits.T.astype(np.float32)[..., None]
    right, below = view.x - x, view.y - y
    cosine, sine = np.cos(angle) / radius, np.sin(angle) / radius
    drawn = outline(cosine * right + sine * below, cosine * below - sine * right) <= 0
    both = drawn[:, view.inside].sum(1)
    return both / np.maximum(view.inside.sum() + drawn.sum(1) - both, 1)


def _starts(outline: Outline, view: _View, radii: tuple[float, float], turned: bool, occluded: bool) -> Fits:
    middle = [view.x[view.inside].mean(), view.y[view.inside].mean()]
    radius = np.clip(np.sqrt(view.inside.sum() / area(outline)), *radii)
    angles = np.arange(ANGLES if turned else 1) * (2 * np.pi / ANGLES)
    fits = np.stack(np.broadcast_arrays(*middle, radius, angles), -1)
    if not occluded:
        return fits
    numbers = _places()
    low, high = view.box - [[radii[1] / 2], [-radii[1] / 2]]
    size = radii[0] + (radii[1] - radii[0]) * numbers[:, 2:3]
    others = [low + (high - low) * numbers[:, :2], size, 2 * np.pi * turned * numbers[:, 3:]]
    return np.concatenate([fits, np.concatenate(others, -1)])


def _varied(fits: Fits, spread: Float[np.ndarray, "4"], radii: tuple[float, float]) -> Float[np.ndarray, "varied 4"]:
    steps = spread * _numbers()[: len(fits)] * np.stack([fits[:, 2]] * 3 + [np.ones(len(fits))], -1)[:, None]
    varied = (fits[:, None] + steps).reshape(-1, 4)
    varied[:, 2] = varied[:, 2].clip(*radii)
    return varied


@functools.cache
def _numbers() -> Float[np.ndarray, "kept tried 4"]:
    """Normal ones, always the same."""
    return np.random.default_rng(0).standard_normal((KEPT, TRIED, 4))


@functools.cache
def _places() -> Float[np.ndarray, "starts 4"]:
    """Uniform ones from 0 to 1, always the same."""
    return np.random.default_rng(1).random((STARTS, 4))


@functools.cache
def area(outline: Outline) -> float:
    """Of the shape in its circle of radius 1."""
    axis = (np.arange(200, dtype=np.float32) + 0.5) / 100 - 1
    return 4 * float((outline(*np.meshgrid(axis, axis)) <= 0).mean())
