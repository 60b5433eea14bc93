# SPDX-License-Identifier: Apache-2.0
"""The examples: each of them can be built, one is trained, a wrong name is named."""

import json
import subprocess
import sys

from perceiver_jax import config as configs
from perceiver_jax import experiment
from perceiver_jax.models.perceiver import PerceiverEncoder, encoder_problems
from tests.configs_test import load

FAMILIES = {"point_clouds", "sequences", "timeseries", "text", "images", "perceiver_io", "keras_cifar100"}
FAMILIES |= {"slot_attention", "own_data"}
LIST = "import json; from perceiver_jax.examples import EXAMPLES as e; print(json.dumps({n: e[n] for n in e}))"


def test_every_example_can_be_built():
    listed = subprocess.run([sys.executable, "-c", LIST], capture_output=True, text=True, check=True).stdout
    examples = json.loads(listed)
    assert set(examples) == FAMILIES
    for shows, name, overrides in examples.values():
        file, _, variants = name.removeprefix("configs/").partition(":")
        config = load(file.removesuffix(".py"), variants)
        config.update_from_flattened_dict(overrides)
        values = configs.to_dict(config)
        task = experiment.build_task(values, experiment.build_source(values).spec)
        assert configs.wrong_fields(values) == [] and shows.endswith(".")
        if isinstance(getattr(task.model, "encoder", None), PerceiverEncoder):
            assert encoder_problems(task.model.encoder) == []


def test_an_example_trains_and_says_what_it_has_learned(run_module, tmp_path):
    result = run_module("examples", "--only=own_data", f"--workdir={tmp_path}", timeout=400)
    assert result.rc == 0, result.stderr
    assert "own_data: Your own sequences" in result.stdout
    assert (
        f"$ python -m perceiver_jax.main --config=configs/own_data.py:sequences --workdir={tmp_path}" in result.stdout
    )
    accuracy = json.loads((tmp_path / "own_data" / "evaluation" / "results.json").read_text())["accuracy"]
    last = result.stdout.splitlines()[-1]
    assert last.startswith("own_data") and f"accuracy {100 * accuracy:.2f} %  " in last and accuracy > 0.5


def test_a_wrong_name_is_named(run_module):
    result = run_module("examples", "--only=txt")
    assert result.rc == 78 and "Traceback" not in result.stderr
    assert "--only=txt: no such example. There are: point_clouds, " in result.stderr
