# SPDX-License-Identifier: Apache-2.0
"""The tutorial runs, prints what it says it prints, and is the same as its notebook."""

import importlib.util
import json
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs" / "tutorial_cifar100.md"
SIZES = """\
Image size: 64 X 64 = 4096
Patch size: 2 X 2 = 4
Patches per image: 1024
Elements per patch (3 channels): 12
Latent array shape: 256 X 256
Data array shape: 1024 X 256
"""


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("notebook", ROOT / "docs" / "notebook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout to run in, whose runs go nowhere else."""
    for name in ("configs", "perceiver_jax"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def form(output):
    """What was printed without what another processor may change: digits after a point, the best step, columns."""
    output = re.sub(r"checkpoint of step \d+", "checkpoint of step #", output.replace(str(ROOT), ""))
    return re.sub(r"\s+", " ", re.sub(r"\d+\.\d+", "#", output))


def test_the_markdown_and_the_notebook_agree(script):
    parts = script.read(TUTORIAL.read_text())
    assert script.markdown(parts) == TUTORIAL.read_text()
    assert json.loads(TUTORIAL.with_suffix(".ipynb").read_text()) == script.notebook(parts)
    cells = [part for part in parts if part.kind != "markdown"]
    assert len(cells) >= 15 and sum(bool(cell.output) for cell in cells) >= len(cells) - 1
    assert SIZES in [cell.output for cell in cells]


def test_every_cell_runs_and_prints_what_is_shown(script, checkout):
    shown = script.read(TUTORIAL.read_text())
    printed = script.run(shown)
    for before, now in zip(shown, printed, strict=True):
        assert form(now.output) == form(before.output), now.text
    assert (checkout / "runs" / "tutorial_cifar100" / "evaluation" / "results.json").exists()


def test_a_cell_that_no_longer_runs_is_an_error(script):
    with pytest.raises(ZeroDivisionError):
        script.run(script.read("```python\n1 / 0\n```\n"))
    (_, cell, _) = script.run(script.read("```bash\necho two\n```\n\n```text\none\n```\n"))
    assert cell.output == "two\n"
