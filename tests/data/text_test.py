# SPDX-License-Identifier: Apache-2.0
"""Text as bytes: tokens and back, labelled lines, books cut into passages, files that are wrong."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from perceiver_jax.data.text import VOCABULARY_SIZE, Text, decode, encode, passages
from perceiver_jax.errors import ConfigError

LINES = [f"{kind}\t{text} {i}" for i in range(20) for kind, text in (("good", "I liked ïts tone"), ("bad", "dull"))]


def write(folder, train=LINES, test=LINES[:6]):
    for name, lines in (("train", train), ("test", test)):
        (folder / f"{name}.tsv").write_bytes("\r\n".join(lines).encode() + b"\n")
    return str(folder)


def test_tokens_and_back():
    text = "Ünïcode €"
    tokens = encode(text.encode())
    assert decode(tokens) == text and tokens.min() >= 6 and tokens.max() < VOCABULARY_SIZE == 262
    assert decode(np.append(tokens, [0, 0])) == text


def test_labelled_lines(tmp_path):
    source = Text(path=write(tmp_path))
    assert source.spec.class_names == ("bad", "good") and source.splits == ("train", "validation", "test")
    assert [source.num_examples(split) for split in source.splits] == [36, 4, 6]
    batch = source.load("test", np.array([0, 1]), None)
    assert batch["tokens"].dtype == np.int32 and batch["label"].tolist() == [1, 0]
    assert [decode(tokens) for tokens in batch["tokens"]] == ["I liked ïts tone 0", "dull 0"]
    np.testing.assert_array_equal(batch["mask"].sum(1), source.lengths("test")[:2])
    assert source.spec.max_length == 256


def test_numbers_as_labels_are_classes_in_their_order(tmp_path):
    lines = [f"{label}\ttext" for label in (10, 9, 1)] * 4
    assert Text(path=write(tmp_path, lines, lines)).spec.class_names == ("1", "9", "10")


def test_books_are_cut_into_passages_of_disjoint_parts(tmp_path):
    for book in ("one", "two"):
        words = [f"{book}{i:04d}" for i in range(1000)]
        (tmp_path / f"{book}.txt").write_text(" ".join(words))
    source = Text(path=str(tmp_path), max_length=64)
    seen = {}
    for split in source.splits:
        ids = np.arange(source.num_examples(split))
        batch = source.load(split, ids, None)
        texts = [decode(tokens) for tokens in batch["tokens"]]
        assert all(source.spec.class_names[k] in text for k, text in zip(batch["label"], texts, strict=True))
        seen[split] = {word for text in texts for word in text.split() if len(word) == 7}
    sizes = [len(words) for words in seen.values()]
    assert sum(sizes) == len(set.union(*seen.values())) and sizes[0] > 7 * sizes[1]


def test_passages_end_at_spaces_and_lose_nothing():
    text = ("word " * 50 + "x" * 40).encode()
    pieces = passages(text, 32)
    assert b"".join(pieces) == text and max(map(len, pieces)) <= 32
    assert all(piece.endswith(b" ") for piece in pieces[:8])


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (["good text"], LINES, "train.tsv, line 1: has no tab"),
        ([*LINES, "\ttext"], LINES, "line 41: has an empty label"),
        ([*LINES, "bad\t "], LINES, "has an empty text"),
        ([], LINES, "train.tsv: is empty"),
        (LINES, ["ugly\ttext"], "class 'ugly' of the test split is not in the training split: expected bad, good"),
    ],
)
def test_broken_lines(tmp_path, train, test, message):
    with pytest.raises(ConfigError, match=message):
        Text(path=write(tmp_path, train, test)).num_examples("train")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_refused(tmp_path, encoding):
    write(tmp_path)
    (tmp_path / "train.tsv").write_bytes("\n".join(LINES).encode(encoding))
    with pytest.raises(ConfigError, match=r"line 1: is not UTF-8 \(byte 0x.*Save the file as UTF-8"):
        Text(path=str(tmp_path)).num_examples("train")


def test_a_byte_order_mark_is_no_text(tmp_path):
    write(tmp_path)
    (tmp_path / "train.tsv").write_text("\n".join(LINES), encoding="utf-8-sig")
    assert Text(path=str(tmp_path)).spec.class_names == ("bad", "good")


def test_nothing_there(tmp_path):
    with pytest.raises(ConfigError, match="expected train.tsv and test.tsv .* or CLASS.txt"):
        Text(path=str(tmp_path)).num_examples("train")
    with pytest.raises(ConfigError, match="together less than 1"):
        Text(path="x", validation_fraction=0.5, test_fraction=0.5)


@hypothesis.given(content=st.binary(max_size=60))
@hypothesis.settings(max_examples=150, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path, content):
    write(tmp_path)
    with open(tmp_path / "train.tsv", "ab") as file:
        file.write(content)
    try:
        source = Text(path=str(tmp_path))
        assert source.num_examples("train") >= 36
    except ConfigError as error:
        assert "train.tsv" in str(error) and "\n" not in str(error)
