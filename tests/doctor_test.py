# SPDX-License-Identifier: Apache-2.0
import pytest


def test_a_machine_that_can_train(run_module, tmp_path):
    result = run_module("doctor", f"--data={tmp_path}", f"--workdir={tmp_path / 'new' / 'runs'}")
    assert result.rc == 0, result.stderr
    rows = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    assert [row[0] for row in rows if row[1] in ("jax", "jaxlib", "numpy", "ml-collections", "devices")] == ["ok"] * 5
    assert "This machine can train." in result.stdout
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_exit_78_and_one_line(run_module, tmp_path):
    (tmp_path / "file").touch()
    result = run_module("doctor", f"--workdir={tmp_path / 'file' / 'runs'}")
    assert result.rc == 78
    assert result.stderr.splitlines()[-1].startswith("error: this machine cannot train yet. workdir: ")
    assert "can train." not in result.stdout


@pytest.mark.parametrize("arguments", [["--nonsense=1"], ["data"]])
def test_a_wrong_argument_is_exit_78(run_module, arguments):
    assert run_module("doctor", *arguments).rc == 78
