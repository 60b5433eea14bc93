# SPDX-License-Identifier: Apache-2.0
"""Stage one of semantic vector quantisation: images as codes, and put together again (Wu et al. 2024, section 3).

The loss adds the decoder's parts, which are sums over an image, and the weighted commitment. Codebooks follow in
`advance`. An evaluation decodes images from the codes alone, and leaves the codebooks as they are.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, UInt8

from perceiver_jax.data.spec import Spec
from perceiver_jax.figures import codes, slot_views
from perceiver_jax.metrics.codes import use_of_codebooks, use_scores
from perceiver_jax.metrics.statistics import Mean
from perceiver_jax.models.quantizer import CODEBOOK, PROGRESS, code_use, codebook_sums, next_codebook
from perceiver_jax.models.slot_autoencoder import as_pixels, centered
from perceiver_jax.models.svq import Coded
from perceiver_jax.tasks.base import Aux, Batch, Rngs, Task, Variables
from perceiver_jax.tasks.segments import mask_scores, slot_notes


@dataclasses.dataclass(frozen=True, kw_only=True)
class SemanticQuantization(Task):
    """Reconstruction through codes.

    Attributes:
        max_objects: the most an image has, the background not counted.
    """

    max_objects: int = 0
    rng_streams: ClassVar[tuple[str, ...]] = ("slots", "dropout", "tokens")
    num_visualized: ClassVar[int] = 6

    def inputs(self, batch: Batch) -> dict[str, Array]:
        """The image."""
        return {"inputs": batch["image"]}

    def loss(self, variables: Variables, batch: Batch, rngs: Rngs, *, train: bool) -> tuple[Mean, Aux]:
        """The sum of the parts; `stats` has each, and `sums` what the next codebook needs."""
        coded = self._coded(variables, batch, rngs, train)
        stats = self._parts(coded, batch)
        return stats["loss"], Aux(stats, self._sums(coded, batch, variables) if CODEBOOK in variables else {})

    def advance(self, extra: Variables, sums: dict[str, Any], rng: PRNGKeyArray) -> Variables:
        """The codebook of the whole batch, and one more step done."""
        changed = dict(extra)
        if CODEBOOK in extra:
            how = {"ema_decay": self.model.ema_decay, "dead_below": self.model.dead_below}
            changed[CODEBOOK] = {"quantizer": next_codebook(extra[CODEBOOK]["quantizer"], sums, rng, **how)}
        if PROGRESS in extra:
            changed[PROGRESS] = jax.tree.map(lambda steps: steps + 1, extra[PROGRESS])
        return changed

    def evaluate(self, variables: Variables, batch: Batch, rngs: Rngs) -> dict[str, Any]:
        """The parts of the loss; of images made of the codes alone `mse` (from -1 to 1) and `psnr`.

        Where the true objects are known, also `ari`, `fg_ari`, `miou` and `mbo` of the masks.
        """
        coded = self._coded(variables, batch, rngs, train=False)
        image = self._decoded(variables, coded, rngs)
        mse = jnp.square(image - centered(batch["image"])).mean((1, 2, 3))
        scores = {"mse": mse, "psnr": 10 * jnp.log10(4 / mse)}
        means = {name: Mean.of(value, batch["weight"]) for name, value in scores.items()}
        return self._parts(coded, batch) | means | mask_scores(coded.masks, batch, self.max_objects)

    def predict(self, variables: Variables, batch: Batch, rngs: Rngs) -> dict[str, Array]:
        """`recon`, made of the codes alone, `masks`, `slots`, `indices` and `attention` of every iteration."""
        coded = self._coded(variables, batch, rngs, train=False)
        kept = {name: getattr(coded, name) for name in ("masks", "slots", "indices", "attention")}
        return {"recon": self._decoded(variables, coded, rngs)} | kept

    def summarize(self, stats: dict[str, Any]) -> dict[str, float]:
        """Also how the codebooks were used."""
        return super().summarize(stats) | use_scores(np.asarray(stats["code_use"]))

    def results(self, stats: dict[str, Any], class_names: tuple[str, ...]) -> dict[str, Any]:
        """`codebooks`: perplexity, used and dead share of each."""
        use = use_of_codebooks(np.asarray(stats["code_use"]))
        return {"codebooks": [dict(zip(use, map(float, row), strict=True)) for row in zip(*use.values(), strict=True)]}

    def visualize(
        self, predictions: dict[str, np.ndarray], batch: dict[str, np.ndarray], stats: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """What codes alone give and the masks; the attention of every iteration; how often each code was used."""
        shown, recon = batch["image"], predictions["recon"]
        return {
            "slots": slot_views.sheet(shown, recon, recon[:, None], predictions["masks"]),
            "attention": slot_views.attention_sheet(shown, predictions["attention"]),
            "code_use": codes.thumbnail(np.asarray(stats["code_use"])),
        }

    def notes(self, spec: Spec) -> list[str]:
        """What an image becomes; whether there are enough slots."""
        slots, size = self.model.slot_attention, self.model.codebook_size
        bits = slots.num_slots * slots.num_blocks * np.log2(size)
        made = f"codes: {slots.num_slots} slots x {slots.num_blocks} of {size}, {bits:,.0f} bits an image"
        return [made, *slot_notes(slots.num_slots, spec, self.max_objects)]

    def _coded(self, variables: Variables, batch: Batch, rngs: Rngs, train: bool) -> Coded:
        return self.model.apply(variables, **self.inputs(batch), train=train, rngs=rngs)

    def _decoded(self, variables: Variables, coded: Coded, rngs: Rngs) -> Float[Array, "batch height width colors"]:
        return self.model.apply(variables, coded.slots, rngs["tokens"], method="decode")

    def _parts(self, coded: Coded, batch: Batch) -> dict[str, Any]:
        weight = batch["weight"]
        loss = sum(coded.losses.values()) + self.model.commitment_weight * coded.commitment
        parts = {"loss": loss, **coded.losses, "commitment": coded.commitment}
        means = {name: Mean.of(part, weight) for name, part in parts.items()}
        return means | {"code_use": code_use(coded.indices, self.model.codebook_size, weight > 0)}

    def _sums(self, coded: Coded, batch: Batch, variables: Variables) -> dict[str, Array]:
        size, real, step = self.model.codebook_size, batch["weight"] > 0, variables[PROGRESS]["quantizer"]["steps"]
        return codebook_sums(coded.unquantized, coded.indices, size, real, batch["id"], step)


def images_of(
    model: nn.Module,
    variables: Variables,
    codes: Int[Array | np.ndarray, "batch num_slots num_blocks"],
    rng: Key[Array, "..."],
) -> UInt8[Array, "batch height width colors"]:
    """What an autoencoder makes of codes alone."""
    slots = model.apply(variables, codes, method="lookup")
    return as_pixels(model.apply(variables, slots, rng, method="decode"))
