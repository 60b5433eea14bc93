# SPDX-License-Identifier: Apache-2.0
"""A set is found, unpacked from its archive, or downloaded; otherwise one error says what to fetch, and where to."""

import dataclasses
import gzip
import hashlib
import logging
import os
import pathlib
import shutil
import socket
import stat
import tarfile
import threading
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Mapping

from perceiver_jax.data.layouts import find_folder
from perceiver_jax.data.prepared import key, locked, prepare
from perceiver_jax.errors import ConfigError
from perceiver_jax.invocation import own_command

LOG = logging.getLogger(__name__)
SUFFIXES = (".zip", ".tar.gz", ".tgz", ".tar")
NAME_TIMEOUT = 5.0  # seconds to look up a host; the system's own patience can be minutes
READ_TIMEOUT = 20.0  # seconds without a byte
CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What kind of set is looked for.

    Attributes:
        what: its name in errors.
        forms: what is expected in a folder, for errors.
        form_of: the form of the set in a folder; "" for none.
        config: a config that trains on it.
        official: address of the archive that an error names where nothing is downloaded.
        md5: sums of published archives, by their names; what is downloaded under such a name must have it.
    """

    what: str
    forms: str
    form_of: Callable[[pathlib.Path], str]
    config: str
    official: str
    md5: Mapping[str, str] = dataclasses.field(default_factory=dict)


def find_set(path: pathlib.Path, candidates: list[pathlib.Path], address: str, wanted: Wanted) -> pathlib.Path:
    """The folder of a set: at `path`, or unpacked from the archive that is there, or is downloaded from `address`.

    Args:
        candidates: where unpacked files may go.
        address: of an archive; "" downloads nothing.

    Raises:
        ConfigError: not there and not to be had; several sets; a broken archive.
    """
    if (folder := find_folder(path, wanted.form_of)) is not None:
        return folder
    archive = _archive(path, address or wanted.official)
    if archive is None:
        archive = _fetched(path, address, wanted)
    unpacked = prepare(candidates, _archive_key(archive), lambda folder: unpack(archive, folder))
    if (folder := find_folder(unpacked, wanted.form_of)) is None:
        raise ConfigError(f"{archive}: no {wanted.what} form in it: expected {wanted.forms}.")
    return folder


def unpack(archive: pathlib.Path, folder: pathlib.Path) -> None:
    """Extracts a .zip or .tar(.gz); nothing of it may end up outside the folder.

    Raises:
        ConfigError: it is broken, or a member is a link or has a path that leads out.
    """
    if archive.suffix == ".zip":
        _unzip(archive, folder)
        return
    try:
        with tarfile.open(archive) as content:
            for member in content:
                _check_member(archive, member.name, plain=member.isfile() or member.isdir())
                member.mode, member.uid, member.gid = 0o755 if member.isdir() else 0o644, os.getuid(), os.getgid()
                content.extract(member, folder)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, gzip.BadGzipFile):
            raise  # of the disk, not of the archive
        raise _broken(archive, error) from error


def _check_member(archive: pathlib.Path, name: str, *, plain: bool) -> None:
    """As `tarfile.data_filter`, which early releases of Python 3.11 lack, but links are refused wherever they lead."""
    path = pathlib.PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not plain:
        raise ConfigError(f"{archive}: member {name!r} leads out of the archive. Do not use it.")


def _unzip(archive: pathlib.Path, folder: pathlib.Path) -> None:
    try:
        with zipfile.ZipFile(archive) as content:
            for member in content.infolist():
                _check_member(archive, member.filename, plain=not stat.S_ISLNK(member.external_attr >> 16))
                content.extract(member, folder)
    except (ConfigError, OSError):  # an OSError is the disk's, and told by whoever gave the folder
        raise
    except Exception as error:  # zipfile and zlib raise whatever a damaged byte leads to
        raise _broken(archive, error) from error


def download(address: str, folder: pathlib.Path, md5: Mapping[str, str]) -> pathlib.Path:
    """Downloads a file into a folder, which is made once the server answers; one process does it.

    Args:
        md5: known sums, by the file's name.

    Raises:
        OSError: no network, a refused certificate, nothing at the address, a broken transfer, another sum.
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
                _store(response, file, address, md5.get(file.name))
    return file


def _store(response, file: pathlib.Path, address: str, md5: str | None) -> None:
    expected = int(response.headers.get("Content-Length") or 0)
    LOG.info("downloading %s, %.0f MB, into %s", address, expected / 1e6, file.parent)
    partial = file.with_name(f"{file.name}.partial")
    try:
        with open(partial, "wb") as stream:
            shutil.copyfileobj(response, stream, CHUNK)
        if expected and partial.stat().st_size != expected:
            raise OSError(f"got {partial.stat().st_size} of {expected} bytes")
        if md5 is not None and (found := _md5(partial)) != md5:
            raise OSError(f"{file.name} has the md5 sum {found}: expected {md5}, so it is not the published archive")
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def _md5(file: pathlib.Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


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


def _archive(path: pathlib.Path, address: str) -> pathlib.Path | None:
    """The archive at the path, beside it under its name or the address's, or the only one in it."""
    if path.is_file():
        return path
    published = pathlib.PurePosixPath(urllib.parse.urlsplit(address).path).name
    if not path.exists():
        names = [f"{path.name}{suffix}" for suffix in SUFFIXES] + [published] * bool(published)
        return next((file for name in names if (file := path.with_name(name)).is_file()), None)
    inside = sorted(file for suffix in SUFFIXES for file in path.glob(f"*{suffix}"))
    if len(inside) > 1:
        raise ConfigError(f"{path}: holds several archives: {', '.join(p.name for p in inside)}. Set the path to one.")
    return inside[0] if inside else None


def _fetched(path: pathlib.Path, address: str, wanted: Wanted) -> pathlib.Path:
    """The archive, downloaded into the folder `path`."""
    others = sorted(p.name for p in path.iterdir() if not p.name.startswith(".")) if path.is_dir() else []
    problem = "no such folder" if not path.exists() else f"no {wanted.what} files here"
    if others:
        problem += f" (expected {wanted.forms}, got {', '.join(others[:5])})"
    elif address:
        try:
            return download(address, path, wanted.md5)
        except OSError as error:
            problem += f", and the download failed ({' '.join(str(error).split())})"
    again = own_command() or f"python -m perceiver_jax.main --config={wanted.config} --config.data.path={path}"
    source = f"Fetch {address or wanted.official} , unpack it" if address or wanted.official else "Put them"
    raise ConfigError(f"{path}: {problem}. {source} into {path} and run: {again}")


def _archive_key(archive: pathlib.Path) -> str:
    """Follows from names, sizes and check sums of a .zip's members; from size and time of change of a .tar."""
    if archive.suffix != ".zip":
        stat = archive.stat()
        return f"unpacked-{key(name=archive.name, size=stat.st_size, changed=stat.st_mtime_ns)}"
    try:
        with zipfile.ZipFile(archive) as content:
            members = [(member.filename, member.file_size, member.CRC) for member in content.infolist()]
    except Exception as error:
        raise _broken(archive, error) from error
    return f"unpacked-{key(members=members)}"


def _broken(archive: pathlib.Path, error: Exception) -> ConfigError:
    form = ".zip" if archive.suffix == ".zip" else ".tar"
    return ConfigError(f"{archive}: cannot be read as a {form} ({' '.join(str(error).split())}). Fetch it again.")
