# SPDX-License-Identifier: Apache-2.0
"""One run as several processes of this machine, started again when it is cut off.

    python launch/local.py --processes=2 -- --config=configs/solids.py:tiny --workdir=runs/solids

What follows `--` goes to `python -m perceiver_jax.main`, or to another command (--module=evaluate). Each line that a
process prints has its number in front. SIGTERM and Ctrl-C go to all: they save at the same step, and nothing is started
again. An end with 75 or by a signal is followed by another start; four in a row that save nothing new end it. Several
processes share the GPUs of the machine, or those that CUDA_VISIBLE_DEVICES names, in equal parts.
"""

import argparse
import importlib.util
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from launch.supervisor import RESTARTS, WRONG, Command, Supervisor  # noqa: E402 (where it lies is known only now)
from perceiver_jax.errors import ConfigError  # noqa: E402

CUDA_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
"""Without one of them JAX uses no GPU."""


def main(argv: Sequence[str]) -> int:
    """The exit code of the run."""
    options, arguments = parse(argv)
    try:
        return run(options, arguments)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Starts the processes, or prints how."""
    if options.dry_run:
        print(*(shown(command) for command in commands(options, arguments)), sep="\n")
        return 0
    workdir = workdir_of(arguments) if options.module == "main" else None
    with Supervisor(restarts=options.restarts, pause=options.pause) as supervisor:
        return supervisor.run(lambda: commands(options, arguments), last_promise(workdir))


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our flags, and the arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1, help="how many; default 1")
    parser.add_argument("--devices", type=int, help="simulated CPU devices of each process")
    parser.add_argument("--module", default="main", help="the command: main, evaluate or predict")
    parser.add_argument("--restarts", type=int, default=RESTARTS, help="how many in a row may be without progress")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds before the first of them; doubles each time")
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    cut = list(argv).index("--") if "--" in argv else len(argv)
    return parser.parse_args(argv[:cut]), list(argv[cut + 1 :])


def commands(options: argparse.Namespace, arguments: Sequence[str]) -> list[Command]:
    """One for each process; they meet at a port that is free now."""
    where = []
    if options.processes > 1:
        where = [f"--coordinator=127.0.0.1:{free_port()}", f"--num_processes={options.processes}"]
    argv = [sys.executable, "-u", "-m", f"perceiver_jax.{options.module}", *arguments, *where]
    number = [[f"--process_id={index}"] if where else [] for index in range(options.processes)]
    gpus = shares([] if options.devices or not where else visible_gpus(), options.processes)
    return [
        Command(str(index), argv + number[index], environment(options.devices, gpus[index]))
        for index in range(options.processes)
    ]


def shown(command: Command) -> str:
    """As a shell takes it, with the variables that are set for it."""
    added = [f"{name}={value}" for name, value in command.env.items() if os.environ.get(name) != value]
    return shlex.join(["env", *added, *command.argv])


def visible_gpus() -> list[str]:
    """Those that JAX would use: what CUDA_VISIBLE_DEVICES names, else all of the machine, by number."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    unused = platforms and not {"cuda", "gpu"} & set(platforms.split(","))
    if unused or not any(map(importlib.util.find_spec, CUDA_PLUGINS)):
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(index) for index in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]


def shares(gpus: Sequence[str], processes: int) -> list[Sequence[str]]:
    """The GPUs of each process.

    Raises:
        ConfigError: they do not divide.
    """
    if len(gpus) % processes:
        raise ConfigError(
            f"--processes={processes}: expected a divisor of the number of GPUs, {len(gpus)} ({','.join(gpus)}). "
            "Use one, name other GPUs in CUDA_VISIBLE_DEVICES, or train on the CPU with JAX_PLATFORMS=cpu."
        )
    each = len(gpus) // processes
    return [gpus[index * each : (index + 1) * each] for index in range(processes)]


def environment(devices: int | None, gpus: Sequence[str] = ()) -> dict[str, str]:
    """This one, from which the package can be imported."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    flags = os.environ.get("XLA_FLAGS", "")
    if devices:
        flags = f"{flags} --xla_force_host_platform_device_count={devices}".strip()
    added = {"XLA_FLAGS": flags, "CUDA_VISIBLE_DEVICES": ",".join(gpus)}
    return {**os.environ, "PYTHONPATH": path, **{name: value for name, value in added.items() if value}}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def workdir_of(arguments: Sequence[str]) -> Path | None:
    """The run folder of a training command; None if it does not say."""
    from perceiver_jax.command_line import flag_value
    from perceiver_jax.run_folder import default_workdir

    config = flag_value("config", arguments)
    named = flag_value("workdir", arguments) or (config and default_workdir(config))
    return Path(named) if named else None


def last_promise(workdir: Path | None) -> Callable[[], int | None]:
    """Tells the newest checkpoint of a run folder, which is how far a run has come for good."""
    from perceiver_jax.training.ledger import Ledger

    def newest() -> int | None:
        ledger = workdir and Ledger(workdir / "checkpoints" / "committed.jsonl", read_only=True)
        return max(ledger.promises, default=None) if ledger else None

    return newest


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
