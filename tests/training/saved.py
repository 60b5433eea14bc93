# SPDX-License-Identifier: Apache-2.0
"""A small state, saved and restored, for the tests of checkpoints."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from perceiver_jax.training.checkpoint import Checkpoints


@flax.struct.dataclass
class State:
    step: jax.Array
    params: dict
    opt_state: object
    extra: dict


def make_state(step=0, size=64):
    rng = np.random.default_rng(step)
    params = {
        "layers": {"kernel": jnp.asarray(rng.normal(size=(2, size, 8)), jnp.float32)},
        "bias": jnp.asarray(rng.normal(size=size), jnp.bfloat16),
        "none": {},
    }
    mask = {"layers": {"kernel": True}, "bias": False, "none": {}}
    moments = optax.masked(optax.scale_by_adam(), mask).init(params)
    return State(jnp.int32(step), params, (moments, optax.EmptyState()), {"counts": jnp.arange(3), "empty": {}})


def target(state=None):
    return jax.eval_shape(lambda: make_state() if state is None else state)


def assert_same(state, expected):
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and np.asarray(a).tobytes() == np.asarray(b).tobytes()


def save(folder, *steps, scores=None, **kwargs):
    with Checkpoints(folder, **kwargs) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_state(step), {"at": step}, (scores or {}).get(step))


def restored_step(folder, which="latest", **kwargs):
    with Checkpoints(folder, **kwargs) as checkpoints:
        state, progress, step = checkpoints.restore(target(), which)
        assert_same(state, make_state(step))
        assert progress == {"at": step}
        return step


def step_folders(folder):
    return sorted(int(p.name) for p in folder.iterdir() if p.is_dir())


def step_folders_and_others(folder):
    return sorted(p.name for p in folder.iterdir() if p.is_dir())
