# SPDX-License-Identifier: Apache-2.0
"""Attention maps made small enough for a page, and read back as the page reads them."""

import base64
import json

import numpy as np
import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.files import read_json, write_arrays, write_json
from perceiver_jax.reports import attention_maps
from perceiver_jax.reports.demo_data import BYTES, demo_data, fitting, most_focused, pack
from tests.reports.attention_files import EXAMPLES, HEADS, LATENTS, STAGES, write_run


def unpacked(data, step):
    """Maps and numbers as demo.js takes them."""
    shape = (EXAMPLES, data["stages"], data["heads"] + 1, len(data["latents"]) + 1)
    levels = np.frombuffer(base64.b64decode(data["maps"][step]), np.uint8).reshape(*shape, data["inputs"])
    numbers = np.frombuffer(base64.b64decode(data["numbers"][step]), "<f4").reshape(*shape, 3)
    return levels / 255 * numbers[..., 2:], numbers


LABELLED = {"label": np.asarray([0, 1]), "id": np.asarray([3, 4])}


@pytest.mark.parametrize("kind", ["image", "points", "sequence", "text"])
def test_maps_come_back_and_examples_are_shown(tmp_path, kind):
    data = json.loads(json.dumps(demo_data(write_run(tmp_path, kind), (8, 24))))
    cross = attention_maps.read(tmp_path, 16)["cross"]
    maps, numbers = unpacked(data, 1)
    real = np.asarray([example["length"] for example in data["examples"]])[:, None, None, None, None]
    relative = cross * real
    np.testing.assert_allclose(maps[:, :, 1:, 1:], relative, atol=0.5 / 255 * relative.max() + 1e-4)
    np.testing.assert_allclose(maps[:, :, 0, 0], relative.mean((2, 3)), atol=0.02)
    np.testing.assert_allclose(numbers[..., 1:, 1:, 2], relative.max(-1), rtol=1e-4)
    entropy = -(cross[0] * np.log(np.maximum(cross[0], 1e-12))).sum(-1) / np.log(cross.shape[-1])
    np.testing.assert_allclose(numbers[0, :, 1:, 1:, 1], entropy, rtol=1e-3)
    assert (data["steps"], data["epochs"], data["latents"]) == ([8, 16, 24], [1, 2, 3], [0, 1, 2])
    assert data["start"] == [0, 2]
    assert data["stages"] == STAGES and data["heads"] == HEADS and len(data["colormaps"]) == 7
    shown = data["examples"][1]
    assert shown["title"] == "2: 개 @DATA@" and shown["guesses"][0].startswith("개 @DATA@, 80.")
    assert shown["length"] == {"image": 16, "points": 40, "sequence": 15, "text": 15}[kind]
    assert {"image": "image", "points": "points", "sequence": "curves", "text": "letters"}[kind] in shown


def test_what_does_not_fit_is_left_out_in_order():
    assert fitting((6, 2, 1, 16, 128), 12) == {"examples": 6, "latents": 16, "steps": 12}
    large = (6, 4, 3, 96, 1024)
    kept = fitting(large, 12)
    assert kept["latents"] < 96 and kept["steps"] >= 4
    assert kept["steps"] * kept["examples"] * 4 * 4 * (kept["latents"] + 1) * 1024 <= BYTES


def test_left_out_latents_count_in_the_means():
    rng = np.random.default_rng(0)
    cross = rng.dirichlet(np.ones(12), size=(2, 1, 2, LATENTS)).astype(np.float32)
    cross[:, :, :, 1] = np.eye(12, dtype=np.float32)[5]
    assert most_focused(cross, 1).tolist() == [1]
    maps, numbers = pack(cross, np.asarray([1]), np.ones((2, 12), bool))
    assert maps.shape == (2, 1, 3, 2, 12) and (maps[:, :, :, 1, 5] == 255).all()
    np.testing.assert_allclose(numbers[:, :, 0, 0, 2], 12 * cross.mean((2, 3)).max(-1), rtol=1e-5)


def test_pixels_in_another_order_are_put_back(tmp_path):
    order = np.random.default_rng(1).permutation(16)
    write_run(tmp_path, "image", steps=(8,))
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1).repeat(2, axis=0)
    examples = {"image": image.reshape(2, 16, 1)[:, order].reshape(2, 4, 4, 1), **LABELLED}
    write_arrays(tmp_path / "attention" / "examples.npz", examples)
    about = read_json(tmp_path / "attention" / "about.json")
    write_json(tmp_path / "attention" / "about.json", about | {"permutation": order.tolist(), "patch": 1})
    data = demo_data(tmp_path, (8, 8))
    cross = attention_maps.read(tmp_path, 8)["cross"]
    maps, _ = unpacked(data, 0)
    np.testing.assert_allclose(maps[:, :, 1:, 1:][..., order], 16 * cross, atol=0.5 / 255 * 16 * cross.max() + 1e-4)
    from PIL import Image

    file = tmp_path / "image.png"
    file.write_bytes(base64.b64decode(data["examples"][0]["image"].partition(",")[2]))
    assert np.asarray(Image.open(file))[..., 0].ravel().tolist() == list(range(16))


def test_a_letter_of_several_bytes_stands_once(tmp_path):
    write_run(tmp_path, "text", steps=(8,))
    tokens = np.frombuffer("a개\nb".encode() + b"c" * 14, np.uint8).astype(np.int32) + 6
    examples = {"tokens": np.stack([tokens] * 2), **LABELLED}
    write_arrays(tmp_path / "attention" / "examples.npz", examples)
    assert demo_data(tmp_path, (8, 8))["examples"][0]["letters"] == ["a", "개", "", "", "↵", "b", *"c" * 14]


def test_a_run_without_maps_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="config.attention_maps.every"):
        demo_data(tmp_path, (8, 8))
