# SPDX-License-Identifier: Apache-2.0
"""What a model attends to: the weights of every attention to the inputs and among the latents, beside its logits.

The layers are those of the model itself, applied one after the other on the dense path, in the order of computation;
each leaves its weights by `attention.sow_weights`. For looking at a few examples: nothing here is fast or small.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from perceiver_jax.models.attention import WEIGHTS
from perceiver_jax.models.blocks import Latents
from perceiver_jax.models.decoders import PerceiverIO
from perceiver_jax.models.keras_perceiver import KerasPerceiver
from perceiver_jax.models.perceiver import Perceiver


class AttentionMaps(NamedTuple):
    """Rows sum to 1 over the real inputs; padded ones get exactly 0.

    Attributes:
        latent_stage: (layers,), the stage after whose cross-attend each layer among the latents comes.
    """

    logits: Float[Array, "batch num_classes"]
    cross: Float[Array, "batch stages cross_heads num_latents length"]
    latent: Float[Array, "batch layers heads num_latents num_latents"]
    latent_stage: np.ndarray


Batch = Array | np.ndarray
Maps = Callable[..., AttentionMaps]
"""(variables, inputs, mask or None) -> the maps of a batch, in evaluation."""


def attention_maps(model: Any) -> Maps | None:
    """A function that computes the maps of a batch; None for a model that does not attend.

    Not to be jitted: it compiles each distinct layer once, at its first call, which takes a fraction of the time of the
    whole model, and holds them.
    """
    if isinstance(model, Perceiver | PerceiverIO):
        parts = _PerceiverParts(model.clone(encoder=model.encoder.clone(attention="dense")))
    elif isinstance(model, KerasPerceiver):
        parts = _KerasParts(model.clone(attention="dense"))
    else:
        return None
    compiled = jax.jit(_run, static_argnums=(0, 1))

    def maps(variables: dict[str, Any], inputs: Batch, mask: Batch | None = None) -> AttentionMaps:
        def run(part: Callable, index: int, *arrays: Any) -> tuple[Any, Array | None]:
            return compiled(_Part(parts, part.__name__), index, variables, *arrays)

        return _maps(parts, run, inputs, mask)

    return maps


def _maps(parts: Any, run: Callable, inputs: Batch, mask: Batch | None) -> AttentionMaps:
    (latents, projected), _ = run(parts.begin, 0, inputs)
    cross, layers, stages = [], [], []
    for stage, (index, blocks) in enumerate(parts.stages()):
        latents, weights = run(parts.cross_attend, index, latents, projected[index], mask)
        cross.append(weights)
        for block in blocks:
            latents, weights = run(parts.latent_block, block, latents)
            layers.append(weights)
            stages += [stage] * len(weights)
    found, _ = run(parts.finish, 0, latents, cross, layers)
    return AttentionMaps(*found, np.asarray(stages, np.int32))


def _stacked(logits: Array, cross: list[Array], layers: list[Array]) -> tuple[Array, Array, Array]:
    """The maps of all stages, and of all layers, of which each of the list is (layers, batch, heads, ...)."""
    return logits, jnp.stack(cross, 1), jnp.concatenate(layers).swapaxes(0, 1)


class _Part(NamedTuple):
    """A method of the parts by name: equal for equal models, as a static argument must be."""

    parts: Any
    name: str


def _run(part: _Part, index: int, variables: dict[str, Any], *arrays: Any) -> tuple[Any, Array | None]:
    """What the part returns and the attention weights it leaves, if it attends."""
    method = getattr(part.parts, part.name)
    result, sown = part.parts.model.apply(
        variables, *arrays, method=lambda model, *arrays: method(model, index, *arrays), mutable=["intermediates"]
    )
    found = jax.tree_util.tree_leaves_with_path(sown)
    weights = [leaf for path, leaf in found if any(getattr(key, "key", None) == WEIGHTS for key in path)]
    return result, weights[0] if weights else None


class _PerceiverParts:
    """What a Perceiver or Perceiver IO does, as methods (model, index, arrays) of a bound model."""

    def __init__(self, model: Perceiver | PerceiverIO):
        self.model = model

    def stages(self) -> list[tuple[int, tuple[int, ...]]]:
        return self.model.encoder.stages()

    def begin(self, model: Any, index: int, inputs: Array) -> tuple[Latents, list]:
        encoder, inputs = model.encoder, model.adapter(inputs)
        latents = jnp.broadcast_to(encoder.latents, (len(inputs), *encoder.latents.shape)).astype(encoder.dtype)
        return latents, [cross_attend.project(inputs) for cross_attend in encoder.cross_attends]

    def cross_attend(self, model: Any, index: int, latents: Latents, projected: Any, mask: Array | None) -> Latents:
        mask = None if mask is None else mask.astype(bool)
        return model.encoder.cross_attends[index](latents, projected, mask, False)

    def latent_block(self, model: Any, index: int, latents: Latents) -> Latents:
        return model.encoder.blocks[index](latents, False)

    def finish(self, model: Any, index: int, latents: Latents, *weights: list[Array]) -> tuple[Array, Array, Array]:
        return _stacked(model.classify(latents), *weights)


class _KerasParts:
    """As `_PerceiverParts`."""

    def __init__(self, model: KerasPerceiver):
        self.model = model

    def stages(self) -> list[tuple[int, tuple[int, ...]]]:
        return [(0, (0,))] * self.model.num_iterations

    def begin(self, model: KerasPerceiver, index: int, inputs: Array) -> tuple[Latents, list]:
        latents = jnp.broadcast_to(model.latents, (len(inputs), *model.latents.shape)).astype(model.dtype)
        return latents, [model.cross_attend.project(model.adapter(inputs).astype(model.dtype))]

    def cross_attend(self, model: KerasPerceiver, index: int, latents: Latents, projected: Any, mask: None) -> Latents:
        return model.cross_attend(latents, projected, False)

    def latent_block(self, model: KerasPerceiver, index: int, latents: Latents) -> Latents:
        return model.attend_to_themselves(latents, False)

    def finish(self, model: Any, index: int, latents: Latents, *weights: list[Array]) -> tuple[Array, Array, Array]:
        return _stacked(model.classify(latents), *weights)
