# SPDX-License-Identifier: Apache-2.0
"""The invented languages: lines follow from seed and index, are balanced, and can be told apart by their letters."""

import numpy as np
import pytest

from perceiver_jax.data.babble import Babble
from perceiver_jax.data.text import decode
from perceiver_jax.errors import ConfigError

BABBLE = Babble(num_train=400, num_test=100)


def test_lines_follow_from_the_set_seed_and_their_index():
    batch, ids = BABBLE.load("train", np.arange(8), 0), np.arange(8)
    np.testing.assert_array_equal(Babble(num_train=8, seed=5).load("train", ids, 1)["tokens"], batch["tokens"])
    for other in (Babble(set_seed=1).load("train", ids, 0), BABBLE.load("test", ids, 0)):
        assert decode(other["tokens"][0]) != decode(batch["tokens"][0])
    assert 4 <= len(decode(batch["tokens"][0]).split()) <= 16
    assert np.bincount(BABBLE.labels("train")).tolist() == [100] * 4


def letters(split):
    tokens = BABBLE.load(split, np.arange(BABBLE.num_examples(split)), None)["tokens"]
    counts = np.stack([np.bincount(row, minlength=262) for row in tokens])[:, 6 + ord("a") :]
    return counts / counts.sum(1, keepdims=True)


def test_languages_can_be_told_apart_by_their_letters_but_not_by_one_word():
    centres = np.stack([letters("train")[BABBLE.labels("train") == k].mean(0) for k in range(4)])
    nearest = ((letters("test")[:, None] - centres) ** 2).sum(-1).argmin(1)
    assert (nearest == BABBLE.labels("test")).mean() > 0.85


@pytest.mark.parametrize("fields", [{"num_test": 0}, {"max_words": 2}])
def test_impossible_fields(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        Babble(**fields)
