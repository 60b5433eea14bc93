# SPDX-License-Identifier: Apache-2.0
"""The command over two variants, one of which is finished and one fails; and what it refuses to begin with."""

import csv
import shutil

import pytest

from perceiver_jax.files import write_json
from perceiver_jax.training.separate_run import DONE
from tests import readers

KEY = "optimizer.learning_rate"
GOOD, BAD = "learning_rate=0.001", "learning_rate=0.002"


def test_what_is_finished_stays_and_a_failure_loses_nothing(run_forked, tmp_path):
    good, bad = (tmp_path / f"{name}-0" for name in (GOOD, BAD))
    good.mkdir()
    readers.write_run(good)
    readers._write_metrics(good)
    readers._write_results(good)
    shutil.copytree(good, bad)  # which holds a run with another rate
    trained = ["main", *readers.FLAGS, f"--config.{KEY}=0.001", "--config.seed=0", f"--workdir={good}"]
    write_json(good / DONE, {"commands": [trained, ["evaluate", f"--workdir={good}", "--split=test"]]})
    result = run_forked("ablate", *readers.FLAGS, "--seeds=1", f"--sweep={KEY}=0.001,0.002", f"--workdir={tmp_path}")
    assert result.rc == 78 and f"1 runs failed: {BAD}-0" in result.stderr, result
    assert f"{GOOD}-0: finished before" in result.stdout and f"{BAD}-0: training, see" in result.stdout
    said = (tmp_path / "ablation.md").read_text()
    assert f"| {GOOD} | 1 |" in said and f"| {BAD} | 0 | - |" in said
    assert f"- {BAD}-0: main: exit code 78: {bad} holds a run with another config ({KEY}: 0.004 -> 0.002)" in said
    with open(tmp_path / "ablation.csv") as stream:
        rows = {row["variant"]: row for row in csv.DictReader(stream)}
    assert (rows[GOOD]["test accuracy mean"], rows[BAD]["test accuracy mean"]) == ("0.5", "")
    assert (tmp_path / "ablation.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config=configs/solids.py"], "configs/solids.py has no ABLATIONS"),
        (["--config=configs/solids.py", "--sweep=batch_size"], "expected KEY=VALUE,VALUE"),
        (["--config=configs/solids.py", "--sweep=batch_size=8,16", "--only=8"], "--only=8 is no variant"),
        (["--config=configs/solids.py", "--config.batch_size", "8", "--sweep=seed=1,2"], "write --config.batch_size="),
        (
            ["--config=configs/solids.py", "--sweep=model.num_latents=4,x"],
            "variant num_latents=x: flag --config.model.num_latents=x",
        ),
        (
            ["--config=configs/slot_attention.py:tiny", "--sweep=model.slot_dim=8", "--sweep=data.size=4,16"],
            "variant slot_dim=8-size=4: size=4: expected at least 8",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_trains(run_forked, tmp_path, arguments, expected):
    result = run_forked("ablate", *arguments, f"--workdir={tmp_path / 'runs'}")
    assert result.rc == 78 and expected in result.stderr and result.stderr.count("\n") == 1, result
    assert not (tmp_path / "runs").exists()
