# SPDX-License-Identifier: Apache-2.0
"""The quick start of `docs/coming_from.md`, command by command, with fewer examples."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMALLER = (
    "--config.data.num_train=128 --config.data.num_validation=32 --config.data.num_test=32 --config.model.num_latents=4"
)


def commands():
    """The Python commands of the page's second block."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "coming_from.md").read_text(), re.DOTALL)
    return [line.partition("  #")[0] for line in blocks[1].splitlines()]


def test_the_quick_start_works_as_it_stands(tmp_path):
    for name in ("configs", "perceiver_jax"):
        (tmp_path / name).symlink_to(ROOT / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    said = {}
    for command in commands():
        shorter = f"{command} {SMALLER}" if ".main " in command else command
        result = subprocess.run(
            ["bash", "-c", shorter], cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True
        )
        assert result.returncode == 0, f"{shorter}\n{result.stderr}"
        said[command] = result.stdout
    everything = "".join(said.values())
    for expected in ("JAX: ", "Matplotlib OK", "This machine can train.", "step     20/20", "test: 32 examples"):
        assert expected in everything
    run = tmp_path / "runs" / "quick_test"
    assert json.loads((run / "evaluation" / "results.json").read_text())["num_examples"] == 32
    for name in ("dashboard.png", "comprehensive_epoch_5_analysis.png"):
        assert list((run / "figures").rglob(name)), sorted((run / "figures").rglob("*"))
