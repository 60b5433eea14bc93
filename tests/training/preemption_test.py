# SPDX-License-Identifier: Apache-2.0
"""Signals in real processes: the first is noted, the second ends at once."""

import signal
import subprocess
import sys

import pytest

WAIT = """
import sys, threading, time
from perceiver_jax.training.agreement import Agreement
from perceiver_jax.training.preemption import Preemption

class Unanswered(Agreement):  # by a coordinator that was stopped
    def follow(self, known):
        pass

    def ask(self):
        print("asking", flush=True)
        threading.Event().wait()

with Preemption({agreement}) as preemption:
    print("ready", flush=True)
    {body}
"""
NOTICE = "while not preemption.requested: time.sleep(0.01)\n    print('noticed', flush=True)\n    time.sleep(60)"


@pytest.fixture
def start():
    started = []

    def start(body, agreement="None"):
        command = [sys.executable, "-c", WAIT.format(body=body, agreement=agreement)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_is_noted_and_the_second_ends_at_once(start, number):
    process = start(NOTICE)
    process.send_signal(number)
    assert process.stdout.readline() == "noticed\n" and process.poll() is None
    process.send_signal(number)
    assert process.wait(timeout=10) == 128 + number
    assert "a second signal ends at once" in process.stderr.read()


def test_a_second_signal_ends_at_once_also_while_the_coordinator_does_not_answer(start):
    process = start("threading.Event().wait()", agreement="Unanswered()")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "asking\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 128 + signal.SIGTERM
    assert "asked to stop: finishing the step and saving" in process.stderr.read()


def test_handlers_are_put_back():
    from perceiver_jax.training.preemption import Preemption

    before = signal.getsignal(signal.SIGTERM)
    with Preemption() as preemption:
        assert signal.getsignal(signal.SIGTERM) is not before and not preemption.requested
    assert signal.getsignal(signal.SIGTERM) is before
