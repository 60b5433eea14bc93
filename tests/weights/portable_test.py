# SPDX-License-Identifier: Apache-2.0
"""Weights and function come back from their files: nested names, scalars, any number of rows."""

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import safe_open

from perceiver_jax.data.spec import ArraySpec
from perceiver_jax.weights import portable

VARIABLES = {
    "params": {"dense": {"kernel": jnp.arange(6.0).reshape(2, 3)}, "scale": jnp.float32(2.0)},
    "batch_stats": {"mean": jnp.ones(3, jnp.bfloat16)},
}


def predict(variables, batch):
    params, mean = variables["params"], variables["batch_stats"]["mean"].astype(jnp.float32)
    rows = batch["points"] @ params["dense"]["kernel"] * params["scale"] - mean
    return {"logits": jnp.where(batch["mask"][:, :1], rows, 0)}


def test_what_was_written_is_read(tmp_path):
    arrays = {"points": ArraySpec((2,), "float32"), "mask": ArraySpec((4,), "bool")}
    portable.write(tmp_path, predict, VARIABLES, arrays, {"run": "tiny"})
    weights, call = portable.read(tmp_path)
    assert {path: array.shape for path, array in weights.items()} == {
        "params/dense/kernel": (2, 3),
        "params/scale": (),
        "batch_stats/mean": (3,),
    }
    jax.tree.map(np.testing.assert_array_equal, portable.nested(weights), jax.device_get(VARIABLES))
    for size in (1, 3):
        batch = {"points": np.full((size, 2), 0.5, np.float32), "mask": np.ones((size, 4), bool)}
        np.testing.assert_allclose(call(weights, batch)["logits"], predict(VARIABLES, batch)["logits"])
    with safe_open(tmp_path / portable.WEIGHTS, framework="numpy") as file:
        assert file.metadata() == {"run": "tiny"}
