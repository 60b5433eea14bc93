# SPDX-License-Identifier: Apache-2.0
"""Whether the numbers of a module's fields can be; said before anything is made of them."""

from collections.abc import Sequence

from perceiver_jax.errors import ConfigError

MOST_ROUNDS = 1000
"""Of what is traced one after the other: layers and iterations."""
MOST_SLOTS = 1_000_000
"""More have no indices of 32 bits where they are paired with objects."""

Numbers = int | Sequence[int] | None


def check_numbers(section: str, /, *, least: int = 1, most: int | None = None, **numbers: Numbers) -> None:
    """ConfigError that names every number that `number_problems` finds."""
    if problems := number_problems(section, least=least, most=most, **numbers):
        raise ConfigError(" ".join(problems))


def number_problems(section: str, /, *, least: int = 1, most: int | None = None, **numbers: Numbers) -> list[str]:
    """A sentence on each number, or sequence with one, below `least` or above `most`; None is not set.

    Args:
        section: of the config, as in `model.encoder`; `numbers` are its keys.
    """
    expected = f"at least {least}" if most is None else f"{least} to {most:,}"
    return [
        f"{section}.{name}={value}: expected {expected}."
        for name, value in numbers.items()
        if any(number < least or (most is not None and number > most) for number in _each(value))
    ]


def _each(value: Numbers) -> Sequence[int]:
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else value
