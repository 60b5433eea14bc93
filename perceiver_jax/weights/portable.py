# SPDX-License-Identifier: Apache-2.0
"""A trained model in files that need none of this package: weights as safetensors, the computation as StableHLO.

The exported function takes the flat dict of weights that the safetensors file holds, and a batch; its batch size is
open. It is lowered for all of `PLATFORMS` at once.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np
from safetensors import numpy as safetensors

from perceiver_jax.data.spec import ArraySpec
from perceiver_jax.weights import parameter_paths

PLATFORMS = ("cpu", "cuda", "tpu")
WEIGHTS, FUNCTION = "model.safetensors", "model.stablehlo"

Weights = dict[str, np.ndarray]
Predict = Callable[[Any, dict[str, Any]], dict[str, jax.Array]]


def flat(variables: Any) -> Weights:
    """Path -> array of every variable, `params/...` and other collections, on the host."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(variables))
    return {parameter_paths.join(path): np.asarray(leaf, order="C") for path, leaf in leaves}


def nested(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The variables that `flat` was given."""
    variables: dict[str, Any] = {}
    for path, leaf in weights.items():
        *folders, name = path.split("/")
        place = variables
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = leaf
    return variables


def write(
    folder: Path, predict: Predict, variables: Any, arrays: Mapping[str, ArraySpec], about: dict[str, str]
) -> None:
    """Writes both files.

    Args:
        predict: (variables, batch) -> arrays with a row an example.
        arrays: of the batch, without the batch axis.
        about: kept in the header of the weights.
    """
    weights = flat(variables)
    (folder / WEIGHTS).write_bytes(safetensors.save(weights, metadata=about))
    shapes = {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in weights.items()}
    (size,) = jax.export.symbolic_shape("batch")
    batch = {name: jax.ShapeDtypeStruct((size, *array.shape), array.dtype) for name, array in arrays.items()}

    def function(weights, batch):
        return predict(nested(weights), batch)

    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(shapes, batch)
    (folder / FUNCTION).write_bytes(exported.serialize())


def read(folder: Path) -> tuple[Weights, Callable[[Weights, dict[str, Any]], dict[str, jax.Array]]]:
    """The weights, and the function of them and of a batch of any size."""
    exported = jax.export.deserialize(bytearray((folder / FUNCTION).read_bytes()))
    return safetensors.load_file(folder / WEIGHTS), exported.call
