# SPDX-License-Identifier: Apache-2.0
"""Beginning with the values of another run: what is taken, what is left behind and what is made anew.

A leaf is taken where path, shape and type agree. Nothing else happens silently: another shape is an error unless the
path is skipped by name, and whatever is not taken, there or here, is listed.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from perceiver_jax.errors import ConfigError
from perceiver_jax.weights import parameter_paths

Tree = Any
MAX_NAMED = 6  # leaves spelled out in an error


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What becomes of every leaf of both sides.

    Attributes:
        source: the run that was read, and its step.
        values: path here -> value.
        loaded: paths here, with the path there where it was renamed.
        skipped: paths there that are not taken, and why.
        made: paths here that are made anew, and why.
    """

    source: str = ""
    values: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    loaded: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    made: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For a person: one line per leaf, none where nothing is transferred."""
        parts = {"loaded": self.loaded, "skipped": self.skipped, "newly made": self.made}
        head = ", ".join(f"{len(items)} {name}" for name, items in parts.items())
        body = [f"  {name}: {item}" for name, items in parts.items() for item in items]
        return [f"beginning with {self.source}: {head}", *body] if self.source else []

    def record(self) -> dict[str, Any]:
        """JSON-able, without the values."""
        return {name: getattr(self, name) for name in ("source", "loaded", "skipped", "made")}


def transfer(
    found: Tree, needed: Tree, *, source: str, skip: Sequence[str] = (), rename: Sequence[str] = ()
) -> Transfer:
    """Decides leaf by leaf.

    Args:
        found: the variables there: {"params": ..., other collections}.
        needed: the variables here; only shapes and types are read.
        source: names the other run in messages.
        skip: path patterns (see `parameter_paths`) of leaves that are made anew whatever is found.
        rename: "OLD=NEW": a path or folder there, and what it is called here; ".=NEW" puts all that is there, whole
            collections, into the folder NEW.

    Raises:
        ConfigError: a pattern or name that matches nothing, another shape or type that is not skipped, or nothing to
            take.
    """
    theirs, ours = _renamed(found, rename), leaves(needed)
    known = dict.fromkeys((*theirs, *ours), 0)
    parameter_paths.check_patterns(known, skip, "config.init.skip")
    skipped = {path for path in known if parameter_paths.matches(path, skip)}
    shared = [path for path in ours if path in theirs and path not in skipped]
    if other := [path for path in shared if _form(theirs[path][1]) != _form(ours[path])]:
        raise ConfigError(_unfit(source, other, theirs, ours))
    if not shared:
        raise ConfigError(f"{source} has nothing to begin with: its {_some(theirs)}, here {_some(ours)}. {_HOW}")
    return Transfer(
        source,
        values={path: np.asarray(theirs[path][1]) for path in shared},
        loaded=tuple(path + _was(theirs, path) for path in shared),
        skipped=tuple(
            f"{theirs[path][0]} ({'skipped by name' if path in skipped else 'not in this model'})"
            for path in theirs
            if path not in shared
        ),
        made=tuple(
            f"{path} ({'skipped by name' if path in skipped else 'not in that run'})"
            for path in ours
            if path not in shared
        ),
    )


def overlay(variables: Tree, values: Mapping[str, Any]) -> Tree:
    """The variables with the transferred values in their places."""
    assert values.keys() <= leaves(variables).keys(), values.keys() - leaves(variables).keys()
    return jax.tree_util.tree_map_with_path(lambda path, leaf: values.get(_name(path), leaf), variables)


def leaves(variables: Tree) -> dict[str, Any]:
    """Path -> leaf; the paths of parameters begin below `params`, as patterns in a config do."""
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(variables)}


_HOW = "config.init.rename=('OLD=NEW',) says what is called otherwise, config.init.skip=('PATTERN',) what to make anew."


def _name(path: tuple) -> str:
    return parameter_paths.join(path).removeprefix("params/")


def _renamed(found: Tree, rename: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """Path here -> (path there, leaf); of several rules the first that fits counts."""
    theirs, renamed = leaves(found), {}
    rules = [_rule(text, theirs) for text in rename]
    for path, leaf in theirs.items():
        whole = path if path.split("/")[0] in found.keys() - {"params"} else f"params/{path}"
        moved = (
            f"{new}/{whole}" if old == "." else new + path.removeprefix(old)
            for old, new in rules
            if old == "." or f"{path}/".startswith(f"{old}/")
        )
        here = next(moved, path)
        if here in renamed:
            raise ConfigError(f"config.init.rename: {renamed[here][0]} and {path} both become {here}. Rename one away.")
        renamed[here] = path, leaf
    return renamed


def _rule(text: str, theirs: Mapping[str, Any]) -> tuple[str, str]:
    old, _, new = (part.strip("/ ") for part in text.partition("="))
    if not (old and new):
        raise ConfigError(f"config.init.rename={text!r}: expected OLD=NEW, a path or folder there and here.")
    if old != ".":
        parameter_paths.check_patterns(theirs, [old], "config.init.rename")
    return old, new


def _was(theirs: Mapping[str, tuple[str, Any]], path: str) -> str:
    return "" if theirs[path][0] == path else f" (there {theirs[path][0]})"


def _form(leaf: Any) -> tuple[tuple[int, ...], str]:
    return tuple(leaf.shape), np.dtype(leaf.dtype).name


def _unfit(source: str, other: list[str], theirs: Mapping, ours: Mapping) -> str:
    described = [f"{path}: {_text(theirs[path][1])} there, {_text(ours[path])} here" for path in other]
    return (
        f"{source} does not fit, other shape or type ({len(other)}): {_some(described)}. To make them anew: "
        f"--config.init.skip={str(tuple(other)).replace(' ', '')!r}"
    )


def _text(leaf: Any) -> str:
    shape, dtype = _form(leaf)
    return f"{dtype} ({', '.join(map(str, shape))})"


def _some(items) -> str:
    items = list(items)
    rest = len(items) - MAX_NAMED
    return ", ".join(items[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")
