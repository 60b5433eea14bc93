# SPDX-License-Identifier: Apache-2.0
"""Every command in the documentation: the module, its flags, its config and the keys it overrides are there.

`$n` in a command stands for a number, words in capitals for what the reader fills in. What the
tutorial and `tuning.md` advise is built too, with procedural data of the same kind. Nothing is trained here.
"""

import ast
import importlib
import importlib.util
import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from perceiver_jax import config as configs
from perceiver_jax import experiment, registry
from perceiver_jax.command_line import with_overlay
from perceiver_jax.models.perceiver import PerceiverEncoder, encoder_problems
from perceiver_jax.validation import wrong_values
from tests.configs_test import CASES, load

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
EVERY_VARIANT = [load(name, variant) for name, variant in CASES]
COMMAND = re.compile(r"python3? -m (perceiver_jax|benchmarks)\.([a-z]\w*)([^`#&|;\n]*)")
FRAGMENT = re.compile(r"--(config\.[a-z_.]+=(?:\"[^\"]*\"|[^\s`]+))")
PLACEHOLDER = re.compile(r"\b[A-Z_]+\b")
STAND_INS = {  # what the data of a config is replaced with where nothing may be read
    "images": ("drawings", {"size": 32}),
    "own": ("drawings", {"size": 32}),
    "modelnet": ("solids", {}),
    "text": ("babble", {}),
    "timeseries": ("patterns", {}),
    "own_sequences": ("patterns", {}),
}


class Command(NamedTuple):
    """`python -m PACKAGE.MODULE ARGUMENTS`."""

    package: str
    module: str
    arguments: list[str]

    def config(self) -> str:
        """What --config names; "" without it, or where the reader is to name one."""
        named = next((a.partition("=")[2] for a in self.arguments if a.startswith("--config=")), "")
        return "" if PLACEHOLDER.search(named) else named

    def overrides(self) -> list[str]:
        """The flags --config.KEY=VALUE, but for values that the reader is to fill in."""
        flags = [argument for argument in self.arguments if argument.startswith("--config.")]
        return [flag for flag in flags if flag != "--config.KEY=VALUE"]


def plain(file):
    """The text with continued lines joined, loop variables and options in brackets filled in."""
    text = re.sub(r"\\\n\s*", "", file.read_text())
    text = re.sub(r"python launch/local\.py [^`\n]*?-- ", "python -m perceiver_jax.main ", text)  # what it starts
    return re.sub(r"\$\w+", "64", text)


def commands(file):
    found = []
    for package, module, rest in COMMAND.findall(plain(file)):
        words = shlex.split(rest.partition("  ")[0].replace("[", "").replace("]", ""))
        found.append(Command(package, module, [word for word in words if word.strip(".")]))
    return found


def fragments(file):
    """Flags of a config that stand by themselves, and commands without their flags."""
    return set(FRAGMENT.findall(COMMAND.sub("", plain(file))))


def flags_of(command):
    """Names of the flags that the command's module defines."""
    folder = ROOT / command.package
    files = [folder / f"{command.module}.py"] if command.package == "perceiver_jax" else folder.glob("*.py")
    text = "".join(file.read_text() for file in files)
    if "define_processes()" in text:
        text += (ROOT / "perceiver_jax" / "command_line.py").read_text()
    names = set(re.findall(r"flags\.DEFINE_\w+\(\s*\"(\w+)\"", text))
    return names | ({"config", "config_overlay"} if re.search("define_config|DEFINE_config_file", text) else set())


def resolve(monkeypatch, config, overrides):
    """The config with its overrides, as a command reads them; raises for what it does not know."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    argv = ["", f"--config={ROOT / config}", *overrides]
    monkeypatch.setattr(sys, "argv", argv)
    values(argv)
    values.config.keys()
    return values.config


def problems_of(command, monkeypatch):
    """What is wrong with a command of the documentation."""
    if not (ROOT / command.package / f"{command.module}.py").exists():
        return [f"there is no {command.package}.{command.module}"]
    named = [argument[2:].partition("=")[0] for argument in command.arguments if argument.startswith("--")]
    known = flags_of(command)
    wrong = [f"--{name} is no flag" for name in named if name.partition(".")[0] not in known]
    words = [argument for argument in command.arguments if re.fullmatch("[a-z_]+", argument)]  # no file, no capitals
    if words and f'"{words[0]}"' not in (ROOT / command.package / f"{command.module}.py").read_text():
        wrong.append(f"{words[0]!r} is no word of it")
    if command.config():
        try:
            resolve(monkeypatch, command.config(), command.overrides())
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}")
    return wrong


def with_stand_in(config: ConfigDict) -> ConfigDict:
    """The config with data that is always there; fields that both kinds have are kept."""
    if config.data.name not in STAND_INS:
        return config
    name, values = STAND_INS[config.data.name]
    known = registry.find("data", name).parameters()
    kept = {key: value for key, value in config.data.items() if key in known and value is not None}
    with config.unlocked():
        config.data = configs.section("data", name, **kept | values)
    return config


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("python -m perceiver_jax.main --config=configs/solids.py:tiny --config.model.num_latents=8", ""),
        ("`python -m perceiver_jax.main --config=C --workdir=DIR`", ""),
        ("python -m perceiver_jax.mian", "no perceiver_jax.mian"),
        ("python -m perceiver_jax.main --confg=x", "--confg is no flag"),
        ("python -m perceiver_jax.evaluate now", "'now' is no word"),
        ("python -m perceiver_jax.main --config=configs/solids.py:tniy", "tniy"),
        ("python -m perceiver_jax.main --config=configs/solids.py \\\n  --config.model.num_latnets=8", "num_latnets"),
        ("python -m perceiver_jax.main --config=configs/solids.py --config.batch_size=many", "many"),
    ],
)
def test_the_check_sees(text, wrong, tmp_path, monkeypatch):
    (tmp_path / "text.md").write_text(text)
    (command,) = commands(tmp_path / "text.md")
    problems = problems_of(command, monkeypatch)
    assert bool(problems) == bool(wrong) and all(wrong in problem for problem in problems)


@pytest.mark.parametrize("file", [*DOCUMENTS, *CONFIGS], ids=lambda file: file.name)
def test_every_command_can_be_given(file, monkeypatch):
    assert {str(command): wrong for command in commands(file) if (wrong := problems_of(command, monkeypatch))} == {}


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_flag_of_a_config_fits_some_config(file, monkeypatch):
    def fits(fragment, config):
        try:
            return bool(resolve(monkeypatch, config.relative_to(ROOT), shlex.split(f"--{fragment}")))
        except Exception:
            return False

    assert [flag for flag in fragments(file) if not any(fits(flag, config) for config in CONFIGS)] == []


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_key_that_is_named_is_in_some_config(file):
    sections = "data|model|task|optimizer|schedule|pipeline|checkpoint|evaluation|plateau|early_stopping"
    keys = set(re.findall(rf"`(?:config\.)?((?:{sections})\.[a-z_.]+)`", file.read_text()))
    assert {key for key in keys if not any(has(config, key) for config in EVERY_VARIANT)} == set()


def has(config, key):
    """Whether a config has the dotted key."""
    for part in key.split("."):
        if not isinstance(config, ConfigDict) or part not in config:
            return False
        config = config[part]
    return True


def test_the_overlay_that_is_shown_fits(tmp_path, monkeypatch):
    (shown,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "coming_from.md").read_text(), re.DOTALL)
    (tmp_path / "overlay.json").write_text(shown)
    config = "configs/sequences.py:base"
    argv = with_overlay(["", f"--config={config}", f"--config_overlay={tmp_path / 'overlay.json'}"])
    resolved = resolve(monkeypatch, config, [flag for flag in argv if flag.startswith("--config.")])
    assert (resolved.data.min_length, resolved.data.longest, resolved.data.num_train) == (50, 200, 5000)
    assert (resolved.batch_size, resolved.num_epochs, resolved.optimizer.weight_decay) == (32, 100, 1e-4)


@pytest.mark.parametrize(("name", "at_least"), [("tuning", 25), ("tutorial_cifar100", 6)])
def test_what_is_advised_can_be_built(name, at_least, monkeypatch):
    found = {str(c): c for c in commands(ROOT / "docs" / f"{name}.md") if c.module == "main" and c.overrides()}
    assert len(found) >= at_least
    for command in found.values():
        build(configs.to_dict(with_stand_in(resolve(monkeypatch, command.config(), command.overrides()))))


def build(config):
    """Builds the parts of a run and checks them as `experiment.build` does, without tracing a large model."""
    source = experiment.build_source(config)
    task = experiment.build_task(config, source.spec)
    rate = config["optimizer"]["learning_rate"]
    registry.build("optimizer", config["optimizer"])
    registry.build("schedule", config["schedule"], learning_rate=rate, num_steps=12_000, steps_per_epoch=100)
    problems = configs.wrong_fields(config) + wrong_values(config, source.splits)
    if isinstance(getattr(task.model, "encoder", None), PerceiverEncoder):
        problems += encoder_problems(task.model.encoder)
    else:
        jax.eval_shape(lambda rng: task.init(rng, source.spec), jax.random.key(0))
    assert problems == []


def headings(file):
    """Anchors of a document, as they are made of its headings."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_link_and_every_file_is_there(file):
    text = re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if link.startswith("http"):
            continue
        target = (file.parent / path) if path else file
        if not target.exists() or (anchor and anchor not in headings(target)):
            broken.append(link)
    named = re.findall(r"`((?:configs|docs|tests|perceiver_jax|benchmarks)/[a-z\d_/]+\.(?:py|md))[:`]", text)
    assert broken + [name for name in named if not (ROOT / name).exists()] == []


def blocks(file):
    """The Python of a document, as it is shown."""
    return re.findall(r"```python\n(.*?)```", file.read_text(), re.DOTALL)


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_python_that_is_shown_parses_and_imports_what_is_there(file):
    for block in blocks(file):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("perceiver_jax"):
                for name in node.names:
                    assert hasattr(importlib.import_module(node.module), name.name) or importlib.util.find_spec(
                        f"{node.module}.{name.name}"
                    )


def test_the_model_alone_is_built_as_it_is_shown():
    (shown,) = blocks(ROOT / "docs" / "architecture.md")
    exec(compile(shown, "architecture.md", "exec"), {})


def test_slot_attention_alone_has_the_shapes_that_are_shown():
    """Traced, not computed."""
    (shown,) = (block for block in blocks(ROOT / "docs" / "slots.md") if "SlotAutoencoder" in block)
    jax.eval_shape(lambda: exec(compile(shown, "slots.md", "exec"), {}))
