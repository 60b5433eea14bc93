# SPDX-License-Identifier: Apache-2.0
"""The procedural sequences: pure in the id, balanced, of many lengths, and their classes can be told apart."""

import pickle

import numpy as np
import pytest

from perceiver_jax.data.patterns import WAVEFORMS, Patterns
from perceiver_jax.data.pipeline import evaluation_batches, notes, train_batches, train_plan, typical_spec
from perceiver_jax.errors import ConfigError

PATTERNS = Patterns()
IDS = np.arange(40)


def test_an_example_does_not_depend_on_its_batch():
    whole = PATTERNS.load("train", IDS, 0)
    for rows in ([7], [7, 8], [39, 0, 7], list(range(5, 30))):
        part = PATTERNS.load("train", IDS[rows], 3)
        for k, row in enumerate(rows):
            length = PATTERNS.lengths("train")[row]
            np.testing.assert_array_equal(part["sequence"][k, :length], whole["sequence"][row, :length])
            assert part["mask"][k].sum() == length and not part["sequence"][k, length:].any()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(PATTERNS)).load("train", IDS, 0)["mask"], whole["mask"])


def test_what_does_and_does_not_change_an_example():
    train = PATTERNS.load("train", IDS, None)["sequence"]
    np.testing.assert_array_equal(Patterns(seed=9).load("train", IDS, 0)["sequence"], train)
    for other in (PATTERNS.load("test", IDS, None), Patterns(set_seed=1).load("train", IDS, None)):
        assert not np.array_equal(other["sequence"][:, :50], train[:, :50])


def test_lengths_span_the_range_and_classes_are_balanced():
    lengths = PATTERNS.lengths("train")
    assert (lengths.min(), lengths.max()) == (50, 200) and 100 < lengths.mean() < 115
    assert PATTERNS.spec.arrays["sequence"].shape == (200, 64) and PATTERNS.spec.max_length == 200
    for split in PATTERNS.splits:
        counts = np.bincount(PATTERNS.labels(split), minlength=5)
        assert np.ptp(counts) <= 1 and counts.sum() == PATTERNS.num_examples(split)


def test_noise_and_waveforms():
    exact, noisy = Patterns(noise=0.0).load("test", IDS, None), PATTERNS.load("test", IDS, None)
    difference = (noisy["sequence"] - exact["sequence"])[noisy["mask"]]
    assert difference.std() == pytest.approx(PATTERNS.noise, abs=0.01)
    cycles = np.linspace(0, 64, 64000, dtype=np.float32)
    assert {name: round(float(np.std(wave(cycles))), 1) for name, wave in WAVEFORMS.items()}.keys() == WAVEFORMS.keys()
    assert all(0.5 < np.std(wave(cycles)) < 1.1 for wave in WAVEFORMS.values())


def shape(batch):
    """Quantiles over time of the strongest channel: no phase and no frequency."""
    values = []
    for sequence, mask in zip(batch["sequence"], batch["mask"], strict=True):
        wave = sequence[mask]
        strongest = wave[:, np.argmax((wave**2).sum(0))]
        wave = wave @ (strongest @ wave)  # the channels, weighed by how they go with it
        wave = wave / wave.std()
        values.append(np.quantile(wave * np.sign((wave**3).sum()), np.linspace(0, 1, 12)))
    return np.array(values)


def test_classes_can_be_told_apart_by_simple_statistics():
    train, test = (PATTERNS.load(split, np.arange(n), None) for split, n in (("train", 500), ("test", 200)))
    known, asked = shape(train), shape(test)
    nearest = ((asked[:, None] - known[None]) ** 2).sum(-1).argmin(1)
    assert (train["label"][nearest] == test["label"]).mean() > 0.7  # chance: 0.2


def test_longer_sequences_are_cut():
    cut = Patterns(max_length=80)
    assert cut.lengths("train").max() == 80 == cut.spec.max_length
    np.testing.assert_array_equal(
        cut.load("train", IDS, 0)["sequence"], PATTERNS.load("train", IDS, 0)["sequence"][:, :80]
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"num_train": 0},
        {"min_length": 50, "longest": 40},
        {"num_classes": 9},
        {"noise": -1.0},
        {"num_buckets": 0},
        {"max_length": 0},
    ],
)
def test_impossible_fields(fields):
    with pytest.raises(ConfigError, match=list(fields)[-1]):
        Patterns(**fields)


SMALL = Patterns(num_train=52, num_validation=13, num_channels=2, num_buckets=3)


def taken(num_steps=12, **options):
    plan = train_plan(SMALL, 8, seed=1)
    with train_batches(SMALL, plan, **{"start_step": 0, "num_steps": num_steps, **options}) as batches:
        return plan, list(batches)


def test_batches_are_padded_to_few_lengths_and_every_row_fits():
    plan, batches = taken()
    assert {batch["sequence"].shape[1] for batch in batches} <= set(SMALL.padded_lengths)
    for i, batch in enumerate(batches):
        np.testing.assert_array_equal(batch["id"], plan.ids(i))
        np.testing.assert_array_equal(batch["mask"].sum(1), SMALL.lengths("train")[batch["id"]])
        assert batch["mask"].shape == batch["sequence"].shape[:2] == (8, plan.length(i))


def test_a_resumed_run_goes_on_with_the_next_batch():
    whole, rest = taken()[1][5:], taken(start_step=5)[1]
    assert len(whole) == len(rest) == 7
    for a, b in zip(whole, rest, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_a_worker_gets_the_same_plan():
    plan = train_plan(SMALL, 8, seed=1)
    sent = pickle.loads(pickle.dumps(plan))
    assert [sent.length(i) for i in range(12)] == [plan.length(i) for i in range(12)]
    np.testing.assert_array_equal(sent.ids(9), plan.ids(9))


def test_processes_agree_on_the_length():
    whole, parts = taken()[1], [taken(process_index=p, process_count=4)[1] for p in range(4)]
    for i, batch in enumerate(whole):
        for name in batch:
            np.testing.assert_array_equal(np.concatenate([part[i][name] for part in parts]), batch[name])


def test_evaluation_counts_each_example_once():
    with evaluation_batches(SMALL, "validation", 4) as batches:
        batches = list(batches)
    ids = np.concatenate([batch["id"][batch["weight"] == 1] for batch in batches])
    assert sorted(ids.tolist()) == list(range(13)) and len({batch["sequence"].shape for batch in batches}) > 1


def test_what_is_said_and_counted():
    assert notes(SMALL) == [
        f"lengths {SMALL.lengths('train').min()} to {SMALL.lengths('train').max()}, "
        f"batches padded to {', '.join(map(str, SMALL.padded_lengths))}: 3 shapes are compiled"
    ]
    plan, batches = taken(num_steps=6)
    mean = np.mean([batch["mask"].shape[1] for batch in batches])
    assert typical_spec(SMALL, plan).arrays["sequence"].shape == (round(mean), 2)
