# SPDX-License-Identifier: Apache-2.0
"""A person's own examples: splits, padding, augmentation, and every mistake named with the example it is in."""

import pickle
import textwrap

import numpy as np
import pytest

from perceiver_jax.data.own import OwnExamples, OwnSequences
from perceiver_jax.data.source import Source
from perceiver_jax.errors import ConfigError

SEQUENCES = """
    import numpy as np

    class Waves:
        class_names = ("up", "down")
        def __init__(self, number):
            self.number = number
        def __len__(self):
            return self.number
        def __getitem__(self, i):
            wave = (1.0 - 2 * (i % 2)) * np.arange(1, 8)[:, None] + i
            return {"input": wave, "label": i % 2, "mask": np.arange(7) < 3 + i % 5}

    def examples(split):
        return {"train": Waves(20), "test": Waves(4)}.get(split)
"""
IMAGES = """
    import numpy as np

    def examples(split):
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (20, 6, 5, 3)).astype(np.uint8)
        return [{"input": image, "label": i % 3} for i, image in enumerate(images)] if split == "train" else None
"""


@pytest.fixture
def write(tmp_path):
    """`write(code)` -> the factory `FILE.py:examples`."""

    def write(code):
        file = tmp_path / "my_data.py"
        file.write_text(textwrap.dedent(code))
        return f"{file}:examples"

    return write


def test_sequences_are_padded_and_masked(write):
    source = OwnSequences(factory=write(SEQUENCES), num_lengths=3)
    assert isinstance(source, Source) and source.splits == ("train", "validation", "test")
    assert source.spec.class_names == ("up", "down") and source.spec.max_length == 7
    assert source.padded_lengths == (3, 5, 7)
    batch = source.load("test", np.arange(4), None)
    np.testing.assert_array_equal(batch["mask"].sum(1), [3, 4, 5, 6])
    np.testing.assert_array_equal(source.lengths("test"), [3, 4, 5, 6])
    np.testing.assert_array_equal(batch["input"][1, :, 0], [0, -1, -2, -3, 0, 0, 0])
    for name, array in source.spec.arrays.items():
        assert batch[name].shape == (4, *array.shape) and batch[name].dtype.name == array.dtype
    cut = OwnSequences(factory=source.factory, max_length=2)
    assert cut.spec.max_length == 2 and cut.load("test", np.arange(4), None)["mask"].all()


def test_images_are_augmented_and_split(write):
    source = OwnExamples(factory=write(IMAGES), flip=True, image_size=8, test_fraction=0.3, validation_fraction=0.2)
    assert isinstance(source, Source) and source.spec.class_names == ("0", "1", "2")
    assert {split: source.num_examples(split) for split in source.splits} == {"train": 11, "validation": 3, "test": 6}
    assert source.spec.arrays["input"].shape == (8, 8, 3) and len(source.spec.mean) == 3
    ids = np.arange(11)
    assert source.load("train", ids, 0)["input"].shape == (11, 8, 8, 3)
    assert not np.array_equal(source.load("train", ids, 0)["input"], source.load("train", ids, 1)["input"])
    assert len(pickle.dumps(source)) < 1000
    again = pickle.loads(pickle.dumps(source)).load("test", ids[:3], None)
    np.testing.assert_array_equal(again["input"], source.load("test", ids[:3], None)["input"])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def examples(split): return []", "has no examples for 'train'"),
        ("def examples(split): return [{'input': [1.0]}]", "example 0 of train: expected a dict with input and label"),
        ("def examples(split): return [([1.0], 0)]", "example 0 of train: expected a dict .* got tuple"),
        ("def examples(split): return [{'input': [1.0], 'label': 0.5}]", "label is 0.5: expected an integer from 0"),
        ("def examples(split): return [{'input': [1.0], 'label': -1}]", "label is -1: expected an integer from 0"),
        ("def examples(split): return [{'input': [float('nan')], 'label': 0}]", "not all finite numbers"),
        ("def examples(split): return [{'input': [1e300], 'label': 0}]", "not all finite numbers"),
        ("def examples(split): return [{'input': 'abc', 'label': 0}]", "not all finite numbers"),
        (
            "def examples(split): return [{'input': [1.0] * n, 'label': 0} for n in (3, 4)]",
            r"example 1 of train has shape \(4,\).*expected \(3,\)",
        ),
        ("def examples(split): return [{'input': [[1.0], [1.0, 2.0]], 'label': 0}]", "its input is ragged"),
        ("def examples(split): return [{'input': [1.0], 'label': 0, 'mask': [0]}]", "its input is empty"),
        (
            "def examples(split): return [{'input': [1.0], 'label': 0, 'mask': [1, 1]}]",
            r"mask has shape \(2,\): expected",
        ),
        (
            "def examples(split): return [{'input': [1.0], 'label': k} for k in (1, 2)]",
            "labels from 1 to 2.*Subtract 1",
        ),
        (
            "def examples(split): return [{'input': [1.0], 'label': split == 'test'}]",
            "label is False: expected an integer",
        ),
        (
            "def examples(split): return [{'input': [1.0], 'label': int(split == 'test')}]",
            "test has classes that train lacks: 1",
        ),
        ("def examples(split): return missing", r"examples\('train'\) failed with NameError.*my_data.py, line 1"),
        (
            "class X:\n def __len__(self): return 2\n def __getitem__(self, i): 1 / 0\ndef examples(split): return X()",
            r"example 0 of train failed with ZeroDivisionError.*line 3\). Mend",
        ),
        ("def examples(:", "cannot be imported .SyntaxError"),
        ("def other(split): pass", "cannot be imported .*has no attribute 'examples'"),
    ],
)
def test_mistakes_are_named(write, code, message):
    with pytest.raises(ConfigError, match=message):
        OwnExamples(factory=write(code)).labels("train")


def test_sequences_of_other_shapes_are_named(write):
    code = "def examples(split): return [{'input': [[1.0] * n], 'label': 0} for n in (3, 4)]"
    with pytest.raises(ConfigError, match=r"example 1 of train has shape \(1, 4\): expected \(length, 3\)"):
        OwnSequences(factory=write(code)).labels("train")
    with pytest.raises(ConfigError, match="cannot be imported .*Write FILE.py:NAME or module:NAME"):
        OwnSequences(factory="nowhere.py:examples").labels("train")


@pytest.mark.parametrize("source", [OwnExamples, OwnSequences])
def test_a_share_that_cannot_be_is_said(source):
    with pytest.raises(ConfigError, match="test_fraction=-0.2: expected 0 or more, and less than 1"):
        source(factory="nowhere.py:examples", test_fraction=-0.2)
