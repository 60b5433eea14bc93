# SPDX-License-Identifier: Apache-2.0
"""A set is found, unpacked from its .zip, or downloaded; otherwise one error says what to fetch and where to put it."""

import logging
import os
import pathlib
import shutil
import socket
import stat
import threading
import urllib.parse
import urllib.request
import zipfile

from perceiver_jax.data.layouts import find_folder
from perceiver_jax.data.prepared import key, locked, prepare
from perceiver_jax.errors import ConfigError
from perceiver_jax.invocation import own_command

LOG = logging.getLogger(__name__)
COMMAND = "python -m perceiver_jax.main --config=configs/modelnet40.py --config.data.path={path}"
FORMS = "HDF5 files, text with normals, or class folders of .off, .pcd or .ply"
NAME_TIMEOUT = 5.0  # seconds to look up a host; the system's own patience can be minutes
READ_TIMEOUT = 20.0  # seconds without a byte
CHUNK = 1 << 20


def find_set(path: pathlib.Path, candidates: list[pathlib.Path], address: str, official: str) -> pathlib.Path:
    """The folder of a set: at `path`, or unpacked from the .zip that is there, or that is downloaded from `address`.

    Args:
        candidates: where unpacked files may go.
        address: of a .zip; "" downloads nothing.
        official: the address that an error names where `address` is empty.

    Raises:
        ConfigError: not there and not to be had; several sets; a broken .zip.
    """
    if (folder := find_folder(path)) is not None:
        return folder
    archive = _archive(path)
    if archive is None:
        archive = _fetched(path, address, official)
    unpacked = prepare(candidates, _archive_key(archive), lambda folder: unpack(archive, folder))
    if (folder := find_folder(unpacked)) is None:
        raise ConfigError(f"{archive}: no ModelNet form in it: expected {FORMS}.")
    return folder


def unpack(archive: pathlib.Path, folder: pathlib.Path) -> None:
    """Extracts a .zip; nothing of it may end up outside the folder.

    Raises:
        ConfigError: it is broken, or a member is a link or has a path that leads out.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            for member in content.infolist():
                parts = pathlib.PurePosixPath(member.filename.replace("\\", "/"))
                if parts.is_absolute() or ".." in parts.parts or stat.S_ISLNK(member.external_attr >> 16):
                    raise ConfigError(f"{archive}: member {member.filename!r} leads out of the archive. Do not use it.")
                content.extract(member, folder)
    except (ConfigError, OSError):  # an OSError is the disk's, and told by whoever gave the folder
        raise
    except Exception as error:  # zipfile and zlib raise whatever a damaged byte leads to
        raise _broken(archive, error) from error


def download(address: str, folder: pathlib.Path) -> pathlib.Path:
    """Downloads a file into a folder, which is made once the server answers; one process does it.

    Raises:
        OSError: no network, a refused certificate, nothing at the address, a broken transfer.
    """
    url = urllib.parse.urlsplit(address)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise OSError(f"not an http address: {address}")
    _look_up(url.hostname)
    file = folder / pathlib.PurePosixPath(url.path).name
    with urllib.request.urlopen(address, timeout=READ_TIMEOUT) as response:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            if not file.exists():
                _store(response, file, address)
    return file


def _store(response, file: pathlib.Path, address: str) -> None:
    expected = int(response.headers.get("Content-Length") or 0)
    LOG.info("downloading %s, %.0f MB, into %s", address, expected / 1e6, file.parent)
    partial = file.with_name(f"{file.name}.partial")
    try:
        with open(partial, "wb") as stream:
            shutil.copyfileobj(response, stream, CHUNK)
        if expected and partial.stat().st_size != expected:
            raise OSError(f"got {partial.stat().st_size} of {expected} bytes")
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def _look_up(host: str) -> None:
    """OSError at once where there is no network."""
    answer = []

    def ask():
        try:
            answer.append(socket.getaddrinfo(host, 443))
        except OSError as error:
            answer.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(NAME_TIMEOUT)
    if not answer:
        raise OSError(f"no answer about {host} in {NAME_TIMEOUT:.0f} s")
    if isinstance(answer[0], OSError):
        raise OSError(f"{host}: {answer[0].strerror or answer[0]}")


def _archive(path: pathlib.Path) -> pathlib.Path | None:
    """The .zip at the path, beside it under its name, or the only one in it."""
    if path.is_file():
        return path
    if not path.exists():
        beside = path.with_name(f"{path.name}.zip")
        return beside if beside.is_file() else None
    inside = sorted(path.glob("*.zip"))
    if len(inside) > 1:
        raise ConfigError(f"{path}: holds several archives: {', '.join(p.name for p in inside)}. Set the path to one.")
    return inside[0] if inside else None


def _fetched(path: pathlib.Path, address: str, official: str) -> pathlib.Path:
    """The .zip, downloaded into the folder `path`."""
    others = sorted(p.name for p in path.iterdir() if not p.name.startswith(".")) if path.is_dir() else []
    problem = "no such folder" if not path.exists() else "no ModelNet files here"
    if others:
        problem += f" (expected {FORMS}, got {', '.join(others[:5])})"
    elif address:
        try:
            return download(address, path)
        except OSError as error:
            problem += f", and the download failed ({' '.join(str(error).split())})"
    again = own_command() or COMMAND.format(path=path)
    raise ConfigError(f"{path}: {problem}. Fetch {address or official} , unpack it into {path} and run: {again}")


def _archive_key(archive: pathlib.Path) -> str:
    """Follows from names, sizes and check sums of the members."""
    try:
        with zipfile.ZipFile(archive) as content:
            members = [(member.filename, member.file_size, member.CRC) for member in content.infolist()]
    except Exception as error:
        raise _broken(archive, error) from error
    return f"unpacked-{key(members=members)}"


def _broken(archive: pathlib.Path, error: Exception) -> ConfigError:
    return ConfigError(f"{archive}: cannot be read as a .zip ({' '.join(str(error).split())}). Fetch it again.")
