# SPDX-License-Identifier: Apache-2.0
"""What processes tell each other beside their arrays: short texts, through the coordinator's table of keys.

Nothing here touches a device, so any thread may use it at any time, and a value can be waited for. With one process
everything is done on the spot.
"""

import collections
import itertools
import json
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax._src import distributed  # the table has no other door; Orbax takes it too

from perceiver_jax.errors import ConfigError, Retry

T = TypeVar("T")
POLL = 1.0
"""Seconds of one wait inside the runtime; between two of them a signal is noticed."""
ERRORS = {error.__name__: error for error in (ConfigError, Retry)}
TIMED_OUT = "DEADLINE_EXCEEDED"
_uses: dict[str, Any] = collections.defaultdict(itertools.count)


def on_first(what: str, do: Callable[[], T]) -> T:
    """Process 0 does it while the others wait; all have its result, or its ConfigError or Retry.

    Args:
        what: names it; every process does the things of one name in the same order.
        do: its result is JSON-able.
    """
    if jax.process_count() == 1:
        return do()
    key = f"{what}/{next(_uses[what])}"
    if jax.process_index() == 0:
        return _told(key, do)
    answer = wait_for(key)
    if "error" in answer:
        raise ERRORS[answer["error"]](answer["text"])
    return answer["result"]


def _told(key: str, do: Callable[[], T]) -> T:
    try:
        result = do()
    except (ConfigError, Retry) as error:
        tell(key, {"error": type(error).__name__, "text": str(error)})
        raise
    tell(key, {"result": result})
    return result


def gather(what: str, value: Any) -> list[Any]:
    """What every process says, in their order."""
    key = f"{what}/{next(_uses[what])}"
    if jax.process_count() == 1:
        return [value]
    tell(f"{key}/{jax.process_index()}", value)
    return [wait_for(f"{key}/{process}") for process in range(jax.process_count())]


def tell(key: str, value: Any) -> None:
    """Puts a JSON-able value under a key, for all processes."""
    distributed.global_state.client.key_value_set(_name(key), json.dumps(value), allow_overwrite=True)


def wait_for(key: str, given_up: threading.Event | None = None) -> Any:
    """The value of a key, as soon as it is there; None if `given_up` is set before.

    Raises:
        RuntimeError: the coordinator is gone.
    """
    while given_up is None or not given_up.is_set():
        client = distributed.global_state.client
        if client is None:
            raise RuntimeError("the processes have parted")
        try:
            return json.loads(client.blocking_key_value_get(_name(key), int(1000 * POLL)))
        except jax.errors.JaxRuntimeError as error:
            if TIMED_OUT not in str(error):
                raise
    return None


def _name(key: str) -> str:
    return f"perceiver_jax/{key}"
