# SPDX-License-Identifier: Apache-2.0
"""`manifest.json` of a checkpoint: size and checksum of every file, shape and type of every array.

Orbax reads flipped bytes without complaint, casts a wrong type silently and says of a truncated file only
that an offset is out of range. The manifest closes these: its own SHA-256 stands in the ledger, and everything
is checked before Orbax reads. The files have a CRC-32, which no change within four bytes escapes and any other
one in 4 billion: half the cost of SHA-256, which was more than a fifth of the background part of a save.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from perceiver_jax.errors import ConfigError
from perceiver_jax.weights import parameter_paths

NAME = "manifest.json"
NUM_THREADS = 8
READ_SIZE = 1 << 20
MAX_NAMED = 4  # differences spelled out per kind


class Crc32:
    """`zlib.crc32` with the interface of hashlib."""

    def __init__(self):
        self._value = 0

    def update(self, data: memoryview) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


KIND = "crc32"
"""Of the checksums that are written."""
CHECKSUMS = {KIND: Crc32, "sha256": hashlib.sha256}
"""Those that are read: earlier checkpoints have SHA-256."""

Layout = Mapping[str, list]  # path -> [shape, dtype]


def layout(state: Any) -> dict[str, list]:
    """Path -> [shape, dtype] of every leaf; works on arrays, Python numbers and ShapeDtypeStructs."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {
        parameter_paths.join(path): [list(np.shape(leaf)), jax.dtypes.result_type(leaf).name] for path, leaf in leaves
    }


def write(folder: Path, arrays: Layout) -> str:
    """Checksums and syncs all files below `folder`, writes the manifest; returns the manifest's own SHA-256."""
    names = _files(folder)
    with ThreadPoolExecutor(NUM_THREADS) as pool:  # a checksum takes the CPU while syncing waits for the disk
        tasks = [(pool.submit(_describe, folder / name), pool.submit(sync, folder / name)) for name in names]
        files = {name: described.result() for name, (described, _) in zip(names, tasks, strict=True)}
        for _, synced in tasks:
            synced.result()
    content = json.dumps({"files": files, "arrays": arrays}, indent=0).encode()
    with open(folder / NAME, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    for directory in (folder.parent, folder, *(p for p in folder.rglob("*") if p.is_dir())):
        sync(directory)
    return hashlib.sha256(content).hexdigest()


def find_damage(folder: Path, manifest_hash: str) -> str | None:
    """What is wrong with the checkpoint in `folder`, naming a file, or None if every byte is as promised."""
    if not folder.is_dir():
        return f"{folder} is missing"
    if not (folder / NAME).is_file():
        return f"{folder / NAME} is missing"
    if not is_intact(folder, manifest_hash):
        return f"{folder / NAME} does not match the hash in committed.jsonl"
    files = json.loads((folder / NAME).read_bytes())["files"]
    found = _files(folder)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        problems = pool.map(lambda name: _compare(folder / name, files.get(name)), sorted({*files, *found}))
        return next((problem for problem in problems if problem), None)


def is_intact(folder: Path, manifest_hash: str) -> bool:
    """Whether the manifest itself is as promised; says nothing of the other files."""
    try:
        return hashlib.sha256((folder / NAME).read_bytes()).hexdigest() == manifest_hash
    except OSError:
        return False


def read_layout(folder: Path) -> dict[str, list]:
    """The arrays a verified checkpoint holds."""
    return json.loads((folder / NAME).read_bytes())["arrays"]


def check_layout(found: Layout, expected: Layout, where: str) -> None:
    """Raises one ConfigError that lists how the arrays of a checkpoint differ from what the model needs."""
    parts = {
        "missing in the checkpoint": sorted(expected.keys() - found.keys()),
        "not in the model": sorted(found.keys() - expected.keys()),
    }
    for kind, index in (("shape", 0), ("type", 1)):
        parts[f"other {kind}"] = [
            f"{path}: checkpoint {_text(found[path][index])}, model {_text(expected[path][index])}"
            for path in sorted(found.keys() & expected.keys())
            if list(found[path])[index] != list(expected[path])[index]
        ]
    problems = [f"{name} ({len(items)}): {_some(items)}" for name, items in parts.items() if items]
    if problems:
        raise ConfigError(
            f"{where} does not fit the model: {'; '.join(problems)}. "
            "Use the config it was trained with, or another workdir."
        )


def _some(items: list[str]) -> str:
    rest = len(items) - MAX_NAMED
    return ", ".join(items[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _text(value: list | str) -> str:
    return value if isinstance(value, str) else f"({', '.join(map(str, value))})"


def _files(folder: Path) -> list[str]:
    """Relative names of all files but the manifest, sorted."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir() and p != folder / NAME)


def _describe(path: Path, kind: str = KIND) -> dict:
    """Size and checksum, read in parts large enough that other threads run meanwhile."""
    checksum, buffer = CHECKSUMS[kind](), bytearray(READ_SIZE)
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        while count := file.readinto(buffer):
            checksum.update(memoryview(buffer)[:count])
    return {"size": size, kind: checksum.hexdigest()}


def _compare(path: Path, promised: dict | None) -> str | None:
    if promised is None:
        return f"{path} was added"
    if not path.is_file():
        return f"{path} is missing"
    try:
        if (size := path.stat().st_size) != promised["size"]:
            return f"{path} has {size} bytes instead of {promised['size']}"
        (kind,) = promised.keys() - {"size"}
        return None if _describe(path, kind) == promised else f"{path} does not match its {kind}"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"


def sync(path: Path) -> None:
    """Puts a file or folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
