# SPDX-License-Identifier: Apache-2.0
"""The command on run folders: seeds together, one clear line where something is wrong."""

import json
import shutil

import pytest

from tests import readers


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three untrained runs with two lines of metrics: two seeds, and a wider one."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "small-0").mkdir()
    readers.write_run(folder / "small-0")
    readers._write_metrics(folder / "small-0")
    config = json.loads((folder / "small-0" / "config.json").read_text())
    for name, other in (("small-1", config | {"seed": 1}), ("wide", config | {"batch_size": 128})):
        shutil.copytree(folder / "small-0", folder / name)
        (folder / name / "config.json").write_text(json.dumps(other))
    return folder


def test_seeds_are_one_row(runs, run_forked, tmp_path):
    names = [runs / name for name in ("small-0", "wide", "small-1")]
    result = run_forked("compare", *names, f"--output_dir={tmp_path / 'out'}", "--format=svg")
    assert result.rc == 0, result.stderr
    assert "small (2 seeds)" in result.stdout and "batch_size" in result.stdout and "seed " not in result.stdout
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"comparison.html", "comparison.svg"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["small-0", "small-0"], "compare needs two runs at least"),
        (["small-0", "nowhere"], "nowhere is not a run folder: it has no config.json"),
        (["small-0", "silent"], "silent has no metrics yet"),
    ],
)
def test_what_is_wrong_is_said(runs, run_forked, words, expected):
    if "silent" in words:
        shutil.copytree(runs / "small-0", runs / "silent", dirs_exist_ok=True)
        (runs / "silent" / "metrics.jsonl").unlink(missing_ok=True)
    result = run_forked("compare", *words, cwd=runs)
    assert result.rc == 78 and expected in result.stderr and result.stderr.count("\n") == 1, result.stderr
    assert not (runs / "comparison").exists()
