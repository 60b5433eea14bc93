# SPDX-License-Identifier: Apache-2.0
"""What a run says of itself."""

import json
import subprocess

import numpy as np

from perceiver_jax.experiment import abstract_training_state
from perceiver_jax.training.record import (
    PACKAGE,
    differences,
    git_version,
    num_parameters,
    parameter_table,
    run_record,
    summary_table,
)
from tests.training.toy import make_training

PARAMS = {"a": {"kernel": np.zeros((2, 3)), "b": {"bias": np.zeros(4)}}, "c": np.zeros(())}


def test_parameters_are_counted_by_module():
    assert num_parameters(PARAMS) == 11
    assert {row["path"]: row["shape"] for row in parameter_table(PARAMS)} == {
        "a/kernel": [2, 3],
        "a/b/bias": [4],
        "c": [],
    }
    assert summary_table(PARAMS, depth=1) == [("a", 10), ("c", 1)]


def test_record_is_json_and_complete():
    training = make_training()
    record = json.loads(json.dumps(run_record(training, abstract_training_state(training))))
    assert record["devices"]["platform"] == "cpu" and record["threads"] >= 1
    assert record["versions"]["jax"] and record["mesh"]["data"] == 1
    assert record["spec"]["class_names"] == ["a", "b", "c"] and record["num_steps"] == 24


def test_what_decides_over_bits_is_named_where_it_differs():
    training = make_training()
    before = run_record(training, abstract_training_state(training))
    now = json.loads(json.dumps(before)) | {"started": "later", "host": "elsewhere", "command": "python"}
    assert differences(before, now) == []
    now["threads"] = before["threads"] + 1
    now["versions"]["jax"] = "0.0.1"
    now["devices"]["count"] = 8
    del before["processor"]  # of a run that an earlier version began
    assert differences(before, now) == [
        f"versions.jax: {before['versions']['jax']} -> 0.0.1",
        f"processor: none -> {now['processor'] or 'none'}",
        "devices.count: 1 -> 8",
        f"threads: {before['threads']} -> {now['threads']}",
    ]


def test_commit_and_changes_of_the_checkout(tmp_path):
    assert git_version(tmp_path) == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    commit = git_version(tmp_path)
    assert len(commit) == 40
    (tmp_path / "file").write_text("2")
    assert git_version(tmp_path) == f"{commit}-dirty"


def test_commit_of_an_archive(tmp_path):
    (tmp_path / "COMMIT").write_text((PACKAGE / "COMMIT").read_text())
    assert git_version(tmp_path) == ""
    (tmp_path / "COMMIT").write_text("0123456789" * 4 + "\n")
    assert git_version(tmp_path) == "0123456789" * 4
