# SPDX-License-Identifier: Apache-2.0
"""Pictures of an evaluation: of the first examples, in TensorBoard and as files."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from perceiver_jax.tasks.classification import Classification
from perceiver_jax.training.pictures import Pictures
from perceiver_jax.training.sharding import make_mesh
from perceiver_jax.training.writers import Writers
from tests.training.toy import Blobs, Linear


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown(Classification):
    """Draws the probabilities of each example, and the statistic `red` beside them."""

    num_visualized: ClassVar[int] = 5

    def visualize(self, predictions, batch, stats):
        rows = np.column_stack(
            [predictions["probabilities"], batch["label"] / 2, np.full(len(batch["id"]), stats["red"])]
        )
        return {"shares": np.round(255 * rows)[..., None].astype(np.uint8).repeat(3, -1)}


def test_the_first_examples_are_drawn_after_every_evaluation(tmp_path):
    task, source = Shown(model=Linear(), input_name="x", num_classes=3), Blobs()
    variables = task.init(jax.random.key(0), source.spec)
    pictures = Pictures(task, source, "validation", make_mesh(), tmp_path, seed=0)
    with Writers(tmp_path) as writers:
        for step in (8, 16):
            pictures.draw(step, variables, {"red": step / 16}, writers)
    assert pictures.step._cache_size() == 1
    files = sorted((tmp_path / "figures" / "validation").iterdir())
    assert [file.name for file in files] == ["shares_00000008.png", "shares_00000016.png"]
    batch = source.load("validation", np.arange(5), None)
    probabilities = task.predict(variables, jax.tree.map(jnp.asarray, batch), {})["probabilities"]
    found = np.asarray(Image.open(files[0]))[..., 0]
    expected = np.column_stack([probabilities, batch["label"] / 2, np.full(5, 0.5)])
    np.testing.assert_allclose(found, 255 * expected, atol=1)
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert [event.step for event in events.Images("validation/shares")] == [8, 16]
