# SPDX-License-Identifier: Apache-2.0
"""Stage two of semantic vector quantisation: a prior over the codes of stage one (Wu et al. 2024, section 3.3).

The loss is the cross-entropy of an image's codes, summed. The autoencoder of stage one lies, as it was trained, in the
collection `frozen`: it has no gradient, and one run folder is enough to make images.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, UInt8

from perceiver_jax.data.spec import Spec
from perceiver_jax.figures.images import contact_sheet
from perceiver_jax.metrics.codes import use_of_codebooks
from perceiver_jax.metrics.statistics import Mean
from perceiver_jax.models.code_prior import sample_codes
from perceiver_jax.models.quantizer import place_use
from perceiver_jax.tasks.base import Aux, Batch, Rngs, Task, Variables
from perceiver_jax.tasks.svq import images_of

FROZEN = "frozen"
"""The collection of variables that holds those of stage one."""
BITS = np.log2(np.e)  # of a nat


class Generated(NamedTuple):
    """New images, uint8, and the codes they are made of; a row each."""

    images: UInt8[Array | np.ndarray, "batch height width colors"]
    codes: Int[Array | np.ndarray, "batch num_slots num_blocks"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeModeling(Task):
    """Next codes, given those before.

    Attributes:
        autoencoder: of stage one.
        image_size: of its images.
    """

    autoencoder: nn.Module
    image_size: int = 0
    num_visualized: ClassVar[int] = 8

    def inputs(self, batch: Batch) -> dict[str, Array]:
        """The codes."""
        return {"codes": batch["codes"]}

    def init(self, rng: PRNGKeyArray, spec: Spec) -> Variables:
        """Both models; the autoencoder's values are another run's (`config.init_from`)."""
        frozen = self.autoencoder.init(rng, jnp.zeros((1, self.image_size, self.image_size, 3), jnp.uint8))
        return super().init(rng, spec) | {FROZEN: frozen}

    def loss(self, variables: Variables, batch: Batch, rngs: Rngs, *, train: bool) -> tuple[Mean, Aux]:
        """Cross-entropy in nats an image; `bits_per_code`, `accuracy` of the likeliest code, and use of the codes."""
        logits = self._logits(variables, batch, rngs, train)
        nats, codes = self._nats(logits, batch["codes"]), batch["codes"]
        loss = Mean.of(nats.sum((1, 2)), batch["weight"])
        means = {"bits_per_code": BITS * nats.mean((1, 2)), "accuracy": (logits.argmax(-1) == codes).mean((1, 2))}
        stats = {name: Mean.of(value, batch["weight"]) for name, value in means.items()}
        use = place_use(codes, self.model.codebook_size, batch["weight"] > 0)
        return loss, Aux({"loss": loss, **stats, "code_use": use.sum(0), "place_use": use}, {})

    def predict(self, variables: Variables, batch: Batch, rngs: Rngs) -> dict[str, Array]:
        """`bits` of each example's codes; `sample`, an image made anew, which follows from `rngs` and the id alone."""
        nats = self._nats(self._logits(variables, batch, rngs, False), batch["codes"])
        keys = jax.vmap(lambda index: jax.random.fold_in(rngs["dropout"], index))(batch["id"])
        return {"bits": BITS * nats.sum((1, 2)), "sample": self.generate(variables, keys).images}

    def generate(self, variables: Variables, keys: Key[Array, "batch"], **how: Any) -> Generated:
        """New images, one for each key, on which it depends alone; `how` as for `transformer.sample`."""
        keys = jax.vmap(jax.random.split)(keys)
        codes = sample_codes(self.model, variables["params"], keys[:, 0], **how)
        return Generated(images_of(self.autoencoder, variables[FROZEN], codes, keys[:, 1]), codes)

    def summarize(self, stats: dict[str, Any]) -> dict[str, float]:
        """Also what a code costs that is guessed from how often each occurs in these examples, and from nothing else.

        `unigram_bits`: from the frequencies in its block, of all slots; `place_bits`: from those in its block and slot,
        which is less where the order of the slots says something.
        """
        return super().summarize(stats) | {
            "unigram_bits": _bits(np.asarray(stats["code_use"])),
            "place_bits": _bits(np.concatenate(stats["place_use"])),
        }

    def visualize(
        self, predictions: dict[str, np.ndarray], batch: dict[str, np.ndarray], stats: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """New images."""
        images = predictions["sample"]
        return {"samples": contact_sheet(images, [str(k) for k in range(len(images))], columns=4)}

    def notes(self, spec: Spec) -> list[str]:
        """How much an image's codes can say."""
        num_slots, num_blocks = spec.arrays["codes"].shape
        bits = np.log2(self.model.codebook_size)
        return [f"codes: {num_slots} slots x {num_blocks} blocks, {bits:.2f} bits each at most"]

    def _logits(self, variables: Variables, batch: Batch, rngs: Rngs, train: bool) -> Array:
        return self.model.apply({"params": variables["params"]}, **self.inputs(batch), train=train, rngs=rngs)

    def _nats(self, logits: Array, codes: Array) -> Float[Array, "batch num_slots num_blocks"]:
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), codes[..., None], -1)[..., 0]


def _bits(counts: np.ndarray) -> float:
    """Mean entropy of the rows."""
    return float(np.log2(use_of_codebooks(counts)["perplexity"]).mean())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoding(Task):
    """Images to `codes`, by a trained autoencoder; nothing is learned."""

    rng_streams: ClassVar[tuple[str, ...]] = ("slots", "dropout", "tokens")

    def inputs(self, batch: Batch) -> dict[str, Array]:
        """The image."""
        return {"inputs": batch["image"]}

    def predict(self, variables: Variables, batch: Batch, rngs: Rngs) -> dict[str, Array]:
        """The codes of every slot."""
        return {"codes": self.model.apply(variables, **self.inputs(batch), rngs=rngs, method="encode")[1]}
