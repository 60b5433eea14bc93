# SPDX-License-Identifier: Apache-2.0
"""Processes as threads: they meet over real sockets, or say who is not there and what differs."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from launch.local import free_port
from perceiver_jax.errors import ConfigError, Retry
from perceiver_jax.training import roll_call
from perceiver_jax.training.roll_call import call_roll, differences

SAME = {"config.seed": 0, "jax": "0.10.2"}


def outcomes(count, facts, seconds=20.0):
    """What becomes of each process: None, or its error. `facts`: process -> what it says."""
    address = f"127.0.0.1:{free_port()}"

    def call(index):
        try:
            return call_roll(address, count, index, facts[index], seconds)
        except (ConfigError, Retry) as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return dict(zip(facts, pool.map(call, facts), strict=True)), address


def test_all_are_there_and_the_port_is_free_again():
    found, address = outcomes(4, dict.fromkeys(range(4), SAME))
    assert found == dict.fromkeys(range(4))
    socket.create_server(("", int(address.rpartition(":")[2]))).close()


def test_who_did_not_come_is_named_to_all():
    found, _ = outcomes(4, {0: SAME, 2: SAME}, seconds=1.0)
    assert {type(error) for error in found.values()} == {Retry}
    for error in found.values():
        assert "2 of 4 processes did not come within 1 s: number 1, 3." in str(error)


def test_a_missing_coordinator_is_named():
    found, address = outcomes(2, {1: SAME}, seconds=0.3)
    assert isinstance(found[1], Retry)
    assert f"process 1 of 2: the coordinator, process 0 at {address}, did not come within 0.3 s" in str(found[1])


def test_what_differs_is_named_to_all():
    found, _ = outcomes(3, {0: SAME, 1: SAME, 2: SAME | {"config.seed": 1}})
    for error in found.values():
        assert isinstance(error, ConfigError)
        assert "config.seed: process 0 has 0, process 2 has 1" in str(error)


def test_another_number_of_processes_differs_before_anybody_is_missing():
    found, _ = outcomes(3, {0: SAME | {"num_processes": 3}, 1: SAME | {"num_processes": 2}}, seconds=1.0)
    for error in found.values():
        assert "num_processes: process 0 has 3, process 1 has 2" in str(error) and isinstance(error, ConfigError)


def test_what_one_lacks_differs():
    assert differences({0: {"a": 1}, 1: {}}) == ["a: process 0 has 1, process 1 has None"]


def test_a_stranger_at_the_port_is_no_process():
    address = f"127.0.0.1:{free_port()}"
    host, port = address.split(":")

    def knock():
        while True:
            try:
                return socket.create_connection((host, int(port)), timeout=20)
            except ConnectionRefusedError:
                continue

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(call_roll, address, 2, 0, SAME, 20.0)
        with knock() as talking, knock():  # the second one says nothing
            talking.sendall(b"GET / HTTP/1.0\r\n\r\n")
            began = time.monotonic()
            assert pool.submit(call_roll, address, 2, 1, SAME, 20.0).result() is None
            assert first.result() is None and time.monotonic() - began < roll_call.HEARING


def test_one_that_left_and_came_again_is_no_second_one():
    address = f"127.0.0.1:{free_port()}"
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(call_roll, address, 3, 0, SAME, 20.0)
        with pytest.raises(Retry):  # hears nothing while process 2 is missing
            call_roll(address, 3, 1, SAME, 0.5)
        others = [pool.submit(call_roll, address, 3, index, SAME, 20.0) for index in (1, 2)]
        assert [call.result() for call in (first, *others)] == [None] * 3


def test_two_with_the_same_number_are_named_to_both():
    address = f"127.0.0.1:{free_port()}"

    def call(index):
        with pytest.raises(Retry, match=r"two processes have number 1: process \d+ on .* and process \d+ on "):
            call_roll(address, 3, index, SAME, 20.0)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(call, (0, 1, 1)))


def test_a_port_that_is_taken():
    with socket.create_server(("", free_port())) as taken, pytest.raises(Retry, match="cannot listen on port"):
        call_roll(f"127.0.0.1:{taken.getsockname()[1]}", 2, 0, SAME, 1.0)
