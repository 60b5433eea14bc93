# SPDX-License-Identifier: Apache-2.0
"""Every file format that is read, as one table: how to write a good one, how it is read, and what must hold of it.

`fuzz_test` damages the files and reads them. A new format is one line in `READERS`.
"""

import dataclasses
import gzip
import importlib.util
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import jax
import numpy as np

from perceiver_jax import config as configs
from perceiver_jax import experiment
from perceiver_jax.data import codes, prepared_clouds, stored_scenes
from perceiver_jax.data.fetch import find_set
from perceiver_jax.data.layouts import form, read_layout
from perceiver_jax.data.modelnet import WANTED
from perceiver_jax.data.modelnet_hdf5 import Clouds, read_hdf5
from perceiver_jax.data.multi_object import PUBLISHED, MultiObject
from perceiver_jax.data.off import read_off
from perceiver_jax.data.own_scenes import OwnScenes
from perceiver_jax.files import write_json
from perceiver_jax.metrics.history import history
from perceiver_jax.reports import attention_maps
from perceiver_jax.reports.results import read_results, write_results
from perceiver_jax.training.checkpoint import Checkpoints
from perceiver_jax.training.record import run_record
from perceiver_jax.training.state import init_state, state_maker
from perceiver_jax.training.writers import Writers
from tests.data import conftest as sets
from tests.example_readers import read_classes, read_images, read_series, read_text
from tests.example_sets import WRITERS
from tests.reports import attention_files

ROOT = Path(__file__).resolve().parents[1]
NUM_POINTS = 6


class Reader(NamedTuple):
    """A format.

    Attributes:
        write: writes a good one into an empty folder.
        damage: which of its files may be damaged, as a glob below that folder.
        read: reads the folder, and asserts what must hold of whatever comes back.
    """

    name: str
    write: Callable[[Path], object]
    damage: str
    read: Callable[[Path], object]


def _from_file(path: Path):
    """The module of a file that is no part of the package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SMALL = {
    "batch_size": 8,
    **{"data.num_points": 4, "data.num_train": 64, "data.num_validation": 8, "data.num_test": 8},
    **{"model.num_latents": 2, "model.latent_dim": 4, "model.num_blocks": 1, "model.num_cross_attends": 1},
    **{"model.num_self_attends_per_block": 1, "model.num_self_attend_heads": 1},
    "model.adapter.positions.fourier_bands": 1,
}
FLAGS = ("--config=configs/solids.py:tiny", *(f"--config.{key}={value}" for key, value in SMALL.items()))
"""The command line of the smallest run there is."""


def solids_config() -> dict:
    """The config that `FLAGS` describe, resolved."""
    config = _from_file(ROOT / "configs" / "solids.py").get_config("tiny")
    config.update_from_flattened_dict(SMALL)
    return configs.to_dict(config)


def objects_config() -> dict:
    """A config of slots, resolved."""
    return configs.to_dict(_from_file(ROOT / "configs" / "slot_attention.py").get_config("tiny"))


def check_clouds(names: tuple[str, ...], parts: list[Clouds], channels: int = 3) -> None:
    """What holds of every set of clouds."""
    assert names and len(set(names)) == len(names)
    for part in parts:
        assert part.points.dtype == np.float32 and part.label.dtype == np.int32
        assert part.points.ndim == 3 and part.points.shape[2] == channels
        assert part.points.shape[0] == len(part.label) > 0 and part.points.shape[1] > 0
        assert np.isfinite(part.points).all()
        assert part.label.min() >= 0 and part.label.max() < len(names)


def _read_hdf5(folder: Path) -> None:
    names, train, test = read_hdf5(folder / "modelnet40_ply_hdf5_2048")
    check_clouds(names, [train, test])
    assert train.points.shape[1] == test.points.shape[1]


def _read_files(folder: Path, normals: bool = False) -> None:
    """A set of single files, each sampled as where it is prepared."""
    layout = read_layout(folder / "set", form(folder / "set"))
    for split in layout.files.values():
        for name, label in split:
            points = prepared_clouds.sample(layout, name, NUM_POINTS, normals, 0)
            check_clouds(layout.class_names, [Clouds(points[None], np.int32([label]))], 6 if normals else 3)


def _write_clouds(form: str) -> Callable[[Path], object]:
    return lambda folder: sets.write_cloud_set(folder / "set", form, points=NUM_POINTS + 2, per_class=1)


def _write_ascii(suffix: str, head: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        rows = np.random.default_rng(0).uniform(-1, 1, (NUM_POINTS + 2, 3))
        body = "\n".join(" ".join(f"{x:.4f}" for x in row) for row in rows)
        for kind in ("chair", "desk"):
            (folder / "set" / kind).mkdir(parents=True)
            (folder / "set" / kind / f"a.{suffix}").write_text(head.format(len(rows)) + body + "\n")

    return write


PCD = "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {0}\nHEIGHT 1\nPOINTS {0}\nDATA ascii\n"
PLY = "ply\nformat ascii 1.0\nelement vertex {0}\nproperty float x\nproperty float y\nproperty double z\nend_header\n"


def _write_compressed(folder: Path) -> None:
    """LZF that packs nothing: up to 32 literal bytes behind their number less one."""
    columns = np.random.default_rng(0).uniform(-1, 1, (3, NUM_POINTS + 2)).astype("<f4").tobytes()
    pieces = [columns[start : start + 32] for start in range(0, len(columns), 32)]
    packed = b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)
    head = PCD.replace("ascii", "binary_compressed").format(NUM_POINTS + 2).encode()
    for kind in ("chair", "desk"):
        (folder / "set" / kind).mkdir(parents=True)
        content = head + np.array([len(packed), len(columns)], "<u4").tobytes() + packed
        (folder / "set" / kind / "a.pcd").write_bytes(content)


def _write_zip(folder: Path) -> None:
    with zipfile.ZipFile(folder / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for kind in ("chair", "desk"):
            for number in range(2):
                archive.writestr(f"set/{kind}/{number}.off", sets.off_box((1, 1, 1 + number), joined=False))


def _read_zip(folder: Path) -> None:
    found = find_set(folder / "set.zip", [folder / "unpacked"], "", WANTED)
    for name, _ in read_layout(found, form(found)).files["train"]:
        assert np.isfinite(read_off(found / name).vertices).all()


def _write_prepared(folder: Path) -> None:
    sets.write_cloud_set(folder / "set", "pcd", points=NUM_POINTS, per_class=3)
    layout = read_layout(folder / "set", "pcd")
    prepared_clouds.write(layout, folder / "prepared", num_points=NUM_POINTS, normals=False, sample_seed=0)


def _read_prepared(folder: Path) -> None:
    layout = read_layout(folder / "set", "pcd")
    names, splits = prepared_clouds.read(layout, folder / "prepared", num_points=NUM_POINTS, normals=False)
    check_clouds(names, list(splits.values()))
    assert len(names) == 3 and len(splits["train"].label) == 9


def write_run(folder: Path) -> None:
    """What a run leaves and every command reads: its config, its record, a checkpoint."""
    config = solids_config()
    training = experiment.build(config)
    state = init_state(
        state_maker(training.task, training.optimizer, training.source.spec, ema=False), training.mesh, 0
    )
    write_json(folder / "config.json", config)
    write_json(folder / "run.json", run_record(training, state))
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(1, state, {"at": 1})


def _checkpoint_state(step: int) -> dict:
    return {"w": step * jax.numpy.arange(6.0).reshape(2, 3), "step": jax.numpy.int32(step)}


def _write_checkpoints(folder: Path) -> None:
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, _checkpoint_state(step), {"at": step})


def _write_metrics(folder: Path) -> None:
    with Writers(folder) as writers:
        for step in (1, 2):
            writers.scalars(step, {"train/loss": 1.5 / step, "train/gradient_norm": float("nan")})


def _write_results(folder: Path) -> None:
    results = {"split": "test", "step": 2, "num_examples": 8, "accuracy": 0.5, "loss": 1.5}
    write_results(folder, results)


def _read_run(folder: Path) -> None:
    run = experiment.load(folder, "latest")
    assert run.step == 1 and run.spec.class_names and all(isinstance(name, str) for name in run.spec.class_names)


def _read_checkpoints(folder: Path) -> None:
    """Whatever comes back is what was saved, bit by bit."""
    with Checkpoints(folder, read_only=True) as checkpoints:
        if checkpoints.latest() is None:
            return
        shapes = jax.eval_shape(lambda: _checkpoint_state(0))
        state, progress, step = checkpoints.restore(shapes)
    assert step in (1, 2) and progress == {"at": step}
    for found, saved in zip(jax.tree.leaves(state), jax.tree.leaves(_checkpoint_state(step)), strict=True):
        assert np.asarray(found).tobytes() == np.asarray(saved).tobytes()


def _read_metrics(folder: Path) -> None:
    for line in history(folder):
        assert all(isinstance(value, int | float) for value in line.values()) and isinstance(line["step"], int)
    Writers(folder, start_step=1).close()


def _read_results(folder: Path) -> None:
    results = read_results(folder, "test", 2)
    assert results is None or isinstance(results, dict)


def _write_attention(folder: Path) -> None:
    attention_files.write_run(folder, "points", steps=(8,))


def _read_attention(folder: Path) -> None:
    steps = attention_maps.steps(folder)
    assert all(attention_maps.read(folder, step)["cross"].ndim == 5 for step in steps)
    assert attention_maps.read_examples(folder)["points"].shape[0] == attention_files.EXAMPLES


OBJECTS = MultiObject(path="", dataset="tetrominoes", num_train=2, num_validation=1, num_test=1)


def _write_tfrecords(folder: Path) -> None:
    scenes = sets.write_multi_object(folder / "set.tfrecords", "tetrominoes", (1, 3, 2, 1))
    np.savez(folder / "written", image=np.stack([scene["image"] for scene in scenes]))


def _read_tfrecords(folder: Path) -> None:
    """Whatever comes back is what was written: gzip's checksum covers it all."""
    scenes = [scene for _, scene in OBJECTS.scenes(folder / "set.tfrecords")]
    np.testing.assert_array_equal([scene.image for scene in scenes], np.load(folder / "written.npz")["image"])
    assert [scene.objects.max() for scene in scenes] == [1, 3, 2, 1]


TINY = {
    name: dataclasses.replace(PUBLISHED[name], image=(8, 8, 3), entities=3, crop=())
    for name in ("clevr_with_masks", "multi_dsprites_colored_on_colored")
}


def _write_unpacked(folder: Path) -> None:
    """The content of files, small, that are packed when they are read: gzip's checksum fits what was damaged."""
    with mock.patch.dict(PUBLISHED, TINY):
        for name in TINY:
            sets.write_multi_object(folder / "a.tfrecords", name, (2, 1))
            (folder / f"{name}.content").write_bytes(gzip.decompress((folder / "a.tfrecords").read_bytes()))
    (folder / "a.tfrecords").unlink()


def _read_unpacked(folder: Path) -> None:
    with mock.patch.dict(PUBLISHED, TINY):
        for name in TINY:
            (folder / name).write_bytes(gzip.compress((folder / f"{name}.content").read_bytes(), 1))
            source = MultiObject(path="", dataset=name, num_train=1, num_validation=0, num_test=1, image_size=8)
            for split, scene in source.scenes(folder / name):
                assert split in ("train", "test") and scene.image.shape == (8, 8, 3) and scene.objects.max() <= 2
                for numbers in (scene.attributes, scene.properties):
                    assert numbers is None or (len(numbers) == 2 and np.isfinite(numbers).all())


def _write_scene_arrays(folder: Path) -> None:
    images, objects = sets.write_scene_images(folder / "images", "planes", 4)
    np.savez(folder / "set.npz", images=images, masks=objects)


def _read_scenes(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        source = OwnScenes(path=str(folder / name), max_objects=4, image_size=8)
        for split, scene in source.scenes(folder / name):
            assert split in ("train", "validation", "test")
            assert (scene.image.shape, scene.image.dtype) == ((8, 8, 3), np.uint8)
            if scene.objects is not None:
                assert scene.objects.shape == (8, 8) and scene.objects.max() <= 4
                assert np.isfinite(scene.attributes).all()

    return read


def _write_stored_scenes(folder: Path) -> None:
    _write_tfrecords(folder)
    stored_scenes.write(folder, OBJECTS.scenes(folder / "set.tfrecords"))


def _read_stored_scenes(folder: Path) -> None:
    splits = stored_scenes.read(folder)
    shapes = {name: array.shape[1:] for name, array in splits["train"].items()}
    assert set(shapes) >= {"image"} and shapes["image"][2] == 3
    for arrays in splits.values():
        assert {name: array.shape[1:] for name, array in arrays.items()} == shapes
        assert len({len(array[:]) for array in arrays.values()}) == 1


CODES = {"train": np.arange(12).reshape(2, 3, 2), "test": np.arange(6).reshape(1, 3, 2)}


def _read_codes(folder: Path) -> None:
    """Whatever comes back is what was written: the archive's checksums cover it all."""
    found = codes.read(folder / "key.npz")
    assert found is None or all(array.tobytes() == codes.packed(CODES)[name].tobytes() for name, array in found.items())


READERS = (
    Reader("HDF5 clouds", sets.write_modelnet, "**/*.h5", _read_hdf5),
    Reader("HDF5 lists", sets.write_modelnet, "**/*.txt", _read_hdf5),
    Reader("text with normals", lambda folder: sets.write_text_set(folder / "set", 2, 8), "*/*/*.txt", _read_files),
    Reader("text lists", lambda folder: sets.write_text_set(folder / "set", 2, 8), "*/*.txt", _read_files),
    Reader("OFF", lambda folder: sets.write_off_set(folder / "set"), "**/*.off", _read_files),
    Reader("PCD binary", _write_clouds("pcd"), "**/*.pcd", _read_files),
    Reader("PCD ascii", _write_ascii("pcd", PCD), "**/*.pcd", _read_files),
    Reader("PCD compressed", _write_compressed, "**/*.pcd", _read_files),
    Reader("PLY binary", _write_clouds("ply"), "**/*.ply", _read_files),
    Reader("PLY ascii", _write_ascii("ply", PLY), "**/*.ply", _read_files),
    Reader("zip", _write_zip, "set.zip", _read_zip),
    Reader("prepared array_record", _write_prepared, "prepared/**/*", _read_prepared),
    Reader("CIFAR python", WRITERS["cifar"], "*", read_images),
    Reader("CIFAR binary", WRITERS["cifar binary"], "*", read_images),
    Reader("npz images", WRITERS["npz"], "*", read_images),
    Reader("npy images", WRITERS["npy"], "*", read_images),
    Reader("idx images", WRITERS["idx"], "*", read_images),
    Reader("images by class", WRITERS["classes"], "**/*", read_classes),
    Reader("array_record images", WRITERS["tfds"], "**/*", read_images),
    Reader("ts series", WRITERS["ts"], "*", read_series),
    Reader("tsv text", WRITERS["tsv"], "*", read_text),
    Reader("text by class", WRITERS["books"], "*", read_text),
    Reader("TFRecords", _write_tfrecords, "*.tfrecords", _read_tfrecords),
    Reader("TFRecords unpacked", _write_unpacked, "*.content", _read_unpacked),
    Reader("scenes as files", _write_scene_arrays, "images/*", _read_scenes("images")),
    Reader("scenes as arrays", _write_scene_arrays, "*.npz", _read_scenes("set.npz")),
    Reader("prepared scenes", _write_stored_scenes, "*/*.npy", _read_stored_scenes),
    Reader("codes", lambda folder: np.savez(folder / "key.npz", **codes.packed(CODES)), "*.npz", _read_codes),
    Reader("run folder", write_run, "*.json", _read_run),
    Reader("checkpoints", _write_checkpoints, "**/*", _read_checkpoints),
    Reader("metrics.jsonl", _write_metrics, "metrics.jsonl", _read_metrics),
    Reader("attention maps", _write_attention, "attention/*", _read_attention),
    Reader("results.json", _write_results, "evaluation/test-2/results.json", _read_results),
)
