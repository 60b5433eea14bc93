# SPDX-License-Identifier: Apache-2.0
"""Invented languages, the text that is always there: line i of a split follows from the set_seed and i.

A class is a language: syllables of its own sounds and endings that it likes. The sounds of the languages overlap, so
which one a line is in must be read from several words.
"""

import dataclasses

import numpy as np

from perceiver_jax.data import randomness
from perceiver_jax.data.procedural import check_counts
from perceiver_jax.data.sequences import Content, Ragged, StoredSequences
from perceiver_jax.data.text import encode
from perceiver_jax.errors import ConfigError

LANGUAGES = {  # consonants, vowels, endings
    "dubun": ("dbnmgl", "uoai", ("", "", "n", "bun")),
    "korga": ("kgrtdb", "oaue", ("", "", "k", "rga")),
    "lumi": ("lmnrsv", "iuea", ("", "", "lu", "mi")),
    "seline": ("slnrtv", "eiao", ("", "", "ne", "s")),
}
MOST_SYLLABLES = 3  # of a word
NUMBERS = 2 * MOST_SYLLABLES + 2  # random ones a word


@dataclasses.dataclass(frozen=True, kw_only=True)
class Babble(StoredSequences):
    """Lines of `min_words` to `max_words` words; the class of line i is i modulo 4.

    Attributes:
        num_train, num_validation, num_test: sizes of the splits.
        set_seed: of the set; the run's `seed` changes nothing.

    Raises:
        ConfigError: a size or range is impossible.
    """

    array = "tokens"

    num_train: int = 2048
    num_validation: int = 256
    num_test: int = 256
    min_words: int = 4
    max_words: int = 16
    set_seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        check_counts(self, "min_words")
        if self.max_words < self.min_words:
            raise ConfigError(f"max_words={self.max_words}: expected at least min_words={self.min_words}.")

    def _find(self) -> Content:
        sizes = {"train": self.num_train, "validation": self.num_validation, "test": self.num_test}
        return Content(tuple(LANGUAGES), {split: self._lines(split, size) for split, size in sizes.items()})

    def _lines(self, split: str, size: int) -> Ragged:
        key = randomness.keys(self.set_seed, f"babble {split}", np.arange(size))
        numbers = randomness.uniform(key, (1 + self.max_words * NUMBERS,)).astype(np.float64)
        counts = self.min_words + (numbers[:, 0] * (self.max_words - self.min_words + 1)).astype(int)
        words = numbers[:, 1:].reshape(size, self.max_words, NUMBERS)
        languages = list(LANGUAGES.values())
        label = np.arange(size) % len(languages)
        lines = [
            " ".join(_word(languages[k], word) for word in line[:count])
            for k, line, count in zip(label, words, counts, strict=True)
        ]
        return Ragged.of([encode(line.encode()) for line in lines], label)


def _word(language: tuple[str, str, tuple[str, ...]], numbers: np.ndarray) -> str:
    """A word of one to MOST_SYLLABLES syllables, by NUMBERS random ones in [0, 1)."""
    consonants, vowels, endings = language
    count, ending = 1 + int(numbers[0] * MOST_SYLLABLES), endings[int(numbers[1] * len(endings))]
    pairs = numbers[2:].reshape(MOST_SYLLABLES, 2)[:count]
    return "".join(consonants[int(c * len(consonants))] + vowels[int(v * len(vowels))] for c, v in pairs) + ending
