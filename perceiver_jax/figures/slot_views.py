# SPDX-License-Identifier: Apache-2.0
"""Slots as pixels: their colours, what each shows, who has which pixel; and sheets of all that, drawn in milliseconds.

Images are uint8, or floating point from -1 to 1 as models make them.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from perceiver_jax.figures.canvas import COLOURS
from perceiver_jax.figures.images import contact_sheet

FIRST = (*COLOURS[:6], "#F0E442", "#999999")  # Okabe and Ito 2008, grey for black
DARKER = 0.55  # of the second round of colours
PAINT = 0.7  # opacity of a slot's colour over the image in grey
FRAME = 1  # pixels

Pixels = UInt8[np.ndarray, "... _ _ 3"]


def slot_colours(count: int) -> UInt8[np.ndarray, "{count} 3"]:
    """A colour for each slot: eight that colour-blind readers tell apart, then darker ones, then all again."""
    first = np.array([[int(name[k : k + 2], 16) for k in (1, 3, 5)] for name in FIRST])
    every = np.concatenate([first, DARKER * first]).astype(np.uint8)
    return every[np.arange(count) % len(every)]


def pixels(images: Shaped[np.ndarray, "*batch height width colors"]) -> Pixels:
    """uint8 colours; grey is repeated."""
    if images.dtype != np.uint8:
        images = np.clip((np.asarray(images, np.float32) + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)
    return np.broadcast_to(images, (*images.shape[:-1], 3))


def shares(masks: Shaped[np.ndarray, "*slots"]) -> Float[np.ndarray, "*shares"]:
    """float32 (..., slots, height, width) of masks with or without a last axis of one."""
    masks = np.asarray(masks, np.float32)
    return masks[..., 0] if masks.shape[-1] == 1 else masks


def painted(
    images: Pixels, masks: Float[np.ndarray, "*batch num_slots height width"], opacity: float = PAINT
) -> Pixels:
    """Each pixel in the colours of its slots, mixed by their shares, over the image in grey."""
    colours = slot_colours(masks.shape[-3]).astype(np.float32)
    mixed, grey = np.einsum("...khw,kc->...hwc", masks, colours), images.mean(-1, keepdims=True)
    return (opacity * mixed + (1 - opacity) * grey + 0.5).astype(np.uint8)


def mixture(slots: Pixels, masks: Float[np.ndarray, "*batch num_slots height width"]) -> Pixels:
    """The image that the pictures of all slots make."""
    return ((masks[..., None] * slots).sum(-4) + 0.5).clip(0, 255).astype(np.uint8)


def cut_out(images: Pixels, masks: Float[np.ndarray, "*batch num_slots height width"]) -> Pixels:
    """What each slot shows times its share, on white.

    Args:
        images: of every slot, or one for all of them with an axis of one slot.
    """
    share = masks[..., None]
    return (share * images + 255 * (1 - share) + 0.5).astype(np.uint8)


def tinted(masks: Float[np.ndarray, "*batch num_slots height width"]) -> Pixels:
    """Each slot's share from white, none, to the slot's colour, all."""
    colours = slot_colours(masks.shape[-3])[:, None, None].astype(np.float32)
    return (255 + masks[..., None] * (colours - 255) + 0.5).astype(np.uint8)


def resized(
    maps: Shaped[np.ndarray, "*batch rows columns"], height: int, width: int
) -> Shaped[np.ndarray, "*batch height width"]:
    """The nearest place of a grid for each pixel."""
    rows, columns = (np.arange(n) * m // n for n, m in zip((height, width), maps.shape[-2:], strict=True))
    return maps[..., rows[:, None], columns]


def framed(slots: Pixels) -> Pixels:
    """(..., slots, height, width, 3) with an edge of each slot's colour."""
    width = [(0, 0)] * (slots.ndim - 3) + [(FRAME, FRAME)] * 2 + [(0, 0)]
    result = np.pad(slots, width)
    colours = slot_colours(slots.shape[-4])[:, None, None]
    edge = np.ones(result.shape[-3:-1], bool)
    edge[FRAME:-FRAME, FRAME:-FRAME] = False
    return np.where(edge[..., None], colours, result)


def sheet(
    images: Shaped[np.ndarray, "batch height width colors"],
    reconstructions: Shaped[np.ndarray, "batch height width colors"],
    recons: Shaped[np.ndarray, "batch slots height width colors"],
    masks: Shaped[np.ndarray, "batch num_slots height width 1"],
) -> Pixels:
    """A row for each image: as it is, its reconstruction, the masks, and what each slot shows times its share.

    Args:
        recons: of every slot, or one for all of them with an axis of one slot.
    """
    parts = shares(masks)
    whole = [pixels(images), pixels(reconstructions), painted(pixels(images), parts)]
    cells = np.concatenate([_bare(np.stack(whole, 1)), framed(cut_out(pixels(recons), parts))], axis=1)
    return _rows(cells, ["image", "reconstr.", "masks", *_names(parts.shape[1])], [])


def attention_sheet(
    images: Shaped[np.ndarray, "batch height width colors"],
    attention: Float[np.ndarray, "batch num_iterations num_slots rows columns"],
) -> Pixels:
    """A row for each image and iteration: all slots in their colours over the image, then each slot's share."""
    count, iterations, num_slots = attention.shape[:3]
    maps = resized(attention.astype(np.float32), *images.shape[1:3])
    whole = _bare(painted(pixels(images)[:, None], maps)[:, :, None])
    cells = np.concatenate([whole, framed(tinted(maps))], axis=2)
    lines = [f"iteration {k + 1}" for k in range(iterations)] * count
    return _rows(cells.reshape(-1, *cells.shape[2:]), ["", *_names(num_slots)], lines)


def _names(count: int) -> list[str]:
    return [f"slot {k + 1}" for k in range(count)]


def _bare(cells: Pixels) -> Pixels:
    """With a white edge where others have one in colour."""
    width = [(0, 0)] * (cells.ndim - 3) + [(FRAME, FRAME)] * 2 + [(0, 0)]
    return np.pad(cells, width, constant_values=255)


def _rows(
    cells: UInt8[np.ndarray, "rows columns height width 3"], heads: Sequence[str], lines: Sequence[str]
) -> Pixels:
    """Columns named once, above the first row; rows, if they have names, above their first cell."""
    rows, columns = cells.shape[:2]
    titles = np.full((rows, columns), "", object)
    titles[0] = heads
    if lines:
        titles[:, 0] = lines
    return contact_sheet(cells.reshape(-1, *cells.shape[2:]), titles.ravel().tolist(), columns)
