# SPDX-License-Identifier: Apache-2.0
"""Names in figures: in a font that has their characters, shortened, or replaced by their number and said so."""

import contextlib
import functools
import logging
from collections.abc import Iterator, Sequence

log = logging.getLogger(__name__)

LONGEST = 24  # characters of a name
ADVICE = "Install a font that has them, e.g. the package fonts-noto-cjk, and run the command again."
STAND_INS = "Last Resort"
"""matplotlib's own font that draws a box for every character there is."""


@contextlib.contextmanager
def lettered(names: Sequence[str]) -> Iterator[list[str]]:
    """The names as figures drawn inside the block show them.

    Where matplotlib's font lacks characters, installed ones that have them are used. A name that no font can show
    becomes `#NUMBER`, and a warning counts them.
    """
    import matplotlib

    families, missing = _families("".join(names))
    replaced = [k for k, name in enumerate(names) if missing & set(name)]
    if replaced:
        log.warning(
            "no installed font has %s: %d of %d names are shown by their number in figures. %s",
            *(", ".join(f"U+{ord(c):04X}" for c in sorted(missing)[:3]), len(replaced), len(names), ADVICE),
        )
    labels = [f"#{k}" if k in set(replaced) else shortened(name) for k, name in enumerate(names)]
    with matplotlib.rc_context({"font.family": families}):
        yield labels


def font_file(names: Sequence[str]) -> str | None:
    """A font file with the characters that matplotlib's own font lacks, for Pillow; None where it lacks none."""
    from matplotlib.font_manager import FontProperties, findfont

    *known, last = _families("".join(names))[0]
    return findfont(FontProperties(family=last)) if known else None


def shortened(name: str, longest: int = LONGEST) -> str:
    """The name on one line, its middle left out where it is too long: ends tell names apart."""
    name = " ".join(name.split())
    head = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:head]}…{name[head + 1 - longest :]}"


def _families(text: str) -> tuple[list[str], set[str]]:
    """Font families that together have the characters of the text, matplotlib's first; and what no font has."""
    import matplotlib
    from matplotlib.font_manager import FontProperties, findfont

    default = matplotlib.rcParamsDefault["font.family"]
    missing = {c for c in text if not c.isspace()} - _characters(findfont(FontProperties(family=default)))
    families = list(default)
    while missing and (best := _best(frozenset(missing))):
        families.append(best[0])
        missing -= best[1]
    return families, missing


def _best(wanted: frozenset[str]) -> tuple[str, frozenset[str]] | None:
    """The installed family with most of the characters, and which of them it has."""
    fonts = {name: file for name, file in _installed().items() if not name.startswith(STAND_INS)}
    found = {name: wanted & _characters(file) for name, file in sorted(fonts.items())}
    name = max(found, key=lambda name: len(found[name]))
    return (name, found[name]) if found[name] else None


@functools.cache
def _installed() -> dict[str, str]:
    """Family -> file, also of fonts that came after matplotlib wrote its list of them."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {entry.fname for entry in fontManager.ttflist}
    for file in sorted(set(findSystemFonts()) - known):
        with contextlib.suppress(OSError, RuntimeError):  # no font that matplotlib can read
            fontManager.addfont(file)
    return {entry.name: entry.fname for entry in fontManager.ttflist}


@functools.cache
def _characters(file: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    return frozenset(map(chr, FT2Font(file).get_charmap()))
