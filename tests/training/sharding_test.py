# SPDX-License-Identifier: Apache-2.0
"""Eight simulated devices: the same first parameters, the same losses, a state that is split, parameters that move."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.training.sharding import Share, _hidden_axis, _partition, arranged, make_mesh, shared

ROOT = Path(__file__).resolve().parents[2]
DEVICES = 8
MESHES = {
    "data": {"data": 8},
    "fsdp": {"data": 1, "fsdp": 8},
    "both": {"data": 2, "fsdp": 4},
    "fsdp and tensor": {"data": 2, "fsdp": 2, "tensor": 2},
}

PROGRAM = """
import hashlib, json, sys, tempfile
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from perceiver_jax import config as c
from perceiver_jax.models import convolutions
from perceiver_jax.experiment import build, build_source, build_task, load, run_mesh
from perceiver_jax.data.pipeline import evaluation_batches, train_batches
from perceiver_jax.data.plan import Plan
from perceiver_jax.tasks import mixing
from perceiver_jax.training.collectives import collectives
from perceiver_jax.training.evaluation import evaluate
from perceiver_jax.training.placement import placed, table
from perceiver_jax.training.sharding import batch_sharding, put_batch
from perceiver_jax.training.state import abstract_state, init_state, state_maker
from perceiver_jax.training.step import jit_train_step, make_evaluation_step, make_train_step
from tests import untrained

config = c.default()
config.data = c.section("data", "solids", num_points=32, num_train=64, num_validation=16, num_test=16)
config.task = c.section("task", "classification")
positions = c.section("positions", "fourier", fourier_bands=4, max_resolution=8.0)
config.model = c.section("model", "perceiver", adapter=c.section("adapter", "points", positions=positions),
    num_latents=64, latent_dim=128, num_cross_attends=1, num_self_attends_per_block=1,
    num_self_attend_heads=4, dropout_rate=0.1)
config.optimizer = c.section("optimizer", "lamb", learning_rate=3e-3, weight_decay=0.1, clip_norm=1.0)
config.schedule = c.section("schedule", "constant")
config.batch_size, config.num_steps, config.ema_decay, config.micro_batches = 16, 12, 0.9, 2

objects = c.default()
objects.data = c.section("data", "shapes", size=8, min_objects=1, max_objects=2, num_validation=13,
    min_radius=0.2, max_radius=0.3)
objects.task = c.section("task", "object_discovery")
objects.model = c.section("model", "slot_autoencoder", num_slots=3, slot_dim=8, mlp_dim=8, feature_dim=8,
    initializer="slot_gaussian", encoder=c.section("encoder", "patches", patch_size=2, num_channels=8),
    decoder=c.section("decoder", "pixels", patch_size=2, num_channels=8))

def scores(mesh):
    values = c.to_dict(objects)
    source = build_source(values)
    task = build_task(values, source.spec)
    with evaluation_batches(source, "validation", 8) as batches:
        step = jax.jit(make_evaluation_step(task, seed=0))
        return task.summarize(evaluate(step, task.init(jax.random.key(0), source.spec), batches, mesh))

def outcome(mesh):
    config.mesh.update(mesh)
    t = build(c.to_dict(config))
    make = state_maker(t.task, t.optimizer, t.source.spec, ema=True)
    state = init_state(make, t.mesh, 0)
    first = hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(state))).hexdigest()
    shares = shares_of(state)
    step = make_train_step(t.task, t.optimizer, t.schedule, seed=0, ema_decay=0.9, micro_batches=2)
    step = jit_train_step(step, abstract_state(make, t.mesh), t.mesh)
    losses, hlo = [], ""
    with jax.set_mesh(t.mesh), train_batches(t.source, Plan(64, 16), start_step=0, num_steps=12) as batches:
        for batch in batches:
            if "fsdp" in mesh and not losses:
                hlo = step.lower(state, put_batch(batch, t.mesh)).compile().as_text()
            state, report = step(state, put_batch(batch, t.mesh))
            losses.append(report.stats["loss"].value())
    gathered = [shape for x in collectives(hlo) if x.kind == "all-gather" for shape in x.shapes]
    return {"first": first, "shares": shares, "losses": losses, "gathered": sorted(set(gathered)),
        "loaded": loaded(mesh) if mesh == {"data": 2, "fsdp": 4} else None, "compiles": step._cache_size(),
        "mixed": mixed(t.mesh), "placed": placed(state), "held": held(state), "table": table(state, t.mesh, 16),
        "convolved": convolved(t.mesh) if mesh.get("data", 2) == 2 else None,
        "large": placed(large_state(t)), "scores": scores(t.mesh) if mesh.keys() <= {"data"} else {}}

def shares_of(tree):
    large = [x for x in jax.tree.leaves(tree) if x.size >= 2**14]
    return [max(s.data.nbytes for s in x.addressable_shards) / x.nbytes for x in large]

def loaded(mesh):
    with tempfile.TemporaryDirectory() as folder:
        untrained.write_run(Path(folder), c.to_dict(config))
        own = run_mesh(folder)
        found = [dict(own.shape), shares_of(load(folder, mesh=own).variables), shares_of(load(folder).variables)]
        values = json.loads((Path(folder) / "config.json").read_text())
        values["mesh"]["data"] = 3
        (Path(folder) / "config.json").write_text(json.dumps(values))
        return [*found, dict(run_mesh(folder).shape)]

def held(state):
    shards = [shard for leaf in jax.tree.leaves(state) for shard in leaf.addressable_shards]
    return [sum(s.data.nbytes for s in shards if s.device == device) for device in jax.devices()]

def large_state(t):
    large = c.to_dict(config)
    large["model"] |= {"num_latents": 256, "latent_dim": 1024, "num_blocks": 2}
    task = build_task(large, t.source.spec)
    return abstract_state(state_maker(task, t.optimizer, t.source.spec, ema=True), t.mesh)

def convolved(mesh):
    # of a batch that the mesh splits and of one that it does not, an image at a time
    convolutions.CHUNK_BYTES = 1
    rng = np.random.default_rng(0)
    whole, odd, kernel = (rng.normal(size=size).astype(np.float32) for size in
        ((16, 4, 4, 2), (3, 4, 4, 2), (3, 3, 2, 4)))
    def loss(whole, odd, kernel):
        there = [convolutions.convolve(images, kernel, 2) for images in (whole, odd)]
        back = [convolutions.convolve_transposed(jnp.sin(images), kernel, 2) for images in there]
        return sum((images ** 2).mean() for images in back), back
    with jax.set_mesh(mesh):
        step = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))
        compiled = step.lower(jax.device_put(whole, batch_sharding(mesh)), odd, kernel).compile()
        found = compiled(jax.device_put(whole, batch_sharding(mesh)), odd, kernel)
    return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(found)], "all-gather" in compiled.as_text()

def mixed(mesh):
    rng = np.random.default_rng(0)
    images = {"image": rng.integers(0, 256, (16, 8, 8, 3)).astype(np.uint8), "label": np.arange(16, dtype=np.int32)}
    def mix(batch):
        weights = mixing.own_weights(jax.random.key(0), batch["image"], 0.2, 1.0)
        return mixing.mixed(batch["image"], weights), mixing.shares(batch["label"], weights)
    batch = put_batch(images, mesh)
    split = len({str(shard.index) for shard in batch["image"].addressable_shards})
    results = jax.tree.leaves(jax.jit(mix)(batch))
    return split, hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in results)).hexdigest()

print(json.dumps({name: outcome(mesh) for name, mesh in json.loads(sys.argv[1]).items()}))
"""


@pytest.fixture(scope="module")
def outcomes():
    def run(meshes, devices):
        flags = f"--xla_force_host_platform_device_count={devices}"
        environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", PROGRAM, json.dumps(meshes)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
        assert result.returncode == 0, result.stderr[-3000:]
        return json.loads(result.stdout.splitlines()[-1])

    return run({"one": {}}, 1) | run(MESHES, DEVICES)


@pytest.mark.parametrize("name", MESHES)
def test_first_state_is_the_same_bit_by_bit(outcomes, name):
    assert outcomes[name]["first"] == outcomes["one"]["first"]


@pytest.mark.parametrize("name", MESHES)
def test_losses_are_those_of_one_device(outcomes, name):
    np.testing.assert_allclose(outcomes[name]["losses"], outcomes["one"]["losses"], rtol=1e-5, atol=1e-5)
    assert outcomes[name]["losses"][-1] < outcomes[name]["losses"][0]


@pytest.mark.parametrize(("name", "share"), [("data", 1), ("fsdp", 1 / 8), ("both", 1 / 4), ("fsdp and tensor", 1 / 4)])
def test_large_leaves_are_split(outcomes, name, share):
    assert outcomes[name]["shares"] and set(outcomes[name]["shares"]) == {share}


@pytest.mark.parametrize("name", ["one", *MESHES])
def test_every_device_holds_what_the_table_says(outcomes, name):
    outcome = outcomes[name]
    counted = 3 * 4  # step, scale of the rate and skipped steps are in no row
    share = sum(row[4] for row in outcome["placed"]) + counted
    assert set(outcome["held"]) == {share}
    mesh, _, batch, *_, whole = outcome["table"]
    assert mesh.endswith(f"{len(outcome['held'])} devices of 1 process")
    shards = len(outcome["held"]) // MESHES.get(name, {}).get("tensor", 1)
    assert batch.split() == ["batch", "data,", "fsdp", "16", "rows", f"{16 // shards}", "rows"]
    assert whole.split()[-2] == f"{share - counted:,}"


@pytest.mark.parametrize("name", ["fsdp", "both", "fsdp and tensor"])
def test_parameters_are_gathered_and_activations_are_not(outcomes, name):
    """Those have 64 latents between their rows and their channels."""
    gathered = outcomes[name]["gathered"]
    assert gathered and not [shape for shape in gathered if 64 in shape[1:-1]]


def test_a_run_is_loaded_as_it_was_trained_where_the_devices_suffice(outcomes):
    own, split, whole, elsewhere = outcomes["both"]["loaded"]
    one = {"fsdp": 1, "sequence": 1, "tensor": 1}
    assert own == {"data": 2, "fsdp": 4, "sequence": 1, "tensor": 1} and elsewhere == {"data": 8, **one}
    assert split and set(split) == {1 / 4} and set(whole) == {1}


def test_a_state_eight_times_larger_than_a_share_is_split_evenly(outcomes):
    """Of a model with a width of 1,024, on eight devices under fsdp."""
    whole, share = (sum(row[column] for row in outcomes["fsdp"]["large"]) for column in (3, 4))
    assert whole > 100e6 and share * 8 / whole == pytest.approx(1, abs=0.02)
    assert {row[1][0] for row in outcomes["fsdp"]["large"] if row[4] < row[3]} == {"fsdp"}


def test_the_table_says_what_is_split_over_tensor(outcomes):
    rows = {tuple(row[1]): row for row in outcomes["fsdp and tensor"]["placed"] if row[0] == "parameters"}
    assert set(rows) == {("fsdp", "tensor"), ("tensor",), ()}
    assert rows["fsdp", "tensor"][3] == 4 * rows["fsdp", "tensor"][4] and rows["tensor",][3] == 2 * rows["tensor",][4]
    lines = [line.split() for line in outcomes["fsdp and tensor"]["table"]]
    assert [line[:3] for line in lines if "tensor" in line[:3]][:2] == [
        ["parameters", "tensor", str(rows["tensor",][2])],
        ["parameters", "fsdp,", "tensor"],
    ]


@pytest.mark.parametrize("name", MESHES)
def test_images_are_mixed_alike(outcomes, name):
    """The batch is the global one: the partner of a device's last row lies on the next device."""
    split = DEVICES // MESHES[name].get("tensor", 1)
    assert outcomes[name]["mixed"] == [split, outcomes["one"]["mixed"][1]] and outcomes["one"]["mixed"][0] == 1


@pytest.mark.parametrize("name", ["both", "fsdp and tensor"])
def test_each_device_convolves_its_own_images(outcomes, name):
    """Values and gradients of the images and the kernel; no device gathers the images of another."""
    found, gathers = outcomes[name]["convolved"]
    for split, whole in zip(found, outcomes["one"]["convolved"][0], strict=True):
        np.testing.assert_allclose(split, whole, rtol=0, atol=1e-5 * np.abs(whole).max())
    assert not gathers


def test_objects_are_scored_alike(outcomes):
    """Thirteen images in batches of eight, one a device: draws of slots and padding too."""
    one, data = outcomes["one"]["scores"], outcomes["data"]["scores"]
    assert set(one) > {"fg_ari", "sc", "slot_consistency", "slot_index_consistency"}
    assert data == pytest.approx(one, abs=1e-5) and one["slot_consistency"] < 1


def test_one_compile_on_every_mesh(outcomes):
    assert {outcome["compiles"] for outcome in outcomes.values()} == {1}


def test_partition_takes_the_largest_axis_and_never_a_stacked_one():
    assert tuple(_partition((8, 128, 512), 1, 8)) == (None, None, "fsdp")
    assert tuple(_partition((1024, 130), 0, 8)) == ("fsdp", None)
    assert tuple(_partition((8, 129, 131), 1, 8)) == ()
    assert tuple(_partition((128,), 0, 8)) == ()
    assert tuple(_partition((8, 128, 512), 1, 8, hidden=2)) == (None, "fsdp", "tensor")
    assert tuple(_partition((8, 512), 1, 8, hidden=1)) == (None, "tensor")


def test_heads_and_hidden_units_are_split_over_tensor():
    assert _hidden_axis(("params", "layers", "query", "kernel"), (2, 8, 16), 4) == 2
    assert _hidden_axis(("mu", "mlp", "hidden", "bias"), (16,), 4) == 0
    assert _hidden_axis(("params", "attention", "out", "kernel"), (16, 9), 4) == 0
    for path, shape in (
        (("attention", "out", "bias"), (16,)),
        (("inputs", "key", "kernel"), (51, 51)),
        (("norm", "scale"), (16,)),
        (("query",), (16,)),
    ):
        assert _hidden_axis(path, shape, 4) is None
    assert _hidden_axis(("query", "kernel"), (8, 16), 1) is None


@dataclasses.dataclass(frozen=True)
class StandIn:
    """What a mesh looks at of a device."""

    id: int
    platform: str
    device_kind: str
    slice_index: int
    coords: tuple[int, ...] = (0, 0, 0)
    core_on_chip: int = 0
    process_index: int = 0
    client: None = None


def gpus(*machines):
    slices = [machine for machine, number in enumerate(machines) for _ in range(number)]
    return [StandIn(i, "gpu", "NVIDIA H100 80GB HBM3", index) for i, index in enumerate(slices)]


def tpus(kind, shape, slices=1):
    places = list(np.ndindex(*shape[::-1]))
    chips = [(index, place[::-1]) for index in range(slices) for place in places]
    return [StandIn(i, "tpu", kind, index, place) for i, (index, place) in enumerate(chips)]


@pytest.mark.parametrize(
    ("devices", "sizes", "over"),
    [
        (gpus(8, 8), (16, 1, 1, 1), (2, 1)),
        (gpus(8, 8), (2, 8, 1, 1), (2, 1)),
        (gpus(8, 8), (1, 16, 1, 1), (1, 2)),
        (gpus(4, 4, 4, 4), (2, 4, 1, 2), (2, 2)),
        (tpus("TPU v5 lite", (4, 4, 1), slices=2), (32, 1, 1, 1), (2, 1)),
        (tpus("TPU v5 lite", (4, 4, 1), slices=2), (4, 4, 2, 1), (2, 1)),
        (tpus("TPU v6 lite", (16, 16, 1)), (32, 8, 1, 1), (1, 1)),
        (tpus("TPU v6 lite", (4, 4, 1)), (8, 1, 2, 1), (1, 1)),
        (tpus("TPU v5", (4, 4, 4)), (8, 8, 1, 1), (1, 1)),
    ],
)
def test_slices_are_joined_along_data_and_then_fsdp(devices, sizes, over):
    mesh = arranged(sizes, devices)
    assert mesh.shape == sizes and set(mesh.flat) == set(devices)
    slices = np.vectorize(lambda device: device.slice_index)(mesh)
    crossed = [(np.diff(slices, axis=axis) != 0).sum(axis).max(initial=0) for axis in range(4)]
    assert crossed == [over[0] - 1, over[1] - 1, 0, 0]


@pytest.mark.parametrize(
    ("devices", "sizes", "said"),
    [
        (gpus(8, 8), (1, 1, 1, 16), "multiple of 2, and smaller config.mesh.sequence and config.mesh.tensor"),
        (gpus(8, 4), (12, 1, 1, 1), "slices .or machines. of 4, 8 devices make no mesh: expected as many in each"),
    ],
)
def test_slices_that_make_no_mesh(devices, sizes, said):
    with pytest.raises(ConfigError, match=said):
        arranged(sizes, devices)


def test_mesh_that_does_not_cover_the_devices():
    with pytest.raises(ConfigError, match=f"does not cover {jax.device_count()} devices"):
        make_mesh(data=3)


@pytest.mark.parametrize(
    ("shards", "shares"),
    [
        ({0: {0, 1}, 1: {2, 3}}, {0: (0, 2), 1: (1, 2)}),
        ({0: {0, 2}, 1: {1, 3}}, {0: (0, 2), 1: (1, 2)}),  # machines whose chips lie next to each other in a torus
        ({0: {0}, 1: {0}, 2: {1}, 3: {1}}, {0: (0, 2), 1: (0, 2), 2: (1, 2), 3: (1, 2)}),  # over a sequence axis
    ],
)
def test_processes_load_the_rows_that_their_devices_hold(shards, shares):
    assert shared(shards) == {process: Share(*share) for process, share in shares.items()}


def test_rows_that_two_processes_have_in_part_are_refused():
    with pytest.raises(ConfigError, match="another one holds in part"):
        shared({0: {0, 1}, 1: {1, 2}})
