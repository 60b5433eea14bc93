# SPDX-License-Identifier: Apache-2.0
"""Processes of a run as threads, which tell each other through a table as the coordinator's; none touches a device."""

import collections
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import pytest

from perceiver_jax.errors import ConfigError, Retry
from perceiver_jax.training import exchange


class Table:
    """The coordinator's table of keys."""

    def __init__(self):
        self._values, self._changed = {}, threading.Condition()

    def key_value_set(self, key, value, allow_overwrite=False):
        with self._changed:
            self._values[key] = value
            self._changed.notify_all()

    def blocking_key_value_get(self, key, milliseconds):
        with self._changed:
            if not self._changed.wait_for(lambda: key in self._values, milliseconds / 1000):
                raise jax.errors.JaxRuntimeError(exchange.TIMED_OUT)
            return self._values[key]


class Own(threading.local):
    """What each thread has of its own."""

    def begin(self, index):
        self.index, self.uses = index, collections.defaultdict(itertools.count)

    def __getitem__(self, what):
        return self.uses[what]


def side_by_side(count, do):
    """What becomes of `do(index)` in each of `count` processes: its result, or its ConfigError or Retry."""
    own = Own()

    def call(index):
        own.begin(index)  # a thread may be taken twice
        try:
            return do(index)
        except (ConfigError, Retry) as error:
            return error

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(count) as pool:
        patch.setattr(jax, "process_count", lambda: count)
        patch.setattr(jax, "process_index", lambda: own.index)
        patch.setattr(exchange.distributed.global_state, "client", Table())
        patch.setattr(exchange, "_uses", own)
        patch.setattr(jax.distributed, "shutdown", lambda: None)
        return list(pool.map(call, range(count)))
