# SPDX-License-Identifier: Apache-2.0
"""Set prediction: the loss of any order, scores of predictions known to be right or wrong, padding, a tiny run."""

import json
from argparse import Namespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.optimize import linear_sum_assignment

from perceiver_jax import experiment
from perceiver_jax.data.scenes import Shapes
from perceiver_jax.metrics import statistics
from perceiver_jax.metrics.average_precision import Columns
from perceiver_jax.models.set_predictor import PredictedSet
from perceiver_jax.prediction import Predictor
from perceiver_jax.reports import slots
from perceiver_jax.tasks.set_prediction import SetPrediction, matched, pairwise_huber

SOURCE = Shapes(size=16, max_objects=3, min_objects=1, num_colours=2, num_sizes=2)
BATCH = {name: jnp.asarray(array) for name, array in SOURCE.load("train", np.arange(6), None).items()}
BATCH |= {"weight": jnp.ones(6), "id": jnp.arange(6)}
COLUMNS = Columns((6.0, 6.0), (2, 3, 2))
PERFECT = {"loss": 0, "ap_inf": 1, "ap_1": 1, "ap_0.5": 1, "ap_0.25": 1, "ap_0.125": 1}


class Slots(NamedTuple):
    """As far as the task looks."""

    num_slots: int = 3


class Oracle(nn.Module):
    """Says what it is made with."""

    slot_attention: Slots = Slots()

    def __call__(self, inputs, *, num_slots=None, num_iterations=None, train=False):
        properties = self.get_variable("said", "properties")
        return PredictedSet(properties, jnp.zeros((len(inputs), 3, 4)), jnp.zeros((len(inputs), 1, 3, 2, 2)))


TASK = SetPrediction(model=Oracle(), columns=COLUMNS)
EVALUATE = jax.jit(lambda said, batch: TASK.evaluate({"said": {"properties": said}}, batch, {}))


def scores(said, batch=BATCH):
    return TASK.summarize(statistics.add(None, EVALUATE(jnp.asarray(said), batch)))


def noisy():
    true = np.asarray(BATCH["properties"])
    return np.clip(true + np.random.default_rng(0).normal(size=true.shape) * 0.2, 0, 1).astype(np.float32)


def test_the_true_sets_in_any_order_are_perfect():
    assert scores(BATCH["properties"][:, ::-1]) == pytest.approx(PERFECT, abs=1e-6)


def test_a_distance_shows_in_the_nearer_scores_alone():
    """0.1 of the image is 0.6 in CLEVR's units."""
    moved = BATCH["properties"].at[..., 0].add(0.1 * BATCH["properties"][..., -1])
    found = scores(moved)
    assert [found[f"ap_{d}"] for d in ("inf", "1", "0.5", "0.25", "0.125")] == pytest.approx([1, 1, 0, 0, 0])


def test_a_wrong_class_is_no_hit():
    """Where the object is; elsewhere there may be one of that size."""
    found = scores(BATCH["properties"].at[..., 2:4].set(BATCH["properties"][..., 3:1:-1]))
    assert found["ap_0.125"] == 0 and found["ap_inf"] < 0.5


def test_the_loss_is_hubers_of_the_best_matching():
    said, true = noisy(), np.asarray(BATCH["properties"])
    total = 0.0
    for a, b in zip(said, true, strict=True):
        cost = (0.5 * (a[:, None] - b[None]) ** 2).mean(-1)  # within delta
        total += cost[linear_sum_assignment(cost)].sum()
    assert scores(said)["loss"] == pytest.approx(total / 6, rel=1e-5)


def test_padding_does_not_count_and_batches_add_up():
    said, total = jnp.asarray(noisy()), None
    for real in (jnp.arange(6) < 2, jnp.arange(6) >= 2):
        shown = jnp.where(real[:, None, None], said, 1.0)
        total = statistics.add(total, EVALUATE(shown, BATCH | {"weight": real.astype(jnp.float32)}))
    whole = scores(said)
    assert TASK.summarize(total) == pytest.approx(whole, rel=1e-6)
    assert 0.01 < whole["ap_1"] < 0.99


def test_slots_that_are_left_over_are_paired_with_padding():
    said = jnp.zeros((6, 5, 10)).at[:, 4, -1].set(1.0)
    cost = pairwise_huber(said, BATCH["properties"])
    assert cost.shape == (6, 5, 5)
    np.testing.assert_allclose(cost[:, 4, 3:], 0.5 / 10, rtol=1e-6)
    assert pairwise_huber(said[:, :2], BATCH["properties"]).shape == (6, 2, 3)


def test_slots_are_drawn_with_the_objects_that_the_loss_pairs_them_with():
    said, true = np.concatenate([noisy(), noisy()[:, :1]], 1), np.asarray(BATCH["properties"])
    pairs = matched(said, true)
    cost = np.asarray(pairwise_huber(jnp.asarray(said), BATCH["properties"]))
    for k, row in enumerate(cost):
        _, best = linear_sum_assignment(row)
        np.testing.assert_array_equal(np.sort(pairs[k]), np.sort(np.where(best < 3, best, -1)))
        chosen = sum(row[slot, index] for slot, index in enumerate(pairs[k]) if index >= 0)
        assert chosen + row[pairs[k] < 0, 3].sum() == pytest.approx(row[range(4), best].sum(), rel=1e-5)
    pictures = TASK.visualize(
        {"properties": noisy(), "attention": np.full((6, 2, 3, 4, 4), 1 / 3)}, jax.tree.map(np.asarray, BATCH), {}
    )
    assert {name: picture.dtype for name, picture in pictures.items()} == {"objects": np.uint8, "attention": np.uint8}


def test_too_few_slots_are_said():
    assert TASK.notes(SOURCE.spec) == []
    (note,) = SetPrediction(model=Oracle(Slots(2)), columns=COLUMNS).notes(SOURCE.spec)
    assert "WARNING: 2 slots for up to 3 objects" in note and "num_slots=3" in note


def test_a_tiny_run_learns(run_module, tmp_path):
    """Through the other config file, which leads to this one."""
    small = ("--config.num_steps=160", "--config.evaluation.every_epochs=1.25")
    tiny = "--config=configs/slot_attention.py:set_prediction,tiny"
    result = run_module("main", tiny, f"--workdir={tmp_path}", *small)
    assert result.rc == 0, result.stderr
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    scores = [line["validation/ap_inf"] for line in lines if "validation/ap_inf" in line]
    assert losses[-1] < 0.8 * losses[0] and scores[-1] > scores[0]
    pictures = {file.name.rpartition("_")[0] for file in (tmp_path / "figures" / "validation").iterdir()}
    assert pictures == {"objects", "attention"}
    run = experiment.load(tmp_path)
    (file,) = slots.write(run, ("png",), Namespace(num=2))
    assert file == tmp_path / "figures" / "slots" / "attention_evolution.png" and file.exists()
    image = run.source().load("test", np.arange(1), None)["image"]
    found = Predictor(run)(image)
    assert {"properties", "slots", "attention", "x", "y", "size", "shape", "colour", "confidence"} == set(found)
    assert found["shape"].shape == (1, 2) and found["x"].min() >= 0 and found["x"].max() <= 1
