# SPDX-License-Identifier: Apache-2.0
"""A sheet of images: NumPy in, image out."""

import io
from collections.abc import Sequence

import numpy as np

from perceiver_jax.figures.lettering import font_file

CELL, TITLE = 96, 14  # pixels


def contact_sheet(images: np.ndarray, titles: Sequence[str], columns: int = 5) -> np.ndarray:
    """Draws images side by side, each enlarged by a whole factor.

    Args:
        images: (batch, height, width, channels) of 1, 3 or 4 channels; what is not uint8 is scaled to fill 0 to 255.
        titles: one an image, written above it.

    Returns:
        uint8 (height, width, 3).

    Raises:
        ValueError: there are more or fewer titles than images.
    """
    if len(titles) != len(images):
        raise ValueError(f"{len(images)} images, {len(titles)} titles: expected one each.")
    from PIL import Image, ImageDraw, ImageFont

    height, width = images.shape[1:3]
    factor = max(1, CELL // max(height, width))
    rows, cell = -(-len(images) // columns), (factor * height + TITLE, factor * width)
    sheet = Image.new("RGB", (columns * cell[1], rows * cell[0]), "white")
    draw = ImageDraw.Draw(sheet)
    file = None if "".join(titles).isascii() else font_file(titles)
    font = ImageFont.load_default() if file is None else ImageFont.truetype(file, TITLE - 4)
    for k, (image, title) in enumerate(zip(displayable(images), titles, strict=True)):
        x, y = k % columns * cell[1], k // columns * cell[0]
        large = image.repeat(factor, axis=0).repeat(factor, axis=1)
        sheet.paste(Image.fromarray(large), (x, y + TITLE))
        draw.text((x + 2, y + 1), title[: max(1, cell[1] // 6)], fill="black", font=font)
    return np.asarray(sheet)


def displayable(images: np.ndarray) -> np.ndarray:
    """uint8 (batch, height, width, 3): grey is repeated, a fourth channel left out, floats scaled over the batch."""
    if images.dtype != np.uint8:
        low, high = images.min(), images.max()
        images = ((images - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    return images.repeat(3, axis=-1) if images.shape[-1] == 1 else images[..., :3]


def png(image: np.ndarray) -> bytes:
    """uint8 (height, width, 3) as a file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="png")
    return stream.getvalue()
