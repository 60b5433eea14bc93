# SPDX-License-Identifier: Apache-2.0
"""Runs side by side: seeds of one config together, differences and scores by hand."""

from pathlib import Path

import pytest

from perceiver_jax.reports import comparison
from tests.reports.page_test import assert_whole

CONFIG = {"seed": 0, "rate": 0.1, "evaluation.metric": "accuracy", "evaluation.mode": "max"}


def run(name, accuracies, test=None, **config):
    lines = [
        {"step": 10 * k, "time": 0.0, "validation/accuracy": value, "validation/loss": 1 - value, "train/loss": 1.0}
        for k, value in enumerate(accuracies, 1)
    ]
    record = {"steps_per_epoch": 5, "num_parameters": 1234}
    results = {} if test is None else {"accuracy": test, "loss": 0.5, "split": "test"}
    return comparison.RunFiles(Path("runs") / name, CONFIG | config, record, lines, results)


def is_seed(key):
    return key == "seed"


@pytest.fixture
def groups():
    first, second = run("wide-0", [0.5, 0.9], 0.8), run("wide-1", [0.7, 0.6], 0.9, seed=1)
    return comparison.grouped([first, run("narrow", [0.7], rate=0.2, extra=1), second], is_seed)


def test_seeds_of_a_config_are_a_group(groups):
    assert [(group.name, len(group.runs)) for group in groups] == [("wide (2 seeds)", 2), ("narrow", 1)]
    assert comparison.differences(groups, is_seed) == {"extra": ["-", 1], "rate": [0.1, 0.2]}


def test_groups_with_one_name_are_told_apart():
    runs = [run("a-0", [1.0]), run("a-1", [1.0], seed=1), run("a-2", [1.0], rate=2), run("a-3", [1.0], rate=2, seed=1)]
    assert [group.name for group in comparison.grouped(runs, is_seed)] == ["a-0, a-1", "a-2, a-3"]


def test_scores_are_mean_and_deviation(groups):
    headers, rows = comparison.tables(groups, {})["scores"]
    wide, narrow = ({row[0]: row[k] for row in rows} for k in (1, 2))
    assert headers == ["score", "wide (2 seeds)", "narrow"]
    assert wide["best validation accuracy"] == "80.00 ± 14.14 %"  # of 0.9 and 0.7
    assert wide["test accuracy"] == "85.00 ± 7.07 %" and wide["test loss"] == "0.5000 ± 0.0000"
    assert (wide["parameters"], wide["steps"]) == ("1,234", "20")
    assert narrow["best validation accuracy"] == "70.00 %" and narrow["test accuracy"] == "-"


def test_curves_are_over_epochs_and_may_lack_a_seed(groups):
    curve = comparison._curve(groups[0], "validation/accuracy")
    assert curve.x.tolist() == [2, 4] and curve.mean.tolist() == pytest.approx([0.6, 0.75])
    assert curve.spread.tolist() == pytest.approx([0.1414, 0.2121], abs=1e-4)
    assert comparison._curve(groups[0], "validation/top5_accuracy") is None


def test_page_and_terminal(groups, tmp_path, capsys):
    tables = comparison.tables(groups, comparison.differences(groups, is_seed))
    comparison.show(tables)
    comparison.write(tmp_path, groups, tables, ["png"])
    shown = "\n".join(assert_whole((tmp_path / "comparison.html").read_text()).texts)
    said = capsys.readouterr().out
    for text in (said, shown):
        assert text.index("rate") < text.index("80.00 ± 14.14 %")
    assert "runs/wide-0, runs/wide-1" in shown and (tmp_path / "comparison.png").exists()
    comparison.show(comparison.tables(groups[:1], {}))
    assert "no differences: the configs are alike but for their seeds" in capsys.readouterr().out
