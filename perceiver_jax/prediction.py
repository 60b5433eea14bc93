# SPDX-License-Identifier: Apache-2.0
"""Prediction with a trained run: `Predictor.from_run("runs/solids")(clouds)`. The run folder is all that is needed.

Inputs are arrays of one example each, as the data set's files hold them; what training did to every example is done to
them too. A classifier predicts classes; a run that finds slots in images, the arrays of its task. Batches are filled up
to one of `SIZES` rows and lengths to a power of two, so that few programs are compiled whatever is asked.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Shaped

from perceiver_jax import experiment
from perceiver_jax.data import inputs
from perceiver_jax.data.images import ImageAugmentation, pixel_order
from perceiver_jax.data.properties import decoded
from perceiver_jax.errors import ConfigError
from perceiver_jax.training.capture import about as describe
from perceiver_jax.training.sharding import batch_shards, fetch, put_whole, replicated

SIZES = (1, 8, 64)
"""Rows of a batch; on several devices rounded up to what they can share."""
SEED = 0
"""Of the first slots, which are the same for every image, so that none depends on what it is asked with."""
LARGEST_MAPS = 2**30
"""Bytes of the attention maps of one input."""


@dataclasses.dataclass(frozen=True)
class Predictions:
    """One row an input."""

    class_names: tuple[str, ...]
    logits: Float[np.ndarray, "inputs classes"]
    probabilities: Float[np.ndarray, "inputs classes"]

    def __len__(self) -> int:
        return len(self.logits)

    def top(self, k: int) -> list[list[tuple[str, float]]]:
        """The k most likely classes of each input, with their probabilities."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return [
            [(self.class_names[index], float(row[index])) for index in chosen]
            for row, chosen in zip(self.probabilities, order, strict=True)
        ]


class Attention(NamedTuple):
    """Maps of one input, with what is needed to draw them, as `training.capture` keeps those of a run's examples."""

    maps: dict[str, np.ndarray]
    about: dict[str, Any]
    examples: dict[str, np.ndarray]


class Predictor:
    """Predicts for any number of inputs, of any lengths where the model takes them.

    Attributes:
        run: as `experiment.load` gives it.
        spec: of the data the run was trained on.
        finds_slots: whether the run takes images apart into slots, or predicts sets from them.
    """

    def __init__(self, run: experiment.Run):
        self.finds_slots = "slots" in run.task.rng_streams and "image" in run.spec.arrays
        if not run.spec.class_names and not self.finds_slots:
            raise ConfigError(
                f"{run.workdir} was trained without classes and finds no slots in images: there is nothing to predict. "
                "New images of a prior over codes: python -m perceiver_jax.generate"
            )
        self.run, self.spec = run, run.spec
        self._source = experiment.build_source(run.config)  # its files are not read
        self._name = inputs.input_name(run.spec)

    @classmethod
    def from_run(cls, run: str | Path, checkpoint: str = "best") -> "Predictor":
        """Reads weights, class names and preprocessing from a run folder.

        Args:
            checkpoint: "best", "latest" or a step.

        Raises:
            ConfigError: not a run folder, or no such checkpoint.
        """
        return cls(experiment.load(run, checkpoint))

    def __call__(
        self, values: Any, names: Sequence[str] | None = None
    ) -> Predictions | dict[str, Shaped[np.ndarray, "inputs ..."]]:
        """Class names and probabilities; where the run finds slots, what its task predicts.

        Args:
            values: an array with a batch axis, or a list of arrays of one example each; text also as str.
            names: of the inputs, for messages.

        Returns:
            Predictions | dict: of slots the arrays of the task (`masks`, `slots`, `attention`, ...) by name, a row an
                input; of sets also each property by its name, and `confidence`, for each slot.

        Raises:
            ConfigError: an input of another shape or type than the run was trained on, by name.
        """
        names = names or [f"input {k}" for k in range(len(values))]
        prepared = [self.prepare(value, name) for value, name in zip(values, names, strict=True)]
        if self.finds_slots:
            return self._slots(prepared)
        logits = np.zeros((len(prepared), len(self.spec.class_names)), np.float32)
        probabilities = logits.copy()
        for rows, found in self._found(prepared):
            logits[rows], probabilities[rows] = found["logits"], found["probabilities"]
        return Predictions(self.spec.class_names, logits, probabilities)

    def _slots(self, prepared: list[np.ndarray]) -> dict[str, Shaped[np.ndarray, "inputs ..."]]:
        """What the task predicts of all; {} of none."""
        parts = list(self._found(prepared))
        order = np.argsort([row for rows, _ in parts for row in rows])
        names = parts[0][1] if parts else ()
        found = {name: np.concatenate([part[name] for _, part in parts])[order] for name in names}
        if "properties" in found:
            found |= decoded(self.spec.properties, found["properties"])
        return found

    def _found(self, prepared: list[np.ndarray]) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
        """(indices, what the task predicts of them)."""
        for rows, batch in self._batches(prepared):
            with jax.set_mesh(self.run.mesh):
                found = jax.device_get(self._predict(self.run.variables, put_whole(batch, self.run.mesh)))
            yield rows, {name: array[: len(rows)] for name, array in found.items()}

    def attention(self, value: Any, name: str = "the input") -> Attention:
        """What the model attends to in one input.

        Raises:
            ConfigError: the model does not attend, or its maps are too large.
        """
        array = self.prepare(value, name)
        batch = put_whole(self._batch([array], *self._form(array)), self.run.mesh)
        if self._maps is None:
            raise ConfigError(f"{self.run.workdir}: its model does not attend: there are no maps.")
        with jax.set_mesh(self.run.mesh):
            shapes = jax.tree.leaves(jax.eval_shape(self._maps, self.run.variables, batch))
            if (size := sum(math.prod(leaf.shape) * 4 for leaf in shapes)) > LARGEST_MAPS:
                raise ConfigError(f"{name}: attention maps of {size / 2**20:,.0f} MiB are too large to be drawn.")
            maps, batch = fetch((self._maps(self.run.variables, batch), batch), self.run.mesh)
        about = describe(self.spec, batch, maps["cross"].shape[-1], self._pixel_order(array))
        if "mask" in batch:
            maps["cross"] = maps["cross"][..., : len(array)]
        examples = {self._name: array[None], "label": maps["probabilities"].argmax(1)}
        return Attention(maps, about, examples)

    @functools.cached_property
    def _maps(self):
        return self.run.task.attention_maps()

    def _pixel_order(self, array: np.ndarray) -> np.ndarray | None:
        """The order in which the model sees the pixels, where they are not in their own."""
        source = self._source
        if not isinstance(source, ImageAugmentation) or (source.permutation_file, source.permutation_seed) == (
            "",
            None,
        ):
            return None
        return pixel_order(array.shape[0] * array.shape[1], source.permutation_seed, source.permutation_file)

    def prepare(self, value: Any, name: str = "the input") -> np.ndarray:
        """One input as the model sees it, without padding."""
        return inputs.prepare(value, self._source, self.spec, name)

    @functools.cached_property
    def _predict(self):
        """Compiled once for each shape of a batch."""
        return jax.jit(self._each_image if self.finds_slots else self._all, out_shardings=replicated(self.run.mesh))

    def _all(self, variables: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        return self.run.task.predict(variables, batch, {})

    def _each_image(self, variables: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """By itself, all with the same first slots."""
        rngs = {name: jax.random.key(SEED) for name in self.run.task.rng_streams}

        def alone(one: dict[str, Any]) -> dict[str, Any]:
            found = self.run.task.predict(variables, jax.tree.map(lambda array: array[None], one), rngs)
            return jax.tree.map(lambda array: array[0], found)

        return jax.vmap(alone)(batch)

    def _batches(self, prepared: list[np.ndarray]) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
        """(indices, their batch): inputs of one padded length together, at most SIZES[-1] at a time."""
        by_form: dict[tuple[int, bool], list[int]] = {}
        for index, array in enumerate(prepared):
            by_form.setdefault(self._form(array), []).append(index)
        for (length, masked), indices in by_form.items():
            for start in range(0, len(indices), SIZES[-1]):
                rows = indices[start : start + SIZES[-1]]
                yield rows, self._batch([prepared[row] for row in rows], length, masked)

    def _form(self, array: np.ndarray) -> tuple[int, bool]:
        """The length an input is padded to, and whether it then needs a mask."""
        longest, length = self.spec.arrays[self._name].shape[:1], len(array)
        if "mask" in self.spec.arrays:
            return min(_power_of_two(length), *longest), True
        varies = inputs.has_length(self.spec) and (length,) != longest
        return (_power_of_two(length), True) if varies else (length, False)

    def _batch(self, arrays: list[np.ndarray], length: int, masked: bool) -> dict[str, np.ndarray]:
        """Rows up to one of SIZES: copies of the first, which nobody reads."""
        size = next(size for size in SIZES if size >= len(arrays))
        size += -size % batch_shards(self.run.mesh)
        rows = arrays + [arrays[0]] * (size - len(arrays))
        batch = {self._name: np.stack([_padded(row, length) for row in rows]) if masked else np.stack(rows)}
        lengths = np.array([len(row) for row in rows])
        return batch | ({"mask": np.arange(length) < lengths[:, None]} if masked else {})


def _power_of_two(length: int) -> int:
    return 1 << max(length - 1, 0).bit_length()


def _padded(array: np.ndarray, length: int) -> np.ndarray:
    return np.pad(array, [(0, length - len(array)), *[(0, 0)] * (array.ndim - 1)])
