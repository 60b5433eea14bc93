# SPDX-License-Identifier: Apache-2.0
"""Out of memory for real: a step that no machine has the memory for, and what is said of it."""

import jax
import pytest

from perceiver_jax import experiment
from perceiver_jax.errors import ConfigError, Retry
from perceiver_jax.training import memory
from tests.readers import FLAGS, solids_config

HUGE = 3_000_000  # latents, whose attention to each other is 10^13 weights


@pytest.fixture(scope="module")
def small():
    training = experiment.build(solids_config())
    return training, experiment.abstract_training_state(training)


def test_a_real_out_of_memory_becomes_a_table(run_forked, tmp_path):
    huge = (f"--config.model.num_latents={HUGE}", "--config.model.attention=dense")
    result = run_forked("main", *FLAGS, *huge, f"--workdir={tmp_path / 'run'}")
    assert result.rc == 78 and "Traceback" not in result.stderr, result
    first, *rows, last = result.stderr.strip().splitlines()
    assert first.startswith("error: out of memory (RESOURCE_EXHAUSTED: Out of memory allocating")
    sizes = {row.split()[0]: float(row.split()[1].replace(",", "")) for row in rows}
    assert sizes["parameters"] == pytest.approx(HUGE * 4 * 4 / 1e6, rel=0.01)  # latents of 4 float32
    assert sizes["optimizer"] == pytest.approx(2 * sizes["parameters"], rel=0.01)  # two moments
    assert sizes["activations"] > 8 * HUGE**2 * 4 / 1e6  # one float32 matrix of weights for each example at least
    for knob in ("config.batch_size (now 8)", "config.micro_batches (now 1)", "config.model.remat=True"):
        assert knob in last


def test_the_estimate_is_near_what_xla_reserves_and_falls_with_the_batch(small):
    training, state = small
    size = memory._kept(training, state)
    halves = experiment.build(solids_config() | {"micro_batches": 2})
    assert memory._kept(halves, state) < size
    assert 0.1 < size / memory._compiled(training, state) < 10
    assert [what for what, _, _ in memory.needs(training, state)] == ["parameters", "optimizer", "activations"]


@pytest.mark.parametrize(
    ("raised", "expected"), [(MemoryError("2 TB"), ConfigError), (ZeroDivisionError(), RuntimeError)]
)
def test_of_what_was_raised_only_memory_is_explained(small, raised, expected):
    with pytest.raises(expected) as error, memory.explained(*small):
        raise RuntimeError("loading failed") from raised
    assert ("out of memory" in str(error.value)) == isinstance(raised, MemoryError)


def test_what_is_to_be_tried_again_stays(small):
    with pytest.raises(Retry), memory.explained(*small):
        raise Retry("RESOURCE_EXHAUSTED: no space left")


def test_sizes_are_those_of_one_device(small):
    training, state = small
    leaves = jax.tree.leaves(state.params)
    assert dict((what, size) for what, size, _ in memory.needs(training, state))["parameters"] == 4 * sum(
        leaf.size for leaf in leaves
    )
