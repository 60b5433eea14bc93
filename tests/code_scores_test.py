# SPDX-License-Identifier: Apache-2.0
"""What an evaluation of both stages adds, on runs whose weights are random numbers."""

import json
import shutil

import pytest

from perceiver_jax import code_scores, experiment, stages
from tests import untrained

FIRST = {"num_slots": 3, "slot_dim": 8, "mlp_dim": 4, "feature_dim": 8, "num_blocks": 2, "codebook_size": 5}
SIZES = {"data__num_train": 24, "data__num_validation": 8, "data__num_test": 16, "schedule__warmup_steps": 0}
SIZES |= {"batch_size": 8}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    values = untrained.config("svq", "tiny", FIRST | {"num_iterations": 1, "initializer": "learned"}, **SIZES)
    return untrained.write_run(tmp_path_factory.mktemp("scores") / "first", values)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(code_scores, "NUM", 8)


def test_evaluate_says_what_codes_tell_and_whether_reconstructions_are_scenes(first, run_forked):
    result = run_forked("evaluate", f"--workdir={first}")
    assert result.rc == 0 and "reconstruction_generation_accuracy" in result.stdout, result.stderr
    results = json.loads((first / "evaluation" / "results.json").read_text())
    assert 0 <= results["probe_shape_accuracy"] <= 1 and 0 < results["probe_shape_chance"] < 1
    assert results["image_generation_accuracy"] > results["reconstruction_generation_accuracy"] == 0
    assert results["image_frechet_proxy"] < results["reconstruction_frechet_proxy"]
    assert results["judged"]["reconstruction"]["num_images"] == 16 and results["mse"] > 0
    assert results["unigram_generation_accuracy"] == 0 and results["unigram_frechet_proxy"] > 0


def test_of_a_large_split_a_part_is_predicted(first, monkeypatch):
    monkeypatch.setattr(code_scores, "PROBED", 8)
    run = experiment.load(first)
    found = code_scores.scores(run, "test", run.source())["judged"]
    assert {kind: some["num_images"] for kind, some in found.items()} == dict.fromkeys(
        ("image", "reconstruction", "unigram"), 8
    )


def test_a_prior_is_scored_beside_unigrams_and_reconstructions(first, few, capsys):
    values = untrained.config("svq_prior", "tiny", {"dim": 8}, init_from=str(first), batch_size=8, num_steps=6)
    folder = untrained.write_run(first.with_name("prior"), stages.resolve(values))
    run = experiment.load(folder)
    found = code_scores.scores(run, "test", run.source())
    assert set(found["judged"]) == {"sample", "unigram", "reconstruction"}
    assert all(some["num_images"] == 8 for some in found["judged"].values())
    assert found["sample_generation_accuracy"] == 0 and found["unigram_frechet_proxy"] > 0
    same = code_scores.scores(run, "test", run.source())
    assert same == found
    shutil.move(first / "config.json", first / "gone")
    assert code_scores.scores(run, "test", run.source()) == {}
    assert "samples are not judged" in capsys.readouterr().out


def test_other_runs_have_none(tmp_path):
    values = untrained.config("solids", "tiny")
    training = experiment.build(values)
    run = experiment.Run(tmp_path, values, training.source.spec, training.task, training.mesh, 0, {})
    assert code_scores.scores(run, "test", training.source) == {}
