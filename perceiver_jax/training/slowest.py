# SPDX-License-Identifier: Apache-2.0
"""Which of several processes the others wait for.

All take their steps together, so a step takes each as long as the slowest. What differs is how much of it a process
spends on its own side, reading data and running Python, while its devices compute the step before.
"""

import statistics

from perceiver_jax.training import exchange
from perceiver_jax.training.console import Console
from perceiver_jax.training.writers import Writers

STANDS_OUT = 1.5
"""Times the median from which a process is named on the terminal,"""
HOLDS_UP = 0.8
"""and the share of a step from which its devices are likely to wait for it."""


def compare_processes(step: int, timing: dict[str, float], writers: Writers, console: Console) -> None:
    """Writes, and says where it is worth saying, which process is the slowest; every process calls it.

    Args:
        timing: of the latest steps, as `Meter` has it; empty where none was timed.
    """
    if found := slowest(timing.get("host_time")):
        writers.scalars(step, {f"processes/{name}": value for name, value in found.items()})
        if timing and (line := remark(found, timing["step_time"])):
            console.say(line)


def slowest(host_time: float | None) -> dict[str, float]:
    """The process that spends the most seconds of a step on its own side; nothing where there is one alone.

    Args:
        host_time: of this process; None where it timed no step.
    """
    times = exchange.gather("host time", host_time)
    known = [seconds for seconds in times if seconds is not None]
    if len(known) < 2:
        return {}
    most = max(known)
    return {"slowest": times.index(most), "slowest_host_time": most, "median_host_time": statistics.median(known)}


def remark(found: dict[str, float], step_time: float) -> str:
    """A line for the terminal; empty where no process stands out, or it does not hold up the others."""
    most, median = found["slowest_host_time"], found["median_host_time"]
    if most < max(STANDS_OUT * median, HOLDS_UP * step_time):
        return ""
    return (
        f"process {found['slowest']} is the slowest: data and Python take it {1000 * most:.1f} ms of a step of "
        f"{1000 * step_time:.1f} ms, half of the processes less than {1000 * median:.1f} ms"
    )
