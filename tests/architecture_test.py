# SPDX-License-Identifier: Apache-2.0
"""Imports point one way, every test has its source, and nothing is in the tree that does not belong there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "perceiver_jax"

# Room -> what it may import from other rooms. A module of the top level that is not listed is a verb.
PARTS = {"models", "metrics", "data", "figures"}
LIBRARY = PARTS | {
    "tasks",
    "weights",
    "training",
    "reports",
    "registry",
    "experiment",
    "prediction",
    "run_folder",
    "config",
    "validation",
    "stages",
    "generation",
    "coding",
    "code_scores",
    "variants",
}
ABOVE = {"prediction", "generation", "coding", "stages", "code_scores", "variants"}  # of experiment
MAY_IMPORT = {
    "errors": set(),
    "invocation": set(),
    "value_types": set(),
    "files": {"errors"},
    **{part: {"errors"} for part in PARTS},
    "data": {"errors", "files", "invocation"},
    "tasks": PARTS | {"errors"},
    "weights": PARTS | {"errors"},
    "training": {
        "tasks",
        "weights",
        "metrics",
        "data",
        "figures",
        "errors",
        "files",
        "invocation",
        "models.stacked_axes",
    },
    "reports": PARTS | {"tasks", "weights", "errors", "files"},
    "registry": PARTS | {"tasks", "weights", "training", "errors", "value_types"},
    "config": {"registry", "errors", "files", "value_types"},
    "validation": {"tasks", "training", "metrics", "data", "errors"},
    "experiment": LIBRARY - {"experiment", "run_folder", *ABOVE} | {"errors"},
    "prediction": LIBRARY - {"run_folder", "config", *ABOVE} | {"errors"},
    "generation": LIBRARY - {"run_folder", "config", *ABOVE} | {"errors"},
    "coding": LIBRARY - {"run_folder", "config", *ABOVE} | {"stages", "errors"},
    "stages": LIBRARY - {"run_folder", "config", *ABOVE} | {"errors", "files"},
    "code_scores": LIBRARY - {"run_folder", "config", *ABOVE} | {"generation", "coding", "errors"},
    "variants": {"command_line", "config", "experiment", "registry", "stages", "errors"},
    "run_folder": LIBRARY - {"run_folder", *ABOVE} | {"errors", "files"},
    "command_line": {"errors"},
}
VERB_MAY_IMPORT = LIBRARY | {"errors", "command_line"}
VERB_LINES = 120

FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
TESTS_WITHOUT_SOURCE = {
    "architecture",
    "bad_examples",
    "bad_input",
    "benchmarks",
    "configs",
    "docs",
    "command_line",
    "fuzz",
    "golden",
    "knobs",
    "packaging",
    "many_processes",
    "launch",
}
CODE = ("perceiver_jax", "tests", "configs", "benchmarks", "launch")
MACHINE_PATH = re.compile(r"(?<![\w.:/~}-])/(?:work|home|root|Users)/\w+|(?<![\w.:/~}-])/opt/\w+/")
INDEX_ADDRESS = re.compile(
    r"--(?:extra-)?index-url|--find-links|https?://\S+/(?:simple|whl)\b|libtpu_releases", re.IGNORECASE
)


def python_files(*folders):
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


def text_files():
    """The files of the tree that a person wrote: the folders with code, and what lies at the top."""
    top = [file for file in [*ROOT.iterdir(), *(ROOT / ".ci").glob("*")] if file.is_file()]
    inside = [file for folder in (*CODE, "docs") for file in sorted((ROOT / folder).rglob("*")) if file.is_file()]
    return [file for file in top + inside if "__pycache__" not in file.parts and file.name != ".git"]


def imports(source, module):
    """Dotted names that `source`, the text of `module`, imports; for `from a import b` both a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *filter(None, [node.module])])
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def wrong_imports(source, module):
    """Names that the module's room may not import."""
    room = module.split(".")[1]
    allowed = MAY_IMPORT.get(room, VERB_MAY_IMPORT) | {room}
    names = {
        name.removeprefix("perceiver_jax.") for name in imports(source, module) if name.startswith("perceiver_jax.")
    }
    fits = {name for name in names if any(name == path or name.startswith(f"{path}.") for path in allowed)}
    prefixes = {path.rpartition(".")[0] for path in allowed}  # `from perceiver_jax.models import stacked_axes`
    used_prefixes = {name for name in names - fits if name in prefixes and any(f.startswith(f"{name}.") for f in fits)}
    return sorted(names - fits - used_prefixes)


def module_name(file):
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


def is_verb(file):
    return file.parent == PACKAGE and file.stem not in {*MAY_IMPORT, "__init__"}


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        (
            "perceiver_jax.models.a",
            "from perceiver_jax.data.spec import Spec",
            ["data.spec", "data.spec.Spec"],
        ),
        ("perceiver_jax.models.a", "from ..data import spec", ["data", "data.spec"]),
        (
            "perceiver_jax.models.a",
            "from . import attention\nfrom perceiver_jax.errors import ConfigError",
            [],
        ),
        ("perceiver_jax.training.a", "from perceiver_jax.models import stacked_axes", []),
        ("perceiver_jax.training.a", "from perceiver_jax.models import blocks", ["models", "models.blocks"]),
        ("perceiver_jax.tasks.a", "def f():\n    import perceiver_jax.training.loop", ["training.loop"]),
        ("perceiver_jax.train", "from perceiver_jax import command_line, experiment", []),
        ("perceiver_jax.train", "from perceiver_jax import evaluate", ["evaluate"]),
    ],
)
def test_the_import_check_sees(module, source, wrong):
    assert wrong_imports(source, module) == wrong


def test_imports_point_one_way():
    files = [file for file in python_files("perceiver_jax") if file != PACKAGE / "__init__.py"]
    problems = {module_name(file): wrong_imports(file.read_text(), module_name(file)) for file in files}
    assert {name: wrong for name, wrong in problems.items() if wrong} == {}


def test_every_folder_of_the_package_has_a_room():
    folders = {file.relative_to(PACKAGE).parts[0] for file in PACKAGE.rglob("*.py") if file.parent != PACKAGE}
    assert folders - set(MAY_IMPORT) == set()


def test_a_verb_has_a_main_and_is_short():
    problems = []
    for file in filter(is_verb, PACKAGE.glob("*.py")):
        text = file.read_text()
        functions = {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
        if not {"main", "run"} <= functions:
            problems.append(f"{file.name}: a verb has main(argv) and run(); another module needs a line in MAY_IMPORT")
        if len(text.splitlines()) > VERB_LINES:
            problems.append(f"{file.name}: {len(text.splitlines())} lines, expected at most {VERB_LINES}")
    assert problems == []


def test_no_tensorflow_and_no_pmap():
    problems = []
    for file in python_files(*CODE):
        tree = ast.parse(file.read_text())
        if any(name.split(".")[0] == "tensorflow" for name in imports(file.read_text(), module_name(file))):
            problems.append(f"{file}: imports TensorFlow")
        words = {getattr(node, "attr", getattr(node, "id", getattr(node, "name", None))) for node in ast.walk(tree)}
        if "pmap" in words:
            problems.append(f"{file}: pmap")
    assert problems == []


def test_names_say_what_is_inside():
    named = [path for folder in CODE for path in (ROOT / folder).rglob("*") if path.suffix in ("", ".py")]
    assert [str(path) for path in named if path.stem.removesuffix("_test") in FORBIDDEN_NAMES] == []


def test_every_test_file_mirrors_a_source_file():
    strays = []
    for file in sorted((ROOT / "tests").rglob("*_test.py")):
        if file.parent.name == "faults":  # whole commands, named by what happens to them
            continue
        subject = file.name.removesuffix("_test.py")
        mirrored = PACKAGE / file.relative_to(ROOT / "tests").parent / f"{subject}.py"
        if not mirrored.exists() and not {subject, file.parent.name} & TESTS_WITHOUT_SOURCE:
            strays.append(str(file.relative_to(ROOT)))
    assert strays == []


def test_every_source_file_names_its_licence():
    first = "# SPDX-License-Identifier: Apache-2.0"
    texts = {str(file.relative_to(ROOT)): file.read_text() for file in python_files(*CODE)}
    assert [name for name, text in texts.items() if text and not text.startswith(first)] == []


def test_the_tree_knows_no_machine_and_no_index():
    assert MACHINE_PATH.search("see /home" + "/me/data") and INDEX_ADDRESS.search("--index" + "-url x")
    found = []
    for file in text_files():
        try:
            text = file.read_text()
        except UnicodeDecodeError:
            continue
        for pattern in (MACHINE_PATH, INDEX_ADDRESS):
            found += [
                f"{file.relative_to(ROOT)}: {m.group()}" for m in pattern.finditer(text) if file != Path(__file__)
            ]
    assert found == []
