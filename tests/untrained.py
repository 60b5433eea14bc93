# SPDX-License-Identifier: Apache-2.0
"""Run folders whose weights are random numbers: all that is read of a run, without a step of training."""

import importlib.util
from pathlib import Path

import jax
import numpy as np

from perceiver_jax import config as configs
from perceiver_jax import experiment, run_folder
from perceiver_jax.training.checkpoint import Checkpoints
from perceiver_jax.training.console import Console
from perceiver_jax.weights.transfer import Transfer

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"num_latents": 8, "num_cross_attends": 1, "num_blocks": 1, "num_self_attends_per_block": 1}


def config(name, variants="", model=SMALL, **changes):
    """Resolved values of `configs/NAME.py:VARIANTS`, with the model's and, as section__key=value, others changed."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = module.get_config(variants)
    values.model.update(model)
    for key, value in changes.items():
        section, _, field = key.rpartition("__")
        (values[section] if section else values)[field] = value
    return configs.to_dict(values)


def write_run(folder, values):
    """A run folder with a checkpoint of step 1."""
    training = experiment.build(values)
    state = experiment.abstract_training_state(training)
    lock = run_folder.open_run(folder, values, training, state, Console(), transfer=Transfer(), allow_changes=False)
    lock.release()
    random = np.random.default_rng(0)
    filled = jax.tree_util.tree_map_with_path(lambda path, leaf: _random(random, path, leaf), state)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(1, filled, {}, 0.5)
    return folder


def _random(random, path, leaf):
    """Small numbers; a variance is none below 0."""
    if not np.issubdtype(leaf.dtype, np.floating):
        return jax.device_put(np.zeros(leaf.shape, leaf.dtype), leaf.sharding)
    values = random.normal(0, 0.15, leaf.shape).astype(leaf.dtype)
    positive = jax.tree_util.keystr(path[-1:], simple=True) == "var"
    return jax.device_put(1 + abs(values) if positive else values, leaf.sharding)
