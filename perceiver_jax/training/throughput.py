# SPDX-License-Identifier: Apache-2.0
"""Examples per second, FLOP/s and model FLOPs utilisation (MFU), from the model's analytic count; memory in use.

XLA's own count is not used: it counts the body of a scan once.
"""

import resource
import sys

import jax

RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes of what the system counts a process' memory in."""

PEAK_BF16_FLOPS = {
    "NVIDIA H200": 989e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
}
"""Dense bfloat16 FLOP/s of one chip by its `device_kind`, from the makers' data sheets."""


def throughput(batch_size: int, step_time: float, flops_per_example: float | None) -> dict[str, float]:
    """What a mean step time in seconds amounts to; `mfu` only where the chip's peak is known."""
    rates = {"examples_per_second": batch_size / step_time}
    rates["examples_per_second_per_chip"] = rates["examples_per_second"] / jax.device_count()
    if flops_per_example is None:
        return rates
    rates["flops_per_second"] = rates["examples_per_second"] * flops_per_example
    peak = PEAK_BF16_FLOPS.get(jax.devices()[0].device_kind)
    if peak is not None:
        rates["mfu"] = rates["flops_per_second"] / (peak * jax.device_count())
    return rates


def memory_peaks() -> dict[str, float]:
    """Bytes that this process, and the fullest of its devices where they say it, have had in use at most."""
    peaks = {"host_memory_peak": float(RSS_UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)}
    on_devices = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()]
    known = [float(size) for size in on_devices if size is not None]
    return peaks | ({"device_memory_peak": max(known)} if known else {})
