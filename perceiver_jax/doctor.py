# SPDX-License-Identifier: Apache-2.0
"""Can this machine train? `python -m perceiver_jax.doctor [--data=DIR] [--workdir=runs]`.

One screen; exit 0, or 78 with what is missing.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from perceiver_jax import command_line
from perceiver_jax.errors import ConfigError
from perceiver_jax.reports import machine

DATA = flags.DEFINE_string("data", "data", "folder whose data sets are listed")
WORKDIR = flags.DEFINE_string("workdir", "runs", "folder that a run would write to")


def main(argv: Sequence[str]) -> None:
    """Prints the table; ConfigError names what keeps this machine from training."""
    rows = [
        *machine.versions(),
        *machine.machine(),
        *machine.devices(machine.nvidia_gpu()),
        *machine.data_sets(Path(DATA.value)),
        machine.workdir(Path(WORKDIR.value)),
    ]
    machine.show(rows)
    wrong = [f"{row.what}: {row.text}" for row in rows if row.status == "wrong"]
    if wrong:
        raise ConfigError(f"this machine cannot train yet. {'; '.join(wrong)}")
    print("This machine can train.")


def run() -> None:
    """The command."""
    command_line.run(main)


if __name__ == "__main__":
    run()
