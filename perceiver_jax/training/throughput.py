# SPDX-License-Identifier: Apache-2.0
"""Examples per second, FLOP/s and model FLOPs utilisation (MFU), from the model's analytic count.

XLA's own count is not used: it counts the body of a scan once.
"""

import jax

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
    if flops_per_example is None:
        return rates
    rates["flops_per_second"] = rates["examples_per_second"] * flops_per_example
    peak = PEAK_BF16_FLOPS.get(jax.devices()[0].device_kind)
    if peak is not None:
        rates["mfu"] = rates["flops_per_second"] / (peak * jax.device_count())
    return rates
