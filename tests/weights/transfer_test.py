# SPDX-License-Identifier: Apache-2.0
"""What is taken from another run, what is left, what is new; and that nothing of it is silent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.training.sharding import make_mesh
from perceiver_jax.training.state import init_state, state_maker
from perceiver_jax.weights.transfer import Transfer, leaves, overlay, transfer
from tests.training.toy import make_training


def variables(head=3, start=0.0, **extra):
    params = {
        "trunk": {"kernel": jnp.full((2, 4), start), "bias": jnp.full(4, start + 1)},
        "head": {"kernel": jnp.full((4, head), start + 2)},
    }
    return {"params": params, **extra}


def test_equal_leaves_are_taken_and_the_rest_is_listed():
    found = variables(head=5, start=7.0, codes={"counts": jnp.arange(3.0)}, old=jnp.zeros(2))
    needed = variables(codes={"counts": jnp.zeros(3)}, new=jnp.zeros(1))
    result = transfer(found, needed, source="A", skip=["head"])
    assert set(result.loaded) == set(result.values) == {"trunk/kernel", "trunk/bias", "codes/counts"}
    assert set(result.skipped) == {"head/kernel (skipped by name)", "old (not in this model)"}
    assert set(result.made) == {"head/kernel (skipped by name)", "new (not in that run)"}
    laid = overlay(needed, result.values)
    assert (laid["params"]["trunk"]["bias"] == 8).all() and (laid["codes"]["counts"] == jnp.arange(3)).all()
    assert (laid["params"]["head"]["kernel"] == 2).all()
    assert jax.tree.map(jnp.shape, laid) == jax.tree.map(jnp.shape, needed)
    head, *lines = result.lines()
    assert head == "beginning with A: 3 loaded, 2 skipped, 2 newly made" and len(lines) == 7
    assert "  newly made: new (not in that run)" in lines


def test_every_leaf_of_both_sides_is_accounted_for():
    found, needed = variables(head=5, more=jnp.zeros(1)), variables(other=jnp.zeros(1))
    result = transfer(found, needed, source="A", skip=["*/kernel"])
    there, here = leaves(found), leaves(needed)
    assert len(result.loaded) + len(result.skipped) == len(there)
    assert len(result.loaded) + len(result.made) == len(here)


@pytest.mark.parametrize(
    ("found", "options", "expected"),
    [
        (
            variables(head=5),
            {},
            r"other shape or type \(1\): head/kernel: float32 \(4, 5\) there, float32 \(4, 3\) here",
        ),
        (variables(head=5), {}, r"--config.init.skip=\"\('head/kernel',\)\""),
        (jax.tree.map(lambda x: x.astype(jnp.bfloat16), variables()), {}, r"bfloat16 \(4, 3\) there"),
        (variables(), {"skip": ["haed"]}, r"config.init.skip: the pattern 'haed' matches no parameter; nearest: head"),
        (variables(), {"skip": ["*"]}, "nothing to begin with"),
        ({"params": {"body": jnp.zeros(2)}}, {}, "nothing to begin with: its body, here .*config.init.rename"),
        (variables(), {"rename": ["trunk"]}, "config.init.rename='trunk': expected OLD=NEW"),
        (
            variables(),
            {"rename": ["trnk=trunk"]},
            "config.init.rename: the pattern 'trnk' matches no parameter; nearest",
        ),
        (variables(), {"rename": ["trunk/kernel=trunk/bias"]}, "trunk/kernel both become|both become trunk/bias"),
    ],
)
def test_what_does_not_fit_is_an_error(found, options, expected):
    with pytest.raises(ConfigError, match=expected) as error:
        transfer(found, variables(), source="A", **options)
    assert "\n" not in str(error.value)


def test_renamed_folders_and_swapped_leaves():
    body = {"body": variables(start=7.0)["params"]["trunk"], "bodyguard": jnp.zeros(1)}
    result = transfer({"params": body}, variables(), source="A", rename=["body=trunk"])
    assert set(result.loaded) == {"trunk/kernel (there body/kernel)", "trunk/bias (there body/bias)"}
    assert (result.values["trunk/kernel"] == 7).all() and result.skipped == ("bodyguard (not in this model)",)
    found = {"params": {"a": jnp.zeros(2), "b": jnp.ones(2)}}
    swapped = transfer(found, found, source="A", rename=["a=b", "b=a"])
    assert swapped.values["a"].tolist() == [1, 1] and swapped.values["b"].tolist() == [0, 0]


def test_no_transfer_says_nothing():
    assert Transfer().lines() == [] and Transfer().record()["source"] == ""


def test_a_state_begins_with_the_values_and_its_average_too():
    training = make_training()
    make = state_maker(training.task, training.optimizer, training.source.spec, ema=True)
    fresh = init_state(make, make_mesh(), 0)
    values = {"Dense_0/kernel": np.full((4, 16), 0.5, np.float32)}
    state = init_state(make, make_mesh(), 0, values)
    for params in (state.params, state.ema):
        np.testing.assert_array_equal(params["Dense_0"]["kernel"], values["Dense_0/kernel"])
        np.testing.assert_array_equal(params["Dense_1"]["kernel"], fresh.params["Dense_1"]["kernel"])
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, fresh)
    with pytest.raises(AssertionError, match="not_there"):
        overlay({"params": state.params}, {"not_there": np.zeros(1)})


def test_all_of_a_run_can_become_a_folder_of_another():
    found = variables(start=7.0, codes={"counts": jnp.arange(3.0)})
    needed = {"params": {"own": jnp.zeros(2)}, "frozen": jax.tree.map(jnp.zeros_like, found)}
    result = transfer(found, needed, source="A", rename=[".=frozen"])
    assert result.made == ("own (not in that run)",) and result.skipped == ()
    laid = overlay(needed, result.values)
    assert (laid["frozen"]["params"]["head"]["kernel"] == 9).all() and (laid["params"]["own"] == 0).all()
    assert (laid["frozen"]["codes"]["counts"] == jnp.arange(3)).all()
