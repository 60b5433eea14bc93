# SPDX-License-Identifier: Apache-2.0
"""Who holds a folder: another host is believed for a while, this host not at all, and of many only one gets it."""

import os
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from perceiver_jax.training.heartbeat import STALE, Heartbeat, Held, Owner


def owner(pid, host="here"):
    return Owner(pid, host, "2026-01-01 00:00:00")


def left_behind(file, host, seconds):
    """The file of a holder that gave its last sign so many seconds ago."""
    Heartbeat(file, owner(7, host), alone_on_host=False)._stopped.set()
    os.utime(file, (time.time() - seconds,) * 2)


@pytest.mark.parametrize(
    ("host", "seconds", "alone_on_host", "held"),
    [
        ("elsewhere", STALE - 20, True, True),
        ("elsewhere", STALE + 20, True, False),
        ("elsewhere", -300, True, True),  # a clock that is ahead
        ("here", 1, True, False),  # nobody on this host can hold it, so that one is dead
        ("here", STALE - 20, False, True),
        ("here", STALE + 20, False, False),
    ],
)
def test_who_is_believed(tmp_path, host, seconds, alone_on_host, held):
    file = tmp_path / "heartbeat"
    left_behind(file, host, seconds)
    if held:
        with pytest.raises(Held, match=f"process 7 on {host}, started 2026-01-01 00:00:00, last seen"):
            Heartbeat(file, owner(8), alone_on_host=alone_on_host)
    else:
        Heartbeat(file, owner(8), alone_on_host=alone_on_host).stop()
    assert [path.name for path in tmp_path.iterdir()] == (["heartbeat"] if held else [])


def test_who_died_taking_over_does_not_block_it_for_ever(tmp_path):
    file = tmp_path / "heartbeat"
    left_behind(file, "elsewhere", 2 * STALE)
    marker = tmp_path / f"heartbeat.dead-{zlib.crc32(file.read_bytes()):08x}"
    marker.touch()
    with pytest.raises(Held, match="taking it over"):
        Heartbeat(file, owner(8), alone_on_host=True)
    os.utime(marker, (0, 0))
    Heartbeat(file, owner(8), alone_on_host=True).stop()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_nobody_can_read_is_believed_for_as_long(tmp_path):
    file = tmp_path / "heartbeat"
    file.write_bytes(b"\xff")
    with pytest.raises(Held, match="an unknown process"):
        Heartbeat(file, owner(8), alone_on_host=True)
    os.utime(file, (0, 0))
    Heartbeat(file, owner(8), alone_on_host=True).stop()


def test_of_many_that_find_a_dead_one_a_single_one_gets_it(tmp_path):
    for attempt in range(20):
        file = tmp_path / str(attempt)
        left_behind(file, "elsewhere", 2 * STALE)

        def claim(pid, file=file):
            try:
                return Heartbeat(file, owner(pid), alone_on_host=False, interval=60.0)
            except Held:
                return None

        with ThreadPoolExecutor(8) as pool:
            won = [heartbeat for heartbeat in pool.map(claim, range(100, 108)) if heartbeat]
        assert len(won) == 1
        won[0].stop()
