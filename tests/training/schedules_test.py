# SPDX-License-Identifier: Apache-2.0
import logging
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.training.schedules import make_schedule

RATE, STEPS, PER_EPOCH = 4e-3, 120, 10


def reference(
    step, *, name, warmup=0, milestones=(), gamma=0.1, step_epochs=1, flat=0, t_max=None, eta_min=0.0, decay=1
):
    """The rate of one step in plain Python."""
    factor = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if name == "constant":
        return factor * RATE
    if name == "multistep":
        return factor * RATE * gamma ** sum(step >= round(m * PER_EPOCH) for m in milestones)
    if name == "exponential":
        return factor * RATE * gamma ** (step / decay)
    if name == "step":
        return factor * RATE * gamma ** math.floor(step / (step_epochs * PER_EPOCH))
    start = max(warmup, round(flat * PER_EPOCH))
    length = STEPS - start if t_max is None else round(t_max * PER_EPOCH)
    progress = min(max(step - start, 0) / length, 1)
    return factor * (eta_min + (RATE - eta_min) * (1 + math.cos(math.pi * progress)) / 2)


CASES = [
    ({"name": "constant"}, {}),
    ({"name": "constant", "warmup_steps": 7}, {"warmup": 7}),
    ({"name": "multistep", "milestones": (8.4, 10.2, 11.4)}, {"milestones": (8.4, 10.2, 11.4)}),
    (
        {"name": "multistep", "milestones": [1, 3], "gamma": 0.5, "warmup_epochs": 2},
        {"milestones": (1, 3), "gamma": 0.5, "warmup": 20},
    ),
    ({"name": "step", "step_epochs": 3, "gamma": 0.3}, {"step_epochs": 3, "gamma": 0.3}),
    ({"name": "step", "step_epochs": 2.5}, {"step_epochs": 2.5}),
    (
        {"name": "exponential", "gamma": 0.5, "decay_steps": 40, "warmup_steps": 7},
        {"gamma": 0.5, "decay": 40, "warmup": 7},
    ),
    ({"name": "cosine"}, {}),
    ({"name": "cosine", "eta_min": 1e-4, "t_max_epochs": 5}, {"eta_min": 1e-4, "t_max": 5}),
    ({"name": "cosine", "warmup_epochs": 1.5}, {"warmup": 15}),
    ({"name": "flat_cosine", "flat_epochs": 6}, {"flat": 6}),
    ({"name": "flat_cosine", "flat_epochs": 0.5, "warmup_steps": 10}, {"flat": 0.5, "warmup": 10}),
]


@pytest.mark.parametrize("ours, plain", CASES, ids=str)
def test_every_step_is_the_plain_formula(ours, plain):
    schedule = make_schedule(learning_rate=RATE, num_steps=STEPS, steps_per_epoch=PER_EPOCH, **ours)
    steps = np.arange(STEPS + 3)
    rates = jax.jit(jax.vmap(schedule))(jnp.asarray(steps, jnp.int32))
    assert rates.dtype == jnp.float32
    expected = [reference(int(s), name=ours["name"], **plain) for s in steps]
    np.testing.assert_allclose(rates, expected, rtol=3e-6, atol=1e-9)
    assert schedule(3).dtype == jnp.float32 and schedule(3) == rates[3]


def test_boundaries():
    def make(**kwargs):
        return make_schedule(learning_rate=1.0, num_steps=STEPS, steps_per_epoch=PER_EPOCH, **kwargs)

    multistep = make(name="multistep", milestones=(2,), gamma=0.5)
    assert [float(multistep(s)) for s in (19, 20)] == [1.0, 0.5]
    cosine = make(name="cosine", warmup_steps=4, eta_min=0.25, t_max_epochs=1)
    assert [float(cosine(s)) for s in (0, 3, 4, 9, 14, 119)] == [0.25, 1.0, 1.0, 0.625, 0.25, 0.25]
    flat = make(name="flat_cosine", flat_epochs=6)
    assert float(flat(60)) == 1.0 > float(flat(61)) and float(flat(STEPS)) == 0.0


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"name": "cosin"}, "name='cosin': expected one of constant"),
        (
            {"learning_rate": -1.0, "gamma": 0.0, "name": "step"},
            "learning_rate=-1.0.*gamma=0.0.*step_epochs=None",
        ),
        ({"name": "multistep"}, "milestones=.*rising"),
        ({"name": "multistep", "milestones": (3, 2)}, "rising"),
        ({"name": "cosine", "eta_min": 1.0}, "eta_min=1.0: expected between 0 and learning_rate"),
        ({"name": "cosine", "t_max_epochs": 0}, "t_max_epochs=0"),
        ({"name": "flat_cosine"}, "flat_epochs=None"),
        ({"name": "constant", "warmup_epochs": 1, "warmup_steps": 3}, "warmup_steps=3.*0 if warmup_epochs"),
        (
            {"name": "constant", "warmup_epochs": 12},
            "warm-up of 120 steps does not end within the run of 120. Shorten it .config.schedule.warmup_",
        ),
    ],
)
def test_values_out_of_range(kwargs, message):
    with pytest.raises(ConfigError, match=message):
        make_schedule(**({"learning_rate": 0.1, "num_steps": STEPS, "steps_per_epoch": PER_EPOCH} | kwargs))


def test_what_another_schedule_would_use_is_said(caplog):
    given = {"learning_rate": RATE, "num_steps": STEPS, "steps_per_epoch": PER_EPOCH}
    logging.getLogger("perceiver_jax").propagate = True
    make_schedule(name="cosine", milestones=[1, 2], gamma=0.5, warmup_steps=3, t_max_epochs=5, **given)
    assert [r.getMessage() for r in caplog.records] == ["schedule cosine has no use for milestones=[1, 2], gamma=0.5"]
    caplog.clear()
    make_schedule(name="multistep", milestones=[1, 2], gamma=0.5, warmup_epochs=1.5, **given)
    make_schedule(name="constant", **given)
    assert not caplog.records
