# SPDX-License-Identifier: Apache-2.0
"""Rates by hand; no peak is invented for a chip that is not known."""

from types import SimpleNamespace

import jax
import pytest

from perceiver_jax.training import throughput as rates
from perceiver_jax.training.throughput import throughput


def test_rates_of_a_step():
    got = throughput(32, 0.5, 1e9)
    assert got == {"examples_per_second": 64.0, "flops_per_second": 64e9}  # no MFU on a CPU


def test_model_flops_utilisation_counts_all_chips(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(device_kind="TPU v4")])
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    got = rates.throughput(1000, 1.0, 275e9)
    assert got["mfu"] == pytest.approx(0.25)


def test_without_a_formula_there_are_no_flops():
    assert set(throughput(32, 0.5, None)) == {"examples_per_second"}
