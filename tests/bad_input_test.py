# SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong with a config, the data or a run folder: one clear line, exit 78, nothing compiled.

A table: what is broken, the command, the line. `command_line_test` has the rows that need no files.
"""

import re
import shutil
import zipfile

import h5py
import numpy as np
import pytest
from PIL import Image

from perceiver_jax import experiment
from tests import readers
from tests.damage import binary, cut, nothing, text, value, without
from tests.data import conftest as sets

EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
HDF5 = "modelnet40_ply_hdf5_2048"
CONFIG = "--config=configs/modelnet40.py"
TINY = f"{CONFIG}:tiny"
TENSOR = "--config.mesh.tensor=8"
THREE_HEADS = ("--config.model.latent_dim=24", "--config.model.num_self_attend_heads=3")
ODD = [f"--config.model.{key}" for key in ("latent_dim=33", "num_self_attend_heads=1", "num_cross_attend_heads=1")]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """One good set of every form and one run; each row works on a copy of what it breaks."""
    folder = tmp_path_factory.mktemp("good")
    sets.write_modelnet(folder / "hdf5")
    for form in ("text", "off", "pcd", "ply"):
        sets.WRITERS[form](folder / form)
    sets.write_multi_object(folder / "objects" / "a.tfrecords", "tetrominoes", (3, 2, 1, 2))
    sets.write_scene_images(folder / "scenes", "planes", 10)
    (folder / "run").mkdir()
    readers.write_run(folder / "run")
    return folder


def array(file, name, change):
    """Replaces an array of an HDF5 file of the set by `change(array)`."""

    def apply(folder):
        with h5py.File(folder / HDF5 / file, "a") as content:
            values = change(content[name][()])
            del content[name]
            content[name] = values

    return apply


def at(place, value):
    def change(values):
        values[place] = value
        return values

    return change


def zipped(damage):
    """The folder's content as `set.zip`, damaged."""

    def apply(folder):
        files = [file for file in folder.rglob("*") if file.is_file()]
        with zipfile.ZipFile(folder / "set.zip", "w") as archive:
            for file in files:
                archive.write(file, file.relative_to(folder))
        (folder / "set.zip").write_bytes(damage((folder / "set.zip").read_bytes()))
        for file in files:
            file.unlink()

    return apply


def prepared_and_damaged(folder):
    """Prepares the set as a run would, then cuts its records."""
    source = experiment.build_source({"data": {"name": "modelnet", "path": str(folder), "num_points": 20}, "seed": 0})
    assert source.num_examples("train")
    cut("*.array_record*", 100)(folder.with_name(f"{folder.name}.prepared"))


def without_a_class(folder):
    for file in ("ply_data_train0.h5", "ply_data_train1.h5"):
        array(file, "label", lambda label: label % 2)(folder)


def swapped(folder):
    for file in folder.rglob("*.h5"):
        array(file.name, "data", lambda points: points.transpose(0, 2, 1))(folder)


def foreign_metrics(folder):
    without("checkpoints")(folder)
    text("metrics.jsonl", "loss 3\n")(folder)


def smaller(folder):
    Image.fromarray(np.zeros((8, 16), np.uint8)).save(folder / "scene_4_mask_1.png")


CLOUDS = (CONFIG, "--config.data.path={data}", "--config.data.download=False", "--config.data.num_points=10")
FILES = (*CLOUDS[:-1], "--config.data.num_points=20")
RUN = ("evaluate", "--workdir={data}")
OBJECTS = ("main", "--config=configs/slot_attention.py:tetrominoes", "--config.data.path={data}")
SCENES = ("main", "--config=configs/slot_attention.py:own", "--config.data.path={data}")
ROWS = [  # (what is copied, what is done to it, command, the expected line as a regular expression)
    # the config
    ("", nothing, ("main", TINY, "--config.model.latent_dims=4"), 'no such key. Did you mean "latent_dim"'),
    ("", nothing, ("main", TINY, "--config.batch_size=many"), "batch_size.*invalid literal"),
    ("", nothing, ("main", TINY, "--config.data.num_points=99999999999"), "num_points=99999999999: expected a whole"),
    ("", nothing, ("main", TINY, "--config.ema_decay=nan"), "ema_decay=nan: expected a finite number"),
    (
        "",
        nothing,
        ("main", TINY, "--config.optimizer.name=sgd"),
        "optimizer.name='sgd' is unknown: expected one of lamb",
    ),
    ("", nothing, ("main", TINY, "--config.model.dtype=int8"), "dtype='int8' is unknown: expected float32"),
    ("", nothing, ("main", TINY, "--config.evaluation.metric=acuracy"), "metric='acuracy' is unknown: the task has"),
    ("", nothing, ("main", TINY, "--config.micro_batches=0"), "micro_batches=0: expected a divisor of batch_size=32"),
    ("", nothing, ("main", TINY, "--config.model.num_cross_attend_heads=7"), "heads=7 does not divide latent_dim=64"),
    (
        "",
        nothing,
        ("main", "--config=configs/svq.py:tiny", "--config.model.num_blocks=5"),
        "num_blocks=5 does not divide slot_dim=32",
    ),
    ("", nothing, ("main", f"{CONFIG}:papper"), "variant 'papper' is unknown; did you mean 'paper'"),
    ("", nothing, ("main", TINY, "--config.batch_size=100"), "100 does not split over 8 devices.*of 8, e.g. 96 or 104"),
    ("", nothing, ("main", TINY, "--config.evaluation.batch_size=9"), "evaluation.batch_size=9 does not split over 8"),
    ("", nothing, ("main", TINY, TENSOR, *THREE_HEADS), "num_self_attend_heads=3 does not split over mesh.tensor=8. U"),
    ("", nothing, ("main", TINY, TENSOR, *ODD), "mesh.tensor=8 divides the width of no attention and no MLP"),
    ("", nothing, ("main", TINY, "--config.data.num_train=16"), "batch_size=32 is more than the 16 examples"),
    # data
    ("hdf5", nothing, ("main", *CLOUDS, "--config.batch_size=64"), "batch_size=64 is more than the 27 examples"),
    ("hdf5", text(f"{HDF5}/test_files.txt", "\n"), ("main", *CLOUDS), "the test split is empty"),
    ("hdf5", array("ply_data_train1.h5", "label", at(4, 3)), ("main", *CLOUDS), "record 4 has label 3: expected 0..2"),
    ("hdf5", swapped, ("main", *CLOUDS), r"data is float32 \(.*, 3, 10\): expected floats \(clouds, points, 3\)"),
    ("hdf5", cut("*train1.h5", 1500), ("main", *CLOUDS), "ply_data_train1.h5: cannot be read as HDF5"),
    ("hdf5", text(f"{HDF5}/ply_data_test0.h5", "<html>"), ("main", *CLOUDS), "test0.h5: cannot be read as HDF5"),
    ("hdf5", binary(f"{HDF5}/shape_names.txt", b"a\nb\xff\n"), ("main", *CLOUDS), "names.txt: line 2: not UTF-8 text"),
    ("hdf5", array("ply_data_test0.h5", "data", at((7, 2, 1), np.nan)), ("main", *CLOUDS), "record 7 .* not finite"),
    ("hdf5", without_a_class, ("check_data", *CLOUDS), "classes that the training split lacks: lamp"),
    (
        "hdf5",
        nothing,
        ("main", *CLOUDS, "--config.data.num_points=11"),
        "num_points=11: the clouds in .* have 10 points",
    ),
    ("hdf5", zipped(lambda content: content[:-300]), ("main", *CLOUDS), "set.zip: cannot be read as a .zip"),
    ("hdf5", zipped(lambda content: b"Rar!" * 99), ("main", *CLOUDS), "set.zip: cannot be read as a .zip"),
    (
        "text",
        text("chair/chair_0002.txt", "1,2,3,4,5,inf\n" * 20),
        ("main", *FILES),
        "chair_0002.txt: line 1: expected fin",
    ),
    ("text", text("modelnet40_train.txt", "sofa_0001\n"), ("main", *FILES), "line 1: 'sofa_0001' is of no class"),
    ("text", text("modelnet40_train.txt", "chair_0001\ndesk_0001\n"), ("main", *FILES), "split lacks: lamp"),
    ("off", cut("desk_0002.off", 60), ("main", *FILES), "desk_0002.off: line .* is the last: expected 8 vertices"),
    ("off", text("desk/train/desk_0003.off", "solid x"), ("main", *FILES), "desk_0003.off: line 1: expected OFF"),
    ("pcd", cut("lamp_0001.pcd", 200), ("main", *FILES), "lamp_0001.pcd: record .* is cut off"),
    ("ply", cut("lamp_0001.ply", 40), ("main", *FILES), "lamp_0001.ply: line 1: no .ply header"),
    ("ply", prepared_and_damaged, ("main", *FILES), "the prepared set is damaged .* Delete it and run again"),
    ("off", nothing, ("main", *CLOUDS, "--config.data.path={data}/chair/train"), "no ModelNet files here"),
    # run folders
    ("run", without("config.json"), RUN, "is not a run folder: it has no config.json"),
    ("run", without("checkpoints"), RUN, "holds no checkpoint yet. Train it first"),
    ("run", without("committed.jsonl"), RUN, "holds steps .* but no committed.jsonl"),
    ("run", cut("config.json", 99), RUN, "config.json: not valid JSON"),
    ("run", text("run.json", "[]"), RUN, "run.json: holds a list: expected an object"),
    ("run", value("run.json", "spec", None), RUN, "run.json has no spec"),
    ("run", value("config.json", "model.num_latents", "2"), RUN, "num_latents='2': expected a whole number"),
    ("run", value("config.json", "model.latent_dim", 8), RUN, "does not fit the model"),
    ("run", cut("checkpoints/**/d/*", 9), RUN, "no intact checkpoint .damaged: .1"),
    ("run", nothing, (*RUN, "--checkpoint=7"), "no step 7 among the saved .1"),
    ("run", nothing, (*RUN, "--checkpoint=newest"), "checkpoint='newest': expected best, latest or a step"),
    ("run", nothing, (*RUN, "--split=dev"), "split='dev': the data has train, validation, test"),
    ("run", value("run.json", "spec.class_names", ["a", "b"]), RUN, "does not fit"),
    ("run", foreign_metrics, ("main", *readers.FLAGS), "metrics.jsonl holds a line that is not ours"),
    # scenes of objects
    ("objects", cut("a.tfrecords", 600), OBJECTS, "a.tfrecords: record [0-3]: cannot be unpacked .* Fetch the file"),
    ("objects", nothing, OBJECTS, "a.tfrecords: ends after 4 records, 4 of them for training: expected num_train=60,0"),
    ("objects", without("a.tfrecords"), OBJECTS, "expected one .tfrecords file, got none here. Fetch https://storage"),
    ("scenes", nothing, (*SCENES, "--config.data.max_objects=1"), "2 objects: expected at most max_objects=1"),
    ("scenes", smaller, SCENES, "scene_4_mask_1.png: 8 x 16 pixels: expected 16 x 16 as its image"),
]
REAL = (0, 17, 36)  # rows that start a process of their own


@pytest.mark.parametrize(
    ("number", "row"), list(enumerate(ROWS)), ids=[f"{row[0]} {row[-1]}"[:50].replace("/", "") for row in ROWS]
)
def test_one_line_and_exit_78(good, tmp_path, run_module, run_forked, number, row):
    which, damage, (module, *arguments), expected = row
    data = tmp_path / "data"
    if which:
        shutil.copytree(good / which, data)
        damage(data)
    if module == "main":
        arguments.append(f"--workdir={data if which == 'run' else tmp_path / 'run'}")
    devices = EIGHT if re.search("over 8|mesh.tensor", expected) else {}
    run = run_module if number in REAL else run_forked
    result = run(module, *(argument.format(data=data) for argument in arguments), env=devices)
    assert result.rc == 78, result
    assert re.search(expected, result.stderr), result.stderr
    assert "Traceback" not in result.stderr and result.stderr.count("\n") <= 2, result.stderr
    assert "first step" not in result.stdout and not (tmp_path / "run" / "checkpoints").exists()
