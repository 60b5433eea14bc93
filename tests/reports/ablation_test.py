# SPDX-License-Identifier: Apache-2.0
"""Mean and deviation over seeds in every file, and what failed by name."""

import csv
from pathlib import Path

import pytest

from perceiver_jax.reports import ablation
from perceiver_jax.reports.comparison import RunFiles

CONFIG = {"evaluation.metric": "accuracy", "evaluation.mode": "max"}


def run(accuracy, seconds, **test):
    lines = [{"step": 5, "validation/accuracy": accuracy, "train/step_time_p50": seconds}]
    record = {"steps_per_epoch": 5, "num_parameters": 1234}
    return RunFiles(Path("run"), CONFIG, record, lines, {"split": "test", "step": 5, **test})


def test_a_row_for_each_variant(tmp_path):
    runs = {"base": [run(0.5, 0.01, fg_ari=0.25), run(0.9, 0.03, fg_ari=0.75)], "a|b": [run(0.6, 0.02)], "lost": []}
    files = ablation.write(tmp_path, "configs/c.py", runs, {"lost-0": "main: exit code 1: oh"})
    assert [file.name for file in files] == ["ablation.md", "ablation.csv", "ablation.png"]
    lines = files[0].read_text().splitlines()
    assert (
        lines[2] == "| variant | seeds | parameters | steps | best validation accuracy | step time (ms) | test fg_ari |"
    )
    assert lines[4] == "| base | 2 | 1,234 | 5 | 70.00 ± 28.28 % | 20.0000 ± 14.1421 | 0.5000 ± 0.3536 |"
    assert lines[5:7] == ["| a\\|b | 1 | 1,234 | 5 | 60.00 % | 20.0000 | - |", "| lost | 0 | - | - | - | - | - |"]
    assert lines[-1] == "- lost-0: main: exit code 1: oh"
    with open(files[1]) as stream:
        base, single, lost = csv.DictReader(stream)
    assert float(base["test fg_ari std"]) == pytest.approx(0.35355, abs=1e-5)
    assert (single["steps mean"], single["steps std"], lost["steps mean"]) == ("5.0", "", "")
    assert files[2].read_bytes().startswith(b"\x89PNG")
