# SPDX-License-Identifier: Apache-2.0
"""--perturb: a table, merged into results.json, which a later plain evaluation keeps."""

import json

import pytest

from perceiver_jax.reports.results import with_earlier_perturb

TINY = ["--config=configs/solids.py:tiny", "--config.num_steps=2", "--config.data.num_train=128"]
TINY += ["--config.data.num_validation=32", "--config.data.num_test=32", "--config.data.num_points=32"]


@pytest.mark.slow
def test_perturb(run_module, tmp_path):
    workdir = tmp_path / "run"
    trained = run_module("main", *TINY, f"--workdir={workdir}")
    assert trained.rc == 0, trained.stderr
    perturbed = run_module("evaluate", f"--workdir={workdir}", "--perturb")
    assert perturbed.rc == 0, perturbed.stderr
    assert "rotation_any" in perturbed.stdout and "dropped_points" in perturbed.stdout
    file = workdir / "evaluation" / "results.json"
    results = json.loads(file.read_text())
    scores = results["perturb"]["accuracy"]
    assert results["perturb"]["clean"] == results["accuracy"]
    assert set(scores["dropped_points"]) == {"0.25", "0.5", "0.75", "0.9"}
    assert all(0 <= value <= 1 for strengths in scores.values() for value in strengths.values())
    again = with_earlier_perturb(workdir, {key: value for key, value in results.items() if key != "perturb"})
    assert again == results
    other = {"split": "train", "step": results["step"]}
    assert with_earlier_perturb(workdir, other) == other
