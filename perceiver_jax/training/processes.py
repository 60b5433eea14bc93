# SPDX-License-Identifier: Apache-2.0
"""Several processes that are one run: how they find each other, begin, part, and say that one was lost.

Their number and the address of process 0 come from flags, or from what started them: Slurm, GKE, TPU machines and Open
MPI, as JAX detects them. Arrays go between them by JAX's distributed runtime (gloo on CPUs), texts by `exchange`.
Process 0 alone writes into the run folder and onto the terminal.
"""

import contextlib
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from jax._src import clusters

from perceiver_jax.errors import ConfigError, Retry
from perceiver_jax.training import exchange
from perceiver_jax.training.preemption import Preempted
from perceiver_jax.training.record import code_facts, device_facts
from perceiver_jax.training.roll_call import call_roll, differences, listed

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 30
"""How long a process waits at the end for the others to end too."""
LOST = (
    "Gloo",
    "NCCL",
    "closed by peer",
    "reset by peer",
    "Socket closed",
    "coordination",
    "heartbeat",
    "Barrier",
    "processes have parted",
)
"""Words of errors that mean that another process, or the way to it, is gone."""
LOST_STATUS = ("UNAVAILABLE", "ABORTED", "DEADLINE_EXCEEDED", "DATA_LOSS", "CANCELLED", "Megascale", "megascale")
"""The same, of errors of JAX's runtime alone: as TPUs tell it. Elsewhere they may mean a damaged file."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Which of how many processes this one is.

    Attributes:
        coordinator: HOST:PORT of process 0.
        local_devices: the devices of this machine that are its; None is all.
    """

    coordinator: str
    count: int
    index: int
    local_devices: Sequence[int] | None = None


def find(coordinator: str = "", num_processes: int | None = None, process_id: int | None = None) -> Place | None:
    """The place that flags give, or the cluster this process runs in; None where it is alone.

    Raises:
        ConfigError: flags or cluster do not say all that is needed.
    """
    if num_processes == 1:
        return None
    given = f"--coordinator={coordinator or None} --num_processes={num_processes} --process_id={process_id}"
    address, count, index, devices = coordinator or None, num_processes, process_id, None
    if None in (address, count, index):
        address, count, index, devices = _detect(address, count, index, given)
    if count in (None, 1) and (coordinator or process_id) in ("", None):
        return None
    if None in (address, count, index):
        raise ConfigError(f"{given}: expected all three, or a cluster that says the rest. Give what is None.")
    if not (0 <= index < count) or not address.rpartition(":")[2].isdecimal():
        raise ConfigError(
            f"--coordinator={address} --num_processes={count} --process_id={index}: expected HOST:PORT of process 0 "
            "and a number less than that of the processes."
        )
    return Place(address, count, index, devices)


def _detect(address: str | None, count: int | None, index: int | None, given: str) -> tuple:
    try:
        found = clusters.ClusterEnv.auto_detect_unset_distributed_params(address, count, index, None, None, 300)
    except Exception as error:  # whatever the cluster's own library raises
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{given}: the cluster does not say the rest ({reason}). Give all three, or --num_processes=1 to run alone."
        ) from error
    return found


@contextlib.contextmanager
def joined(
    facts: Mapping[str, Any],
    *,
    coordinator: str,
    num_processes: int | None,
    process_id: int | None,
    start_seconds: float,
    heartbeat_seconds: float,
) -> Iterator[None]:
    """Context in which this process is one of a run; alone, there is nothing to it.

    Args:
        facts: what must be the same in all of them, beside code and versions: config, folder.
        coordinator, num_processes, process_id: as `find` takes them.
        start_seconds: how long to wait for the others.
        heartbeat_seconds: without a sign of life for so long a process counts as lost, and the runtime ends the others.

    Raises:
        Retry: another process did not come, or was lost.
        ConfigError: `facts`, flags or devices differ.
    """
    place = find(coordinator, num_processes, process_id)
    if place is None:
        yield
        return
    facts = {**facts, **code_facts(), "num_processes": place.count}
    call_roll(place.coordinator, place.count, place.index, facts, start_seconds)
    _initialize(place, start_seconds, heartbeat_seconds)
    if place.index:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # also of what C++ prints
    agree("devices", device_facts())
    try:
        yield
    except Preempted:
        _part()
        raise
    except Exception as error:
        if isinstance(error, (ConfigError, Retry)) or not _is_loss(error):
            raise
        raise Retry(
            f"process {place.index}: another process was lost ({' '.join(str(error).split())[:200]}); "
            "run the same command to go on"
        ) from error
    else:
        _part()


def agree(what: str, facts: Mapping[str, Any]) -> None:
    """Returns in all processes when they have the same facts, which are JSON-able.

    Raises:
        ConfigError: in all of them; says in what they differ.
    """
    here = json.loads(json.dumps(facts))
    first = exchange.on_first(f"{what} of process 0", lambda: here)
    found = differences({0: first, jax.process_index(): here})
    refuse(what, found, f"the processes do not have the same {what}: ", ". Give all of them the same.")


def refuse(what: str, problems: Sequence[str], before: str, after: str) -> None:
    """Returns in all processes when none has a problem.

    Raises:
        ConfigError: in all of them: `before`, the problems of all, `after`.
    """
    if found := [line for lines in exchange.gather(f"refused {what}", list(problems)) for line in lines]:
        _part()  # so that all get to say it
        raise ConfigError(f"{before}{listed(found)}{after}")


def _initialize(place: Place, start_seconds: float, heartbeat_seconds: float) -> None:
    jax.config.update("jax_enable_preemption_service", False)  # signals are ours: `preemption`
    jax.distributed.initialize(
        place.coordinator,
        place.count,
        place.index,
        local_device_ids=place.local_devices,
        cluster_detection_method="deactivate",
        initialization_timeout=max(int(start_seconds), 1),
        heartbeat_timeout_seconds=max(int(heartbeat_seconds), 1),
        shutdown_timeout_seconds=SHUTDOWN_SECONDS,
    )


def _part() -> None:
    """All processes leave at the same time, so that none takes another for lost."""
    try:
        jax.distributed.shutdown()
    except RuntimeError as error:
        log.warning("the processes did not end together: %s", error)


def _is_loss(error: BaseException | None) -> bool:
    while error is not None:
        words = LOST + LOST_STATUS * isinstance(error, jax.errors.JaxRuntimeError)
        if any(word in str(error) for word in words):
            return True
        error = error.__cause__ or error.__context__
    return False
