# SPDX-License-Identifier: Apache-2.0
"""Stored sequences: rows and masks, and that every field of every source of sequences changes its data."""

import numpy as np
import pytest

from perceiver_jax.config import section, to_dict
from perceiver_jax.data.sequences import Ragged
from perceiver_jax.data.source import VariableLength
from perceiver_jax.registry import build, find

RAGGED = Ragged.of([np.arange(n * 2).reshape(n, 2) + 10 * n for n in (3, 1, 5)], [0, 1, 0])


def test_rows_and_their_mask():
    values, mask = RAGGED.rows(np.array([2, 0]), 4)
    assert values.shape == (2, 4, 2) and mask.tolist() == [[True] * 4, [True] * 3 + [False]]
    np.testing.assert_array_equal(values[0], np.arange(8).reshape(4, 2) + 50)
    np.testing.assert_array_equal(values[1, :3], np.arange(6).reshape(3, 2) + 30)
    assert not values[1, 3].any()


def test_selected_sequences():
    chosen = RAGGED.select(np.array([True, False, True]))
    assert chosen.lengths.tolist() == [3, 5] and chosen.label.tolist() == [0, 0]
    np.testing.assert_array_equal(chosen.rows(np.array([1]), 9)[0], RAGGED.rows(np.array([2]), 9)[0])


SMALL = {
    "patterns": {"num_train": 60, "num_validation": 20, "num_test": 20, "num_channels": 3},
    "babble": {"num_train": 60, "num_validation": 20, "num_test": 20},
    "timeseries": {"jitter": 0.1},
    "text": {},
}
OTHER = {  # a value that is not the default
    "num_train": 50,
    "num_validation": 15,
    "num_test": 15,
    "min_length": 20,
    "longest": 120,
    "max_length": 9,
    "num_channels": 4,
    "num_classes": 3,
    "noise": 0.6,
    "num_buckets": 3,
    "set_seed": 1,
    "min_words": 2,
    "max_words": 20,
    "validation_fraction": 0.3,
    "test_fraction": 0.3,
    "split_seed": 1,
    "jitter": 0.2,
    "scale": 0.1,
    "dropped_steps": 0.2,
}
FIELDS = [(name, field) for name in SMALL for field in find("data", name).parameters() if field != "path"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Both what the reader of time series and what that of text looks for: books, then lines."""
    folder, random = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    cases = [",".join(f"{x:.3f}" for x in random.normal(size=5 + i % 9)) + f":{'ab'[i % 2]}" for i in range(60)]
    for part in ("TRAIN", "TEST"):
        (folder / f"X_{part}.ts").write_text("@classLabel true a b\n@data\n" + "\n".join(cases))
    for split in ("train", "test"):
        lines = [f"{'ab'[i % 2]}\t{'word ' * (1 + i % 9)}{i}" for i in range(60)]
        (folder / f"{split}.tsv").write_text("\n".join(lines))
    (folder / "books").mkdir()
    for book in "ab":
        (folder / "books" / f"{book}.txt").write_text(" ".join(f"{book}{i}" for i in range(2000)))
    return folder


def made(name, folder, **fields):
    """All that a source says and gives."""
    path = {"path": str(folder)} if name in ("timeseries", "text") else {}
    source = build("data", to_dict(section("data", name, **SMALL[name] | path | fields)), seed=0)
    assert isinstance(source, VariableLength)
    batches = [source.load(split, np.arange(source.num_examples(split)), 0) for split in source.splits]
    arrays = {f"{k}/{name}": array.tobytes() for k, batch in enumerate(batches) for name, array in batch.items()}
    return source.spec, source.padded_lengths, [source.num_examples(split) for split in source.splits], arrays


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_no_field_is_dead(name, field, folder):
    where = folder / "books" if field == "test_fraction" else folder
    assert made(name, where, **{field: OTHER[field]}) != made(name, where)
