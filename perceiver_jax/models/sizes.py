# SPDX-License-Identifier: Apache-2.0
"""Perceivers for sequences in three sizes, as a module to use in a program of one's own."""

import dataclasses
from typing import Any

from perceiver_jax.errors import ConfigError
from perceiver_jax.models.adapters import SequenceAdapter
from perceiver_jax.models.perceiver import Perceiver, PerceiverEncoder
from perceiver_jax.models.positions import FourierPositions

FOURIER_BANDS = 16


def _size(latent_dim: int, num_heads: int, num_latents: int, num_cross_attends: int, num_self_attends: int):
    """Self-attention layers are counted in all, and split evenly over the cross-attends; no weights are shared."""
    return {
        "num_latents": num_latents,
        "latent_dim": latent_dim,
        "num_cross_attends": num_cross_attends,
        "num_blocks": num_cross_attends,
        "num_self_attends_per_block": num_self_attends // num_cross_attends,
        "num_cross_attend_heads": num_heads,
        "num_self_attend_heads": num_heads,
        "cross_attend_width": "latents",
        "share_cross_attends": "none",
        "share_blocks": "none",
    }


SIZES: dict[str, dict[str, Any]] = {
    "small": _size(256, 4, 128, 1, 3),
    "base": _size(512, 8, 256, 1, 6),
    "large": _size(768, 12, 512, 2, 8),
}
"""Fields of a PerceiverEncoder: width, heads, latents, cross-attends, self-attention layers."""


def build(size: str, *, input_dim: int, num_classes: int, max_length: int = 512, **fields: Any) -> Perceiver:
    """A classifier of sequences (batch, length, input_dim) to logits (batch, num_classes).

        model = perceiver_jax.models.build("base", input_dim=32, num_classes=10)
        variables = model.init(jax.random.key(0), jnp.zeros((1, 100, 32)))
        logits = model.apply(variables, inputs, mask)  # inputs (4, 100, 32), mask (4, 100), 1 for real

    Args:
        size: "small", "base" or "large".
        max_length: the longest sequence; a position is an index over it.
        fields: any field of Perceiver or PerceiverEncoder instead of the size's, e.g. latent_dim=512,
            num_latents=512, num_self_attend_heads=8, num_cross_attends=2, num_blocks=2,
            num_self_attends_per_block=4.

    Raises:
        ConfigError: no such size or field.
    """
    if size not in SIZES:
        raise ConfigError(f"size={size!r} is unknown: expected one of {', '.join(SIZES)}.")
    own = {"pooling", "zero_head"}
    known = own | {field.name for field in dataclasses.fields(PerceiverEncoder)} - {"name", "parent"}
    if unknown := sorted(fields.keys() - known):
        raise ConfigError(f"{unknown[0]}: no field of the model: expected some of {', '.join(sorted(known))}.")
    encoder = {name: value for name, value in fields.items() if name not in own}
    return Perceiver(
        adapter=SequenceAdapter(FourierPositions(FOURIER_BANDS, max_length), max_length, input_dim),
        encoder=PerceiverEncoder(**SIZES[size] | encoder, parent=None),
        num_classes=num_classes,
        **{name: value for name, value in fields.items() if name in own},
    )
