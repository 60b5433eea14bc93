# SPDX-License-Identifier: Apache-2.0
"""Result files and the table a person reads."""

import json

import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.reports.results import folder_of, print_results, read_results, with_earlier_perturb, write_results

RESULTS = {
    "split": "test",
    "step": 7,
    "num_examples": 1234,
    "accuracy": 0.98765,
    "loss": 0.05,
    "per_class": {"chair [old]": {"precision": 1.0, "recall": 0.5, "f1": 0.667, "support": 12}},
}


def test_newest_results_are_copied_to_the_top(tmp_path):
    file = write_results(tmp_path, RESULTS)
    other = write_results(tmp_path, RESULTS | {"split": "validation"})
    assert json.loads(file.read_text()) == RESULTS == read_results(tmp_path, "test", 7)
    assert json.loads((tmp_path / "evaluation" / "results.json").read_text()) == json.loads(other.read_text())
    assert read_results(tmp_path, "test", 8) is None


def test_the_same_results_leave_a_report_and_others_replace_it(tmp_path):
    def draw(folder):
        (folder / "report.html").write_text("page")

    def written():
        return sorted(file.name for file in folder_of(tmp_path, "test", 7).iterdir())

    write_results(tmp_path, RESULTS | {"ece": 0.1}, draw=draw)
    assert written() == ["report.html", "results.json"]
    write_results(tmp_path, RESULTS)
    assert written() == ["report.html", "results.json"] and read_results(tmp_path, "test", 7)["ece"] == 0.1
    write_results(tmp_path, RESULTS | {"loss": 0.06})
    assert written() == ["results.json"] and read_results(tmp_path, "test", 7)["loss"] == 0.06


def test_another_folder_is_written_instead(tmp_path):
    own, run = tmp_path / "a" / "own", tmp_path / "run"
    assert write_results(run, RESULTS, folder=own) == own / "results.json"
    assert json.loads((own / "results.json").read_text()) == RESULTS and not run.exists()


def test_a_report_that_fails_leaves_the_results_as_they_were(tmp_path):
    file = write_results(tmp_path, RESULTS)

    def draw(folder):
        (folder / "report.html").write_text("page")
        (folder / "report.html" / "below a file").touch()

    with pytest.raises(ConfigError, match=r"test-7 cannot be written \(Not a directory\)"):
        write_results(tmp_path, RESULTS | {"loss": 0.06}, draw=draw)
    assert json.loads(file.read_text()) == RESULTS == json.loads((tmp_path / "evaluation/results.json").read_text())
    assert [path.name for path in file.parent.iterdir()] == ["results.json"]
    assert sorted(path.name for path in file.parent.parent.iterdir()) == ["results.json", "test-7"]


def test_a_folder_with_other_files_is_never_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds other files than results \(notes.txt\)"):
        write_results(tmp_path / "run", RESULTS, folder=tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_what_was_measured_on_perturbed_data_is_kept(tmp_path):
    assert with_earlier_perturb(tmp_path, RESULTS) == RESULTS
    measured = RESULTS | {"perturb": {"clean": 0.98765, "accuracy": {"scale": {"2": 0.5}}}}
    write_results(tmp_path, measured)
    assert with_earlier_perturb(tmp_path, RESULTS) == measured
    assert with_earlier_perturb(tmp_path, RESULTS | {"step": 8}) == RESULTS | {"step": 8}


def test_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "evaluation").write_text("a file where the folder should be")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_results(tmp_path, RESULTS)


def test_table_has_percentages_and_the_names_as_they_are(capsys):
    print_results(RESULTS)
    shown = capsys.readouterr().out
    for expected in (
        "1,234 examples",
        "step 7",
        "98.77 %",
        "Test accuracy: 98.77%",
        "0.0500",
        "chair [old]",
        "50.0 %",
        "12",
    ):
        assert expected in shown


def test_many_classes_are_left_to_the_file(capsys):
    print_results(RESULTS, max_classes=0)
    assert "precision" not in capsys.readouterr().out
