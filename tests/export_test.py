# SPDX-License-Identifier: Apache-2.0
"""An export computes what the run does, in a process that has neither this package nor flax."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from perceiver_jax import experiment
from perceiver_jax.errors import ConfigError
from perceiver_jax.prediction import Predictor
from perceiver_jax.reports.exported import write_export
from tests import untrained

AGAIN = """
import json, sys
more = {name: np.repeat(array, 3, axis=0)[:5] for name, array in batch.items()}
again = np.asarray(model.call(weights, more)["probabilities"])
loaded = [name for name in ("perceiver_jax", "flax", "orbax") if name in sys.modules]
print(json.dumps([probabilities.tolist(), again.tolist(), loaded, list(model.platforms)]))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Clouds."""
    return untrained.write_run(tmp_path_factory.mktemp("export") / "clouds", untrained.config("solids", "tiny"))


def test_the_code_of_the_card_gives_the_run_s_probabilities_in_a_fresh_process(run_forked, run):
    result = run_forked("export", f"--workdir={run}")
    assert result.rc == 0, result.stderr
    folder = run / "export"
    names = ["README.md", "config.json", "model.safetensors", "model.stablehlo"]
    assert sorted(file.name for file in folder.iterdir()) == names and all(name in result.stdout for name in names)
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL).group(1)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", code + AGAIN]
    said = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=300)
    once, again, loaded, platforms = json.loads(said.stdout.splitlines()[-1])
    assert (loaded, platforms) == ([], ["cpu", "cuda", "tpu"])
    expected = Predictor.from_run(run)(np.zeros((2, 64, 3), np.float32)).probabilities
    np.testing.assert_allclose(once, expected, atol=1e-5)
    np.testing.assert_allclose(again, expected[[0] * 5], atol=1e-5)


def test_what_is_no_classifier_is_refused(tmp_path):
    run = experiment.load(untrained.write_run(tmp_path / "run", untrained.config("slot_attention", "tiny", {})))
    with pytest.raises(ConfigError, match="was trained without classes"):
        write_export(tmp_path / "export", run)
    assert not (tmp_path / "export").exists()


def test_a_folder_with_other_files_is_left_alone(run_forked, run, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    result = run_forked("export", f"--workdir={run}", f"--output_dir={tmp_path}")
    assert result.rc == 78 and "holds other files (mine.txt)" in result.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
