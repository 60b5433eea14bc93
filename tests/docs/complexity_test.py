# SPDX-License-Identifier: Apache-2.0
"""The numbers of `docs/architecture.md`: attention weights counted in the traced model, FLOPs by the formula."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from perceiver_jax.models.flops import encoder_flops
from perceiver_jax.models.perceiver import PerceiverEncoder
from tests.configs_test import load

TEXT = " ".join((Path(__file__).resolve().parents[2] / "docs" / "architecture.md").read_text().split())


def exponentials(jaxpr):
    """Values that `exp` computes, scans and calls included: one for each attention weight."""
    total = 0
    for equation in jaxpr.eqns:
        times = equation.params.get("length", 1)
        total += sum(v.aval.size for v in equation.outvars) if equation.primitive.name == "exp" else 0
        inner = [getattr(value, "jaxpr", value) for value in equation.params.values()]
        total += times * sum(exponentials(value) for value in inner if hasattr(value, "eqns"))
    return total


@pytest.mark.parametrize("side", [32, 64])
def test_attention_weights_of_the_worked_example(side):
    model = PerceiverEncoder(
        num_latents=128, latent_dim=8, num_self_attends_per_block=1, num_self_attend_heads=1, attention="dense"
    )
    inputs = jnp.zeros((1, side**2, 8))
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    counted = exponentials(jax.make_jaxpr(model.apply)(variables, inputs).jaxpr)
    transformer = side**4
    assert counted == 128 * side**2 + 128**2
    for number in (f"{counted:,}", f"{transformer:,}", f"{transformer / counted:.1f} times"):
        assert number in TEXT


def test_flops_of_the_table():
    fields = {key: value for key, value in load("cifar10").model.items() if key in PerceiverEncoder.__annotations__}
    encoder = PerceiverEncoder(**fields | {"dtype": jnp.float32})
    for length in (256, 1024, 4096, 16384, 50176):
        flops = sum(encoder_flops(encoder, length, 261))
        assert f"| {length:,}" in TEXT and f"| {flops / 1e9:.2f} |" in TEXT
