# SPDX-License-Identifier: Apache-2.0
"""Every example once, in the order of ids, padding left out."""

import jax
import numpy as np
import pytest

from perceiver_jax.training.evaluation import predict
from perceiver_jax.training.sharding import make_mesh


@pytest.mark.parametrize("ids", [[[4, 0, 2], [1, 3, -1]], [[0, -1, -1]]])
def test_rows_come_in_the_order_of_ids_without_padding(ids):
    batches = [{"id": np.array(rows, np.int32), "x": np.array(rows, np.float32)} for rows in ids]

    @jax.jit
    def step(variables, batch, index):
        return {"id": batch["id"], "twice": variables["scale"] * batch["x"], "batch": 0 * batch["id"] + index}

    seen = []
    rows = predict(step, {"scale": 2.0}, batches, make_mesh(), lambda: seen.append(1))
    real = sorted(k for batch in ids for k in batch if k >= 0)
    assert rows["id"].tolist() == real and rows["twice"].tolist() == [2.0 * k for k in real]
    assert rows["batch"].tolist() == [next(i for i, batch in enumerate(ids) if k in batch) for k in real]
    assert len(seen) == len(ids)
