# SPDX-License-Identifier: Apache-2.0
"""New images of a trained prior: `Generator.from_run("runs/svq_prior").generate(8)`. The run folder is all it needs.

Image i follows from the seed and i alone: whatever is asked, batches have the same number of rows, the last one too.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_jax import experiment
from perceiver_jax.errors import ConfigError
from perceiver_jax.tasks.code_prior import CodeModeling, Generated


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
        batch_size: int = 8,
    ) -> Generated:
        """`num` images and their codes.

        Args:
            temperature: of the codes: 1 is the prior's own, near 0 takes the likeliest.
            top_k: draws from so many of the likeliest codes only.
            top_p: draws from the fewest likeliest codes that have this probability together.
            seed: of all images.
            batch_size: images made at a time; each is the same in any, but for rounding.

        Raises:
            ConfigError: a value out of range.
        """
        check(num, temperature, top_k, top_p, batch_size)
        key, parts = jax.random.key(seed), []
        for start in range(0, num, batch_size):
            keys = jax.vmap(functools.partial(jax.random.fold_in, key))(start + jnp.arange(batch_size))
            drawn = self._draw(self.run.variables, keys, np.float32(temperature), top_k, top_p)
            parts.append(jax.device_get((drawn.images, drawn.codes)))
        return Generated(*(np.concatenate(arrays)[:num] for arrays in zip(*parts, strict=True)))

    @functools.cached_property
    def _draw(self):
        """Compiled once for each (top_k, top_p) and size of a batch."""

        def draw(variables, keys, temperature, top_k, top_p):
            return self.run.task.generate(variables, keys, temperature=temperature, top_k=top_k, top_p=top_p)

        return jax.jit(draw, static_argnums=(3, 4))


def folder_name(step: int, how: Mapping[str, float | None]) -> str:
    """Each value with all its digits: other values have another folder."""
    given = [f"{name.replace('_', '')}{value}" for name, value in how.items() if value is not None]
    return "-".join([f"{step:08d}", *given])


def check(num: int, temperature: float, top_k: int | None, top_p: float | None, batch_size: int = 1) -> None:
    """ConfigError unless each is in range."""
    rules = {
        f"num={num}": (num >= 1, "at least 1"),
        f"temperature={temperature:g}": (1e-6 <= temperature <= 1e6, "1e-6 to 1e6, e.g. 1.0"),
        f"batch_size={batch_size}": (batch_size >= 1, "at least 1"),
        f"top_k={top_k}": (top_k is None or top_k >= 1, "at least 1"),
        f"top_p={top_p}": (top_p is None or 0 < top_p <= 1, "more than 0 and at most 1"),
    }
    if problems := [f"{what}: expected {expected}." for what, (good, expected) in rules.items() if not good]:
        raise ConfigError(" ".join(problems))
