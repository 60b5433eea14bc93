# SPDX-License-Identifier: Apache-2.0
"""Object discovery: what the scores are for masks known to be right or wrong, and that padding is not counted."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from sklearn.metrics import adjusted_rand_score

from perceiver_jax.data.scenes import Shapes
from perceiver_jax.errors import ConfigError
from perceiver_jax.metrics import statistics
from perceiver_jax.models.slot_autoencoder import Decomposed, centered
from perceiver_jax.tasks.object_discovery import ObjectDiscovery
from perceiver_jax.tasks.segments import segments_of

SOURCE = Shapes(size=16, max_objects=3, min_objects=1)
BATCH = {name: jnp.asarray(array) for name, array in SOURCE.load("train", np.arange(6), None).items()}
BATCH |= {"weight": jnp.ones(6), "id": jnp.arange(6)}


class Slots(NamedTuple):
    """As far as the task looks."""

    num_slots: int = 4
    initializer: str = "shared_gaussian"


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
    model = Painter(tuple(map(tuple, np.asarray(masks).tolist())), error)
    return ObjectDiscovery(model=model, max_objects=3, num_seeds=1)


def scores(segments, batch=BATCH, error=0.0):
    built = task(segments, error)
    return built.summarize(statistics.add(None, built.evaluate({}, batch, {})))


def test_the_true_objects_score_one_under_any_name():
    found = scores((BATCH["objects"].astype(jnp.int32) + 2) % 4)
    assert found == pytest.approx(
        {"loss": 0, "mse": 0, **dict.fromkeys(("ari", "fg_ari", "miou", "mbo", "sc"), 1)}, abs=1e-5
    )


def test_a_background_that_is_split_shows_in_ari_alone():
    objects = np.asarray(BATCH["objects"]).astype(np.int32)
    split = objects.copy()
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


class Dealer(nn.Module):
    """Gives each object a slot that the draw decides, the same for all images."""

    slot_attention: Slots = Slots()

    @nn.compact
    def __call__(self, inputs, *, num_slots=None, num_iterations=None, train=False):
        dealt = jax.random.permutation(self.make_rng("slots"), 4)[BATCH["objects"].astype(jnp.int32)[: len(inputs)]]
        masks, empty = jax.nn.one_hot(dealt, 4, axis=1)[..., None], jnp.zeros((len(inputs), 1, 4, 4, 4))
        return Decomposed(centered(inputs), empty[..., :3], masks, empty[:, 0, 0], empty)


def test_consistency_compares_draws_and_leaves_padding_out():
    """The grouping is always the same, the slot of an object only where two draws agree."""
    rngs, found = {"slots": jax.random.key(0)}, {}
    padded = BATCH | {"weight": jnp.asarray([1.0, 1, 1, 0, 0, 0])}
    for initializer in ("shared_gaussian", "slot_gaussian"):
        built = ObjectDiscovery(model=Dealer(Slots(4, initializer)), max_objects=3, num_seeds=4)
        found[initializer] = built.summarize(statistics.add(None, built.evaluate({}, padded, rngs)))
        assert found[initializer]["slot_consistency"] == pytest.approx(1, abs=1e-5)
    assert "slot_index_consistency" not in found["shared_gaussian"]
    draws = [rngs["slots"], *(jax.random.fold_in(rngs["slots"], seed) for seed in (1, 2, 3))]
    dealt = [Dealer().apply({}, BATCH["image"], rngs={"slots": draw}).masks[:3, ..., 0].argmax(1) for draw in draws]
    same = [
        dealt[i][b][mask][0] == dealt[j][b][mask][0]
        for b, objects in enumerate(np.asarray(BATCH["objects"][:3]))
        for mask in (objects == k for k in range(1, objects.max() + 1))
        for i, j in itertools.combinations(range(4), 2)
    ]
    assert found["slot_gaussian"]["slot_index_consistency"] == pytest.approx(np.mean(same), abs=1e-6)
    assert 0 < np.mean(same) < 1


def test_without_true_objects_all_pixels_are_compared():
    bare = {name: array for name, array in BATCH.items() if name in ("image", "weight", "id")}
    built = ObjectDiscovery(model=Dealer(), num_seeds=2)
    found = built.summarize(statistics.add(None, built.evaluate({}, bare, {"slots": jax.random.key(0)})))
    assert found == pytest.approx({"loss": 0, "mse": 0, "slot_consistency": 1}, abs=1e-5)
    once = ObjectDiscovery(model=Dealer(), num_seeds=1)
    assert set(once.evaluate({}, bare, {"slots": jax.random.key(0)})) == {"loss", "mse"}
    with pytest.raises(ConfigError, match="num_seeds=0: expected 1 to 20"):
        ObjectDiscovery(model=Dealer(), num_seeds=0)


def test_pictures_show_the_first_examples():
    """Sheets of one row an image, and one an iteration."""
    built = ObjectDiscovery(model=Dealer(), max_objects=3)
    rng = np.random.default_rng(0)
    predictions = {
        "image": rng.uniform(-1, 1, (2, 16, 16, 3)),
        "recons": rng.uniform(-1, 1, (2, 3, 16, 16, 3)),
        "masks": rng.dirichlet(np.ones(3), (2, 16, 16)).transpose(0, 3, 1, 2)[..., None],
        "attention": rng.dirichlet(np.ones(3), (2, 2, 8, 8)).transpose(0, 1, 4, 2, 3),
    }
    pictures = built.visualize(predictions, {"image": np.asarray(BATCH["image"][:2])}, {})
    slots, attention = pictures["slots"], pictures["attention"]
    assert slots.dtype == attention.dtype == np.uint8
    assert attention.shape[0] == 2 * slots.shape[0] and slots.shape[1] * 4 == attention.shape[1] * 6


def test_too_few_slots_are_said():
    built = ObjectDiscovery(model=Painter(()), max_objects=4)
    (note,) = built.notes(SOURCE.spec)
    assert "WARNING: 4 slots for up to 4 objects" in note and "num_slots=5" in note
    assert task(BATCH["objects"]).notes(SOURCE.spec) == []


def test_the_largest_share_has_the_pixel():
    masks = jnp.asarray([[[[0.2]], [[0.7]], [[0.1]]]])[..., None]
    assert segments_of(masks).tolist() == [[[1]]]
