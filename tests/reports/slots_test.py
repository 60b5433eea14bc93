# SPDX-License-Identifier: Apache-2.0
"""A run of object discovery under every command: it trains, and each works or says in one line what does."""

import json
import math

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

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
    result = run_forked("visualize", "slots", f"--workdir={run}", "--num=3", "--format=png,pdf")
    assert result.rc == 0, result.stderr
    names = {"results", "attention_evolution", "decomposition"}
    files = {file.name for file in (run / "figures" / "slots").iterdir()}
    assert files == {f"{name}.{kind}" for name in names for kind in ("png", "pdf")}
    for name in names:
        picture = Image.open(run / "figures" / "slots" / f"{name}.png").convert("L")
        assert picture.getextrema()[0] < 100 and min(picture.size) > 200 and f"{name}.png" in result.stdout


def test_an_evaluation_scores_the_objects(run, run_forked):
    result = run_forked("evaluate", f"--workdir={run}")
    assert result.rc == 0, result.stderr
    results = json.loads((run / "evaluation" / "results.json").read_text())
    scores = {"mse", "ari", "fg_ari", "miou", "mbo", "sc", "slot_consistency"}
    assert scores < set(results) and results["num_examples"] == 7
    assert all(name in result.stdout for name in scores)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("evaluate", "--analyze"), "was trained without classes. Leave them out; what slots show: "),
        (("predict", "--input={run}/run.json"), "there is none to predict. What slots show: "),
        (("export",), "expected a classifier, nothing else is exported. From Python, "),
        (("visualize", "attention"), "the attention of slots is drawn by: python -m perceiver_jax.visualize slots"),
    ],
)
def test_what_is_for_classifiers_says_what_to_do(run, run_forked, command, said):
    module, *rest = command
    result = run_forked(module, *(word.format(run=run) for word in rest), f"--workdir={run}")
    assert result.rc == 78 and said in result.stderr and result.stderr.count("\n") == 1, result.stderr
