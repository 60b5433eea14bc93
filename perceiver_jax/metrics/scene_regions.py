# SPDX-License-Identifier: Apache-2.0
"""An image of flat objects on a flat background, cut into one region for each object; NumPy alone.

Edges may be blurred: a region grows from its flat core, and a pixel between two colours goes to the nearer one. What
has no flat colour (texture, noise) becomes a region as well, without a colour.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage, sparse

STEP = 18.0
"""Colours (0 to 255, Euclidean) of neighbours in a core differ by less; across the edge of an object by more."""
FLAT = 5
"""So many of the 9 pixels around one of a core, itself included, have its colour."""
REACH = 4
"""Pixels that a region reaches beyond its core: a corner, a blurred edge."""
STRAY = 60.0
"""A pixel further from all mixtures of its region's colour and the background belongs to neither."""
SMALLEST = 0.0015
"""A region of a smaller share of the image is a speck: less than 2 pixels of 32 x 32, than 6 of 64 x 64."""
PEAK = 0.85
"""Of its highest contrast, what the core of an object without a flat one has."""
MOST = 40
"""Cores of an image, the largest ones: noise has hundreds."""
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))

Pixels = Float[np.ndarray, "height width 3"]
Mask = Bool[np.ndarray, "height width"]
Labels = Int[np.ndarray, "height width"]


class Region(NamedTuple):
    """The pixels of one object.

    Attributes:
        colour: red, green, blue from 0 to 255; NaN where it has no one colour.
    """

    mask: Mask
    colour: Float[np.ndarray, "3"]


def regions_of(image: UInt8[np.ndarray, "height width 3"]) -> list[Region]:
    """Everything but the background, which is the colour that most of the image's border has."""
    pixels = image.astype(np.float32)
    cores, colours = _cores(pixels)
    label = _grown(pixels, cores, colours)
    stray = ndimage.binary_opening(_unmixed(pixels, colours[label], colours[0]) > STRAY, np.ones((3, 3)))
    label[stray] = -1
    found = [Region(mask, colours[k]) for k in range(1, len(colours)) for mask in _parts(label == k, cores == k)]
    found += [Region(mask, np.full(3, np.nan, np.float32)) for mask in _parts(stray, stray)]
    return found


def _cores(pixels: Pixels) -> tuple[Labels, Float[np.ndarray, "colours 3"]]:
    """Which flat part a pixel is in, 0 the background and -1 none, and the colour of each."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    background = np.median(border, 0)
    alike = [np.linalg.norm(_shifted(pixels, shift) - pixels, axis=-1) < STEP for shift in SHIFTS]
    flat = 1 + sum(same.astype(int) + _shifted(same, (-dy, -dx)) for same, (dy, dx) in zip(alike, SHIFTS, strict=True))
    outside = np.linalg.norm(pixels - background, axis=-1) < 2 * STEP
    part = _with_peaks(_connected((flat >= FLAT) & ~outside, alike), pixels, background, outside)
    sizes = np.bincount(part[part >= 0])
    largest = [k for k in np.argsort(-sizes, kind="stable")[:MOST] if sizes[k]]
    colours = [background, *(np.median(pixels[part == k], 0) for k in largest)]
    label = np.where(outside, 0, -1)
    for index, k in enumerate(largest, 1):
        label[part == k] = index
    return label, np.stack(colours).astype(np.float32)


def _with_peaks(part: Labels, pixels: Pixels, background: Float[np.ndarray, "3"], outside: Mask) -> Labels:
    """Also a part for what has no flat pixel, small and blurred: its pixels that are least like the background."""
    blob, count = ndimage.label(~outside)
    contrast, numbers = np.linalg.norm(pixels - background, axis=-1), np.arange(1, count + 1)
    whole = np.bincount(blob[part >= 0], minlength=count + 1)[1:] > 0
    peaks = np.append(0, np.where(whole, np.inf, PEAK * np.asarray(ndimage.maximum(contrast, blob, numbers))))
    top = (blob > 0) & (contrast >= peaks[blob])
    return np.where(top, part.max(initial=-1) + blob, part)


def _shifted(array: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """What lies (rows, columns) further; at the border 0 or, of colours, infinity."""
    outside = np.inf if array.dtype == np.float32 else 0
    pad = [(1, 1), (1, 1), *[(0, 0)] * (array.ndim - 2)]
    (dy, dx), (height, width) = shift, array.shape[:2]
    return np.pad(array, pad, constant_values=outside)[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]


def _connected(inside: Mask, alike: list[Mask]) -> Labels:
    """Parts of the pixels inside that are linked by alike neighbours above, below, left and right; -1 outside."""
    number = np.arange(inside.size).reshape(inside.shape)
    links = [inside & _shifted(inside, shift) & same for same, shift in zip(alike[:2], SHIFTS[:2], strict=True)]
    rows = np.concatenate([number[link] for link in links])
    columns = np.concatenate([_shifted(number, shift)[link] for link, shift in zip(links, SHIFTS[:2], strict=True)])
    graph = sparse.coo_array((np.ones(len(rows)), (rows, columns)), (inside.size, inside.size))
    part = sparse.csgraph.connected_components(graph, directed=False)[1].reshape(inside.shape)
    label = np.full(inside.shape, -1)
    label[inside] = np.unique(part[inside], return_inverse=True)[1]
    return label


def _grown(pixels: Pixels, cores: Labels, colours: np.ndarray) -> Labels:
    """The nearest colour of those whose core is within reach; the background is everywhere."""
    label, nearest = np.zeros_like(cores), np.linalg.norm(pixels - colours[0], axis=-1)
    for index in range(1, len(colours)):
        near = ndimage.binary_dilation(cores == index, np.ones((3, 3)), iterations=REACH)
        distance = np.where(near, np.linalg.norm(pixels - colours[index], axis=-1), np.inf)
        label[distance < nearest] = index
        nearest = np.minimum(nearest, distance)
    return label


def _unmixed(pixels: Pixels, colour: Pixels, background: Float[np.ndarray, "3"]) -> Float[np.ndarray, "height width"]:
    """Distance from the line between the colour of a pixel's region and the background."""
    line, away = colour - background, pixels - background
    share = (line * away).sum(-1) / np.maximum((line**2).sum(-1), 1)
    return np.linalg.norm(away - np.clip(share, 0, 1)[..., None] * line, axis=-1)


def _parts(mask: Mask, core: Mask) -> list[Mask]:
    """The connected part that the core is in, if it is no speck; of a stray one every part."""
    label, count = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(label[core & mask], minlength=count + 1)
    whole = np.bincount(label.ravel(), minlength=count + 1)
    least = max(2.0, SMALLEST * mask.size)
    return [label == k for k in range(1, count + 1) if sizes[k] and whole[k] >= least]
