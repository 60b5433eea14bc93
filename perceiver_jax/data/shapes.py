# SPDX-License-Identifier: Apache-2.0
"""Surfaces of simple solids, sampled for a whole batch of different ones at once.

A shape is a function from proportions (batch, 3) in [0, 1) to an outline; the kind of outline says how it is
sampled by area: segments that sweep a surface of revolution about z, triangles, or the numbers of a coiled
tube. Neither noise nor orientation is added here, and sizes are about 1.
"""

from collections.abc import Callable

import numpy as np

TURN = np.float32(2 * np.pi)
SMALLEST = np.float32(1e-9)  # share of the surface below which a part is never divided by

Build = Callable[[np.ndarray], np.ndarray]


def sample(label: np.ndarray, proportions: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Points (batch, points, 3) float32 of the shapes NAMES[label].

    Args:
        label: (batch,) indices into NAMES.
        proportions: (batch, 3) in [0, 1].
        u, v: (batch, points) in [0, 1); uniform coordinates give uniform points.
    """
    points = np.empty((*u.shape, 3), np.float32)
    for first, builders, kind in _KINDS:
        rows = np.flatnonzero((label >= first) & (label < first + len(builders)))
        if len(rows):
            outlines = _outlines(list(builders.values()), label[rows] - first, proportions[rows])
            points[rows] = kind(outlines, u[rows], v[rows])
    return points


def _outlines(builders: list[Build], label: np.ndarray, proportions: np.ndarray) -> np.ndarray:
    """Outlines of the shapes, one row each; shorter ones are filled up with parts of no area."""
    rows_of = {k: np.flatnonzero(label == k) for k in set(label.tolist())}
    built = [(rows, builders[k](proportions[rows])) for k, rows in rows_of.items()]
    shape = max((outline.shape[1:] for _, outline in built), key=lambda shape: shape[0])
    outlines = np.zeros((len(label), *shape), np.float32)
    for rows, outline in built:
        outlines[rows, : outline.shape[1]] = outline
    return outlines


def _choose(areas: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parts (batch, points) drawn by areas (batch, parts), and the rest of u: where in the part."""
    ends = np.cumsum(areas, 1, dtype=np.float32)
    ends /= ends[:, -1:]
    part = np.zeros(u.shape, np.int64)
    for end in ends[:, :-1].T:
        part += u >= end[:, None]
    starts = np.zeros_like(ends)
    starts[:, 1:] = ends[:, :-1]
    row = np.arange(len(u))[:, None]
    start, width = starts[row, part], (ends - starts)[row, part]
    return part, np.clip((u - start) / np.maximum(width, SMALLEST), 0, 1)


def _revolve(segments: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Segments (batch, segments, 2 ends, radius and height) turned about z."""
    (r0, z0), (r1, z1) = segments[:, :, 0].transpose(2, 0, 1), segments[:, :, 1].transpose(2, 0, 1)
    part, along = _choose((r1 + r0) * np.hypot(r1 - r0, z1 - z0), u)
    row = np.arange(len(u))[:, None]
    (r0, z0), (r1, z1) = (segments[row, part, k].transpose(2, 0, 1) for k in (0, 1))
    radius = np.sqrt(r0**2 + along * (r1**2 - r0**2))  # uniform by area
    share = along * (r1 + r0) / np.maximum(radius + r0, SMALLEST)  # = (radius - r0) / (r1 - r0)
    return np.stack([radius * np.cos(TURN * v), radius * np.sin(TURN * v), z0 + share * (z1 - z0)], -1)


def _triangulated(triangles: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Triangles (batch, triangles, 3 corners, 3)."""
    a = triangles[:, :, 0]
    ab, ac = triangles[:, :, 1] - a, triangles[:, :, 2] - a
    part, w = _choose(np.sqrt((np.cross(ab, ac) ** 2).sum(-1)), u)
    row = np.arange(len(u))[:, None]
    root = np.sqrt(v)
    return a[row, part] + (root * (1 - w))[..., None] * ab[row, part] + (root * w)[..., None] * ac[row, part]


def _coil(coils: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Tubes about a screw line of radius 1; coils (batch, 3): turns, half height, radius of the tube."""
    turns, rise, minor = coils.T[..., None]
    radius, angle = 1 + minor * np.cos(TURN * v), TURN * turns * u
    height = rise * (2 * u - 1) + minor * np.sin(TURN * v)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], -1)


def _between(p: np.ndarray, column: int, low: float, high: float) -> np.ndarray:
    return np.float32(low) + np.float32(high - low) * p[:, column]


# Surfaces of revolution: the corners (radius, height) of a polyline, each a number or one for every example.


def _polyline(count: int, *corners: tuple) -> np.ndarray:
    line = np.empty((count, len(corners), 2), np.float32)
    for k, (radius, height) in enumerate(corners):
        line[:, k, 0], line[:, k, 1] = radius, height
    return np.stack([line[:, :-1], line[:, 1:]], 2)


def _arc(low: float, high: float, corners: int) -> list[tuple[float, float]]:
    """An arc of radius 1 between two latitudes in degrees."""
    angles = np.radians(np.linspace(low, high, corners))
    return list(zip(np.cos(angles).round(6), np.sin(angles).round(6), strict=True))


def _spheroid(p: np.ndarray) -> np.ndarray:
    return _polyline(len(p), *((r, z * _between(p, 0, 0.6, 1.4)) for r, z in _arc(-90.0, 90.0, 17)))


def _cylinder(p: np.ndarray) -> np.ndarray:
    h = _between(p, 0, 0.5, 1.6)
    return _polyline(len(p), (0, -h), (1, -h), (1, h), (0, h))


def _cone(p: np.ndarray) -> np.ndarray:
    return _polyline(len(p), (0, 0), (1, 0), (0, _between(p, 0, 1.8, 3.0)))


def _hourglass(p: np.ndarray) -> np.ndarray:
    neck, h = _between(p, 0, 0.1, 0.4), _between(p, 1, 0.8, 1.5)
    return _polyline(len(p), (0, -h), (1, -h), (neck, 0), (1, h), (0, h))


def _capsule(p: np.ndarray) -> np.ndarray:
    h = _between(p, 0, 0.6, 1.6)
    bottom = [(r, z - h) for r, z in _arc(-90.0, 0.0, 7)]
    top = [(r, z + h) for r, z in _arc(0.0, 90.0, 7)]
    return _polyline(len(p), *bottom, *top)


def _bowl(p: np.ndarray) -> np.ndarray:
    return _polyline(len(p), *((r, z * _between(p, 0, 0.7, 1.2)) for r, z in _arc(-90.0, 0.0, 9)))


def _torus(p: np.ndarray) -> np.ndarray:
    minor = _between(p, 0, 0.18, 0.4)
    return _polyline(len(p), *((1 + r * minor, z * minor) for r, z in _arc(0.0, 360.0, 17)))


def _ring(p: np.ndarray) -> np.ndarray:
    inner, h = _between(p, 0, 0.4, 0.65), _between(p, 1, 0.06, 0.16)
    return _polyline(len(p), (inner, -h), (1, -h), (1, h), (inner, h), (inner, -h))


# Polyhedra: constant triangles, sized along x, y and z for each example.


def _polygon(sides: int, height: float) -> list[tuple[float, float, float]]:
    angles = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    return [(np.cos(angle), np.sin(angle), height) for angle in angles]


def _over_polygon(sides: int, *tips: float) -> np.ndarray:
    """A pyramid for one tip at height `tips`, a double pyramid for two."""
    ring, base = _polygon(sides, 0.0), []
    if len(tips) == 1:
        base = [(ring[0], ring[k], ring[k + 1]) for k in range(1, sides - 1)]
    flanks = [(ring[k - 1], ring[k], (0, 0, tip)) for k in range(sides) for tip in tips]
    return np.array(base + flanks, np.float32)


def _between_polygons(sides: int) -> np.ndarray:
    """A prism of height 2."""
    low, high = _polygon(sides, -1.0), _polygon(sides, 1.0)
    ends = [(end[0], end[k], end[k + 1]) for end in (low, high) for k in range(1, sides - 1)]
    walls = [(low[k - 1], low[k], high[k - 1]) for k in range(sides)]
    walls += [(low[k], high[k - 1], high[k]) for k in range(sides)]
    return np.array(ends + walls, np.float32)


CUBE = _between_polygons(4) / np.abs(_between_polygons(4)).max((0, 1))
TETRAHEDRON, PYRAMID, OCTAHEDRON = _over_polygon(3, 1.0), _over_polygon(4, 1.0), _over_polygon(4, 1.0, -1.0)
PRISM = _between_polygons(3)


def _sized(triangles: np.ndarray, x: np.ndarray, y: np.ndarray | float, z: np.ndarray) -> np.ndarray:
    sizes = np.ones((len(x), 1, 1, 3), np.float32)
    sizes[:, 0, 0, 0], sizes[:, 0, 0, 1], sizes[:, 0, 0, 2] = x, y, z
    return triangles * sizes


def _tall(triangles: np.ndarray, low: float, high: float) -> Build:
    return lambda p: _sized(triangles, np.ones(len(p)), 1.0, _between(p, 0, low, high))


def _box(p: np.ndarray) -> np.ndarray:
    return _sized(CUBE, np.ones(len(p)), _between(p, 0, 0.5, 1.0), _between(p, 1, 0.4, 1.0))


def _cross(p: np.ndarray) -> np.ndarray:
    """Three bars at right angles; what one hides of another stays."""
    width = _between(p, 0, 0.15, 0.3)
    lengths = np.ones(len(p)), _between(p, 1, 0.7, 1.0), _between(p, 2, 0.7, 1.0)
    bars = [[lengths[k] if k == bar else width for k in range(3)] for bar in range(3)]
    return np.concatenate([_sized(CUBE, *bar) for bar in bars], 1)


def _stairs(p: np.ndarray) -> np.ndarray:
    """Four steps, each a box that stands on the ground."""
    rise, width = _between(p, 0, 0.2, 0.4), _between(p, 1, 0.5, 1.2)
    boxes = [_sized(CUBE, np.full(len(p), 0.25), width, rise * (step + 1)) for step in range(4)]
    for step, box in enumerate(boxes):
        box[..., 0] += np.float32(0.5 * step)
        box[..., 2] += (rise * (step + 1))[:, None, None]
    return np.concatenate(boxes, 1)


def _helix(p: np.ndarray) -> np.ndarray:
    return np.stack([_between(p, 0, 2.0, 4.0), _between(p, 1, 0.9, 1.8), _between(p, 2, 0.08, 0.16)], 1)


REVOLVED: dict[str, Build] = {
    "spheroid": _spheroid,
    "cylinder": _cylinder,
    "cone": _cone,
    "hourglass": _hourglass,
    "capsule": _capsule,
    "bowl": _bowl,
    "torus": _torus,
    "ring": _ring,
}
POLYHEDRA: dict[str, Build] = {
    "tetrahedron": _tall(TETRAHEDRON, 1.2, 1.7),
    "pyramid": _tall(PYRAMID, 0.6, 1.4),
    "octahedron": _tall(OCTAHEDRON, 0.8, 1.5),
    "prism": _tall(PRISM, 0.6, 1.6),
    "box": _box,
    "cross": _cross,
    "stairs": _stairs,
}
COILS: dict[str, Build] = {"helix": _helix}
NAMES = (*REVOLVED, *POLYHEDRA, *COILS)
_KINDS = (
    (0, REVOLVED, _revolve),
    (len(REVOLVED), POLYHEDRA, _triangulated),
    (len(REVOLVED) + len(POLYHEDRA), COILS, _coil),
)
