# SPDX-License-Identifier: Apache-2.0
"""Archives are unpacked and nothing leaves them; a server on this machine stands for the real one."""

import functools
import hashlib
import http.server
import sys
import tarfile
import threading
import time
import zipfile

import numpy as np
import pytest

from perceiver_jax.data import cifar, fetch
from perceiver_jax.data.image_set import ImageSet
from perceiver_jax.data.modelnet import ADDRESS, ModelNet
from perceiver_jax.errors import ConfigError


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    """(folder, address) of what is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()


def archive(folder, file):
    """A .zip of a folder, with its name on top."""
    with zipfile.ZipFile(file, "w") as content:
        for path in sorted(folder.rglob("*")):
            content.write(path, path.relative_to(folder.parent))
    return file


def source(path, num_points, **options):
    return ModelNet(path=str(path), num_points=num_points, **{"download": False, **options})


@pytest.mark.parametrize("form", ["hdf5", "text", "off", "pcd", "ply"])
def test_an_archive_is_as_good_as_its_folder(tmp_path, write_set, modelnet_folder, form):
    folder = modelnet_folder / "modelnet40_ply_hdf5_2048"
    folder = folder if form == "hdf5" else write_set(form, tmp_path / "set")
    (tmp_path / "zips").mkdir()
    file = archive(folder, tmp_path / "zips" / "set.zip")
    expected = source(folder, 10).load("test", np.arange(3), None)["points"]
    for path in (file, file.parent, file.with_suffix("")):  # itself, the folder it lies in, the name it unpacks to
        np.testing.assert_array_equal(source(path, 10).load("test", np.arange(3), None)["points"], expected)


@pytest.mark.parametrize("member", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt"])
def test_nothing_leaves_an_archive(tmp_path, member):
    file = tmp_path / "set.zip"
    with zipfile.ZipFile(file, "w") as content:
        content.writestr(member, "x")
    with pytest.raises(ConfigError, match="leads out of the archive"):
        source(file, 10).labels("train")
    assert not list(tmp_path.rglob("*evil*"))


def test_broken_archives_are_named(tmp_path, modelnet_folder):
    (tmp_path / "a.zip").write_text("<html>")
    with pytest.raises(ConfigError, match="a.zip: cannot be read as a .zip"):
        source(tmp_path / "a.zip", 10).labels("train")
    whole = archive(modelnet_folder, tmp_path / "b.zip").read_bytes()
    (tmp_path / "b.zip").write_bytes(whole[:3000] + b"damage" + whole[3006:])
    with pytest.raises(ConfigError, match="b.zip: cannot be read as a .zip .*ply_data"):
        source(tmp_path / "b.zip", 10).labels("train")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as content:
        content.writestr("readme.txt", "x")
    with pytest.raises(ConfigError, match="c.zip: no ModelNet form in it: expected HDF5 files"):
        source(tmp_path / "c.zip", 10).labels("train")


def test_what_is_not_there_is_downloaded(tmp_path, modelnet_folder, server):
    folder, address = server
    archive(modelnet_folder / "modelnet40_ply_hdf5_2048", folder / "set.zip")
    fresh = source(tmp_path / "new" / "set", 10, download=True, address=f"{address}/set.zip")
    assert fresh.num_examples("test") == 12
    (folder / "set.zip").unlink()
    assert source(tmp_path / "new" / "set", 10).num_examples("test") == 12


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/set.zip", "http://no-such-host.invalid/set.zip", "set.zip"])
def test_without_a_network_one_error_says_it_all_at_once(tmp_path, address):
    started = time.monotonic()
    with pytest.raises(ConfigError, match="no such folder, and the download failed") as caught:
        source(tmp_path / "data", 10, download=True, address=address).labels("train")
    message = str(caught.value)
    assert f"Fetch {address} , unpack it into {tmp_path / 'data'} and run: python -m perceiver_jax.main" in message
    assert "\n" not in message and not (tmp_path / "data").exists()
    assert time.monotonic() - started < fetch.NAME_TIMEOUT + 3


def test_nothing_at_the_address(tmp_path, server):
    with pytest.raises(ConfigError, match="download failed .*404"):
        source(tmp_path / "data", 10, download=True, address=f"{server[1]}/set.zip").labels("train")


def test_a_download_must_be_the_published_archive(tmp_path, cifar_folder, server, monkeypatch):
    folder, address = server
    file = folder / "cifar-10-python.tar.gz"
    with tarfile.open(file, "w:gz") as content:
        content.add(cifar_folder, cifar_folder.name)
    images = ImageSet(path=str(tmp_path / "new"), address=f"{address}/{file.name}")
    found, official = hashlib.md5(file.read_bytes()).hexdigest(), cifar.MD5[file.name]
    with pytest.raises(ConfigError, match=f"download failed .*md5 sum {found}: expected {official}.* Fetch {address}"):
        images.labels("train")
    assert not list((tmp_path / "new").glob("cifar*"))
    monkeypatch.setitem(cifar.MD5, file.name, found)
    assert images.num_examples("test") == 12
    monkeypatch.setitem(cifar.MD5, file.name, official)
    assert ImageSet(path=str(tmp_path / "new"), split_seed=1).num_examples("test") == 12  # what lies there is used


def test_a_folder_of_something_else_is_left_alone(tmp_path, server):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"no ModelNet files here \(expected HDF5 files, .*notes.txt"):
        source(tmp_path, 10, download=True, address=f"{server[1]}/set.zip").labels("train")


def test_the_command_to_run_again_is_the_one_that_was_run(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "perceiver_jax.evaluate", "--workdir=runs/a b"])
    with pytest.raises(ConfigError, match="and run: python -m perceiver_jax.evaluate '--workdir=runs/a b'$"):
        source(tmp_path / "data", 10).labels("train")


def test_the_official_address_is_named_where_nothing_is_downloaded(tmp_path):
    with pytest.raises(ConfigError, match=f"Fetch {ADDRESS} , unpack"):
        source(tmp_path / "data", 10).labels("train")
