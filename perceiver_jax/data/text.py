# SPDX-License-Identifier: Apache-2.0
"""Labelled text as UTF-8 bytes: `label<TAB>text` files, or a file a class that is cut into passages.

The vocabulary is Perceiver IO's (Jaegle et al. 2021, section 4.1): six special tokens, then the 256 bytes.
"""

import dataclasses
import pathlib

import numpy as np

from perceiver_jax.data.sequences import Content, Ragged, StoredSequences
from perceiver_jax.data.splits import SPLITS, carved
from perceiver_jax.errors import ConfigError

PAD, BOS, EOS, MASK, CLS, SEP = range(6)
FIRST_BYTE = 6
VOCABULARY_SIZE = FIRST_BYTE + 256

Labelled = list[tuple[str, bytes]]  # (class, text)


def encode(text: bytes) -> np.ndarray:
    """Tokens, int32; `decode` gives the text back."""
    return np.frombuffer(text, np.uint8).astype(np.int32) + FIRST_BYTE


def decode(tokens: np.ndarray) -> str:
    """The text of tokens, without special ones; what is no UTF-8 becomes U+FFFD."""
    return bytes((tokens[tokens >= FIRST_BYTE] - FIRST_BYTE).astype(np.uint8)).decode("utf-8", errors="replace")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text(StoredSequences):
    """Texts, read into memory at the first use. Longer ones than `max_length` bytes are cut.

    Attributes:
        path: a folder with train.tsv and, if there are any, validation.tsv and test.tsv: lines `label<TAB>text`; or a
            folder with CLASS.txt for each class: then passages of up to `max_length` bytes are cut from it at spaces,
            its last parts for validation and test, so that no split sees text of another.
        validation_fraction: share of the training lines (of each class), or of each CLASS.txt.
        test_fraction: share of each CLASS.txt.
        split_seed: chooses the lines.

    Raises:
        ConfigError: at the first use: no such files, or one is broken.
    """

    array = "tokens"

    path: str
    max_length: int | None = 256
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    split_seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        shares = self.validation_fraction, self.test_fraction
        if min(shares) < 0 or sum(shares) >= 1:
            raise ConfigError(
                f"validation_fraction={shares[0]}, test_fraction={shares[1]}: expected 0 or more, together less than 1."
            )

    def _find(self) -> Content:
        folder = pathlib.Path(self.path).expanduser()
        if (folder / "train.tsv").is_file():
            files = {split: folder / f"{split}.tsv" for split in SPLITS}
            splits = {split: read_tsv(file) for split, file in files.items() if file.is_file()}
        elif len(books := sorted(folder.glob("*.txt"))) > 1:
            splits = self._passages(books)
        else:
            raise ConfigError(
                f"{folder}: expected train.tsv and test.tsv with lines 'label<TAB>text', or CLASS.txt for each of two "
                "classes or more. Set --config.data.path to such a folder."
            )
        return self._classified(folder, splits)

    def _classified(self, folder: pathlib.Path, splits: dict[str, Labelled]) -> Content:
        names = class_names([name for name, _ in splits["train"]])
        parts = {}
        for split, labelled in splits.items():
            if lacking := sorted({name for name, _ in labelled} - set(names)):
                raise ConfigError(
                    f"{folder}: class {lacking[0]!r} of the {split} split is not in the training split: expected "
                    f"{', '.join(names)}. Remove its lines, or add some for training."
                )
            if labelled:
                label = [names.index(name) for name, _ in labelled]
                parts[split] = Ragged.of([encode(text) for _, text in labelled], label)
        return Content(names, carved(parts, {"validation": self.validation_fraction}, self.split_seed))

    def _passages(self, books: list[pathlib.Path]) -> dict[str, Labelled]:
        """Passages of each book: its first part for training, then those for validation and test."""
        if self.max_length is None:
            raise ConfigError(
                "max_length=None: expected the bytes of a passage, for CLASS.txt files. Set it, e.g. 256."
            )
        ends = {
            "train": 1 - self.validation_fraction - self.test_fraction,
            "validation": 1 - self.test_fraction,
            "test": 1,
        }
        splits: dict[str, Labelled] = {split: [] for split in SPLITS}
        for book in books:
            text, start = read_text(book), 0
            for split, share in ends.items():
                end = round(share * len(text))
                splits[split] += [(book.stem, passage) for passage in passages(text[start:end], self.max_length)]
                start = end
        return splits


def read_tsv(file: pathlib.Path) -> Labelled:
    """The labelled lines of a file; empty ones are nobody's.

    Raises:
        ConfigError: a line without a tab, label or text, or that is not UTF-8, by its number.
    """
    labelled = []
    for number, line in enumerate(read_text(file).split(b"\n"), 1):
        line = line.removesuffix(b"\r")
        if not line.strip():
            continue
        label, tab, text = line.partition(b"\t")
        if not (label.strip() and tab and text.strip()):
            what = "no tab" if not tab else "an empty label" if not label.strip() else "an empty text"
            raise ConfigError(f"{file}, line {number}: has {what}: expected label<TAB>text. Mend or remove the line.")
        labelled.append((label.decode().strip(), text))
    if not labelled:
        raise ConfigError(f"{file}: is empty: expected lines label<TAB>text.")
    return labelled


def read_text(file: pathlib.Path) -> bytes:
    """The bytes of a file that is UTF-8, without a byte order mark."""
    try:
        text = file.read_bytes()
        text.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        line = text[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{file}, line {line}: is not UTF-8 (byte 0x{text[error.start]:02x}). Save the file as UTF-8."
        ) from None
    return text.removeprefix(b"\xef\xbb\xbf")


def passages(text: bytes, length: int) -> list[bytes]:
    """Pieces of up to `length` bytes, cut at the last space or line end in them, if there is one."""
    pieces, start = [], 0
    while start < len(text):
        end = min(start + length, len(text))
        if end < len(text):
            space = max(text.rfind(b" ", start, end), text.rfind(b"\n", start, end))
            end = space + 1 if space > start else end
        if text[start:end].strip():
            pieces.append(text[start:end])
        start = end
    return pieces


def class_names(labels: list[str]) -> tuple[str, ...]:
    """The different ones, numbers in their order, anything else by the alphabet."""
    names = set(labels)
    return tuple(sorted(names, key=int if all(name.isdecimal() for name in names) else str))
