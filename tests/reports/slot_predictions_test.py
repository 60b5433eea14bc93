# SPDX-License-Identifier: Apache-2.0
"""What is said of slots and of sets."""

import numpy as np
from PIL import Image

from perceiver_jax.reports import slot_predictions

IMAGES = np.zeros((1, 4, 4, 3), np.uint8)


def test_a_slot_owns_the_pixels_of_which_it_has_most():
    masks = np.zeros((1, 3, 4, 4, 1))
    masks[0, 2], masks[0, 0, 0] = 0.6, 0.9
    (record,) = slot_predictions.records(["a.png"], {"masks": masks})
    assert record == {"input": "a.png", "shares": [0.25, 0.0, 0.75]}
    assert slot_predictions.line(record) == "a.png: 2 of 3 slots used: slot 1 25.0 %, slot 3 75.0 %"


def test_a_set_is_what_slots_are_sure_of_the_surest_first(tmp_path):
    found = {"properties": np.zeros((1, 3, 4)), "x": np.array([[0.25, 0.5, 0.75]]), "y": np.array([[0.5, 0.5, 0.125]])}
    found |= {"shape": np.array([[1, 0, 2]]), "confidence": np.array([[0.75, 0.25, 1.0]])}
    (record,) = slot_predictions.records(["a.png"], found)
    assert [row["shape"] for row in record["objects"]] == [2, 1]
    said = "(x 0.75, y 0.125, shape 2, confidence 1), (x 0.25, y 0.5, shape 1, confidence 0.75)"
    assert slot_predictions.line(record) == f"a.png: 2 objects: {said}"
    files = slot_predictions.write(tmp_path, ["a.png"], IMAGES, found)
    assert [file.name for file in files] == ["objects.npz", "results.png"]
    np.testing.assert_array_equal(np.load(files[0])["shape"], found["shape"])
    assert Image.open(files[1]).size[0] > 200
