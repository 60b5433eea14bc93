# SPDX-License-Identifier: Apache-2.0
"""Who takes part, and with what: asked once, before anything is compiled.

JAX's runtime ends a process with an abort, and names nobody, when the coordinator or a peer does not come. So the
processes meet first at the same address: each says its number and what it is about to run (code, versions, config);
process 0 waits for all, compares, and tells everybody the same outcome. Then the address is free for JAX.
"""

import contextlib
import json
import os
import platform
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from perceiver_jax.errors import ConfigError, Retry

PAUSE = 0.1
"""Seconds between two attempts to reach process 0."""
HEARING = 10.0
"""Seconds within which one that has come says who it is,"""
LONGEST = 2**20
"""and characters."""
MOST_NAMED = 6
"""Differences that are spelled out,"""
SHOWN = 300
"""and characters of a value."""
ERRORS = {error.__name__: error for error in (ConfigError, Retry)}


def call_roll(address: str, count: int, index: int, facts: Mapping[str, Any], seconds: float) -> None:
    """Returns in all processes when all are there and agree.

    Args:
        address: HOST:PORT of process 0.
        facts: what this process is about to run; JSON-able.
        seconds: how long to wait for the others.

    Raises:
        Retry: process 0 or another one did not come, or two have the same number; says which.
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
                lines.append(f"{name}: process 0 has {_shown(left)}, process {process} has {_shown(right)}")
    return lines


def listed(lines: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(lines) - MOST_NAMED} more" if len(lines) > MOST_NAMED else ""
    return f"{'; '.join(lines[:MOST_NAMED])}{more}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


class Answer(NamedTuple):
    """What another process has said of itself.

    Attributes:
        name: for a person: process and host.
        call: of `_answer`, the same at each of its attempts.
        line: to it.
    """

    process: int
    name: str
    call: str
    facts: Mapping[str, Any]
    line: socket.socket


def _ask(port: int, count: int, facts: Mapping[str, Any], seconds: float) -> None:
    """Process 0."""
    answers: dict[int, Answer] = {}
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(_listening(port))
        twice = _gather(listening, stack, answers, count - 1, time.monotonic() + seconds)
        said = {0: facts} | {process: answer.facts for process, answer in answers.items()}
        outcome = twice or _outcome(said, count, seconds)
        told = {"error": type(outcome).__name__ if outcome else None, "text": str(outcome)}
        for answer in answers.values():
            with contextlib.suppress(OSError):
                answer.line.settimeout(PAUSE)
                answer.line.sendall(json.dumps(told).encode() + b"\n")
                answer.line.recv(1)  # the other side closes first, so that the port is free at once
    if outcome:
        raise outcome


def _gather(
    listening: socket.socket, stack: contextlib.ExitStack, answers: dict[int, Answer], count: int, deadline: float
) -> Retry | None:
    """Puts those who come into `answers`, until there are `count`; an error if two have the same number.

    Each is heard in a thread of its own, so that a stranger who says nothing keeps nobody.
    """
    heard: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    listening.settimeout(PAUSE)
    while len(answers) < count and time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # nobody within PAUSE, or one that has gone again
            line = stack.enter_context(listening.accept()[0])
            threading.Thread(target=_hear, args=[line, heard.put], daemon=True).start()
        for process in [process for process, answer in answers.items() if _has_left(answer.line)]:
            del answers[process]  # it may come again
        while not heard.empty():
            answer = heard.get()
            before = answers.get(answer.process)
            answers[answer.process] = answer
            if before and before.call != answer.call:
                answers[-1] = before  # is told, too
                return Retry(
                    f"two processes have number {answer.process}: {before.name} and {answer.name}. "
                    "See that each has a --process_id of its own and none is left of an earlier start."
                )
    return None


def _has_left(line: socket.socket) -> bool:
    """Whether the other side has closed."""
    line.settimeout(0)
    try:
        return line.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _hear(line: socket.socket, put: Callable[[Answer], object]) -> None:
    """Passes on what comes first; nothing of a stranger, or of one that ended."""
    line.settimeout(HEARING)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        said = json.loads(line.makefile().readline(LONGEST))
        put(Answer(int(said["process"]), str(said["name"]), str(said["call"]), dict(said["facts"]), line))


def _outcome(said: Mapping[int, Mapping[str, Any]], count: int, seconds: float) -> Exception | None:
    if found := differences(said):
        return ConfigError(
            f"the processes are not about to run the same: {listed(found)}. "
            "Start all of them from the same code with the same flags and environment."
        )
    missing = [str(process) for process in range(count) if process not in said]
    if missing:
        return Retry(
            f"{len(missing)} of {count} processes did not come within {seconds:g} s: number {', '.join(missing)}. "
            "See what they say, and start all of them again."
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
    who = {"process": index, "name": f"process {os.getpid()} on {platform.node()}", "call": secrets.token_hex(8)}
    said = json.dumps(who | {"facts": facts}).encode() + b"\n"
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
