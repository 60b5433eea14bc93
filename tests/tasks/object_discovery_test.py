# SPDX-License-Identifier: Apache-2.0
"""Object discovery: what the scores are for masks known to be right or wrong, and that padding is not counted."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from sklearn.metrics import adjusted_rand_score

from perceiver_jax.data.scenes import Shapes
from perceiver_jax.metrics import statistics
from perceiver_jax.models.slot_autoencoder import Decomposed, centered
from perceiver_jax.tasks.object_discovery import ObjectDiscovery, segments_of

SOURCE = Shapes(size=16, max_objects=3, min_objects=1)
BATCH = {name: jnp.asarray(array) for name, array in SOURCE.load("train", np.arange(6), None).items()}
BATCH |= {"weight": jnp.ones(6), "id": jnp.arange(6)}


class Slots(NamedTuple):
    """As far as the task looks."""

    num_slots: int = 4


class Painter(nn.Module):
    """Gives the masks that it is made with and the image darkened by `error`."""

    masks: tuple
    error: float = 0.0
    slot_attention: Slots = Slots()

    def __call__(self, inputs, *, num_slots=None, num_iterations=None, train=False):
        masks = jnp.asarray(self.masks, jnp.float32)[: len(inputs), ..., None]
        empty = jnp.zeros((len(inputs), 1, 4, 4, 4))
        return Decomposed(centered(inputs) - self.error, empty[..., :3], masks, empty[:, 0, 0], empty)


def task(segments, error=0.0):
    masks = jax.nn.one_hot(segments, 4, axis=1)
    return ObjectDiscovery(model=Painter(tuple(map(tuple, np.asarray(masks).tolist())), error), max_objects=3)


def scores(segments, batch=BATCH, error=0.0):
    built = task(segments, error)
    return built.summarize(statistics.add(None, built.evaluate({}, batch, {})))


def test_the_true_objects_score_one_under_any_name():
    found = scores((BATCH["objects"].astype(jnp.int32) + 2) % 4)
    assert found == pytest.approx({"loss": 0, "mse": 0, "ari": 1, "fg_ari": 1, "miou": 1, "mbo": 1}, abs=1e-5)


def test_a_background_that_is_split_shows_in_ari_alone():
    objects = np.asarray(BATCH["objects"]).astype(np.int32)
    split = np.where((objects == 0) & (np.arange(16) < 8), 3, objects) if objects.max() < 3 else objects.copy()
    split[objects == 0] = np.where(np.arange((objects == 0).sum()) % 2, 0, 3)
    found = scores(jnp.asarray(split))
    expected = np.mean([adjusted_rand_score(a.ravel(), b.ravel()) for a, b in zip(objects, split, strict=True)])
    assert found["ari"] == pytest.approx(expected, abs=1e-5) and found["ari"] < 0.8
    assert found["fg_ari"] == pytest.approx(1, abs=1e-5)


def test_the_error_is_the_mean_square_in_the_range_of_the_model():
    found = scores(BATCH["objects"], error=0.5)
    assert found["mse"] == found["loss"] == pytest.approx(0.25, abs=1e-5)


def test_padding_and_images_without_objects_do_not_count():
    wrong = jnp.zeros_like(BATCH["objects"])
    some = jnp.where(jnp.arange(6)[:, None, None] < 3, BATCH["objects"], wrong)
    found = scores(some, BATCH | {"weight": jnp.asarray([1.0, 1, 1, 0, 0, 0])})
    assert found["fg_ari"] == pytest.approx(1, abs=1e-5) and found["mbo"] == pytest.approx(1, abs=1e-5)
    empty = BATCH | {"objects": BATCH["objects"].at[3:].set(0)}
    assert scores(some, empty)["fg_ari"] == pytest.approx(1, abs=1e-5)


def test_batches_add_up_to_the_whole():
    wrong, parts = jnp.roll(BATCH["objects"], 3, axis=1), []
    for rows in (slice(0, 2), slice(2, 6)):
        built, batch = task(wrong[rows]), {name: array[rows] for name, array in BATCH.items()}
        parts.append(built.evaluate({}, batch, {}))
    total = statistics.add(statistics.add(None, parts[0]), parts[1])
    assert task(wrong).summarize(total) == pytest.approx(scores(wrong), abs=1e-6)


def test_too_few_slots_are_said():
    built = ObjectDiscovery(model=Painter(()), max_objects=4)
    (note,) = built.notes(SOURCE.spec)
    assert "WARNING: 4 slots for up to 4 objects" in note and "num_slots=5" in note
    assert task(BATCH["objects"]).notes(SOURCE.spec) == []


def test_the_largest_share_has_the_pixel():
    masks = jnp.asarray([[[[0.2]], [[0.7]], [[0.1]]]])[..., None]
    assert segments_of(masks).tolist() == [[[1]]]
