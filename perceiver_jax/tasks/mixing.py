# SPDX-License-Identifier: Apache-2.0
"""mixup (Zhang et al. 2018, arXiv 1710.09412) and CutMix (Yun et al. 2019, arXiv 1905.04899) of a batch of images.

They run inside `jit` on the global batch, so the number of devices and processes changes nothing. An image is mixed
with that of the next row, the last with that of the first: rows are in random order already. What is mixed is what the
loss is given, so with micro-batches the rows of one micro-batch.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

Images = Shaped[Array, "batch height width channels"]


def own_weights(
    rng: PRNGKeyArray, images: Images, mixup_alpha: float, cutmix_alpha: float
) -> Float[Array, "batch height width"]:
    """How much of its own image each pixel keeps; the rest is the partner's.

    With both on, even rows get mixup and odd ones CutMix: half of the batch each, as in Perceiver IO's recipe.

    Args:
        mixup_alpha: all pixels of an image keep the same share, from Beta(alpha, alpha); 0 is off.
        cutmix_alpha: a box takes the partner's pixels; 1 less its area is from Beta(alpha, alpha) before the box is cut
            off at the border; 0 is off. At most one of the two may be off.
    """
    batch, height, width = images.shape[:3]
    share_rng, box_rng = jax.random.split(rng)
    blended = outside = None
    if mixup_alpha:
        share = jax.random.beta(share_rng, mixup_alpha, mixup_alpha, (batch, 1, 1))
        blended = jnp.broadcast_to(share, (batch, height, width))
    if cutmix_alpha:
        outside = outside_boxes(box_rng, batch, height, width, cutmix_alpha)
    if blended is None or outside is None:
        return outside if blended is None else blended
    return jnp.where(jnp.arange(batch)[:, None, None] % 2 == 0, blended, outside)


def outside_boxes(
    rng: PRNGKeyArray, batch: int, height: int, width: int, alpha: float
) -> Float[Array, "batch height width"]:
    """0 in a box of random size and place in each image, 1 outside it."""
    share_rng, place_rng = jax.random.split(rng)
    side = jnp.sqrt(1 - jax.random.beta(share_rng, alpha, alpha, (batch,)))
    centre = jax.random.uniform(place_rng, (2, batch))

    def inside(size: int, centre: Float[Array, "batch"]) -> Array:
        half = jnp.floor(side * size).astype(jnp.int32) // 2
        middle = jnp.floor(centre * size).astype(jnp.int32)
        index = jnp.arange(size)
        return (index >= (middle - half)[:, None]) & (index < (middle + half)[:, None])

    box = inside(height, centre[0])[:, :, None] & inside(width, centre[1])[:, None, :]
    return 1.0 - box.astype(jnp.float32)


def mixed(images: Images, weights: Float[Array, "batch height width"]) -> Float[Array, "batch height width channels"]:
    """Each image weighted by pixel, plus the next one with what is left, in float32."""
    images = images.astype(jnp.float32)
    weights = weights[..., None]
    return weights * images + (1 - weights) * partner(images)


def shares(labels: Int[Array, "batch"], weights: Float[Array, "batch height width"]) -> list[tuple[Array, Array]]:
    """The soft target of each row, as (labels, share) twice: its own class and its partner's; shares sum to 1."""
    own = jnp.mean(weights, axis=(1, 2))
    return [(labels, own), (partner(labels), 1 - own)]


def partner(rows: Shaped[Array, "batch ..."]) -> Shaped[Array, "batch ..."]:
    """What each row is mixed with."""
    return jnp.roll(rows, -1, axis=0)
