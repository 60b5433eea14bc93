# SPDX-License-Identifier: Apache-2.0
"""What a run folder says of itself: the command, the code, the machine, the data's spec and the parameters."""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from perceiver_jax.data.source import Source
from perceiver_jax.invocation import command
from perceiver_jax.training.settings import Training
from perceiver_jax.training.state import TrainState

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "clu", "numpy", "ml-collections")
PLUGINS = ("libtpu", "jax-cuda12-plugin", "jax-cuda12-pjrt", "jax-cuda13-plugin", "jax-cuda13-pjrt")
"""What compiles for a kind of device; some of them are there."""
VARIABLES = (
    "XLA_FLAGS",
    "LIBTPU_INIT_ARGS",
    "JAX_PLATFORMS",
    "JAX_ENABLE_X64",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_THREEFRY_PARTITIONABLE",
    "JAX_NUMPY_DTYPE_PROMOTION",
    "JAX_USE_SHARDY_PARTITIONER",
    "JAX_DISABLE_JIT",
    "JAX_DISABLE_MOST_OPTIMIZATIONS",
    "JAX_DEBUG_NANS",
    "JAX_CPU_COLLECTIVES_IMPLEMENTATION",
)
"""Of the environment: what changes the program that is compiled."""
DUMP = "--xla_dump"
"""How flags begin that only say what is written where; each process may have its own."""

PACKAGE = Path(__file__).parents[1]

DECISIVE = ("git", "python", "versions", "machine", "processor", "devices", "threads", "processes", "mesh", "xla_flags")
"""Facts of a record on which the bits of a result may depend: code, libraries, device, threads, how it is split."""


def code_facts() -> dict[str, str]:
    """What all processes of a run must have alike: code (commit and files), versions, flags of the compiler."""
    facts = {"git": git_version(PACKAGE), "code": files_hash(PACKAGE), "python": platform.python_version()}
    words = {name: os.environ.get(name, "").split() for name in VARIABLES}
    flags = {name: " ".join(sorted(word for word in words[name] if not word.startswith(DUMP))) for name in VARIABLES}
    return facts | versions() | flags


def device_facts() -> dict[str, Any]:
    """The devices of a process, which all must have alike."""
    devices = jax.local_devices()
    return {"devices": len(devices), "kind": devices[0].device_kind}


def data_facts(source: Source, **more: Any) -> dict[str, Any]:
    """What decides which examples make which batch, and their shapes; all processes must have it alike."""
    sizes = {f"num_examples.{split}": source.num_examples(split) for split in source.splits}
    return sizes | {f"spec.{name}": value for name, value in source.spec.to_dict().items()} | more


def versions() -> dict[str, str]:
    """Of the packages that decide about results."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    for name in PLUGINS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def files_hash(folder: Path) -> str:
    """Of the names and contents of all Python files below a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def run_record(training: Training, state: TrainState) -> dict[str, Any]:
    """JSON-able facts about a run.

    Args:
        state: abstract or real; only shapes are read.
    """
    device = jax.devices()[0]
    return {
        "command": command(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git": git_version(PACKAGE),
        "python": platform.python_version(),
        "versions": versions(),
        "host": platform.node(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "devices": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processes": jax.process_count(),
        "mesh": dict(training.mesh.shape),
        "steps_per_epoch": training.settings.steps_per_epoch,
        "num_steps": training.settings.num_steps,
        "flops_per_example": training.flops_per_example,
        "spec": training.source.spec.to_dict(),
        "num_examples": {split: training.source.num_examples(split) for split in training.source.splits},
        "num_parameters": num_parameters(state.params),
        "parameters": parameter_table(state.params),
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Lines `fact: before -> now` for what decides over the bits of a result and is not as at an earlier start."""
    lines = []
    for name in DECISIVE:
        old, new = (record.get(name) for record in (before, now))
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += [f"{name}.{key}: {old.get(key)} -> {new[key]}" for key in new if old.get(key) != new[key]]
        elif old != new:
            lines.append(f"{name}: {old or 'none'} -> {new or 'none'}")
    return lines


def processor() -> str:
    """The CPU's name: another one may have other vector instructions, and so other last digits."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def git_version(folder: Path) -> str:
    """Commit of the checkout, with `-dirty` where files differ from it, or of the archive; else empty."""
    if commit := archived_commit(folder):
        return commit
    arguments = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(arguments, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def archived_commit(folder: Path) -> str:
    """What `git archive` has written into the file COMMIT of the folder; empty in a checkout, where nothing is yet."""
    try:
        text = (folder / "COMMIT").read_text().strip()
    except OSError:
        return ""
    return text if re.fullmatch("[0-9a-f]{40,64}", text) else ""


def num_parameters(params: Any) -> int:
    """Number of trainable values."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def parameter_table(params: Any) -> list[dict[str, Any]]:
    """One row per parameter: path, shape, dtype."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [
        {
            "path": jax.tree_util.keystr(path, simple=True, separator="/"),
            "shape": list(leaf.shape),
            "dtype": str(leaf.dtype),
        }
        for path, leaf in leaves
    ]


def summary_table(params: Any, depth: int = 2) -> list[tuple[str, int]]:
    """(module path, parameters in it), down to `depth` levels."""
    counts: dict[str, int] = {}
    for row in parameter_table(params):
        module = "/".join(row["path"].split("/")[:depth])
        counts[module] = counts.get(module, 0) + int(np.prod(row["shape"]))
    return list(counts.items())
