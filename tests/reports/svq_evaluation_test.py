# SPDX-License-Identifier: Apache-2.0
"""Codes that are an object's attributes tell them; images of a set are its scenes, and near it."""

import numpy as np

from perceiver_jax.data.drawings import Drawings
from perceiver_jax.data.scenes import Shapes
from perceiver_jax.reports import svq_evaluation

SOURCE = Shapes(size=32, min_radius=0.12, max_radius=0.2, max_objects=3, num_train=160)


def test_a_perfect_autoencoder_tells_its_objects():
    batch = SOURCE.load("train", np.arange(160), None)
    slots = (batch["objects"][:, None] == np.arange(4)[:, None, None])[..., None].astype(np.float32)
    codes = np.zeros((160, 4, 2), np.int64)
    codes[:, 1:, 0] = batch["attributes"][..., 1]
    codes[:, 1:, 1] = 10 * batch["attributes"][..., 2]
    order = np.array([2, 0, 3, 1])  # slots come in any
    found = svq_evaluation.told_by_codes(codes[:, order], slots[:, order], batch)
    assert found["probe_shape_accuracy"] == 1 and found["probe_overlap"] == 1
    assert found["probe_shape_chance"] < 0.6 and 0.3 < found["probe_position_r2"] < 0.7
    assert found["probe_colour_accuracy"] < 0.6
    assert svq_evaluation.told_by_codes(codes, slots, {"objects": batch["objects"]}) == {}


def test_sets_of_images_are_judged_alike():
    images = SOURCE.load("test", np.arange(24), None)["image"]
    found = svq_evaluation.judged(
        svq_evaluation.parser_of(SOURCE), {"true": images[:12], "dark": images[:12] // 3}, images[12:]
    )
    assert found["true"]["accuracy"] > 0.8 > found["dark"]["accuracy"]
    assert found["true"]["frechet_proxy"] < found["dark"]["frechet_proxy"]
    numbers = svq_evaluation.headlines(found)
    assert numbers["true_generation_accuracy"] == found["true"]["accuracy"]
    assert numbers["true_count_accuracy"] == found["true"]["count_accuracy"] > 0.8
    assert svq_evaluation.parser_of(SOURCE).counts == (2, 3)
    assert set(svq_evaluation.headlines(svq_evaluation.judged(None, {"a": images}, images))) == {"a_frechet_proxy"}
    assert svq_evaluation.parser_of(Drawings()) is None


def test_unigrams_keep_frequencies_and_break_what_goes_together():
    codes = np.repeat(np.arange(5), 200)[:, None, None] * np.ones((1, 2, 3), int)
    drawn = svq_evaluation.from_unigrams(codes, 2000)
    assert drawn.shape == (2000, 2, 3)
    np.testing.assert_allclose([(drawn[:, 1, 2] == k).mean() for k in range(5)], 0.2, atol=0.04)
    assert np.corrcoef(drawn[:, 0, 0], drawn[:, 0, 1])[0, 1] < 0.1
