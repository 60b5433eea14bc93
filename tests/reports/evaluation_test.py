# SPDX-License-Identifier: Apache-2.0
"""The report has all it promises, in itself."""

import dataclasses

import numpy as np
import pytest

from perceiver_jax.metrics.statistics import per_class_scores
from perceiver_jax.reports import evaluation
from perceiver_jax.reports.analysis import Predictions, analyze
from perceiver_jax.reports.examples import Example
from tests.reports.page_test import assert_whole

NAMES = ("cat", "<dog>", "고양이")
LABELS, PREDICTED = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0])


@pytest.fixture
def report():
    predictions = Predictions(np.arange(4), LABELS, PREDICTED, np.array([0.9, 0.8, 0.7, 0.99]))
    confusion = np.zeros((3, 3))
    np.add.at(confusion, (LABELS, PREDICTED), 1)
    results = {"split": "test", "step": 7, "num_examples": 4, "accuracy": 0.5, "loss": 1.0}
    results |= {
        "perturb": {"accuracy": {"dropped_points": {"0.5": 0.25}}},
        "confusion": confusion.tolist(),
        "per_class": per_class_scores(confusion, NAMES),
    }
    return evaluation.Report(
        title="run: test",
        results=results | analyze(predictions, NAMES),
        predictions=predictions,
        class_names=NAMES,
        examples=[Example(picture=np.zeros((4, 4, 3), np.uint8)), Example(text="a passage & <more>")],
        config={"data": {"address": "https://example.org/set.zip"}},
        record={"command": "python -m main", "git": "abc-dirty", "python": "3.11", "versions": {"jax": "1"}},
        command="python -m evaluate",
    )


def test_figures_and_page(report, tmp_path):
    evaluation.write(tmp_path, report, ["svg"])
    assert {file.name for file in tmp_path.iterdir()} == {f"{name}.svg" for name in evaluation.FIGURES} | {
        "report.html"
    }
    found = assert_whole((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert len(found.fetched) == 4  # the figures and a picture
    shown = "\n".join(found.texts)
    for expected in (
        "50.00 %",
        "<dog> (#1)",
        "고양이",
        "99.0 % sure of cat; it is 고양이 (example 3)",
        "a passage & <more>",
        "git checkout abc\npip install -r requirements.txt\npython -m main\npython -m evaluate",
        "not committed",
        "dropped points",
        "https://example.org/set.zip",
        "checkpoint of step 7",
    ):
        assert expected in shown, expected


def test_data_without_pictures_and_a_record_of_an_older_version(report, tmp_path):
    bare = dataclasses.replace(report, examples=[Example(), Example()], record={})
    evaluation.write(tmp_path, bare, ["png"])
    assert len(assert_whole((tmp_path / "report.html").read_text()).fetched) == 3
    assert (tmp_path / "confusion_matrix.png").read_bytes()[1:4] == b"PNG"
