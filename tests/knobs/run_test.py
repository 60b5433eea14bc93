# SPDX-License-Identifier: Apache-2.0
"""No dead knobs: each field of task, optimizer, schedule and of what all configs share changes what is built.

A new part, or a new field, fails until it has a row here.
"""

import ast
import copy
import dataclasses
import functools
import hashlib
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from perceiver_jax import config as configs
from perceiver_jax import experiment, registry
from perceiver_jax.config import section, to_dict
from perceiver_jax.data.properties import Property
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError
from perceiver_jax.training.schedules import OWN
from perceiver_jax.training.settings import Settings
from perceiver_jax.training.sharding import make_mesh
from tests import readers

TRAINING = Path(experiment.__file__).parent / "training"
ARRAYS = {"image": ArraySpec((4, 4, 3), "uint8"), "label": ArraySpec((), "int32")}
SPEC = Spec(ARRAYS, ("a", "b", "c"))
SETS = Spec({"image": ARRAYS["image"], "properties": ArraySpec((2, 4), "float32")}, properties=(Property("kind", 3),))
SLOTS = {
    "encoder": section("encoder", "patches", num_channels=4),
    "decoder": section("decoder", "pixels", patch_size=4, num_channels=4),
    **{"num_slots": 2, "slot_dim": 4, "mlp_dim": 4, "feature_dim": 4, "num_iterations": 2},
}
TASKS = {  # name: (model, another value of each field)
    "classification": (lambda: Linear(), {"label_smoothing": 0.1, "mixup_alpha": 0.2, "cutmix_alpha": 1.0}),
    "object_discovery": (
        lambda: build("model", "slot_autoencoder", SLOTS, spec=SPEC),
        {"num_slots": 3, "num_iterations": 1, "num_seeds": 2},
    ),
    "set_prediction": (
        lambda: build("model", "set_predictor", {k: v for k, v in SLOTS.items() if k != "decoder"}, spec=SETS),
        {"num_slots": 3, "num_iterations": 1},
    ),
    "svq": (lambda: build("model", "svq", SLOTS | {"num_blocks": 2, "codebook_size": 3}, spec=SPEC), {}),
}
OPTIMIZER = {
    "learning_rate": 2e-3,
    "b1": 0.8,
    "b2": 0.9,
    "eps": 1e-3,
    "weight_decay": 0.2,
    "decay_exclude": ("*/kernel",),
    "clip_norm": 1.0,
    "clip_max": 0.05,
    "frozen": ("a/*",),
    "rate_factors": ("a/*=2",),
}
OPTIMIZERS = {"lamb": {"weight_decay": 0.1}, "adamw": {"weight_decay": 0.1}, "adam": {}}
SCHEDULE = {
    "warmup_epochs": 1.0,
    "warmup_steps": 3,
    "milestones": (3.0,),
    "gamma": 0.5,
    "step_epochs": 3.0,
    "decay_steps": 30,
    "flat_epochs": 3.0,
    "t_max_epochs": 5.0,
    "eta_min": 1e-4,
}
SCHEDULES = {
    "constant": {},
    "cosine": {},
    "flat_cosine": {"flat_epochs": 2.0},
    "multistep": {"milestones": (2.0, 4.0)},
    "step": {"step_epochs": 2.0},
    "exponential": {"decay_steps": 40},
}
SHARED = {  # of all configs
    "seed": 1,
    "batch_size": 4,
    "num_epochs": 3.0,
    "num_steps": 7,
    "micro_batches": 2,
    "ema_decay": 0.5,
    "max_bad_steps": 3,
    "log_every_steps": 7,
    "init_from": "",
    "init.checkpoint": "7",
    "init.skip": ("head/*",),
    "init.rename": ("head=tail",),
    "evaluation.every_epochs": 2.0,
    "evaluation.batch_size": 4,
    "evaluation.metric": "loss",
    "evaluation.mode": "min",
    "checkpoint.every_epochs": 2.0,
    "checkpoint.keep_latest": 3,
    "checkpoint.keep_every_epochs": 2.0,
    "plateau.metric": "accuracy",
    "plateau.mode": "max",
    "plateau.patience": 3,
    "plateau.factor": 0.3,
    "plateau.min_delta": 0.1,
    "plateau.min_scale": 0.1,
    "early_stopping.metric": "accuracy",
    "early_stopping.mode": "max",
    "early_stopping.patience": 3,
    "early_stopping.min_delta": 0.1,
    "attention_maps.every": 3,
    "attention_maps.num_examples": 3,
    "attention_maps.max_bytes": 3,
    "mesh.data": 3,
    "mesh.fsdp": 2,
    "mesh.sequence": 2,
    "mesh.tensor": 2,
    "pipeline.num_workers": 2,
    "pipeline.prefetch": 3,
    "profile.start_step": 3,
    "profile.num_steps": 3,
    **{
        f"watchdog.{phase}_seconds": 7.0
        for phase in ("compile", "step", "data", "evaluation", "save", "restore", "profile")
    },
    "watchdog.step_medians": 7.0,
}


def build(kind, name, values, **given):
    return registry.build(kind, to_dict(section(kind, name, **values)), **given)


def fields(kind, name):
    return set(registry.find(kind, name).parameters())


def dead(seen, values, changes):
    """Fields whose change is not seen; that nothing is seen without a change is checked too."""
    plain = seen(values)
    assert seen(values) == plain
    return [field for field, value in changes.items() if seen({**values, field: value}) == plain]


class Linear(nn.Module):
    """Logits of the mean colour."""

    @nn.compact
    def __call__(self, inputs, *, train=False):
        return nn.Dense(3)(inputs.astype(jnp.float32).mean((1, 2)))


@pytest.mark.parametrize("name", TASKS)
def test_each_field_of_a_task(name):
    spec = SETS if name == "set_prediction" else SPEC
    batch = {name: jnp.zeros((4, *array.shape), array.dtype) for name, array in spec.arrays.items()}
    batch |= {"weight": jnp.ones(4), "id": jnp.arange(4)}
    make_model, changes = TASKS[name]

    def seen(values):
        task = build("task", name, values, model=make_model(), spec=spec)
        rngs = {stream: jax.random.key(1) for stream in task.rng_streams}
        variables = jax.eval_shape(lambda: task.init(jax.random.key(0), spec))

        def run(variables):
            return task.loss(variables, batch, rngs, train=True), task.evaluate(variables, batch, rngs)

        return str(jax.make_jaxpr(run)(variables))

    assert set(changes) == fields("task", name) and dead(seen, {}, changes) == []


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_field_of_an_optimizer(name):
    params = {layer: {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)} for layer in "ab"}

    def seen(values):
        try:
            optimizer = build("optimizer", name, values)
            rate = build("schedule", "constant", {}, **GIVEN | {"learning_rate": values["learning_rate"]})
            text = jax.make_jaxpr(lambda params: optimizer.update(params, optimizer.init(params), params))(params)
            return f"{rate(0)} {text}"
        except ConfigError as error:
            return str(error)

    values = {"learning_rate": 1e-3, **OPTIMIZERS[name]}
    assert set(OPTIMIZER) == fields("optimizer", name) and dead(seen, values, OPTIMIZER) == []


GIVEN = {"learning_rate": 1e-3, "num_steps": 80, "steps_per_epoch": 10}


@pytest.mark.parametrize("name", SCHEDULES)
def test_each_field_of_a_schedule(name):
    def seen(values):
        try:
            return str(np.asarray(jax.vmap(build("schedule", name, values, **GIVEN))(np.arange(80))).tolist())
        except ConfigError as error:
            return str(error)

    unused = set(SCHEDULE) - {*OWN[name], "warmup_epochs", "warmup_steps"}  # which is said: `schedules_test`
    assert set(SCHEDULE) == fields("schedule", name) and set(dead(seen, SCHEDULES[name], SCHEDULE)) == unused


def test_each_part_has_a_row():
    """Of the other kinds: `models_test`, `slots_test`, `data_test`; of the prior's task: `code_prior_test`."""
    others = {"data", "positions", "adapter", "encoder", "decoder", "model"}
    assert set(registry.PARTS) == {*others, "task", "optimizer", "schedule"}
    assert {*TASKS, "code_prior"} == set(registry.PARTS["task"])
    assert set(OPTIMIZERS) == set(registry.PARTS["optimizer"])
    assert set(SCHEDULES) == set(registry.PARTS["schedule"])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run to begin with."""
    folder = tmp_path_factory.mktemp("run")
    readers.write_run(folder)
    return folder


def flat(config, prefix=""):
    """key.key -> value of all that is no section."""
    for key in config:
        if isinstance(config[key], type(config)):
            yield from flat(config[key], f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_each_field_that_all_configs_share(run):
    plain = readers.solids_config() | {"init_from": str(run)}
    state = experiment.abstract_training_state(experiment.build(plain))
    assert set(SHARED) == set(flat(configs.default()))

    @functools.cache
    def begins(init_from, **init):
        transferred = experiment.initial_values({"init_from": init_from, "init": init}, state)
        return str(transferred.record()) + hashlib.sha256(b"".join(map(bytes, transferred.values.values()))).hexdigest()

    def seen(values):
        config = copy.deepcopy(plain)
        for key, value in values.items():
            *path, last = key.split(".")
            functools.reduce(lambda section, name: section[name], path, config)[last] = value
        try:
            parts = experiment._settings(config, 8), experiment._controls(config), make_mesh(**config["mesh"])
            init = {name: value if isinstance(value, str) else tuple(value) for name, value in config["init"].items()}
            return f"{parts} {begins(config['init_from'], **init)}"
        except ConfigError as error:
            return str(error)

    assert dead(seen, {}, SHARED) == []


def test_the_loop_reads_each_of_its_settings():
    """`s.NAME`, `settings.NAME` or `self.settings.NAME`, somewhere in `training/`."""
    read = set()
    for file in TRAINING.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute):
                owner = getattr(node.value, "attr", getattr(node.value, "id", None))
                read |= {node.attr} if owner in ("s", "settings") else set()
    assert {field.name for field in dataclasses.fields(Settings)} - read == set()


def test_no_config_has_a_section_that_is_not_here():
    for file in sorted((TRAINING.parents[1] / "configs").glob("*.py")):
        spec = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert set(module.get_config()) == {*configs.default(), *configs.SECTIONS}, file
