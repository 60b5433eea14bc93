# SPDX-License-Identifier: Apache-2.0
"""A run of object discovery under every command: each works, or says in one line what does."""

import json

import pytest
from PIL import Image

from tests import untrained

SMALL = {"num_slots": 2, "slot_dim": 8, "mlp_dim": 8, "feature_dim": 8, "initializer": "learned_noise"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Untrained, on scenes of 16 pixels."""
    values = untrained.config("slot_attention", "tiny", SMALL, data__num_test=7, evaluation__batch_size=4)
    return untrained.write_run(tmp_path_factory.mktemp("runs") / "slots", values)


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
    scores = {"mse", "ari", "fg_ari", "miou", "mbo", "sc", "slot_consistency", "slot_index_consistency"}
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
