# SPDX-License-Identifier: Apache-2.0
"""Choosing parameters by name: "/"-joined paths and glob patterns over them.

A pattern is a shell glob (`*`, `?`, `[ab]`), case sensitive; `*` also crosses slashes. It selects a parameter
if it matches the whole path (`*/bias`, also a `bias` at the top) or a folder above it (`encoder` selects all
of `encoder/...`).
"""

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax

from perceiver_jax.errors import ConfigError

Tree = Any


def join(path: tuple) -> str:
    """The path of a leaf as `jax.tree_util` gives it -> "encoder/layers/attention/query/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def paths(tree: Tree) -> list[str]:
    """Joined paths of all leaves in the order of `jax.tree.leaves`."""
    return [join(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether any of the patterns selects the parameter at `path`."""
    return any(fnmatchcase("/" + path, form) for p in patterns for form in _forms(p))


def select(tree: Tree, patterns: Sequence[str]) -> Tree:
    """A tree of bools, True where a pattern selects the leaf."""
    return jax.tree_util.tree_map_with_path(lambda path, _: matches(join(path), patterns), tree)


def check_patterns(tree: Tree, patterns: Sequence[str], field: str) -> None:
    """Raises a ConfigError naming the nearest paths if a pattern of the config's `field` selects nothing."""
    names = paths(tree)
    for pattern in patterns:
        if not any(matches(name, [pattern]) for name in names):
            raise ConfigError(
                f"{field}: the pattern {pattern!r} matches no parameter; nearest: "
                f"{', '.join(_nearest(pattern, names))}. Give a path, a folder of it, or a glob."
            )


def _forms(pattern: str) -> tuple[str, str]:
    start = pattern if pattern.startswith(("*", "/")) else "/" + pattern
    return start, start.rstrip("/") + "/*"


def _nearest(pattern: str, names: list[str], count: int = 3) -> list[str]:
    """Paths and folders most like the pattern, best first; the first paths where nothing is like it."""
    folders = {name.rsplit("/", depth)[0] for name in names for depth in range(name.count("/") + 1)}
    wanted = pattern.strip("*/")
    found = difflib.get_close_matches(wanted, sorted(folders | set(names)), count, cutoff=0.4)
    return found or sorted(names)[:count]
