# SPDX-License-Identifier: Apache-2.0
"""Images as codes, and back: `Coder.from_run("runs/svq").encode(images)`. The run folder is all it needs.

The codes of an image may be changed before they are decoded. Batches are filled up to `BATCH` rows, so that one program
each is compiled whatever is asked.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Int, UInt8

from perceiver_jax import experiment
from perceiver_jax.errors import ConfigError
from perceiver_jax.stages import check_first_stage
from perceiver_jax.tasks.code_prior import FROZEN, CodeModeling, Encoding
from perceiver_jax.tasks.svq import images_of

BATCH = 32

Images = UInt8[np.ndarray, "images height width 3"]
Codes = Int[np.ndarray, "images num_slots num_blocks"]


class Coder:
    """The autoencoder of a run of stage one, or the one that a prior was trained with.

    Attributes:
        image_shape: of one image.
        codes_shape: of one image's codes, (num_slots, num_blocks).
        codebook_size: codes of each block; they count from 0.
    """

    def __init__(self, run: experiment.Run):
        if isinstance(run.task, CodeModeling):
            self._model, self._variables = run.task.autoencoder, run.variables[FROZEN]
            self.image_shape = (run.task.image_size, run.task.image_size, 3)
        else:
            check_first_stage(run)
            self._model, self._variables = run.task.model, run.variables
            self.image_shape = run.spec.arrays["image"].shape
        slots = self._model.slot_attention
        self.codes_shape = (slots.num_slots, slots.num_blocks)
        self.codebook_size = self._model.codebook_size

    @classmethod
    def from_run(cls, run: str | Path, checkpoint: str = "best") -> "Coder":
        """Reads the autoencoder from a run folder.

        Args:
            checkpoint: "best", "latest" or a step.

        Raises:
            ConfigError: no such run or checkpoint, or a run that makes no codes.
        """
        return cls(experiment.load(run, checkpoint))

    def encode(self, images: np.ndarray) -> Codes:
        """The codes of each image.

        Where slots begin with random vectors (`initializer`), these follow from the image's place among `BATCH`.

        Raises:
            ConfigError: not uint8 images of the run's size.
        """
        images = np.asarray(images)
        _check_rows("images", images, self.image_shape, "uint8", images.dtype == np.uint8)
        return _in_batches(self._encoded, images)

    def decode(self, codes: np.ndarray) -> Images:
        """The image that each one's codes make.

        Raises:
            ConfigError: codes of another shape than `encode` gives, or some that there are not.
        """
        codes = np.asarray(codes)
        _check_rows("codes", codes, self.codes_shape, "whole numbers", np.issubdtype(codes.dtype, np.integer))
        if codes.min() < 0 or codes.max() >= self.codebook_size:
            raise ConfigError(f"codes from {codes.min()} to {codes.max()}: expected 0 to {self.codebook_size - 1}.")
        return _in_batches(self._decoded, codes.astype(np.int32))

    @functools.cached_property
    def _encoded(self) -> Callable[[np.ndarray], jax.Array]:
        task = Encoding(model=self._model)
        rngs = {name: jax.random.key(0) for name in task.rng_streams}
        encode = jax.jit(lambda variables, images: task.predict(variables, {"image": images}, rngs)["codes"])
        return functools.partial(encode, self._variables)

    @functools.cached_property
    def _decoded(self) -> Callable[[np.ndarray], jax.Array]:
        decode = jax.jit(lambda variables, codes: images_of(self._model, variables, codes, jax.random.key(0)))
        return functools.partial(decode, self._variables)


def _check_rows(what: str, rows: np.ndarray, shape: tuple[int, ...], kind: str, is_kind: bool) -> None:
    """ConfigError unless there is at least one row, all of this shape and kind."""
    if rows.shape[1:] != shape or not len(rows) or not is_kind:
        axes = ", ".join(map(str, shape))
        raise ConfigError(f"{what} {rows.shape} of {rows.dtype}: expected ({what}, {axes}), at least one, of {kind}.")


def _in_batches(compute: Callable[[np.ndarray], jax.Array], rows: np.ndarray) -> np.ndarray:
    padded = np.concatenate([rows, np.repeat(rows[:1], -len(rows) % BATCH, axis=0)])
    parts = [np.asarray(compute(padded[start : start + BATCH])) for start in range(0, len(padded), BATCH)]
    return np.concatenate(parts)[: len(rows)]
