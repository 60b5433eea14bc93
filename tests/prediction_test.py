# SPDX-License-Identifier: Apache-2.0
"""What a predictor says is what an evaluation computes, for inputs as their files hold them and any number of them."""

import dataclasses

import jax
import numpy as np
import pytest

from perceiver_jax import experiment
from perceiver_jax.data.pipeline import evaluation_batches
from perceiver_jax.data.ts_format import read_ts
from perceiver_jax.errors import ConfigError
from perceiver_jax.prediction import SIZES, Predictor
from tests import untrained

COUNT = 8


def write_series(folder):
    """Two channels of 5 to 20 steps, some values missing, the class the frequency."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for split in ("TRAIN", "TEST"):
        lines = ["@missing true", "@dimensions 2", "@classLabel true slow fast", "@data"]
        for k in range(12):
            channels = random.normal(3 * k, 5, (2, 5 + (7 * k) % 16)).round(3).astype(str)
            channels[1, 2] = "?"
            lines.append(":".join([*(",".join(channel) for channel in channels), ("slow", "fast")[k % 2]]))
        (folder / f"Waves_{split}.ts").write_text("\n".join(lines))
    return folder


def write_texts(folder):
    folder.mkdir()
    for split in ("train", "test"):
        lines = [f"{('good', 'bad')[k % 2]}\t{'well ' * k}schön {k}\n" for k in range(12)]
        (folder / f"{split}.tsv").write_text("".join(lines))
    return folder


def clouds(folder):
    values = untrained.config("solids", "tiny", data__normalize_before="sphere")
    return values, lambda source: dataclasses.replace(source, normalize="none", normalize_before="none").load


def images(folder):
    values = untrained.config("cifar10", "tiny", data__permutation_seed=3, data__size=32, data__image_size=16)
    return values, lambda source: dataclasses.replace(source, permutation_seed=None, image_size=None).load


def convolved(folder):
    """Batch statistics, a query decoder, averaged parameters."""
    model = untrained.SMALL | {"num_decode_heads": 1}
    model.pop("num_cross_attends")
    values = untrained.config("imagenet", "io_conv,tiny", model, ema_decay=0.9)
    return values, lambda source: dataclasses.replace(source, central_crop=1.0, image_size=None).load


def series(folder):
    values = untrained.config("timeseries", data__path=str(write_series(folder / "series")), batch_size=4)
    sequences = read_ts(folder / "series" / "Waves_TEST.ts", labelled=False).sequences
    return values, lambda source: lambda split, ids, epoch: {"sequence": [sequences[i] for i in ids]}


def text(folder):
    values = untrained.config("text", data__path=str(write_texts(folder / "text")), data__max_length=40, batch_size=4)
    lines = [line.partition("\t")[2] for line in (folder / "text" / "test.tsv").read_text().splitlines()]
    return values, lambda source: lambda split, ids, epoch: {"tokens": [lines[i] for i in ids]}


FAMILIES = (clouds, images, convolved, series, text)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_raw_inputs_give_the_logits_of_an_evaluation(family, tmp_path):
    values, raw = family(tmp_path)
    run = experiment.load(untrained.write_run(tmp_path / "run", values))
    source = run.source()
    with evaluation_batches(source, "test", COUNT, num_examples=COUNT) as batches:
        batch = next(batches)
    expected = jax.jit(lambda variables, batch: run.task.predict(variables, batch, {}))(run.variables, batch)
    inputs = raw(source)("test", batch["id"], None)
    found = Predictor(run)(inputs[next(iter(inputs))])
    np.testing.assert_allclose(found.logits, expected["logits"], atol=2e-5, rtol=1e-5)
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-5)
    assert np.ptp(found.logits, axis=0).max() > 1e-4  # inputs matter
    assert found.class_names == source.spec.class_names
    best = found.top(2)[3]
    assert best[0] == (found.class_names[found.logits[3].argmax()], found.probabilities[3].max())


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """Of clouds, 64 points each."""
    values = untrained.config("solids", "tiny")
    return Predictor.from_run(untrained.write_run(tmp_path_factory.mktemp("clouds") / "run", values))


def test_any_number_of_inputs_compiles_a_program_for_each_size(predictor):
    cloud = np.random.default_rng(1).normal(size=(64, 3))
    alone = predictor([cloud]).logits
    for count in (2, 7, 8, 9, 64, 65, 130):
        found = predictor(np.stack([cloud] * count))
        assert len(found) == count
        np.testing.assert_allclose(found.logits, np.repeat(alone, count, axis=0), atol=1e-5)
    assert predictor._predict._cache_size() == len(SIZES)
    assert len(predictor([])) == 0


def test_a_cloud_may_have_any_number_of_points(predictor):
    before = predictor._predict._cache_size()
    cloud = np.random.default_rng(1).normal(size=(100, 3)).astype(np.float32)
    found = predictor([cloud[:count] for count in (100, 66, 70, 100, 65, 128)])
    order = np.random.default_rng(2).permutation(100)
    np.testing.assert_allclose(predictor([cloud[order]] * 2).logits, found.logits[[0, 3]], atol=1e-4)
    assert np.abs(found.logits[0] - found.logits[1]).max() > 1e-6
    assert predictor._predict._cache_size() == before + 1  # 128 points


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((3, 64), np.float32), r"input 0 has shape \(3, 64\): expected \(length, 3\), got what looks like"),
        (np.zeros((64, 4), np.float32), r"input 0 has shape \(64, 4\): expected \(length, 3\)\. This run takes point"),
        (np.zeros((0, 3), np.float32), "input 0 is empty"),
        (np.full((64, 3), np.nan), "input 0 holds NaN"),
        (np.zeros((64, 3), np.int32), "input 0 has type int32: expected float32"),
        ("text", "input 0: is text: expected an array, this run takes point clouds"),
    ],
)
def test_a_wrong_input_is_named(predictor, value, message):
    with pytest.raises(ConfigError, match=message):
        predictor([value])
