# SPDX-License-Identifier: Apache-2.0
"""Can this machine train? `python -m perceiver_jax.doctor [--data=DIR] [--workdir=runs]`: one screen, exit 0 or 78.

Imports nothing that may be broken before it can say so: packages are looked up by their metadata, JAX comes last.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags

from perceiver_jax import command_line
from perceiver_jax.errors import ConfigError

DATA = flags.DEFINE_string("data", "data", "folder whose data sets are listed")
WORKDIR = flags.DEFINE_string("workdir", "runs", "folder that a run would write to")

PINS = Path(__file__).parents[1] / "requirements.txt"
SHOWN = "jax jaxlib flax optax orbax-checkpoint grain clu tensorflow-datasets ml-collections numpy".split()
LAYOUTS = {  # data set: a file that every copy of it has
    "ModelNet (HDF5)": "*train*.h5",
    "CIFAR-10": "cifar-10-batches-py/data_batch_1",
    "CIFAR-100": "cifar-100-python/train",
    "TFDS": "dataset_info.json",
}
GIB = 2**30
CUDA_13_DRIVER = 580
"""The oldest NVIDIA driver that runs CUDA 13; older ones, from 525 on, run CUDA 12."""


class Row(NamedTuple):
    """One line: status is "ok", "note" (it trains all the same) or "wrong" (it cannot train)."""

    status: str
    what: str
    text: str


def versions(pins_file: Path = PINS) -> Iterator[Row]:
    """Python, then the packages a run stands on; others only where they differ from their pin."""
    yield Row("ok" if sys.version_info >= (3, 11) else "wrong", "Python", f"{sys.version.split()[0]}, {sys.prefix}")
    lines = pins_file.read_text().split() if pins_file.exists() else []
    pins = dict(line.split("==") for line in lines if "==" in line)
    for name in [*SHOWN, *(name for name in pins if name not in SHOWN)]:
        pin = pins.get(name)
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Row("wrong", name, "not installed. Run: make setup, or pip install -r requirements.txt")
            continue
        if pin not in (None, found):
            yield Row("note", name, f"{found}, but requirements.txt pins {pin}")
        elif name in SHOWN:
            yield Row("ok", name, found if pin else f"{found} (no requirements.txt to compare with)")


def nvidia_gpu(root: Path = Path("/")) -> tuple[bool, int | None]:
    """Is a GPU of NVIDIA's in this machine, and its driver's major version, None where no driver is loaded."""
    version = root / "sys/module/nvidia/version"
    driver = int(version.read_text().split(".")[0]) if version.exists() else None
    vendors = (file for file in root.glob("sys/bus/pci/devices/*/vendor") if file.read_text().strip() == "0x10de")
    on_bus = any((file.parent / "class").read_text().startswith("0x03") for file in vendors)
    signs = [root / "proc/driver/nvidia/version", root / "dev/nvidia0"]
    return on_bus or driver is not None or any(sign.exists() for sign in signs), driver


def devices(gpu: tuple[bool, int | None]) -> Iterator[Row]:
    """What JAX computes on, and a GPU that it does not see."""
    try:
        import jax

        found = jax.devices()
    except Exception as error:  # a plugin that does not fit raises whatever it likes
        yield Row("wrong", "devices", f"JAX finds none: {' '.join(str(error).split())}")
        return
    limit = (found[0].memory_stats() or {}).get("bytes_limit")
    memory = f", {limit / GIB:.0f} GiB each" if limit else ""
    yield Row("ok", "devices", f"{len(found)} x {found[0].device_kind} ({found[0].platform}){memory}")
    if gpu[0] and found[0].platform != "gpu":
        yield Row("note", "GPU", unseen_gpu(gpu[1], jax.__version__))


def unseen_gpu(driver: int | None, jax_version: str) -> str:
    """What to do about a GPU that is there and that JAX does not see."""
    if os.environ.get("JAX_PLATFORMS", "") not in ("", "cuda", "gpu"):
        return f"there, but JAX_PLATFORMS={os.environ['JAX_PLATFORMS']} hides it. Run: unset JAX_PLATFORMS"
    cuda = "cuda12" if driver is not None and driver < CUDA_13_DRIVER else "cuda13"
    first = "" if driver is not None else "no NVIDIA driver is loaded: install one, then "
    return f'there, but JAX does not see it: {first}run: {sys.executable} -m pip install "jax[{cuda}]=={jax_version}"'


def machine() -> Iterator[Row]:
    """Memory, cores, TensorFlow."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    yield Row("ok", "machine", f"{len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB memory")
    there = importlib.util.find_spec("tensorflow") is not None
    yield Row("ok", "TensorFlow", f"{'installed' if there else 'not installed'}, not needed")


def data_sets(folder: Path) -> Iterator[Row]:
    """Known layouts under `folder`, at most four levels down."""
    found = False
    for name, pattern in LAYOUTS.items():
        depths = ("", "*/", "*/*/", "*/*/*/")
        files = (file for depth in depths for file in folder.glob(depth + pattern))
        for place in sorted({file.parent for file in files}):
            found = True
            yield Row("ok", "data set", f"{name} in {place}")
    if not found:
        yield Row("note", "data set", f"none in {folder} (--data=DIR looks elsewhere); configs/solids.py needs none")


def workdir(folder: Path) -> Row:
    """Can a run be written there, and how much of it."""
    there = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free / GIB
    except OSError as error:
        return Row("wrong", "workdir", f"{folder} cannot be written ({error.strerror}). Choose another with --workdir")
    return Row("ok" if free > 1 else "note", "workdir", f"{folder} can be written, {free:,.0f} GiB free")


def show(rows: Sequence[Row]) -> None:
    """A table on a terminal, plain columns elsewhere or without rich."""
    if not sys.stdout.isatty() or importlib.util.find_spec("rich") is None:
        print("\n".join(f"{row.status:<5}  {row.what:<19}  {row.text}" for row in rows))
        return
    from rich import console, table

    sheet = table.Table(show_header=False, box=None)
    colours = {"ok": "green", "note": "yellow", "wrong": "bold red"}
    for row in rows:
        sheet.add_row(f"[{colours[row.status]}]{row.status}", row.what, row.text.replace("[", r"\["))
    console.Console().print(sheet)


def main(argv: Sequence[str]) -> None:
    """Prints the table; ConfigError names what keeps this machine from training."""
    if len(argv) > 1:
        raise ConfigError(f"argument {argv[1]!r} is not a flag. Flags: --data=DIR, --workdir=DIR.")
    rows = [*versions(), *machine(), *devices(nvidia_gpu()), *data_sets(Path(DATA.value)), workdir(Path(WORKDIR.value))]
    show(rows)
    wrong = [f"{row.what}: {row.text}" for row in rows if row.status == "wrong"]
    if wrong:
        raise ConfigError(f"this machine cannot train yet. {'; '.join(wrong)}")


def run() -> None:
    """The command."""
    command_line.run(main)


if __name__ == "__main__":
    run()
