# SPDX-License-Identifier: Apache-2.0
"""One run as several processes of this machine, started again when it is cut off.

    python launch/local.py --processes=2 -- --config=configs/solids.py:tiny --workdir=runs/solids

What follows `--` goes to `python -m perceiver_jax.main`, or to another command (--module=evaluate). Each line that a
process prints has its number in front. SIGTERM and Ctrl-C go to all: they save at the same step, and nothing is started
again. An end with 75 or by a signal is followed by another start; four in a row that save nothing new end it.
"""

import argparse
import os
import shlex
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from launch.supervisor import RESTARTS, Command, Supervisor  # noqa: E402 (where it lies is known only now)


def main(argv: Sequence[str]) -> int:
    """The exit code of the run."""
    options, arguments = parse(argv)
    if options.dry_run:
        print(*(shlex.join(command.argv) for command in commands(options, arguments)), sep="\n")
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
    return [Command(str(index), argv + number[index], environment(options.devices)) for index in range(len(number))]


def environment(devices: int | None) -> dict[str, str]:
    """This one, from which the package can be imported."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    flags = os.environ.get("XLA_FLAGS", "")
    if devices:
        flags = f"{flags} --xla_force_host_platform_device_count={devices}".strip()
    return {**os.environ, "PYTHONPATH": path, **({"XLA_FLAGS": flags} if flags else {})}


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
