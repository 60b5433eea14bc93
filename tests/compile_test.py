# SPDX-License-Identifier: Apache-2.0
"""The command on a small slice, where the TPU compiler is installed, and what it says without."""

import importlib.util
import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from tests.configs_test import load

ROOT = Path(__file__).resolve().parents[1]
needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu (extra tpu) is not installed: nothing compiled"
)
SMALL = ("--config=configs/modelnet40.py", "--config.model.num_latents=8", "--config.model.latent_dim=16")
SMALL += ("--config.model.num_self_attends_per_block=1", "--config.data.num_points=64", "--topology=v5e:2x2")
SMALL += ("--config.model.num_cross_attend_heads=1", "--config.model.num_self_attend_heads=1")


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_without_the_compiler_it_says_what_to_install(run_forked):
    result = run_forked("compile", "--config=configs/modelnet40.py")
    assert result.rc == 78 and "the TPU compiler is missing" in result.stderr and "jax[tpu]" in result.stderr, result


@needs_compiler
@pytest.mark.parametrize("topology", ["v5e:3x7", "gpu:8"])
def test_an_unknown_slice_is_refused(run_module, topology):
    result = run_module("compile", "--config=configs/modelnet40.py", f"--topology={topology}", timeout=300)
    assert result.rc == 78 and f"--topology={topology} is no slice of TPUs" in result.stderr, result
    assert "Traceback" not in result.stderr


@needs_compiler
@pytest.mark.slow
def test_a_step_for_four_chips_sums_gradients_and_gathers_no_input(run_module):
    result = run_module("compile", *SMALL, "--json", timeout=900)
    assert result.rc == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["mesh"]["data"] == 4 and facts["chip"] == "TPU v5 lite" and facts["gathered"] == []
    assert {row["kind"] for row in facts["collectives"]} >= {"all-reduce"}
    assert 0 < facts["memory"]["peak"] < 2**30 and facts["flops"] > 0


@needs_compiler
@pytest.mark.slow
def test_two_slices_are_joined_along_data(run_module):
    result = run_module("compile", *SMALL, "--slices=2", "--config.mesh.fsdp=2", "--json", timeout=900)
    assert result.rc == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["topology"] == "2 x v5e:2x2" and (facts["mesh"]["data"], facts["mesh"]["fsdp"]) == (4, 2)


@needs_compiler
@pytest.mark.slow
def test_what_does_not_fit_is_a_result_with_what_to_change(run_module):
    huge = ("--config.model.num_latents=300000", "--config.model.attention=dense")
    result = run_module("compile", *SMALL, *huge, timeout=900)
    assert result.rc == 78 and "fits" in result.stdout and "config.batch_size" in result.stderr, result
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("name", "data"), [("imagenet", "images"), ("modelnet40", "modelnet")])
def test_what_stands_in_for_the_data_follows_the_config(name, data):
    config = load(name).data
    config.update({"image_size": 96} if data == "images" else {"num_points": 77, "normals": True})
    stand_in = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["STAND_INS"][data](config.to_dict())
    shape = {"images": (96, 96, 3), "modelnet": (77, 6)}[data]
    spec = stand_in.spec
    assert next(iter(spec.arrays.values())).shape == shape and len(spec.class_names) == {"images": 1000}.get(data, 40)
    batch = stand_in.load("train", np.arange(2), None)
    assert [(rows.shape[1:], rows.dtype.name) for rows in batch.values()] == [
        (array.shape, array.dtype) for array in spec.arrays.values()
    ]
