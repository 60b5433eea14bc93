# SPDX-License-Identifier: Apache-2.0
"""Rates by hand; no peak is invented for a chip that is not known."""

from types import SimpleNamespace

import jax
import pytest

from perceiver_jax.training import throughput as rates
from perceiver_jax.training.throughput import throughput


def test_rates_of_a_step():
    got = throughput(32, 0.5, 1e9)
    each = 64.0 / jax.device_count()
    assert got == {  # no MFU on a CPU
        "examples_per_second": 64.0,
        "examples_per_second_per_chip": each,
        "flops_per_second": 64e9,
    }


def test_model_flops_utilisation_counts_all_chips(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(device_kind="TPU v4")])
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    got = rates.throughput(1000, 1.0, 275e9)
    assert got["mfu"] == pytest.approx(0.25)
    assert got["examples_per_second_per_chip"] == 250.0


def test_without_a_formula_there_are_no_flops():
    assert set(throughput(32, 0.5, None)) == {"examples_per_second", "examples_per_second_per_chip"}


def test_memory_that_was_in_use_is_that_of_the_process_and_of_the_fullest_device(monkeypatch):
    before = rates.memory_peaks()
    assert 10e6 < before["host_memory_peak"] < 1e12 and "device_memory_peak" not in before  # a CPU does not say
    devices = [SimpleNamespace(memory_stats=lambda size=size: {"peak_bytes_in_use": size}) for size in (5, 7)]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    assert rates.memory_peaks()["device_memory_peak"] == 7.0
