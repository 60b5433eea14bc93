# SPDX-License-Identifier: Apache-2.0
"""What can be broken in a folder: each is a function of it, or makes one."""

import json
import shutil


def nothing(folder):
    pass


def cut(name, size):
    """Leaves the first `size` bytes of the files that match."""

    def apply(folder):
        for file in folder.rglob(name):
            file.write_bytes(file.read_bytes()[:size])

    return apply


def text(name, content):
    """Another content for a file."""

    def apply(folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)

    return apply


def binary(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def without(name):
    def apply(folder):
        (path,) = folder.rglob(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return apply


def value(file, way, new):
    """Sets, or with None removes, a value of a JSON file."""

    def apply(folder):
        content = json.loads((folder / file).read_text())
        section, *path = content, *way.split(".")
        for key in path[:-1]:
            section = section[key]
        section[path[-1]] = new
        if new is None:
            del section[path[-1]]
        (folder / file).write_text(json.dumps(content))

    return apply
