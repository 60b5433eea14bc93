# SPDX-License-Identifier: Apache-2.0
"""Every config and variant: loads, builds at full size without computing, and survives JSON."""

import importlib.util
import inspect
import json
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax import config as configs
from perceiver_jax import experiment
from perceiver_jax.data import codes
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError
from perceiver_jax.models.block_slot_attention import BlockUpdate
from perceiver_jax.training.record import num_parameters
from tests.data import conftest as sets

ROOT = Path(__file__).resolve().parents[1]
VARIANTS = {
    "solids": ["", "tiny"],
    "modelnet40": ["", "paper", "modelnet10", "tiny"],
    "sequences": ["", "small", "base", "large", "tiny"],
    "text": ["", "tiny"],
    "timeseries": ["", "tiny"],
    "cifar10": [
        *("", "fourier", "permuted", "learned", "patches", "patches_small", "patches_base", "patches_large"),
        *("cpu", "tiny"),
    ],
    "cifar100": ["", "lamb", "tiny"],
    "own_data": ["", "python", "sequences"],
    "imagenet": ["", "io_fourier", "io_learned", "io_conv", "tiny"],
    "slot_attention": [
        *("", "shapes", "multi_dsprites", "cpu", "tiny"),
        *("clevr6", "clevr6_seed", "tetrominoes", "published_multi_dsprites", "objects_room", "own"),
        *("strided", "pixels", "one_iteration"),
    ],
    "set_prediction": ["", "cpu", "tiny"],
    "svq_prior": ["", "shapes", "multi_dsprites", "official", "cpu", "tiny"],
    "svq": [
        *("", "shapes", "multi_dsprites", "official", "own", "cpu", "tiny"),
        *("convolutions", "pixels", "transformer", "one_iteration", "fewer_codebooks"),
    ],
}


def load_module(file):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(name, variants=""):
    return load_module(ROOT / "configs" / f"{name}.py").get_config(variants)


CASES = [(name, variant) for name, variants in VARIANTS.items() for variant in variants]


@pytest.fixture(scope="session")
def modelnet40(tmp_path_factory):
    """A set with forty classes and 2,048 points in the official layout, two clouds a class and split."""
    folder = tmp_path_factory.mktemp("data") / "modelnet40_ply_hdf5_2048"
    folder.mkdir()
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(40, dtype=np.uint8), 20)[:, None]
    for split in ("train", "test"):
        with h5py.File(folder / f"ply_data_{split}0.h5", "w") as file:
            file["data"] = rng.normal(size=(800, 2048, 3)).astype(np.float32)
            file["label"] = label
        (folder / f"{split}_files.txt").write_text(f"data/modelnet40_ply_hdf5_2048/ply_data_{split}0.h5\n")
    (folder / "shape_names.txt").write_text("\n".join(f"class{i:02d}" for i in range(40)))
    return folder


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """Folders of the readers of sequences, by the name of their source: a few examples each."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("timeseries", "text")}
    series = "@timeStamps false\n@classLabel true a b\n@data\n" + "1,2,3:4,5,6:a\n1,2:3,4:b\n" * 40
    lines = "a\tsome text\nb\tother text\n" * 40
    for split in ("train", "test"):
        (folders["timeseries"] / f"X_{split.upper()}.ts").write_text(series)
        (folders["text"] / f"{split}.tsv").write_text(lines)
    return folders


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """CIFAR-10 and CIFAR-100 in the binary version, twenty images a class in each file."""
    folder = tmp_path_factory.mktemp("images")
    for name, num_classes, labels, names, files in (
        ("cifar-10", 10, 1, "batches.meta.txt", [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]),
        ("cifar-100", 100, 2, "fine_label_names.txt", ["train.bin", "test.bin"]),
    ):
        (folder / name).mkdir()
        (folder / name / names).write_text("".join(f"class{i:03d}\n" for i in range(num_classes)))
        records = np.random.default_rng(0).integers(0, 256, (20 * num_classes, labels + 3072)).astype(np.uint8)
        records[:, :labels] = np.repeat(np.arange(num_classes), 20)[:, None]
        for file in files:
            (folder / name / file).write_bytes(records.tobytes())
    return folder


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """The published sets of objects, and own images, in small; the number of records for training."""
    folder = tmp_path_factory.mktemp("scenes")
    for dataset in ("clevr_with_masks", "tetrominoes", "objects_room", "multi_dsprites_colored_on_grayscale"):
        name = dataset.removesuffix("_colored_on_grayscale")
        sets.write_multi_object(folder / name / "a.tfrecords", dataset, (3, 2, 1, 2))
    sets.write_scene_images(folder / "own_scenes", "planes", 10)
    return folder


def with_first_stage(config, folder):
    """What `stages.resolve` takes over from a run: the smallest autoencoder, and codes of another's images."""
    np.savez(folder / "key.npz", **codes.packed({split: np.zeros((64, 4, 4)) for split in codes.SPLITS}))
    config["data"] |= {"path": str(folder), "key": "key"}
    config["task"] |= {"autoencoder": configs.to_dict(load("svq"))["model"], "image_size": 16}
    config["model"]["codebook_size"] = 512
    if config["schedule"]["warmup_steps"]:
        config["schedule"]["warmup_steps"] = 1


def resolved(name, variant, modelnet40, labelled, images, scenes):
    config = configs.to_dict(load(name, variant))
    if config["data"]["name"] == "codes":
        with_first_stage(config, scenes)
    if config["data"]["name"] in labelled:
        config["data"]["path"] = str(labelled[config["data"]["name"]])
    if config["data"]["name"] == "images":
        config["data"]["path"] = str(images / ("cifar-100" if name == "cifar100" else "cifar-10"))
    if config["data"]["name"] == "modelnet":
        config["data"]["path"] = str(modelnet40)
        config["data"]["num_points"] = min(config["data"]["num_points"], 2048)
    config["batch_size"] = min(config["batch_size"], 512)
    if config["data"]["name"] in ("multi_object", "own_scenes"):
        config["data"]["path"] = str(scenes / Path(config["data"]["path"]).name)
        config["batch_size"] = 2
    if config["data"]["name"] == "multi_object":
        config["data"] |= {"num_train": 2, "num_validation": 1, "num_test": 1}
        config["schedule"]["warmup_steps"] = 1
    return config


def test_every_config_file_is_covered():
    assert sorted(VARIANTS) == sorted(file.stem for file in (ROOT / "configs").glob("*.py"))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_covered(name):
    with pytest.raises(ConfigError) as error:
        load(name, "no-such-variant")
    known = str(error.value).partition("this config has ")[2].rstrip(".").split(", ")
    assert sorted(known) == sorted(filter(None, VARIANTS[name]))


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_builds_at_full_size_and_again_from_json(name, variant, modelnet40, labelled, images, scenes):
    config = resolved(name, variant, modelnet40, labelled, images, scenes)
    again = json.loads(json.dumps(config))
    shapes = []
    for values in (config, again):
        training = experiment.build(values)
        state = experiment.abstract_training_state(training)
        shapes.append(jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), state))
        assert training.task == experiment.build(values).task
    assert shapes[0] == shapes[1]


def test_parameters_of_the_published_model(modelnet40, labelled, images, scenes):
    training = experiment.build(resolved("modelnet40", "paper", modelnet40, labelled, images, scenes))
    assert num_parameters(experiment.abstract_training_state(training).params) == 44_772_202


@pytest.mark.parametrize(
    ("variant", "published"),
    [("", 44_912_254), ("io_fourier", 48_440_627), ("io_learned", 62_255_848), ("io_conv", 48_646_522)],
)
def test_parameters_of_the_published_image_models(variant, published):
    image = ArraySpec((224, 224, 3), "uint8")
    names = tuple(f"class{i}" for i in range(1000))
    spec = Spec({"image": image, "label": ArraySpec((), "int32")}, names, mean=(0.0,) * 3, std=(1.0,) * 3)
    task = experiment.build_task(configs.to_dict(load("imagenet", variant)), spec)
    params = jax.eval_shape(lambda rng: task.init(rng, spec), jax.random.key(0))["params"]
    assert num_parameters(params) == published


def test_parameters_of_the_published_slot_attention(modelnet40, labelled, images, scenes):
    training = experiment.build(resolved("slot_attention", "clevr6", modelnet40, labelled, images, scenes))
    assert num_parameters(experiment.abstract_training_state(training).params) == 890_308


def test_parameters_of_the_block_mlp_of_the_published_svq():
    """BlockLinear(2048, 192, 16) and back, of github.com/yfw/nlotm: 16 x (128 x 12 + 12 + 12 x 128 + 128)."""
    spec = Spec({"image": ArraySpec((128, 128, 3), "uint8")})
    model = experiment.build_task(configs.to_dict(load("svq", "official")), spec).model
    slots = model.slot_attention
    blocks = jnp.zeros((1, 1, slots.num_blocks, slots.slot_dim // slots.num_blocks))
    params = jax.eval_shape(BlockUpdate(slots.mlp_dim).init, jax.random.key(0), blocks, blocks)["params"]["mlp"]
    assert num_parameters({name: params[name] for name in ("hidden", "out")}) == 51_392


def test_shapes_of_the_keras_example_are_said():
    spec = Spec({"image": ArraySpec((64, 64, 3), "uint8"), "label": ArraySpec((), "int32")}, ("a", "b"), (0.0,), (1.0,))
    notes = experiment.build_task(configs.to_dict(load("cifar100")), spec).notes(spec)
    assert notes == [
        "Image size: 64 X 64 = 4096",
        "Patch size: 2 X 2 = 4",
        "Patches per image: 1024",
        "Elements per patch (3 channels): 12",
        "Latent array shape: 256 X 256",
        "Data array shape: 1024 X 256",
    ]


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_short_and_documented(name, variant):
    file = ROOT / "configs" / f"{name}.py"
    assert len(file.read_text().splitlines()) <= 110
    assert f"--config=configs/{name}.py" in file.read_text()
    assert inspect.getdoc(load_module(file).get_config)


def test_combined_variants_apply_in_order():
    config = load("modelnet40", "paper,tiny")
    assert config.data.name == "solids" and config.model.cross_attend_width == "inputs"


def test_set_prediction_is_found_beside_the_other_use_of_slots():
    for variants in ("", "cpu", "tiny"):
        assert load("slot_attention", f"set_prediction,{variants}") == load("set_prediction", variants)
    with pytest.raises(ConfigError, match="variant 'large' is unknown"):
        load("slot_attention", "set_prediction,large")
