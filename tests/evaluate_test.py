# SPDX-License-Identifier: Apache-2.0
"""The command on one tiny run: results, figures and page together, replaced as a whole, or one clear line."""

import json

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, top_k_accuracy_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from perceiver_jax import experiment
from tests.reports.page_test import assert_whole

SIZES = {"data.num_train": 64, "data.num_validation": 32, "data.num_test": 50, "data.num_points": 16, "num_epochs": 2.0}
SIZES |= {"model.num_blocks": 1, "model.num_cross_attends": 1, "model.num_self_attends_per_block": 1}
SIZES |= {"batch_size": 32, "attention_maps.every": 0}
FILES = {"results.json", "report.html", "confusion_matrix.png", "confidence_histogram.png", "confidence_analysis.png"}


@pytest.fixture(scope="module")
def run(run_forked, tmp_path_factory):
    """A run of four steps."""
    folder = tmp_path_factory.mktemp("there") / "runs" / "tiny"
    flags = [f"--config.{name}={value}" for name, value in SIZES.items()]
    result = run_forked("main", "--config=configs/solids.py:tiny", *flags, f"--workdir={folder}")
    assert result.rc == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def analyzed(run, run_forked):
    """What the command said; without --workdir, in the folder above runs/."""
    result = run_forked("evaluate", "--analyze", "--batch_size=13", cwd=run.parents[1])
    assert result.rc == 0, result.stderr
    return result


def folder_of(run):
    (folder,) = run.glob("evaluation/test-*")
    return folder


def test_files_numbers_and_lines(run, analyzed):
    assert {file.name for file in folder_of(run).iterdir()} == FILES
    results = json.loads((folder_of(run) / "results.json").read_text())
    assert json.loads((run / "evaluation" / "results.json").read_text()) == results
    assert len(results["calibration"]) == 15 and sum(row["count"] for row in results["calibration"]) == 50
    assert f"Test accuracy: {100 * results['accuracy']:.2f}%" in analyzed.stdout
    assert f"Test top 5 accuracy: {100 * results['top5_accuracy']:.2f}%" in analyzed.stdout
    assert "run: runs/tiny (the newest" in analyzed.stdout
    found = assert_whole((folder_of(run) / "report.html").read_text())
    assert len(found.fetched) == 3 + min(12, round(50 * (1 - results["accuracy"])))


def test_predictions_agree_with_the_statistics_and_scikit_learn(run, analyzed):
    results = json.loads((folder_of(run) / "results.json").read_text())
    loaded = experiment.load(run)
    rows, labels = loaded.predictions("test", 16), loaded.source().labels("test")
    assert rows["id"].tolist() == list(range(50))
    classes = range(len(loaded.spec.class_names))
    expected = confusion_matrix(labels, rows["logits"].argmax(-1), labels=classes)
    np.testing.assert_array_equal(results["confusion"], expected)
    top5 = top_k_accuracy_score(labels, rows["logits"], k=5, labels=classes)
    assert results["top5_accuracy"] == pytest.approx(top5)
    assert results["mean_confidence"] == pytest.approx(rows["probabilities"].max(-1).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--output_dir={tmp}/file/below", "{tmp}/file/below cannot be written: a file stands where a folder has to be"),
        ("--output_dir={tmp}", "{tmp} holds other files than results (file)"),
        (
            "--num_slots=3",
            "--num_slots: the task of {run} (classification) has no such field: expected a run of object",
        ),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(run, run_forked, tmp_path, flag, expected):
    (tmp_path / "file").write_text("mine")
    result = run_forked("evaluate", f"--workdir={run}", "--analyze", flag.format(tmp=tmp_path))
    assert result.rc == 78 and expected.format(tmp=tmp_path, run=run) in result.stderr, result.stderr
    assert result.stderr.count("\n") == 1
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("file", "mine")]


def test_tensorboard_shows_more_than_curves(run):
    found = EventAccumulator(str(run), size_guidance={"images": 0, "tensors": 0}).Reload()
    assert [event.step for event in found.Images("validation/confusion")] == [2, 4]
    files = sorted(file.name for file in (run / "figures" / "validation").iterdir())
    assert files == ["confusion_00000002.png", "confusion_00000004.png"]
    metadata = found.summary_metadata
    assert {"config/text_summary", "_hparams_/session_start_info", "_hparams_/experiment"} <= set(metadata)
    clouds = [tag for tag, value in metadata.items() if value.plugin_data.plugin_name == "mesh"]
    assert any(tag.startswith("samples/0 ") for tag in clouds)
