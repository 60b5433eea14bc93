# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from perceiver_jax.data.codes import Codes, packed, read, sorted_slots
from perceiver_jax.data.source import Source
from perceiver_jax.errors import ConfigError

CODES = {
    split: np.random.default_rng(k).integers(0, 9, (n, 4, 3))
    for k, (split, n) in enumerate({"train": 20, "test": 5}.items())
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codes")
    np.savez(folder / "abc.npz", **packed(CODES))
    return folder


def source(folder, **fields):
    return Codes(path=str(folder), key="abc", **fields)


def multiset(codes):
    return [sorted(map(tuple, example)) for example in codes.tolist()]


def test_codes_come_as_they_were_stored(folder):
    built = source(folder)
    assert isinstance(built, Source) and built.splits == ("train", "test") and built.num_examples("test") == 5
    ids = np.array([3, 0, 19])
    batch = built.load("train", ids, 1)
    assert batch["codes"].dtype == np.int32 and built.spec.arrays["codes"].shape == (4, 3)
    np.testing.assert_array_equal(batch["codes"], CODES["train"][ids])


def test_permuted_slots_differ_between_epochs_alone_and_not_by_batch(folder):
    built, ids = source(folder, order="permuted", seed=3), np.arange(20)
    first, second = (built.load("train", ids, epoch)["codes"] for epoch in (0, 1))
    assert multiset(first) == multiset(second) == multiset(CODES["train"])
    assert (first != second).any(axis=(1, 2)).mean() > 0.5
    np.testing.assert_array_equal(built.load("train", ids[5:9], 1)["codes"], second[5:9])
    np.testing.assert_array_equal(built.load("train", ids, None)["codes"], CODES["train"])
    assert (source(folder, order="permuted", seed=4).load("train", ids, 0)["codes"] != first).any()


def test_sorted_slots_are_the_same_however_they_came(folder):
    sort, order = source(folder, order="sorted"), np.array([2, 0, 3, 1])
    codes = sort.load("train", np.arange(20), 0)["codes"]
    assert codes.tolist() == [sorted(example) for example in CODES["train"].tolist()]
    np.testing.assert_array_equal(sorted_slots(CODES["train"][:, order]), codes)


@pytest.mark.parametrize(
    "content",
    [None, b"", b"PK\x03\x04 nothing", "cut", {"train": np.zeros((2, 3), np.uint16)}, {"test": CODES["test"]}],
    ids=["missing", "empty", "no archive", "cut off", "another shape", "no training split"],
)
def test_what_is_not_whole_is_no_codes(folder, tmp_path, content):
    file = tmp_path / "abc.npz"
    if isinstance(content, dict):
        np.savez(file, **packed(content))
    elif content == "cut":
        file.write_bytes((folder / "abc.npz").read_bytes()[:-40])
    elif content is not None:
        file.write_bytes(content)
    assert read(folder / "abc.npz") is not None and read(file) is None
    with pytest.raises(ConfigError, match="missing or damaged"):
        source(tmp_path).num_examples("train")


def test_an_unknown_order_and_codes_of_no_run_are_said():
    with pytest.raises(ConfigError, match="order='random': expected one of learned, sorted, permuted"):
        Codes(order="random")
    with pytest.raises(ConfigError, match="--config.init_from=RUN"):
        Codes().splits  # noqa: B018
