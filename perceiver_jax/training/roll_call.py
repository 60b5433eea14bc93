# SPDX-License-Identifier: Apache-2.0
"""Who takes part, and with what: asked once, before anything is compiled.

JAX's runtime ends a process with an abort, and names nobody, when the coordinator or a peer does not come. So the
processes meet first at the same address: each says its number and what it is about to run (code, versions, config);
process 0 waits for all, compares, and tells everybody the same outcome. Then the address is free for JAX.
"""

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

from perceiver_jax.errors import ConfigError, Retry

PAUSE = 0.1
"""Seconds between two attempts to reach process 0."""
MOST_NAMED = 6
"""Differences that are spelled out."""
ERRORS = {error.__name__: error for error in (ConfigError, Retry)}


def call_roll(address: str, count: int, index: int, facts: Mapping[str, Any], seconds: float) -> None:
    """Returns in all processes when all are there and agree.

    Args:
        address: HOST:PORT of process 0.
        facts: what this process is about to run; JSON-able.
        seconds: how long to wait for the others.

    Raises:
        Retry: process 0 or another one did not come; says which.
        ConfigError: they differ; says in what.
    """
    host, _, port = address.rpartition(":")
    if index == 0:
        _ask(int(port), count, json.loads(json.dumps(facts)), seconds)
    else:
        _answer(host, int(port), index, count, facts, seconds)


def differences(facts: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """What process 0 and another one do not have in common, a line each."""
    first, lines = facts[0], []
    for process, other in sorted(facts.items()):
        for name in sorted({*first, *other}):
            left, right = first.get(name), other.get(name)
            if left != right:
                lines.append(f"{name}: process 0 has {left!r}, process {process} has {right!r}")
    return lines


def _ask(port: int, count: int, facts: Mapping[str, Any], seconds: float) -> None:
    """Process 0."""
    said, lines = {0: facts}, {}
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(_listening(port))
        deadline = time.monotonic() + seconds
        while len(said) < count and (left := deadline - time.monotonic()) > 0:
            listening.settimeout(left)
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # a stranger, or one that ended
                line = stack.enter_context(listening.accept()[0])
                line.settimeout(left)
                heard = json.loads(line.makefile().readline())
                said[int(heard["process"])], lines[int(heard["process"])] = dict(heard["facts"]), line
        outcome = _outcome(said, count, seconds)
        told = {"error": type(outcome).__name__ if outcome else None, "text": str(outcome)}
        for line in lines.values():
            with contextlib.suppress(OSError):
                line.sendall(json.dumps(told).encode() + b"\n")
                line.settimeout(PAUSE)
                line.recv(1)  # the other side closes first, so that the port is free at once
    if outcome:
        raise outcome


def _outcome(said: Mapping[int, Mapping[str, Any]], count: int, seconds: float) -> Exception | None:
    missing = [str(process) for process in range(count) if process not in said]
    if missing:
        return Retry(
            f"{len(missing)} of {count} processes did not come within {seconds:g} s: number {', '.join(missing)}. "
            "See what they say, and start all of them again."
        )
    if found := differences(said):
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        return ConfigError(
            f"the processes are not about to run the same: {'; '.join(found[:MOST_NAMED])}{more}. "
            "Start all of them from the same code with the same flags."
        )
    return None


def _listening(port: int) -> socket.socket:
    dual = socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            ("", port), family=socket.AF_INET6 if dual else socket.AF_INET, dualstack_ipv6=dual, backlog=1024
        )
    except OSError as error:
        raise Retry(f"process 0 cannot listen on port {port} ({error.strerror}). Another run may use it.") from None


def _answer(host: str, port: int, index: int, count: int, facts: Mapping[str, Any], seconds: float) -> None:
    """Every other process."""
    said = json.dumps({"process": index, "facts": facts}).encode() + b"\n"
    for left in _until(time.monotonic() + seconds):
        try:
            with socket.create_connection((host, port), timeout=left) as line:
                line.sendall(said)
                line.settimeout(seconds + left)  # process 0 may have begun to wait only now
                told = json.loads(line.makefile().readline())
        except (OSError, ValueError):  # not there yet, or gone again
            continue
        if told["error"]:
            raise ERRORS[told["error"]](told["text"])
        return
    raise Retry(
        f"process {index} of {count}: the coordinator, process 0 at {host}:{port}, did not come within {seconds:g} s. "
        "See what process 0 says, and start all of them again with its address as --coordinator."
    )


def _until(deadline: float) -> Iterator[float]:
    """The seconds that are left, now and after each pause."""
    while (left := deadline - time.monotonic()) > 0:
        yield left
        time.sleep(min(PAUSE, left))
