# SPDX-License-Identifier: Apache-2.0
"""One file -> the points of one cloud, whatever its format; points on the surface of a mesh."""

import pathlib

import numpy as np
import trimesh

from perceiver_jax.data.cloud_text import read_numbers, read_text
from perceiver_jax.data.off import read_off
from perceiver_jax.data.pcd import read_pcd
from perceiver_jax.data.ply import read_ply
from perceiver_jax.errors import ConfigError

NORMAL_LINE, LINE = "x,y,z,nx,ny,nz", "x y z"


def read_cloud(file: pathlib.Path, form: str, num_points: int, normals: bool, seed: int) -> np.ndarray:
    """Up to `num_points` points, (points, 3 or 6) float32: of text the first ones, which are in a random order in
    ModelNet's files; of .pcd and .ply a random subset; of .off exactly so many, spread uniformly over the surface.

    Args:
        form: "off", "text", "pcd" or "ply".
        seed: of what is random.

    Raises:
        ConfigError: the file is broken or has no surface.
        OSError: it cannot be read.
    """
    if form == "off":
        return _surface(file, num_points, normals, seed)
    if form == "text":
        return read_text(file, num_points, normals)
    points = {"pcd": read_pcd, "ply": read_ply}[form](file, normals)
    if len(points) > num_points:
        points = points[np.random.default_rng(seed).permutation(len(points))[:num_points]]
    return points


def read_lines(file: pathlib.Path, num_points: int, normals: bool) -> np.ndarray:
    """The first points of a text file, x, y, z and, where asked for, a normal, parted by commas or white space.

    Raises:
        ConfigError: names the line that is something else.
        OSError: it cannot be read.
    """
    lines = file.read_text(errors="replace").rstrip().splitlines()[:num_points]
    delimiter = "," if lines and "," in lines[0] else None
    what = NORMAL_LINE if normals else LINE
    table = read_numbers(file, lines, range(1, len(lines) + 1), 6 if normals else 3, what, delimiter)
    return table.astype(np.float32)


def _surface(file: pathlib.Path, num_points: int, normals: bool, seed: int) -> np.ndarray:
    mesh = read_off(file)
    surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    if not surface.area > 0:
        raise ConfigError(f"{file}: its {len(mesh.faces)} faces have no area: expected a surface. Fetch it again.")
    points, faces = trimesh.sample.sample_surface(surface, num_points, seed=seed)[:2]
    points = np.asarray(points, np.float32)
    return np.concatenate([points, _normals(mesh.vertices[mesh.faces[faces]])], 1) if normals else points


def _normals(corners: np.ndarray) -> np.ndarray:
    """Unit normals of triangles (n, 3, 3), by the order of their corners."""
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return (normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)).astype(np.float32)
