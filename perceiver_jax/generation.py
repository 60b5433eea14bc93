# SPDX-License-Identifier: Apache-2.0
"""New images of a trained prior: `Generator.from_run("runs/svq_prior").generate(8)`. The run folder is all it needs.

Image i follows from the seed and i alone: batches have always `BATCH` rows, whatever is asked.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, UInt8

from perceiver_jax import experiment
from perceiver_jax.errors import ConfigError
from perceiver_jax.tasks.code_prior import CodeModeling

BATCH = 8


class Generated(NamedTuple):
    """One row an image."""

    images: UInt8[np.ndarray, "images height width 3"]
    codes: Int[np.ndarray, "images num_slots num_blocks"]


class Generator:
    """Generates any number of images.

    Attributes:
        run: as `experiment.load` gives it.
    """

    def __init__(self, run: experiment.Run):
        if not isinstance(run.task, CodeModeling):
            raise ConfigError(
                f"{run.workdir} has no prior to generate from (task {run.config['task']['name']!r}): expected a run of "
                "configs/svq_prior.py, which begins with one of configs/svq.py."
            )
        self.run = run

    @classmethod
    def from_run(cls, run: str | Path, checkpoint: str = "best") -> "Generator":
        """Reads the prior and the autoencoder from a run folder.

        Args:
            checkpoint: "best", "latest" or a step.

        Raises:
            ConfigError: no such run or checkpoint, or a run without a prior.
        """
        return cls(experiment.load(run, checkpoint))

    def generate(
        self,
        num: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> Generated:
        """`num` images and their codes.

        Args:
            temperature: of the codes: 1 is the prior's own, near 0 takes the likeliest.
            top_k: draws from so many of the likeliest codes only.
            top_p: draws from the fewest likeliest codes that have this probability together.
            seed: of all images.

        Raises:
            ConfigError: a value out of range.
        """
        check(num, temperature, top_k, top_p)
        key, parts = jax.random.key(seed), []
        for start in range(0, num, BATCH):
            keys = jax.vmap(functools.partial(jax.random.fold_in, key))(start + jnp.arange(BATCH))
            drawn = self._draw(self.run.variables, keys, np.float32(temperature), top_k, top_p)
            parts.append(jax.device_get((drawn.images, drawn.codes)))
        return Generated(*(np.concatenate(arrays)[:num] for arrays in zip(*parts, strict=True)))

    @functools.cached_property
    def _draw(self):
        """Compiled once for each (top_k, top_p)."""

        def draw(variables, keys, temperature, top_k, top_p):
            return self.run.task.generate(variables, keys, temperature=temperature, top_k=top_k, top_p=top_p)

        return jax.jit(draw, static_argnums=(3, 4))


def check(num: int, temperature: float, top_k: int | None, top_p: float | None) -> None:
    """ConfigError unless each is in range."""
    rules = {
        f"num={num}": (num >= 1, "at least 1"),
        f"temperature={temperature:g}": (1e-6 <= temperature <= 1e6, "more than 0, e.g. 1.0"),
        f"top_k={top_k}": (top_k is None or top_k >= 1, "at least 1"),
        f"top_p={top_p}": (top_p is None or 0 < top_p <= 1, "more than 0 and at most 1"),
    }
    if problems := [f"{what}: expected {expected}." for what, (good, expected) in rules.items() if not good]:
        raise ConfigError(" ".join(problems))
