# SPDX-License-Identifier: Apache-2.0
"""`predict` on files of every kind, beside what the predictor says of the arrays in them; and wrong ones."""

import json

import numpy as np
import pytest
from PIL import Image

from perceiver_jax.data.image_folders import read_image
from perceiver_jax.prediction import Predictor
from tests import untrained

RANDOM = np.random.default_rng(0)
CUBE = "OFF\n8 6 0\n" + "\n".join(f"{x} {y} {z}" for x in (0, 1) for y in (0, 1) for z in (0, 1))
CUBE += "\n4 0 1 3 2\n4 4 5 7 6\n4 0 1 5 4\n4 2 3 7 6\n4 0 2 6 4\n4 1 3 7 5\n"
CONFIGS = {
    "clouds": lambda: untrained.config("solids", "tiny"),
    "images": lambda: untrained.config("cifar10", "tiny"),
    "sequences": lambda: untrained.config("sequences", "tiny", data__num_channels=2),
    "text": lambda: untrained.config("text", "tiny"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of each family below `runs`, and files."""
    folder = tmp_path_factory.mktemp("predict")
    for name, config in CONFIGS.items():
        untrained.write_run(folder / "runs" / name, config())
    cloud, waves = RANDOM.normal(size=(2, 64, 3)).astype(np.float32), RANDOM.normal(size=(9, 2)).round(2)
    np.save(folder / "clouds.npy", cloud)
    (folder / "cube.off").write_text(CUBE)
    np.savetxt(folder / "cloud.txt", cloud[0], fmt="%.8f")
    Image.fromarray(RANDOM.integers(0, 255, (40, 24, 3), np.uint8)).save(folder / "large.png")
    Image.fromarray(RANDOM.integers(0, 255, (16, 16), np.uint8)).save(folder / "grey.png")
    Image.fromarray(RANDOM.integers(0, 9999, (16, 16), np.uint16)).save(folder / "deep.png")
    lines = [":".join(",".join(map(str, channel)) for channel in waves.T), "1,2,3:4,5,6"]
    (folder / "waves.ts").write_text("\n".join(["@dimensions 2", "@classLabel false", "@data", *lines]))
    np.save(folder / "waves.npy", waves.T)
    (folder / "long.txt").write_text("tolo meki " * 50)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n of what was an image")
    (folder / "broken.npy").write_bytes(b"\x93NUMPY")
    (folder / "unfinished").mkdir()
    for name in ("config.json", "run.json"):
        (folder / "unfinished" / name).write_bytes((folder / "runs" / "clouds" / name).read_bytes())
    return folder


def expected(folder, family, values):
    predictor = Predictor.from_run(folder / "runs" / family)
    return predictor(values * 3).top(2)[: len(values)]  # the size of a batch that the command also has


def check(result, tops, names):
    assert result.rc == 0, result.stderr
    found = json.loads(result.stdout)
    assert [part["input"] for part in found] == names
    for part, top in zip(found, tops, strict=False):
        assert [row["class"] for row in part["predictions"]] == [label for label, _ in top]
        probabilities = [row["probability"] for row in part["predictions"]]
        np.testing.assert_allclose(probabilities, [value for _, value in top], atol=1e-4)


def predict(run_forked, folder, family, *files, flags=("--json", "--topk=2")):
    paths = [str(folder / file) for file in files]
    named = ("--input", *paths) if paths else ()
    return run_forked("predict", f"--workdir={folder / 'runs' / family}", *flags, *named)


def test_clouds(run_forked, folder):
    result = predict(run_forked, folder, "clouds", "clouds.npy", "cube.off", "cloud.txt")
    cloud = np.load(folder / "clouds.npy")
    names = [str(folder / name) for name in ("clouds.npy:1", "clouds.npy:2", "cube.off", "cloud.txt")]
    check(result, expected(folder, "clouds", list(cloud)), names)
    rows = [[row["class"] for row in part["predictions"]] for part in json.loads(result.stdout)]
    assert rows[3] == rows[0]


def test_images_of_any_size_and_colour(run_forked, folder):
    result = predict(run_forked, folder, "images", "grey.png", "large.png")
    grey = np.asarray(Image.open(folder / "grey.png"))[..., None].repeat(3, 2)
    tops = expected(folder, "images", [grey, read_image(folder / "large.png", 16)])
    check(result, tops, [str(folder / name) for name in ("grey.png", "large.png")])


def test_sequences_without_classes(run_forked, folder):
    result = predict(run_forked, folder, "sequences", "waves.ts", "waves.ts")
    waves = np.load(folder / "waves.npy").T
    check(result, expected(folder, "sequences", [waves]), [f"{folder / 'waves.ts'}:{k}" for k in (1, 2)])


def test_text_that_is_too_long_is_cut_and_said(run_forked, folder):
    result = predict(run_forked, folder, "text", "long.txt", flags=("--topk=2", "--attention"))
    assert result.rc == 0, result.stderr
    length = Predictor.from_run(folder / "runs" / "text").spec.max_length
    assert f"long.txt has length 500: cut to the {length} that this run takes" in result.stderr
    label, value = expected(folder, "text", [("tolo meki " * 50)[:length]])[0][0]
    assert label in result.stdout and f"{100 * value:.1f} %" in result.stdout
    assert Image.open(folder / "runs" / "text" / "figures" / "attention_long.txt.png").size[0] > 1000


@pytest.mark.parametrize(
    ("family", "files", "message"),
    [
        ("clouds", (), "--input is missing"),
        ("clouds", ("none.off",), "no such file"),
        ("nothing", ("cube.off",), "is not a run folder"),
        ("../unfinished", ("cube.off",), "holds no checkpoint yet"),
        (
            "clouds",
            ("grey.png",),
            "this run takes point clouds: expected one of .off, .ply, .pcd, .txt, .npy, got '.png'",
        ),
        ("clouds", ("long.txt",), "long.txt: line 1: expected finite numbers 'x y z'"),
        ("clouds", ("waves.npy",), "waves.npy has shape (2, 9): expected (length, 3)"),
        ("clouds", ("broken.npy",), "broken.npy: cannot be read"),
        ("images", ("broken.png",), "broken.png: cannot be read as an image"),
        ("images", ("deep.png",), "deep.png: mode I;16: expected 8 bits a channel"),
        ("images", ("clouds.npy",), "clouds.npy has type float32: expected uint8, in the units the run was"),
        ("sequences", ("waves.npy",), "waves.npy has shape (2, 9): expected (length, 2), got what looks like channels"),
        ("text", ("broken.png",), "this run takes text: expected one of .txt, .npy"),
    ],
)
def test_what_cannot_be_predicted_is_one_line(run_forked, folder, family, files, message):
    result = predict(run_forked, folder, family, *files)
    assert (result.rc, result.stdout) == (78, ""), result
    assert message in result.stderr and result.stderr.count("\n") == 1, result.stderr
