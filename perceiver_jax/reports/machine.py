# SPDX-License-Identifier: Apache-2.0
"""What this machine has and what keeps it from training, as rows for `doctor`.

Imports nothing that may be broken before it can say so: packages are looked up by their metadata, JAX is
imported where its devices are asked for.
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

PINS = Path(__file__).parents[2] / "requirements.txt"
SHOWN = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "clu",
    "tensorflow-datasets",
    "ml-collections",
    "numpy",
)
LAYOUTS = {  # data set: a file that every copy of it has
    "ModelNet (HDF5)": "ply_data_train*.h5",
    "CIFAR-10": "cifar-10-batches-py/data_batch_1",
    "CIFAR-100": "cifar-100-python/train",
    "UCR/UEA time series": "*_TRAIN.ts",
    "TFDS": "dataset_info.json",
}
DEPTHS = ("", "*/", "*/*/", "*/*/*/")
GIB = 2**30
CUDA_13_DRIVER = 580
"""The oldest NVIDIA driver that runs CUDA 13; older ones, from 525 on, run CUDA 12."""
COLOURS = {"ok": "green", "note": "yellow", "wrong": "bold red"}


class Row(NamedTuple):
    """One line: status is "ok", "note" (it trains all the same) or "wrong" (it cannot train)."""

    status: str
    what: str
    text: str


class Gpu(NamedTuple):
    """NVIDIA hardware that the operating system shows.

    Attributes:
        driver: major version; 0 where none is loaded, None where it cannot be told.
    """

    present: bool
    driver: int | None


def versions(pins_file: Path = PINS) -> Iterator[Row]:
    """Python, then the packages a run stands on; others only where they differ from their pin."""
    yield Row("ok", "Python", f"{sys.version.split()[0]} in {sys.prefix}")
    lines = pins_file.read_text().splitlines() if pins_file.exists() else []
    pins = dict(line.lower().replace("_", "-").split("==") for line in lines if "==" in line)
    for name in (*SHOWN, *(name for name in pins if name not in SHOWN)):
        pin = pins.get(name)
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Row(
                "wrong",
                name,
                f"not installed. Run: make setup, or {sys.executable} -m pip install -r requirements.txt",
            )
            continue
        if pin not in (None, found):
            yield Row("note", name, f"{found}, but requirements.txt pins {pin}")
        elif name in SHOWN:
            yield Row("ok", name, found if pin else f"{found}, no pin to compare with")


def machine() -> Iterator[Row]:
    """Cores and memory; TensorFlow, which slows the start where it is installed and is never needed."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    yield Row("ok", "machine", f"{len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB memory")
    there = importlib.util.find_spec("tensorflow") is not None
    yield Row("ok", "TensorFlow", f"{'installed' if there else 'not installed'}, not needed")


def nvidia_gpu(root: Path = Path("/")) -> Gpu:
    """Looks for a GPU without JAX: the driver's files, device nodes, WSL's driver folder, the PCI bus."""
    texts = [
        file.read_text()
        for name in ("sys/module/nvidia/version", "proc/driver/nvidia/version")
        if (file := root / name).exists()
    ]
    for text in texts:
        if version := re.search(r"\b(\d{3})\.\d+", text):
            return Gpu(True, int(version[1]))
    if texts or any((root / name).exists() for name in ("dev/nvidia0", "usr/lib/wsl/lib/nvidia-smi")):
        return Gpu(True, None)
    vendors = (file for file in root.glob("sys/bus/pci/devices/*/vendor") if file.read_text().strip() == "0x10de")
    displays = (file for file in vendors if (file.parent / "class").read_text().startswith("0x03"))
    return Gpu(next(displays, None) is not None, 0)


def devices(gpu: Gpu) -> Iterator[Row]:
    """What JAX computes on, and a GPU that it does not see."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a training may be using the GPU
    try:
        import jax

        found = jax.devices()
    except Exception as error:  # a plugin that does not fit raises whatever it likes
        yield Row("wrong", "devices", f"JAX finds none: {' '.join(str(error).split())}")
        return
    limit = (found[0].memory_stats() or {}).get("bytes_limit")
    memory = f", {limit / GIB:.0f} GiB each for JAX" if limit else ""
    yield Row("ok", "devices", f"{len(found)} x {found[0].device_kind} ({found[0].platform}){memory}")
    if gpu.present and found[0].platform != "gpu":
        yield Row("note", "GPU", unseen_gpu(gpu.driver, jax.__version__))


def unseen_gpu(driver: int | None, jax_version: str) -> str:
    """What to do about a GPU that is there and that JAX does not see."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return f"there, but JAX_PLATFORMS={platforms} hides it. Run: unset JAX_PLATFORMS"
    cuda = "cuda12" if driver and driver < CUDA_13_DRIVER else "cuda13"
    first = "no NVIDIA driver is loaded; install one, then " if driver == 0 else ""
    command = f'{sys.executable} -m pip install "jax[{cuda}]=={jax_version}"'
    return f"there, but JAX does not see it: {first}run: {command}"


def data_sets(folder: Path) -> Iterator[Row]:
    """Known layouts in `folder` and down to three levels below it."""
    places = [
        (name, file.parent)
        for name, layout in LAYOUTS.items()
        for depth in DEPTHS
        for file in folder.glob(depth + layout)
    ]
    for name, place in sorted(set(places)):
        yield Row("ok", "data set", f"{name} in {place}")
    if not places:
        yield Row("note", "data set", f"none in {folder}, --data=DIR looks elsewhere; configs/solids.py needs none")


def workdir(folder: Path) -> Row:
    """Can a run be written there, and how much of it."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free / GIB
    except OSError as error:
        return Row(
            "wrong",
            "workdir",
            f"{folder} cannot be written ({error.strerror}). Choose another with --workdir",
        )
    return Row("ok" if free > 1 else "note", "workdir", f"{folder} can be written, {free:,.1f} GiB free")


def show(rows: Sequence[Row]) -> None:
    """Plain columns; in colour on a terminal, where rich is installed."""
    if not sys.stdout.isatty() or importlib.util.find_spec("rich") is None:
        print("\n".join(f"{row.status:<5}  {row.what:<19}  {row.text}" for row in rows), flush=True)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for row in rows:
        table.add_row(f"[{COLOURS[row.status]}]{row.status}", row.what, escape(row.text))
    Console().print(table)
