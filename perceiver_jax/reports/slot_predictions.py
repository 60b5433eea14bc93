# SPDX-License-Identifier: Apache-2.0
"""What a run with slots finds in images of one's own: a line each, all arrays as .npz, and a picture."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from perceiver_jax.figures import canvas, slots
from perceiver_jax.figures.images import png
from perceiver_jax.figures.object_sets import Objects, sheet
from perceiver_jax.files import write_all

SHOWN = 16  # images in a picture
SURE = 0.5  # confidence from which on a slot counts as an object
NOT_NAMED = ("properties", "slots", "attention")

Found = Mapping[str, Shaped[np.ndarray, "inputs ..."]]


def records(names: Sequence[str], found: Found) -> list[dict[str, Any]]:
    """What was found in each image, JSON-able.

    `shares` are those of its pixels that each slot owns, of which it has the largest share, or `objects` the properties
    of each slot that is sure of one, the surest first.
    """
    if "masks" in found:
        return [{"input": name, "shares": row} for name, row in zip(names, _shares(found["masks"]), strict=True)]
    return [{"input": name, "objects": _objects(found, k)} for k, name in enumerate(names)]


def line(record: Mapping[str, Any]) -> str:
    """A record as one line; a slot that owns no pixel is not used."""
    if "shares" in record:
        used = {slot: share for slot, share in enumerate(record["shares"], 1) if share}
        said = ", ".join(f"slot {slot} {100 * share:.1f} %" for slot, share in used.items())
        return f"{record['input']}: {len(used)} of {len(record['shares'])} slots used: {said}"
    said = ["(" + ", ".join(f"{name} {value:.4g}" for name, value in row.items()) + ")" for row in record["objects"]]
    return f"{record['input']}: {len(said)} objects{': ' if said else ''}{', '.join(said)}"


def write(
    folder: Path,
    names: Sequence[str],
    images: UInt8[np.ndarray, "inputs height width colors"],
    found: Found,
    *,
    attention: bool = False,
) -> list[Path]:
    """Writes `masks.npz` (of sets `objects.npz`: all arrays, and `names`) and, of the first `SHOWN`, `results.png`.

    Args:
        images: as the model saw them.
        attention: also `attention.png`, whose every place is in each iteration.

    Raises:
        ConfigError: they cannot be written.
    """
    stream = io.BytesIO()
    arrays = dict(found) | ({"masks": found["masks"][..., 0]} if "masks" in found else {})
    np.savez(stream, names=np.array(names), **arrays)
    few = {name: array[:SHOWN] for name, array in found.items()}
    files = {
        folder / ("masks.npz" if "masks" in found else "objects.npz"): stream.getvalue(),
        folder / "results.png": _picture(images[:SHOWN], few),
    }
    if attention:
        figure = slots.visualize_attention_evolution(few["attention"], images=images[:SHOWN])
        files[folder / "attention.png"] = canvas.rendered(figure, "png")
    return write_all(files)


def _picture(images: UInt8[np.ndarray, "inputs height width colors"], found: Found) -> bytes:
    if "masks" in found:
        recons = found["recons"] if "recons" in found else found["recon"]
        return canvas.rendered(slots.visualize_slots(images, recons, found["masks"]), "png")
    properties = {name: found[name] for name in _named(found)}
    return png(sheet(images, Objects.of(properties, SURE)))


def _shares(masks: Shaped[np.ndarray, "inputs num_slots height width 1"]) -> list[list[float]]:
    owner = masks[..., 0].argmax(1)
    return [[float((row == slot).mean()) for slot in range(masks.shape[1])] for row in owner]


def _objects(found: Found, k: int) -> list[dict[str, float]]:
    confidence = found["confidence"][k]
    order = [slot for slot in np.argsort(-confidence, kind="stable") if confidence[slot] > SURE]
    return [{name: found[name][k, slot].item() for name in _named(found)} for slot in order]


def _named(found: Found) -> list[str]:
    """The properties by name."""
    return [name for name in found if name not in NOT_NAMED]
