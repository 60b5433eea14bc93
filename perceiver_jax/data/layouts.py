# SPDX-License-Identifier: Apache-2.0
"""Which set lies in a folder: ModelNet's forms, recognised by their layout, and the files of each split.

- HDF5 (`modelnet40_ply_hdf5_2048`), read by `modelnet_hdf5`;
- text (`modelnet40_normal_resampled`): CLASS/CLASS_0001.txt, modelnet40_shape_names.txt, modelnet40_train.txt and
  modelnet40_test.txt, or the same lists for modelnet10;
- .off meshes, .pcd or .ply clouds: CLASS/train/*.off and CLASS/test/*.off, or train/CLASS/*.off and test/CLASS/*.off,
  or CLASS/*.off without a split.
"""

import dataclasses
import pathlib
from collections.abc import Callable

from perceiver_jax.errors import ConfigError

HDF5_LISTS = {"train": "train_files.txt", "test": "test_files.txt"}
HDF5_FILES = {"train": "ply_data_train*.h5", "test": "ply_data_test*.h5"}  # where there are no lists
TEXT_SETS = ("modelnet40", "modelnet10")  # the first is taken where both have lists
SUFFIXES = (".off", ".pcd", ".ply")
SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True)
class Layout:
    """A set of single files.

    Attributes:
        form: "text", "off", "pcd" or "ply".
        folder: what `files` are relative to.
        class_names: by label.
        files: of each split, (path, label) in a fixed order; only "train" where the set has no split of its own.
    """

    form: str
    folder: pathlib.Path
    class_names: tuple[str, ...]
    files: dict[str, tuple[tuple[str, int], ...]]


def find_folder(path: pathlib.Path, form_of: Callable[[pathlib.Path], str]) -> pathlib.Path | None:
    """The folder of a set: `path`, the only set right below it, or one below folders that hold nothing else; or None.

    Args:
        form_of: the form of the set in a folder; "" for none.

    Raises:
        ConfigError: there are several.
    """
    if not path.is_dir():
        return None
    if form_of(path):
        return path
    inner = inner_folders(path)
    found = [folder for folder in inner if form_of(folder)]
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise ConfigError(f"{path}: holds several sets: {names}. Set the path to one of them.")
    if not found and len(inner) == 1:
        return find_folder(inner[0], form_of)
    return found[0] if found else None


def form(folder: pathlib.Path) -> str:
    """The form of the set in this very folder: "hdf5", "text", "off", "pcd", "ply", or "" for none."""
    if (folder / HDF5_LISTS["train"]).is_file() or any(folder.glob(HDF5_FILES["train"])):
        return "hdf5"
    if any((folder / f"{name}_shape_names.txt").is_file() for name in TEXT_SETS):
        return "text"
    for suffix in SUFFIXES:
        if any(folder.glob(f"*/*{suffix}")) and not all(p.name in SPLITS for p in inner_folders(folder)):
            return suffix[1:]
        if any(folder.glob(f"*/train/*{suffix}")) or any(folder.glob(f"train/*/*{suffix}")):
            return suffix[1:]
    return ""


def read_layout(folder: pathlib.Path, form: str) -> Layout:
    """The files of a set of single files.

    Raises:
        ConfigError: a list names what is not there, a class or a split is empty.
    """
    layout = _text(folder) if form == "text" else _class_folders(folder, form)
    if len(layout.class_names) < 2:
        raise ConfigError(f"{folder}: one class, {layout.class_names[0]}: expected a folder for each of several.")
    for split, files in layout.files.items():
        if not files:
            raise ConfigError(f"{folder}: the {split} split is empty: expected at least one file of {form}.")
    trained = {label for _, label in layout.files["train"]}
    tested = {label for _, label in layout.files.get("test", ())}
    if missing := [layout.class_names[label] for label in sorted(tested - trained)]:
        raise ConfigError(f"{folder}: the test split has classes that the training split lacks: {', '.join(missing)}.")
    return layout


def _text(folder: pathlib.Path) -> Layout:
    name = next(name for name in TEXT_SETS if (folder / f"{name}_shape_names.txt").is_file())
    class_names = read_class_names(folder / f"{name}_shape_names.txt")
    files = {split: tuple(_listed(folder, f"{name}_{split}.txt", class_names)) for split in SPLITS}
    return Layout("text", folder, class_names, files)


def _listed(folder: pathlib.Path, listing: str, class_names: tuple[str, ...]):
    """(path, label) of every line `CLASS_0001` of a list."""
    file = folder / listing
    if not file.is_file():
        raise ConfigError(f"{file} is missing: expected the shapes of the split, one a line. Unpack the set again.")
    labels = {name: label for label, name in enumerate(class_names)}
    for number, line in enumerate(read_lines(file), 1):
        shape = line.strip()
        if not shape:
            continue
        name = shape.rpartition("_")[0]
        if name not in labels:
            raise ConfigError(f"{file}: line {number}: {shape!r} is of no class of {file.stem.split('_')[0]}.")
        if not (folder / name / f"{shape}.txt").is_file():
            raise ConfigError(f"{file}: line {number}: {name}/{shape}.txt is not in {folder}. Unpack the set again.")
        yield f"{name}/{shape}.txt", labels[name]


def _class_folders(folder: pathlib.Path, form: str) -> Layout:
    """Classes by name; a set has a split of its own if there is a folder train, above the classes or in any of them."""
    above = any((folder / "train").glob(f"*/*.{form}"))
    parents = [folder / part for part in SPLITS if (folder / part).is_dir()] if above else [folder]
    classes = sorted(
        {inner.name for parent in parents for inner in inner_folders(parent) if any(inner.rglob(f"*.{form}"))}
    )
    split = above or any((folder / name / "train").is_dir() for name in classes)

    def files(part: str):
        for label, name in enumerate(classes):
            inner = folder / part / name if above else folder / name / (part if split else "")
            for file in sorted(inner.glob(f"[!.]*.{form}")):
                yield file.relative_to(folder).as_posix(), label

    return Layout(
        form, folder, tuple(classes), {part: tuple(files(part)) for part in (SPLITS if split else SPLITS[:1])}
    )


def read_lines(file: pathlib.Path) -> list[str]:
    """The lines of a list.

    Raises:
        ConfigError: it is no text.
    """
    content = file.read_bytes()
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{file}: line {line}: not UTF-8 text. Unpack the set again.") from None


def inner_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders right below, by name, without hidden ones."""
    return [inner for inner in sorted(folder.iterdir()) if inner.is_dir() and not inner.name.startswith((".", "__"))]


def read_class_names(file: pathlib.Path) -> tuple[str, ...]:
    """The lines of a file of class names, by label.

    Raises:
        ConfigError: it is missing, empty, or has a name twice.
    """
    if not file.is_file():
        raise ConfigError(f"{file} is missing: expected the class names, one a line, by label.")
    names = tuple(line.strip() for line in read_lines(file) if line.strip())
    if not names or len(set(names)) < len(names):
        raise ConfigError(
            f"{file}: expected different class names, one a line, got {len(names)}, {len(set(names))} different."
        )
    return names
