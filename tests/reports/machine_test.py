# SPDX-License-Identifier: Apache-2.0
import importlib.metadata
from pathlib import Path

import jax
import pytest

from perceiver_jax.reports import machine
from perceiver_jax.reports.machine import Gpu, Row


def write(file: Path, text: str = ""):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def row(rows, what):
    (found,) = [row for row in rows if row.what == what]
    return found


def test_versions_say_which_differ_from_their_pin_and_which_are_missing(tmp_path):
    pins = tmp_path / "requirements.txt"
    ml_collections = importlib.metadata.version("ml_collections")
    write(pins, f"# pins\njax==0.0.1\nml_collections=={ml_collections}\nPillow==0.0.2\nno-such_package==3\n")
    rows = list(machine.versions(pins))
    assert row(rows, "jax") == ("note", "jax", f"{jax.__version__}, but requirements.txt pins 0.0.1")
    assert row(rows, "ml-collections") == ("ok", "ml-collections", ml_collections)
    assert row(rows, "pillow").status == "note"
    assert row(rows, "no-such-package").status == "wrong"


def test_versions_without_a_checkout(tmp_path):
    assert "no pin" in row(machine.versions(tmp_path / "missing.txt"), "jax").text


PROC = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06\nGCC version 12.3\n"


@pytest.mark.parametrize(
    ("files", "gpu"),
    [
        ({}, Gpu(False, 0)),
        ({"sys/module/nvidia/version": "535.183.01\n"}, Gpu(True, 535)),
        ({"proc/driver/nvidia/version": PROC}, Gpu(True, 580)),
        ({"dev/nvidia0": ""}, Gpu(True, None)),
        ({"usr/lib/wsl/lib/nvidia-smi": ""}, Gpu(True, None)),
        (
            {"sys/bus/pci/devices/0/vendor": "0x10de\n", "sys/bus/pci/devices/0/class": "0x030000\n"},
            Gpu(True, 0),
        ),
        (
            {"sys/bus/pci/devices/0/vendor": "0x10de\n", "sys/bus/pci/devices/0/class": "0x020000\n"},
            Gpu(False, 0),
        ),
        (
            {"sys/bus/pci/devices/0/vendor": "0x8086\n", "sys/bus/pci/devices/0/class": "0x030000\n"},
            Gpu(False, 0),
        ),
    ],
)
def test_a_gpu_is_found_by_what_the_system_shows(tmp_path, files, gpu):
    for name, text in files.items():
        write(tmp_path / name, text)
    assert machine.nvidia_gpu(tmp_path) == gpu


@pytest.mark.parametrize(
    ("driver", "words"),
    [(580, "jax[cuda13]=="), (None, "jax[cuda13]=="), (535, "jax[cuda12]=="), (0, "install one, then run: ")],
)
def test_an_unseen_gpu_comes_with_the_command_to_run(monkeypatch, driver, words):
    monkeypatch.delenv("JAX_PLATFORMS")
    found = row(machine.devices(Gpu(True, driver)), "GPU")
    assert found.status == "note"
    assert words in found.text
    assert f"=={jax.__version__}" in found.text


def test_a_gpu_hidden_by_the_environment(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert "unset JAX_PLATFORMS" in row(machine.devices(Gpu(True, 580)), "GPU").text


def test_no_gpu_no_word_about_it():
    assert [found.what for found in machine.devices(Gpu(False, 0))] == ["devices"]


def test_a_device_that_cannot_start_is_wrong(monkeypatch):
    def fail():
        raise RuntimeError("Unable to initialize\nbackend 'cuda'")

    monkeypatch.setattr(jax, "devices", fail)
    (found,) = machine.devices(Gpu(True, 580))
    assert (found.status, found.text) == ("wrong", "JAX finds none: Unable to initialize backend 'cuda'")


def test_data_sets_are_known_by_their_layout(tmp_path):
    write(tmp_path / "modelnet40_ply_hdf5_2048" / "ply_data_train0.h5")
    write(tmp_path / "modelnet40_ply_hdf5_2048" / "ply_data_train1.h5")
    write(tmp_path / "images" / "cifar-10-batches-py" / "data_batch_1")
    write(tmp_path / "tfds" / "mnist" / "3.0.1" / "dataset_info.json")
    assert [found.text for found in machine.data_sets(tmp_path)] == [
        f"CIFAR-10 in {tmp_path / 'images' / 'cifar-10-batches-py'}",
        f"ModelNet (HDF5) in {tmp_path / 'modelnet40_ply_hdf5_2048'}",
        f"TFDS in {tmp_path / 'tfds' / 'mnist' / '3.0.1'}",
    ]


def test_no_data_set_is_no_obstacle(tmp_path):
    (found,) = machine.data_sets(tmp_path / "missing")
    assert found.status == "note"


def test_workdir(tmp_path):
    write(tmp_path / "file")
    assert machine.workdir(tmp_path / "a" / "b").status == "ok"
    assert machine.workdir(tmp_path / "file" / "b").status == "wrong"


def test_a_terminal_gets_every_character(monkeypatch, capsys):
    monkeypatch.setattr(machine.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    machine.show([Row("note", "GPU", 'run: pip install "jax[cuda13]==0.10.2"')])
    assert '"jax[cuda13]==0.10.2"' in capsys.readouterr().out
