# SPDX-License-Identifier: Apache-2.0
"""Benchmarks run end to end, and the plain peer computes what our model computes, by another way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import measure, step_time
from benchmarks.inputs import RandomArrays, on_available_data
from benchmarks.jax_steps import JaxSteps, with_full_gradient
from benchmarks.plain_perceiver import plain_model
from perceiver_jax import experiment
from perceiver_jax.config import section, to_dict
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError
from perceiver_jax.metrics.average_precision import Columns
from perceiver_jax.models.set_predictor import SetPredictor
from perceiver_jax.models.slot_attention import SlotAttention
from perceiver_jax.models.slot_autoencoder import PatchEncoder
from perceiver_jax.registry import build
from perceiver_jax.tasks.classification import Classification
from perceiver_jax.tasks.set_prediction import SetPrediction
from tests.configs_test import load

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("--config=configs/solids.py:tiny", "--batch_size=4", "--rounds=2", "--seconds=0.02")
NOWHERE = "nowhere/modelnet40_ply_hdf5_2048"


def run_benchmark(name, *args):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"benchmarks.{name}", *args]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def model_of(**fields):
    positions = section("positions", "fourier", fourier_bands=3, max_resolution=8.0)
    adapter = section("adapter", "points", positions=positions)
    config = section("model", "perceiver", adapter=adapter, num_latents=5, latent_dim=16, **fields)
    arrays = {"points": ArraySpec((12, 3), "float32"), "label": ArraySpec((), "int32")}
    return build("model", to_dict(config), spec=Spec(arrays, class_names=("a", "b", "c")))


def plain_params(params):
    """Our parameters in the plain model's places."""
    encoder, plain = params["encoder"], {"head": params["head"], "latents": params["encoder"]["latents"]}
    for name, ours in encoder.items():
        kind, _, number = name.rpartition("_")
        if kind == "cross_attends":
            parts = {"query": ours["attention"]["query"], "out": ours["attention"]["out"]}
            parts |= {which: ours["inputs"][which] for which in ("key", "value")}
            plain[f"cross_{number}"] = plain_layer(ours, parts, heads=3) | {"context_norm": ours["inputs"]["norm"]}
        elif kind == "blocks":
            stack = ours["layers"]
            for i in range(len(stack["norm"]["scale"])):
                layer = jax.tree.map(lambda x, i=i: x[i], stack)
                plain[f"block_{number}_layer_{i}"] = plain_layer(layer, layer["attention"], heads=4)
    return plain


def plain_layer(ours, attention, heads):
    def by_head(name, part):
        kernel, bias = part["kernel"], part["bias"]
        if name == "out":
            return {"kernel": kernel.reshape(heads, -1, kernel.shape[-1]), "bias": bias}
        return {"kernel": kernel.reshape(len(kernel), heads, -1), "bias": bias.reshape(heads, -1)}

    attention = {name: by_head(name, part) for name, part in attention.items()}
    return {"attention": attention, "norm": ours["norm"], "mlp_norm": ours["mlp_norm"], **ours["mlp"]}


def test_the_plain_model_computes_the_same():
    model = model_of(
        num_cross_attends=2,
        num_blocks=2,
        num_self_attends_per_block=2,
        num_cross_attend_heads=3,
        num_self_attend_heads=4,
        share_cross_attends="after_first",
        share_blocks="after_first",
    )
    plain = plain_model(model)
    points = jax.random.uniform(jax.random.key(0), (2, 12, 3), minval=-1.0)
    variables = jax.jit(model.init)(jax.random.key(1), points)
    noisy = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), variables["params"])
    translated = plain_params(noisy)
    expected = jax.eval_shape(plain.init, jax.random.key(2), points)["params"]
    assert jax.tree.map(np.shape, translated) == jax.tree.map(np.shape, expected)
    mask = jnp.arange(12) < jnp.array([[12], [7]])
    ours = jax.jit(model.apply)({"params": noisy}, points, mask)
    plains = jax.jit(plain.apply)({"params": translated}, points, mask)
    np.testing.assert_allclose(plains, ours, rtol=2e-4, atol=2e-5)
    assert np.abs(ours).max() > 0.01


def torch_weights(params):
    """Our parameters by the names, and in the layouts, of the PyTorch peer."""
    weights = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        *scope, name = (entry.key for entry in path)
        axes = {1: (0,), 2: (1, 0), 3: (0, 1, 2), 4: (3, 2, 0, 1)}[leaf.ndim]
        weight = np.asarray(leaf).transpose(axes)
        if scope[-2:-1] == ["gru"]:  # PyTorch's gates come in another order, kernels of inputs and state in one module
            weight = weight.reshape(3, -1, *weight.shape[1:])[[1, 0, 2]].reshape(weight.shape)
            kind, side = {"kernel": "weight"}.get(name, name), {"inputs": "ih", "state": "hh"}[scope.pop()]
            scope.append(f"{kind}_{side}")
        else:
            scope.append({"kernel": "weight", "scale": "weight"}.get(name, name))
        weights[".".join(scope)] = weight
    return weights


SLOT_MODELS = {
    "published": ("convolutions", {"strides": (1, 2)}, "convolutions", {"strides": (2, 1)}, "shared_gaussian"),
    "cpu": (
        *("patches", {"patch_size": 4, "context": 2}),
        *("pixels", {"patch_size": 2, "fourier_bands": 3}, "learned_noise"),
    ),
}


@pytest.mark.parametrize("name", SLOT_MODELS)
def test_the_torch_peer_computes_the_same(name):
    torch = pytest.importorskip("torch")
    from benchmarks.torch_slot_attention import SlotAutoencoder

    encoder, encoder_fields, decoder, decoder_fields, initializer = SLOT_MODELS[name]
    parts = {
        "encoder": section("encoder", encoder, num_channels=8, **encoder_fields),
        "decoder": section("decoder", decoder, num_channels=8, **decoder_fields),
    }
    sizes = {"num_slots": 3, "slot_dim": 6, "mlp_dim": 5, "feature_dim": 7, "initializer": initializer}
    config = to_dict(section("model", "slot_autoencoder", **sizes, **parts))
    model = build("model", config, spec=Spec({"image": ArraySpec((16, 16, 3), "uint8")}))
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    noise = random.normal(size=(2, 3, 6)).astype(np.float32)
    made = jax.eval_shape(model.init, {"params": jax.random.key(0), "slots": jax.random.key(0)}, images)["params"]
    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32) / 3, made)
    ours = jax.jit(model.apply)({"params": params}, images, noise=noise)
    peer = SlotAutoencoder(config, 16)
    peer.load_state_dict({key: torch.tensor(value) for key, value in torch_weights(params).items()})
    colors_first = torch.tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    theirs = peer(colors_first, torch.tensor(noise)).image.permute(0, 2, 3, 1)
    np.testing.assert_allclose(ours.image, theirs.detach(), rtol=0, atol=1e-5 * np.abs(ours.image).max())
    assert np.abs(ours.image).max() > 0.1


def test_the_slot_autoencoder_can_be_timed(request):
    """Without an adapter, with a random stream in the forward pass; nothing is run."""
    request.addfinalizer(lambda: jax.config.update("jax_enable_compilation_cache", True))
    config, notes = step_time.prepare(to_dict(load("slot_attention", "tiny")), ["torch"])
    steps = JaxSteps(config | {"batch_size": 2})
    assert steps.describe()["adapted_shape"] == [] and "Adam" in notes[-1]
    predicted = jax.eval_shape(steps.jitted_forward, steps.abstract.variables(), steps.batch)
    assert predicted["image"].shape == (2, 16, 16, 3)
    with pytest.raises(ConfigError, match="--peer=torch builds the model of configs/slot_attention.py alone"):
        step_time.prepare(to_dict(load("solids", "tiny")), ["torch"])


def test_random_images_stand_for_a_missing_set(tmp_path):
    config = {"data": to_dict(section("data", "images", path="nowhere/cifar-100-python"))}
    available, notes = on_available_data(config, tmp_path)
    spec = build("data", available["data"], seed=0).spec
    assert len(spec.class_names) == 100 and spec.arrays["image"].shape == (32, 32, 3)
    assert "nowhere/cifar-100-python is not there: random images, 1,000 of 32 x 32" in notes[0]


@pytest.mark.slow
def test_step_time(tmp_path):
    file = tmp_path / "step.json"
    one = [f"--config.model.{n}=1" for n in ("num_cross_attends", "num_blocks", "num_self_attends_per_block")]
    model = (*one, "--config.model.dropout_rate=0.1")
    result = run_benchmark("step_time", *SMALL, *model, "--peer=plain,unguarded", f"--json={file}")
    assert result.returncode == 0, result.stderr
    written = json.loads(file.read_text())
    assert written["config"]["batch_size"] == 4 and written["config"]["model"]["dropout_rate"] == 0.1
    assert written["machine"]["command"].startswith("python -m benchmarks.step_time --config=")
    assert written["machine"]["threads"] >= 1 and written["device"]["platform"] == "cpu"
    ours, plain = written["implementations"]["ours"], written["implementations"]["plain"]
    assert ours["parameters"] == plain["parameters"] > 1000
    assert written["implementations"]["unguarded"]["ours_over_this"]["step"] > 0
    assert ours["ours_over_this"] == {"step": 1.0, "forward": 1.0}
    for it in (ours, plain):
        assert it["step_ms"]["min"] <= it["step_ms"]["median"] <= it["step_ms"]["max"]
        assert len(it["forward_ms"]["rounds"]) == 2
        assert 0.05 < it["compile_s"]["step"] < 120 and 100 < it["peak_memory_mb"]["process"] < 4000
        rates = [written["gflop_per_step"] / (ms / 1e3) for ms in it["step_ms"]["rounds"]]
        np.testing.assert_allclose(it["gflops"]["rounds"], rates)
        assert 0 < it["share_of_gemm_peak"] < 1
    assert "plain" in result.stdout and "of GEMM peak" in result.stdout


def test_data_rate(tmp_path):
    file = tmp_path / "data.json"
    result = run_benchmark("data_rate", *SMALL, "--steps=3", f"--json={file}")
    assert result.returncode == 0, result.stderr
    written = json.loads(file.read_text())
    for name in ("source", "pipeline"):
        batches, examples = written["batches_per_second"][name], written["examples_per_second"][name]
        np.testing.assert_allclose(examples["rounds"], 4 * np.array(batches["rounds"]))
    assert 0 <= written["training"]["wait_ms"] < written["training"]["step_ms"]
    assert "waiting for data" in result.stdout


def test_checkpoint_cost(tmp_path):
    file = tmp_path / "cost.json"
    result = run_benchmark("checkpoint_cost", SMALL[0], "--rounds=2", f"--folder={tmp_path}", f"--json={file}")
    assert result.returncode == 0, result.stderr
    written = json.loads(file.read_text())
    assert written["megabytes"] > 0.1 and list(tmp_path.iterdir()) == [file]
    for part in ("blocking", "background", "restore"):
        ours, orbax = (written["seconds"][name][part]["rounds"] for name in ("ours", "orbax_synced"))
        assert len(ours) == 2 and min(*ours, *orbax) > 0
        assert written["ours_over"]["orbax_synced"][part] == pytest.approx(measure.ratio(ours, orbax))
    assert 0 < written["seconds"]["ours"]["check"]["median"] < 5 and "the check alone" in result.stdout


def test_buckets(tmp_path):
    small = ("--batch_size=4", "--batches=6", "--rounds=1", f"--json={tmp_path / 'buckets.json'}")
    result = run_benchmark("buckets", "--config=configs/sequences.py:tiny", *small)
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "buckets.json").read_text())
    assert sum(results["lengths"]["buckets"].values()) == 6 and results["lengths"]["padded"] == {"60": 6}
    assert results["buckets_over_padded"] > 0 and "times the sequences per second" in result.stdout
    result = run_benchmark("buckets", "--config=configs/solids.py:tiny", *small)
    assert result.returncode == 78 and "has no length buckets" in result.stderr


def test_long_inputs(tmp_path):
    """Ours alone, at a length that costs nothing."""
    files = (f"--json={tmp_path / 'long.json'}", f"--plot={tmp_path / 'long.png'}")
    result = run_benchmark("long_inputs", "--lengths=8", "--peer_lengths=", "--rounds=1", "--clock=cpu", *files)
    assert result.returncode == 0, result.stderr
    written = json.loads((tmp_path / "long.json").read_text())
    (found,) = written["lengths"].values()
    memory = found["ours"]["peak_memory_mb"]
    assert found["ours"]["ms"]["median"] > 0 and memory["process"] > 100 > memory["input"] == 8 * 256 / 1e6
    assert found["ours"]["ours_over_this"] == {"time": 1.0, "memory": 1.0}
    assert "our memory without the input, 8 over 8 elements: 1.00" in result.stdout
    assert (tmp_path / "long.png").stat().st_size > 5000
    result = run_benchmark("long_inputs", "--lengths=8,1e6")
    assert result.returncode == 78 and "--lengths=1e6: expected lengths of at least 1" in result.stderr


def test_a_missing_modelnet_is_replaced(tmp_path):
    data = to_dict(section("data", "modelnet", path=NOWHERE, num_points=16, num_evaluation_points=20))
    config, (note,) = on_available_data({"data": data, "seed": 0}, tmp_path)
    source = experiment.build_source(config)
    assert NOWHERE in note and source.spec.arrays["points"].shape == (16, 3) and len(source.spec.class_names) == 40
    there = {"data": data | {"path": str(tmp_path)}, "seed": 0}
    assert on_available_data(there, tmp_path / "unused") == (there, [])


def test_random_arrays_keep_the_spec():
    arrays = {
        "image": ArraySpec((4, 4, 3), "float32"),
        "mask": ArraySpec((4,), "bool"),
        "label": ArraySpec((), "int32"),
    }
    batch = RandomArrays(like=Spec(arrays, class_names=("a", "b")).to_dict()).batch(64)
    assert {name: (batch[name].shape, batch[name].dtype.name) for name in arrays} == {
        name: ((64, *array.shape), array.dtype) for name, array in arrays.items()
    }
    assert set(batch["label"]) == {0, 1} and batch["mask"].all() and batch["image"].std() > 0.3


def test_wrong_peers_are_named():
    with pytest.raises(ConfigError, match="--peer=jhax is unknown: expected some of plain, hf"):
        step_time.check_peers(["jhax"])
    with pytest.raises(
        ConfigError, match=r'no_such_package not installed.*pip install -c requirements.txt ".\[bench\]"'
    ):
        measure.require("bench", "json", "no_such_package")
    ours = {"parameters": 1000, "device": {"platform": "cpu"}}
    step_time.check_peer("plain", ours | {"parameters": 1001}, ours)
    with pytest.raises(ConfigError, match="has 1,003 parameters, ours 1,000"):
        step_time.check_peer("plain", ours | {"parameters": 1003}, ours)
    with pytest.raises(ConfigError, match="--peer=hf runs on gpu, ours on cpu"):
        step_time.check_peer("hf", ours | {"device": {"platform": "gpu"}}, ours)


def test_the_full_gradient_peer_is_ours_in_all_else():
    def task(gradient):
        slots = SlotAttention(2, gradient=gradient)
        return SetPrediction(model=SetPredictor(PatchEncoder(), slots, 5), columns=Columns((), (4,)))

    assert with_full_gradient(task("implicit")) == task("full") != task("implicit")
    with pytest.raises(ConfigError, match="--peer=full_gradient is for models with slot attention alone"):
        with_full_gradient(Classification(model=model_of(), input_name="points", num_classes=3))


def test_every_round_begins_with_another():
    calls = []
    bursts = {(name, "step"): lambda count, name=name: calls.append((name, count)) or 0.5 for name in "abc"}
    times = measure.interleave(bursts, rounds=3, seconds=1.0)
    measured = [call for call in calls if call[1] == 2]  # 1 s of calls of 0.5 s
    assert [name for name, _ in measured] == list("abcbcacab")
    assert times == {name: {"step": [0.5] * 3} for name in "abc"}
    assert measure.ratio([1.0, 2.0, 9.0], [2.0, 4.0, 9.0]) == 0.5


def test_a_worker_tells_its_errors():
    with measure.Worker("it", "benchmarks.not_there:X") as worker, pytest.raises(RuntimeError, match="it: No module"):
        worker.call("burst", "step", 1)
    with measure.Worker("it", "os:_exit", 9) as worker, pytest.raises(RuntimeError, match="died with exit code 9"):
        worker.call("anything")
