# SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong with images, sequences, text or somebody's own examples: one clear line, exit 78, nothing compiled.

The same table as `bad_input_test` has for clouds, configs and run folders.
"""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tests import example_sets as sets
from tests.damage import binary, cut, nothing, text

TRAIN = sets.ARRAYS["train_labels"]
TS = sets.TS_HEAD
TS_LINE = "1,2,3:4,5,6:a\n"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """One good set of every form; each row works on a copy."""
    folder = tmp_path_factory.mktemp("good")
    for form, write in sets.WRITERS.items():
        (folder / form).mkdir()
        write(folder / form)
    return folder


def arrays(**changes):
    return lambda folder: sets.write_npz(folder, **changes)


def changed(array, place, new):
    array = array.copy()
    array[place] = new
    return array


def picture(name, pixels):
    def apply(folder):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / name)

    return apply


def order(pixels):
    """A file with an order of the pixels beside the images."""
    return lambda folder: np.save(folder.parent / "order.npy", pixels)


def own(code):
    return text("own.py", f"def examples(split):\n    {code}\n")


SMALL = ("--config.batch_size=8", "--config.data.download=False", "--config.data.validation_fraction=0.2")
IMAGES = ("main", "--config=configs/cifar10.py:cpu", "--config.data.path={data}", *SMALL)
ORDERED = (*IMAGES, "--config.data.permutation_file={data}/../order.npy")
SERIES = ("main", "--config=configs/timeseries.py", "--config.data.path={data}")
TEXT = ("main", "--config=configs/text.py", "--config.data.path={data}")
FACTORY = "--config.data.factory={data}/own.py:examples"
OWN = ("main", "--config=configs/own_data.py:python", FACTORY)
SEQUENCES = ("main", "--config=configs/own_data.py:sequences", FACTORY)
ROWS = [  # (which set, what is done to it, command, the expected line as a regular expression)
    ("cifar", cut("data_batch_3", 900), IMAGES, "data_batch_3: is no CIFAR file .*Unpack the set again"),
    ("cifar", text("batches.meta", "<html>"), IMAGES, "batches.meta: is no CIFAR file"),
    ("cifar binary", cut("train.bin", 5000), IMAGES, "train.bin: 5000 bytes: expected a multiple of 3074"),
    ("cifar binary", binary("fine_label_names.txt", b"a\n\xff\nc\n"), IMAGES, "fine_label_names.txt.* not UTF-8"),
    ("npz", cut("set.npz", 700), IMAGES, "set.npz: cannot be read"),
    ("npz", arrays(train_labels=TRAIN + 1), IMAGES, "train has labels from 1 to 3: expected 0 to 2. Subtract 1"),
    ("npz", arrays(train_labels=TRAIN // 2), IMAGES, "test has classes that train lacks: 2"),
    ("npz", arrays(train_labels=TRAIN[:9]), IMAGES, "24 images with 9 labels"),
    ("npz", arrays(test_images=sets.IMAGES[:6, :7]), IMAGES, r"test has images of shape \(7, 8, 3\): expected \(8, 8"),
    ("npz", arrays(train_images=sets.IMAGES[..., :2]), IMAGES, "test has images of shape .8, 8, 3.: expected .8, 8, 2"),
    ("npz", arrays(train_images=changed(sets.IMAGES / 255, (3, 1), np.nan)), IMAGES, "NaN.* number 3"),
    ("npz", arrays(train_images=np.array([np.zeros((2, 2)), 0], object)), IMAGES, "set.npz: cannot be read .*bject"),
    ("npz", arrays(train_images=sets.IMAGES[:, :6], test_images=sets.IMAGES[:6, :6]), IMAGES, "patch_size=4.* 6 x 8"),
    ("npz", order(np.arange(63)), ORDERED, r"order.npy has shape \(63,\).*: expected 64 integers"),
    ("npz", order(np.zeros(64, int)), ORDERED, "order.npy: expected each of 0..63 once"),
    ("idx", cut("train-images*", 60), IMAGES, "train-images-idx3-ubyte.gz: cannot be read"),
    ("classes", cut("04.png", 60), IMAGES, "04.png: cannot be read as an image .*bad_images=skip"),
    ("classes", picture("train/dog/x.png", sets.IMAGES[0, :5]), IMAGES, "x.png: 5 x 8 pixels: expected 8 x 8"),
    ("classes", picture("train/dog/x.png", np.full((8, 8), 9, np.uint16)), IMAGES, "x.png: mode I;16: expected 8 bits"),
    ("classes", picture("test/cow/x.png", sets.IMAGES[0]), IMAGES, "test has classes that train lacks: cow"),
    ("tfds", cut("*train*array_record*", 90), IMAGES, "the prepared set is damaged"),
    ("tfds", text("prepared_images/1.0.0/features.json", "{}"), IMAGES, "the prepared set is damaged"),
    ("tsv", nothing, IMAGES, "no image files here .*got test.tsv, train.tsv"),
    ("ts", text("Small_TRAIN.ts", TS + TS_LINE + "1,2:3:a\n"), SERIES, "line 8: channel 2 has 1 values: expected 2"),
    ("ts", text("Small_TRAIN.ts", TS + TS_LINE + "1,2:a\n"), SERIES, "line 8: has 1 channels: expected 2"),
    ("ts", text("Small_TRAIN.ts", TS + "1,NaN:1,2:a\n"), SERIES, "line 7: has a missing value"),
    ("ts", text("Small_TRAIN.ts", TS + "::a\n"), SERIES, "line 7: is an empty sequence"),
    ("ts", text("Small_TRAIN.ts", TS), SERIES, "has no cases"),
    ("ts", text("Small_TEST.ts", TS + "1,2:3,4:d\n"), SERIES, "class 'd' is not in the header"),
    ("ts", text("Small_TRAIN.ts", TS + TS_LINE * 9), SERIES, "class 'b' is not in the training file"),
    ("ts", binary("Small_TRAIN.ts", TS.encode() + b"1,2:3,4:\xff\n"), SERIES, "line 7: is not UTF-8"),
    ("tsv", nothing, SERIES, "expected a folder with one NAME_TRAIN.ts.*got none"),
    ("tsv", binary("train.tsv", "a\tü\n".encode("latin-1")), TEXT, "train.tsv, line 1: is not UTF-8 .byte 0xfc"),
    ("tsv", text("train.tsv", "a\tgood\nb bad\n"), TEXT, "train.tsv, line 2: has no tab"),
    ("tsv", text("train.tsv", "a\tgood\nb\t \n"), TEXT, "train.tsv, line 2: has an empty text"),
    ("tsv", text("test.tsv", "d\tnew\n"), TEXT, "class 'd' of the test split is not in the training split"),
    ("tsv", text("train.tsv", "\n"), TEXT, "train.tsv: is empty"),
    ("books", binary("b.txt", b"word\nw\xfcrd"), TEXT, "b.txt, line 2: is not UTF-8"),
    ("own", own("return [{'input': [[1., 2.], [3.]], 'label': 0}]"), SEQUENCES, "0 of train: its input is ragged"),
    ("own", own("return [{'input': [[0.] * n], 'label': 0} for n in (2, 3)]"), SEQUENCES, "1 of train has shape"),
    ("own", own("return [{'input': [[0.]], 'label': k} for k in (1, 2)]"), SEQUENCES, "labels from 1 to 2"),
    ("own", own("return [{'input': [[float('nan')]], 'label': 0}]"), SEQUENCES, "not all finite"),
    ("own", own("return [{'input': [[0.]], 'label': 0, 'mask': [0]}]"), SEQUENCES, "its input is empty"),
    ("own", own("return [{'input': [[0.]], 'label': split == 'test'}]"), SEQUENCES, "label is False: expected an"),
    ("own", own("return [{'input': [[0.]], 'label': 2 * (split == 'test')}]"), SEQUENCES, "that train lacks: 2"),
    ("own", own("return [{'input': [[0.] * 8] * n, 'label': 0} for n in (8, 4)]"), OWN, "1 of train has shape .4, 8."),
    ("own", own("return missing"), OWN, "failed with NameError: name 'missing' .*own.py, line 2"),
    ("own", text("own.py", "def examples(split:\n"), OWN, "cannot be imported .SyntaxError"),
    ("own", nothing, (*OWN[:2], "--config.data.factory={data}/own.py:example"), "no attribute 'example'"),
    ("own", nothing, OWN, "shape .*own_sequences"),
]  # fmt: skip
REAL = (4, 31)  # rows that start a process of their own


@pytest.mark.parametrize(
    ("number", "row"), list(enumerate(ROWS)), ids=[f"{row[0]} {row[-1]}"[:50].replace("/", "") for row in ROWS]
)
def test_one_line_and_exit_78(good, tmp_path, run_module, run_forked, number, row):
    which, damage, (module, *arguments), expected = row
    data, workdir = tmp_path / "data", tmp_path / "run"
    shutil.copytree(good / which, data)
    damage(data)
    run = run_module if number in REAL else run_forked
    result = run(module, *(argument.format(data=data) for argument in arguments), f"--workdir={workdir}")
    assert result.rc == 78, result
    assert re.search(expected, result.stderr), result.stderr
    assert "Traceback" not in result.stderr and result.stderr.count("\n") <= 2, result.stderr
    assert "first step" not in result.stdout and not (workdir / "checkpoints").exists()


def test_a_corrupt_image_may_be_skipped_and_is_counted(good, tmp_path, run_forked):
    shutil.copytree(good / "classes", tmp_path / "data")
    cut("04.png", 60)(tmp_path / "data")
    arguments = [argument.format(data=tmp_path / "data") for argument in IMAGES[1:]]
    result = run_forked("check_data", *arguments, "--config.data.bad_images=skip", f"--output_dir={tmp_path}")
    assert result.rc == 0, result
    assert "skipped 1 of 12 images" in result.stdout + result.stderr
