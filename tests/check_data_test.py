# SPDX-License-Identifier: Apache-2.0
"""check_data on files: counts, ranges and an upright picture."""

import numpy as np
from PIL import Image

from tests.data.conftest import write_cifar, write_scene_images

CLASSES = ("cone", "funnel")


def write_cones(folder):
    """Text clouds with normals of cones that stand on their base, y upwards as the official files have it."""
    random = np.random.default_rng(0)
    folder.mkdir()
    (folder / "modelnet40_shape_names.txt").write_text("\n".join(CLASSES))
    for name in CLASSES:
        (folder / name).mkdir()
        for number in range(1, 4):
            height, angle = 1 - np.sqrt(random.uniform(size=2000)), random.uniform(0, 2 * np.pi, 2000)
            points = [(1 - height) * np.cos(angle), 2 * height, (1 - height) * np.sin(angle)]
            rows = np.stack([*points, *np.zeros((2, 2000)), np.ones(2000)], 1)
            np.savetxt(folder / name / f"{name}_{number:04}.txt", rows, fmt="%.4f", delimiter=",")
    for split, numbers in (("train", (1, 2)), ("test", (3,))):
        shapes = [f"{name}_{number:04}" for name in CLASSES for number in numbers]
        (folder / f"modelnet40_{split}.txt").write_text("\n".join(shapes))


def test_text_with_normals_is_counted_and_drawn_upright(run_module, tmp_path):
    write_cones(tmp_path / "set")
    data = ("--config=configs/modelnet40.py", f"--config.data.path={tmp_path / 'set'}", "--config.data.normals=True")
    result = run_module("check_data", *data, "--config.data.num_points=2000", f"--output_dir={tmp_path}")
    assert result.rc == 0, result.stderr
    assert "train: 4 examples" in result.stdout and "points: (2000, 6) float32" in result.stdout
    assert "funnel                             2           1" in result.stdout
    first = np.asarray(Image.open(tmp_path / "samples.png").convert("L"))[40:200, :200] < 250
    widths = first.sum(1)[first.any(1)]
    assert widths[-len(widths) // 3 :].mean() > 1.5 * widths[: len(widths) // 3].mean()


def test_lines_of_text_are_counted_and_drawn(run_module, tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.tsv").write_text("good\tI liked it\nbad\tdull, dull\n" * 10)
    data = ("--config=configs/text.py", f"--config.data.path={tmp_path}")
    result = run_module("check_data", *data, f"--output_dir={tmp_path}")
    assert result.rc == 0, result.stderr
    assert "train: 18 examples" in result.stdout and "tokens: (10,) int32" in result.stdout
    assert np.asarray(Image.open(tmp_path / "samples.png").convert("L")).min() < 100


def test_sequences_are_drawn(run_module, tmp_path):
    result = run_module("check_data", "--config=configs/sequences.py:tiny", f"--output_dir={tmp_path}")
    assert result.rc == 0, result.stderr
    assert Image.open(tmp_path / "samples.png").size[0] > 1000


def test_images_are_drawn_and_written_as_a_set_of_tfds(run_module, tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-py")
    data = ("--config=configs/cifar10.py", f"--config.data.path={tmp_path / 'cifar-10-batches-py'}")
    result = run_module("check_data", *data, f"--output_dir={tmp_path}", f"--write_tfds={tmp_path / 'tfds'}")
    assert result.rc == 0, result.stderr
    assert "image: (32, 32, 3) uint8, 0 to 255" in result.stdout
    assert f"written: {tmp_path}/tfds/prepared_images/1.0.0" in result.stdout
    assert np.asarray(Image.open(tmp_path / "samples.png")).std() > 20


def test_scenes_are_counted_and_drawn(run_forked, tmp_path):
    write_scene_images(tmp_path / "set", "planes", 10)
    data = ("--config=configs/slot_attention.py:own", f"--config.data.path={tmp_path / 'set'}")
    result = run_forked("check_data", *data, f"--output_dir={tmp_path}")
    assert result.rc == 0, result.stderr
    assert "train: 8 examples" in result.stdout and "objects: (64, 64) uint8, 0 to 2" in result.stdout
    assert Image.open(tmp_path / "samples.png").height > 64
