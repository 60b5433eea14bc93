# SPDX-License-Identifier: Apache-2.0
"""How good codes of objects and images made of them are, from arrays: what an evaluation of SVQ adds to the losses.

What needs true objects, or the shapes that a set draws, is left out for data that lack them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from perceiver_jax.data.scenes import ATTRIBUTES, OUTLINES, Scenes
from perceiver_jax.metrics.frechet import Images, image_distance
from perceiver_jax.metrics.probe import match, probe
from perceiver_jax.metrics.scene_parser import HUES, SceneParser, generation_accuracy, hue_of

SEEN = 0.5
"""An object of which less can be seen is not probed."""


def parser_of(source: Any) -> SceneParser | None:
    """The parser of a set's images; None for sets that are not procedural scenes."""
    if not isinstance(source, Scenes):
        return None
    outlines = {name: OUTLINES[name] for name in source.shapes}
    radii, counts = (source.min_radius, source.max_radius), (source.min_objects, source.max_objects)
    return SceneParser(outlines=outlines, radii=radii, counts=counts, turned=source.turned)


def told_by_codes(
    codes: Int[np.ndarray, "images num_slots num_blocks"],
    masks: Float[np.ndarray, "images num_slots height width 1"],
    batch: Mapping[str, np.ndarray],
) -> dict[str, float]:
    """How well a linear probe tells shape, colour and place of an object from its slot's codes, beside chance.

    Args:
        batch: `objects` and `attributes`, as `data.scenes` has them; without, there is nothing to tell.
    """
    attributes = batch.get("attributes")
    if attributes is None or attributes.shape[-1] != len(ATTRIBUTES):
        return {}
    columns = dict(zip(ATTRIBUTES, np.moveaxis(attributes, -1, 0), strict=True))
    wanted = (columns["present"] > 0) & (columns["visible"] > SEEN)
    matched = match(codes, masks[..., 0].argmax(1), batch["objects"].astype(np.int64), wanted)
    own = attributes[matched.image, matched.number]
    column = ATTRIBUTES.index
    classes = {
        "shape": own[:, column("shape")].astype(np.int64),
        "colour": np.array([_hue(row) for row in own[:, column("red") : column("blue") + 1]], np.int64),
    }
    found = probe(matched, classes, own[:, [column("x"), column("y")]])
    return {f"probe_{name}": value for name, value in found.items()}


def _hue(colour: Float[np.ndarray, "3"]) -> int:
    """Its class; one more for what is grey."""
    return [*HUES, ""].index(hue_of(255 * colour))


def judged(parser: SceneParser | None, sets: Mapping[str, Images], true: Images) -> dict[str, Any]:
    """Each set of images by the exact parser, and by its distance to true ones.

    Args:
        true: other images than those of the sets.

    Returns:
        dict: name -> what `generation_accuracy` says, and `frechet_proxy`.
    """
    return {
        name: (generation_accuracy(parser, images) if parser else {}) | {"frechet_proxy": image_distance(images, true)}
        for name, images in sets.items()
    }


def headlines(found: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """What `judged` found as numbers with a name each, for tables: {"NAME_generation_accuracy": ...}."""
    names = {"accuracy": "generation_accuracy"} | {name: name for name in ("count_accuracy", "frechet_proxy")}
    return {
        f"{kind}_{said}": values[name]
        for kind, values in found.items()
        for name, said in names.items()
        if name in values
    }


def from_unigrams(
    codes: Int[np.ndarray, "images num_slots num_blocks"], num: int, seed: int = 0
) -> Int[np.ndarray, "num num_slots num_blocks"]:
    """Codes drawn each by itself, as often as images have it at its place: what a prior has to be better than."""
    rows = np.random.default_rng(seed).integers(len(codes), size=(num, *codes.shape[1:]))
    return np.take_along_axis(codes, rows, axis=0)
