# SPDX-License-Identifier: Apache-2.0
import io
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.mesh import metadata as mesh

from perceiver_jax.errors import ConfigError
from perceiver_jax.metrics.history import history
from perceiver_jax.training.writers import Writers, count_lines


def events(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return accumulator.Reload()


def test_tensorboard_reads_everything_back(tmp_path):
    image = np.linspace(0, 1, 2 * 4 * 6 * 3, dtype=np.float32).reshape(2, 4, 6, 3)
    cloud = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    with Writers(tmp_path) as writers:
        writers.hparams({"learning_rate": 0.1, "name": "lamb", "shape": (1, 2)}, ["train/loss"])
        for step in (1, 2):
            writers.scalars(step, {"train/loss": np.float32(0.1) * step, "count": np.array([step])})
        writers.images(2, {"sheet": image, "one": (255 * image[0]).astype(np.uint8)})
        writers.texts(2, {"note": "**read** me"})
        writers.histograms(2, {"weights": np.arange(100.0)})
        writers.point_clouds(2, {"cloud": cloud, "single": cloud[0]}, {"cloud": np.abs(cloud)})
    found = events(tmp_path)
    assert [(e.step, e.value) for e in found.Scalars("train/loss")] == [
        (1, pytest.approx(0.1)),
        (2, pytest.approx(0.2)),
    ]
    assert {"sheet/0", "sheet/1", "one"} <= set(found.Tags()["images"])
    assert (found.Images("one")[0].height, found.Images("one")[0].width, found.Images("one")[0].step) == (
        4,
        6,
        2,
    )
    assert found.Tensors("note/text_summary")[0].tensor_proto.string_val[0] == b"**read** me"
    assert "weights" in found.Tags()["histograms"] + found.Tags()["distributions"]
    for name, part, value in (
        ("cloud", 1, cloud),
        ("cloud", 3, np.round(255 * np.clip(np.abs(cloud), 0, 1))),
        ("single", 1, cloud[:1]),
    ):
        tag = f"{name}_{part}"
        parsed = mesh.parse_plugin_metadata(found.summary_metadata[tag].plugin_data.content)
        assert (parsed.name, parsed.content_type, tuple(parsed.shape)) == (name, part, value.shape)
        np.testing.assert_array_equal(found.Tensors(tag)[0].tensor_proto.float_val, value.ravel())
    start, experiment = (
        HParamsPluginData.FromString(found.summary_metadata[f"_hparams_/{name}"].plugin_data.content)
        for name in ("session_start_info", "experiment")
    )
    assert start.session_start_info.hparams["learning_rate"].number_value == 0.1
    assert [info.name.tag for info in experiment.experiment.metric_infos] == ["train/loss"]
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


def test_pixels_come_back(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    with Writers(tmp_path) as writers:
        writers.images(3, {"as_bytes": pixels, "as_floats": pixels.astype(np.float32) / 255})
    found = events(tmp_path)
    for tag in ("as_bytes", "as_floats"):
        decoded = Image.open(io.BytesIO(found.Images(tag)[0].encoded_image_string))
        np.testing.assert_array_equal(np.asarray(decoded), pixels)


def test_lines_come_back_exactly(tmp_path):
    values = {
        "a": 0.1 + 0.2,
        "b": np.float32(1 / 3),
        "c": 7,
        "nan": math.nan,
        "up": math.inf,
        "down": -math.inf,
    }
    with Writers(tmp_path) as writers:
        writers.scalars(5, values)
        line = history(tmp_path)[0]  # there without flush or close
    assert line.pop("step") == 5 and isinstance(line.pop("time"), float)
    assert line.keys() == values.keys() and math.isnan(line.pop("nan"))
    assert all(line[key] == float(values[key]) for key in line)
    for text in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_resuming_cuts_back_and_tensorboard_shows_no_step_twice(tmp_path):
    with Writers(tmp_path) as writers:
        for step in range(1, 7):
            writers.scalars(step, {"loss": float(step)})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 7, "lo')  # killed inside a line
    assert count_lines(tmp_path) == 6
    with Writers(tmp_path, start_step=4) as writers:
        assert [line["step"] for line in history(tmp_path)] == [1, 2, 3, 4]
        for step in range(5, 8):
            writers.scalars(step, {"loss": 10.0 * step})
    expected = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 50), (6, 60), (7, 70)]
    assert [(line["step"], line["loss"]) for line in history(tmp_path)] == expected
    assert [(e.step, e.value) for e in events(tmp_path).Scalars("loss")] == expected
    assert sorted(p.name for p in tmp_path.iterdir() if "tfevents" not in p.name) == ["metrics.jsonl"]


def test_resuming_can_keep_a_number_of_lines(tmp_path):
    with Writers(tmp_path) as writers:
        for step, name in ((1, "train"), (2, "train"), (2, "validation")):
            writers.scalars(step, {name: 1.0})
    with Writers(tmp_path, start_step=2, keep_lines=2):
        assert [list(line)[2] for line in history(tmp_path)] == ["train", "train"]


def test_other_processes_write_nothing(tmp_path):
    with Writers(tmp_path / "run", process_index=1) as writers:
        writers.scalars(1, {"loss": 1.0})
        writers.flush()
    assert not (tmp_path / "run").exists() and history(tmp_path / "run") == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"run: cannot be written while .*Not a directory"):
        Writers(tmp_path / "file" / "run")


def test_a_foreign_line_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nhello\n')
    with pytest.raises(ConfigError, match="'hello'"):
        history(tmp_path)


def test_importing_is_light_and_clu_works_without_tensorflow(tmp_path):
    write = "w.write_scalars(3, {'x': 2.0}); w.flush(); w.close()"
    code = (
        "import sys; from perceiver_jax.training.writers import Writers;"
        "assert not {'clu', 'tensorboardX', 'tensorflow'} & sys.modules.keys();"
        "from perceiver_jax.training import clu_without_tensorflow as c; writers = c.install();"
        f"w = writers.create_default_writer({str(tmp_path)!r}); {write};"
        "from clu import periodic_actions; assert periodic_actions.ReportProgress;"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert [(e.step, e.value) for e in events(tmp_path).Scalars("x")] == [(3, 2.0)]
