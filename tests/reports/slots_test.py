# SPDX-License-Identifier: Apache-2.0
"""A run of object discovery under every command: it trains, and each works or says in one line what does."""

import json
import math

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from perceiver_jax.prediction import Predictor

STEPS = 96
CHANGES = {
    "model": {"num_slots": 2, "slot_dim": 8, "mlp_dim": 8, "num_iterations": 1, "initializer": "shared_gaussian"},
    "data": {"num_train": 768, "num_validation": 4, "num_test": 7},
    "task": {"num_iterations": 2},
    "evaluation": {"batch_size": 4, "every_epochs": 2.0},
    "schedule": {"warmup_steps": 8},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, run_forked):
    """The folder of a run on scenes of 16 pixels, and what its command said."""
    folder = tmp_path_factory.mktemp("runs") / "slots"
    changes = [f"--config.{part}.{key}={value}" for part, keys in CHANGES.items() for key, value in keys.items()]
    changes += [f"--config.num_steps={STEPS}", f"--workdir={folder}"]
    result = run_forked("main", "--config=configs/slot_attention.py:tiny", *changes)
    assert result.rc == 0, result.stderr
    return folder, result.stdout


@pytest.fixture(scope="module")
def run(trained):
    """The folder alone."""
    return trained[0]


def test_a_training_shows_loss_scores_and_pictures(trained):
    """It also says that there are too few slots."""
    run, said = trained
    assert "WARNING: 2 slots for up to 2 objects and the background: some will share a slot" in said
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert losses[-1] < 0.7 * losses[0]
    scores = {line["step"]: line["validation/fg_ari"] for line in lines if "validation/fg_ari" in line}
    assert list(scores) == [48, STEPS] and all(map(math.isfinite, scores.values()))
    events = EventAccumulator(str(run)).Reload().Scalars("validation/fg_ari")
    assert {event.step: event.value for event in events} == pytest.approx(scores)
    pictures = {file.name for file in (run / "figures" / "validation").iterdir()}
    assert pictures == {f"{name}_{step:08}.png" for name in ("slots", "attention") for step in (48, STEPS)}


def test_the_slots_are_drawn(run, run_forked):
    """Where iterations were asked for, in a folder that says so."""
    result = run_forked("visualize", "slots", f"--workdir={run}", "--num=3", "--format=png,pdf", "--num_iterations=2")
    assert result.rc == 0, result.stderr
    names = {"results", "attention_evolution", "decomposition"}
    folder = run / "figures" / "slots-num_iterations_2"
    files = {file.name for file in folder.iterdir()}
    assert files == {f"{name}.{kind}" for name in names for kind in ("png", "pdf")}
    for name in names:
        picture = Image.open(folder / f"{name}.png").convert("L")
        assert picture.getextrema()[0] < 100 and min(picture.size) > 200 and f"{name}.png" in result.stdout


def test_an_evaluation_scores_the_objects(run, run_forked):
    result = run_forked("evaluate", f"--workdir={run}")
    assert result.rc == 0, result.stderr
    results = json.loads((run / "evaluation" / "results.json").read_text())
    scores = {"mse", "ari", "fg_ari", "miou", "mbo", "sc", "slot_consistency"}
    assert scores < set(results) and results["num_examples"] == 7
    assert all(name in result.stdout for name in scores)


def test_another_number_of_slots_and_iterations_leaves_the_results_of_the_run(run, run_forked):
    before = (run / "evaluation" / "results.json").read_bytes()
    changes = ("--num_slots=3", "--num_iterations=1")
    result = run_forked("evaluate", f"--workdir={run}", *changes)
    assert result.rc == 0 and "num_slots=3, num_iterations=1" in result.stdout, result.stderr
    folder = run / "evaluation" / f"test-{STEPS}-num_slots_3-num_iterations_1"
    changed, own = json.loads((folder / "results.json").read_text()), json.loads(before)
    assert (changed["num_slots"], changed["num_iterations"]) == (3, 1) and "num_slots" not in own
    assert changed["mse"] != own["mse"] and (run / "evaluation" / "results.json").read_bytes() == before


def test_images_of_any_size_are_taken_apart(run, run_forked, tmp_path):
    """Each by itself: what one is given with changes nothing."""
    random, files = np.random.default_rng(0), [tmp_path / "small.png", tmp_path / "wide.png"]
    Image.fromarray(small := random.integers(0, 255, (16, 16, 3), np.uint8)).save(files[0])
    Image.fromarray(random.integers(0, 255, (24, 40), np.uint8)).save(files[1])
    result = run_forked("predict", f"--workdir={run}", "--attention", "--input", *files)
    assert result.rc == 0, result.stderr
    first, second = result.stdout.splitlines()
    assert first.startswith(f"{files[0]}: ") and second.startswith(f"{files[1]}: ") and " of 2 slots used: " in first
    folder = run / "predictions"
    assert {file.name for file in folder.iterdir()} == {"masks.npz", "results.png", "attention.png"}
    found = np.load(folder / "masks.npz")
    assert found["masks"].shape == (2, 2, 16, 16) and found["slots"].shape == (2, 2, 8)
    assert found["names"].tolist() == list(map(str, files)) and found["attention"].shape[:3] == (2, 2, 2)
    np.testing.assert_allclose(found["masks"].sum(1), 1, rtol=1e-5)
    owned = (found["masks"][0].argmax(0) == 0).mean()
    assert (f"slot 1 {100 * owned:.1f} %" in first) == (owned > 0)
    again = Predictor.from_run(run)([np.zeros_like(small), small])
    np.testing.assert_allclose(again["masks"][1, ..., 0], found["masks"][0], atol=1e-5)
    assert {"image", "recons", "masks", "slots", "attention"} == set(again) and Predictor.from_run(run)([]) == {}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("evaluate", "--analyze"), "was trained without classes. Leave them out; what slots show: "),
        (("predict", "--input={run}/run.json"), "run.json: this run takes images: expected one of .png, "),
        (("predict", "--input={run}/broken.png"), "broken.png: cannot be read as an image"),
        (
            ("predict", "--input={run}/shape.npy"),
            "shape.npy has shape (9, 9): expected (height, width, 3). This run takes",
        ),
        (("export",), "expected a classifier, nothing else is exported. From Python, "),
        (("visualize", "attention"), "the attention of slots is drawn by: python -m perceiver_jax.visualize slots"),
    ],
)
def test_what_is_for_classifiers_says_what_to_do(run, run_forked, command, said):
    module, *rest = command
    (run / "broken.png").write_bytes(b"not an image")
    np.save(run / "shape.npy", np.zeros((9, 9), np.uint8))
    result = run_forked(module, *(word.format(run=run) for word in rest), f"--workdir={run}")
    assert result.rc == 78 and said in result.stderr and result.stderr.count("\n") == 1, result.stderr
