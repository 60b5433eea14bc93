# SPDX-License-Identifier: Apache-2.0
"""From slots of blocks to an image: a scene of slots that each draw their part, or image tokens one after the other.

Both give the parts of the loss, summed over an image whose pixels are from 0 to 1, as Wu et al. 2024 add them up.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.blocks import SelfAttend
from perceiver_jax.models.dvae import DVAE, PATCH, gumbel_softmax, temperature_at
from perceiver_jax.models.fields import check_numbers
from perceiver_jax.models.quantizer import PROGRESS, Slots, split_blocks
from perceiver_jax.models.transformer import TOKEN_INIT, Cache, Transformer, sample

COUPLER_WIDENING = 4

Images = Float[Array, "batch height width colors"]


class Decoded(NamedTuple):
    """What a decoder gives in training.

    Attributes:
        image: from -1 to 1 where it is good.
        masks: share of every slot in every pixel, where the decoder has any.
        losses: name -> part of the loss of every example.
    """

    image: Images
    masks: Float[Array, "batch num_slots height width 1"] | None
    losses: dict[str, Float[Array, "batch"]]


class SceneDecoder(nn.Module):
    """A broadcast decoder (`broadcast_decoders`), whose alphas are the masks."""

    scene: nn.Module

    def __call__(self, slots: Slots, images: Images, train: bool) -> Decoded:
        """The scene, and its squared error."""
        scene = self.scene(slots)
        return Decoded(scene.image, scene.masks, {"reconstruction": squared_error(scene.image, images)})

    def generate(self, slots: Slots, rng: Key[Array, "..."], temperature: float | Float[Array, ""]) -> Images:
        """The image; nothing is drawn at random."""
        return self.scene(slots).image


class TransformerDecoder(nn.Module):
    """Tokens of a discrete VAE, one after the other, by a transformer that attends to the blocks of the slots.

    Each block is projected by weights and a bias of its own, which also tells its place, and the blocks of a slot
    attend to each other; the order of the slots leaves no trace. The VAE is trained beside the transformer and feels
    nothing of it: the tokens to be predicted are detached.

    Attributes:
        image_size: height and width.
        num_blocks: of a slot.
        vocab_size: tokens of the VAE.
        vae_channels: of its hidden layers.
        dim, num_layers, num_heads, dropout_rate: of the transformer.
        annealing_steps: over which the temperature of the VAE falls.
        dtype: of the products.
    """

    image_size: int
    num_blocks: int
    vocab_size: int = 4096
    vae_channels: int = 64
    dim: int = 192
    num_layers: int = 8
    num_heads: int = 4
    dropout_rate: float = 0.1
    annealing_steps: int = 30_000
    dtype: Any = jnp.float32

    def setup(self):
        counts = ("vocab_size", "vae_channels", "dim", "num_layers", "num_heads", "annealing_steps")
        check_numbers("model.decoder", **{name: getattr(self, name) for name in counts})
        if self.image_size % PATCH:
            raise ConfigError(
                f"the transformer decoder makes patches of {PATCH} pixels: image_size={self.image_size} is no multiple "
                "of it. Set the size of the data to one."
            )
        self.side = self.image_size // PATCH
        self.vae = DVAE(self.vocab_size, self.vae_channels, dtype=self.dtype)
        of_each_block = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "in_axes": -2, "out_axes": -2}
        self.project = nn.vmap(nn.Dense, axis_size=self.num_blocks, **of_each_block)(
            self.dim, dtype=self.dtype, bias_init=TOKEN_INIT
        )
        self.coupler = SelfAttend(
            self.num_heads, COUPLER_WIDENING, False, self.dropout_rate, "dense", 1, dtype=self.dtype
        )
        self.embed = nn.Embed(self.vocab_size, self.dim, embedding_init=TOKEN_INIT)
        self.transformer = Transformer(
            (self.side**2,),
            self.dim,
            self.num_layers,
            self.num_heads,
            dropout_rate=self.dropout_rate,
            attends_to_context=True,
            dtype=self.dtype,
        )
        self.logits = nn.Dense(self.vocab_size, use_bias=False)
        self.steps = self.variable(PROGRESS, "steps", jnp.zeros, (), jnp.int32)

    def __call__(self, slots: Slots, images: Images, train: bool) -> Decoded:
        """The image of the likeliest next tokens, the true ones before each given; its losses."""
        shares, targets = self._tokens(self.vae.encode(images), train)
        flat = targets.reshape(len(targets), -1)
        logits = self.logits(self.transformer(self.embed(flat), self.context(slots, train), train=train))
        likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), flat[..., None], -1)[..., 0]
        losses = {"vae": squared_error(self.vae.decode(shares), images), "cross_entropy": -likelihood.sum(1)}
        return Decoded(self.vae.decode_tokens(logits.argmax(-1).reshape(targets.shape)), None, losses)

    def generate(self, slots: Slots, rng: Key[Array, "..."], temperature: float | Float[Array, ""]) -> Images:
        """Images of the slots alone, each token drawn given those before it.

        Args:
            rng: one key, or one for each image, on which it then depends alone.
            temperature: more than 0; `GREEDY` takes the likeliest tokens.
        """
        keys = rng if rng.ndim else jax.random.split(rng, len(slots))
        cache = self.transformer.start(len(slots), self.context(slots, False))
        module, variables = self.unbind()  # a scan cannot hold a bound module

        def step(tokens: Array, cache: Cache, index: Array) -> tuple[Array, Cache]:
            return module.apply(variables, tokens, cache, index, method="next_logits")

        tokens = sample(step, cache, keys, self.side**2, temperature=temperature)
        return self.vae.decode_tokens(tokens.reshape(-1, self.side, self.side))

    def next_logits(
        self, tokens: Int[Array, "batch"], cache: Cache, index: Int[Array, ""]
    ) -> tuple[Float[Array, "batch vocab_size"], Cache]:
        """Of the token at `index`, given the one before it."""
        hidden, cache = self.transformer.step(self.embed(tokens), cache, index)
        return self.logits(hidden), cache

    def context(self, slots: Slots, train: bool) -> Float[Array, "batch length dim"]:
        """What the transformer attends to: all blocks of all slots."""
        blocks = self.project(split_blocks(slots, self.num_blocks))
        batch, num_slots, num_blocks, dim = blocks.shape
        coupled = self.coupler(blocks.reshape(-1, num_blocks, dim), train)
        return coupled.reshape(batch, num_slots * num_blocks, dim)

    def _tokens(
        self, logits: Float[Array, "batch rows columns vocab_size"], train: bool
    ) -> tuple[Float[Array, "batch rows columns vocab_size"], Int[Array, "batch rows columns"]]:
        """What the VAE decodes and what is to be predicted; nothing is drawn but in training."""
        if not train:
            tokens = logits.argmax(-1)
            return jax.nn.one_hot(tokens, self.vocab_size), tokens
        temperature = temperature_at(self.steps.value, self.annealing_steps)
        shares = gumbel_softmax(self.make_rng("tokens"), logits, temperature)
        return shares, jax.random.categorical(self.make_rng("tokens"), jax.lax.stop_gradient(logits))


def squared_error(image: Images, target: Images) -> Float[Array, "batch"]:
    """Summed over pixels and colours; both from -1 to 1, the error as if from 0 to 1."""
    return jnp.square(image - target).sum((1, 2, 3)) / 4
