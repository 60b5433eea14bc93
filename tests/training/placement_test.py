# SPDX-License-Identifier: Apache-2.0
"""The table of one device; what eight hold is in `sharding_test.py`, beside the states that it is compared with."""

from perceiver_jax.training.placement import table
from perceiver_jax.training.state import abstract_state, state_maker
from tests.training.toy import make_training


def test_lines_of_one_device():
    training = make_training()
    make = state_maker(training.task, training.optimizer, training.source.spec, ema=False)
    state = abstract_state(make, training.mesh)
    mesh, _, batch, parameters, optimizer, whole = table(state, training.mesh, 8)
    assert mesh == "mesh data=1 x fsdp=1 x sequence=1 x tensor=1: 1 devices of 1 process"
    assert batch.split() == ["batch", "data,", "fsdp", "8", "rows", "8", "rows"]
    size = 4 * (4 * 16 + 16 + 16 * 3 + 3)
    assert parameters.split() == ["parameters", "nothing", "4", f"{size}", "B", f"{size}", "B"]
    assert optimizer.split()[0] == "optimizer" and whole.split()[:2] == ["in", "all"]
