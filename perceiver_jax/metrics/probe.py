# SPDX-License-Identifier: Apache-2.0
"""What an object's discrete codes tell of it: linear probes from one-hot codes to its attributes, beside chance.

An object's codes are those of the slot whose segment is it, matched one to one by overlap in each image. Probes are
fitted on the first half of the images and scored on the second.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

ITERATIONS = 1_000


class Matched(NamedTuple):
    """Objects and the codes of their slots, in the order of images.

    Attributes:
        image, number: which image, and which of its objects, from 0.
        overlap: of the object and the segment, intersection over union.
    """

    image: Int[np.ndarray, "found"]
    number: Int[np.ndarray, "found"]
    codes: Int[np.ndarray, "found num_blocks"]
    overlap: Float[np.ndarray, "found"]


def match(
    codes: Int[np.ndarray, "images num_slots num_blocks"],
    segments: Int[np.ndarray, "images height width"],
    objects: Int[np.ndarray, "images height width"],
    wanted: Bool[np.ndarray, "images max_objects"],
) -> Matched:
    """The slot of each wanted object, at most one object a slot.

    Args:
        segments: the slot that has a pixel.
        objects: the object that has it, from 1; 0 is the background.
    """
    from scipy.optimize import linear_sum_assignment

    rows = []
    for image, (slots, true) in enumerate(zip(segments, objects, strict=True)):
        numbers = np.flatnonzero(wanted[image])
        overlap = _overlaps(true, slots, numbers + 1, codes.shape[1])
        chosen, slot = linear_sum_assignment(-overlap)
        rows += [(image, numbers[k], s, overlap[k, s]) for k, s in zip(chosen, slot, strict=True) if overlap[k, s] > 0]
    image, number, slot, overlap = np.asarray(rows, float).reshape(-1, 4).T
    image, number, slot = (column.astype(np.int64) for column in (image, number, slot))
    return Matched(image, number, codes[image, slot], overlap)


def _overlaps(true: np.ndarray, slots: np.ndarray, numbers: np.ndarray, num_slots: int) -> np.ndarray:
    first, second = true.ravel() == numbers[:, None], slots.ravel() == np.arange(num_slots)[:, None]
    both = first.astype(np.float32) @ second.T.astype(np.float32)
    return both / np.maximum(first.sum(1)[:, None] + second.sum(1) - both, 1)


def probe(
    matched: Matched, classes: Mapping[str, np.ndarray], places: Float[np.ndarray, "found axes"]
) -> dict[str, float]:
    """How well a linear map of the codes tells the attributes of objects of images it has not seen.

    Args:
        classes: attribute -> the class of each matched object.
        places: numbers to be told, e.g. x and y.

    Returns:
        dict: for each attribute its `accuracy` and `chance`, that of always saying the class most seen; `position_r2`,
            the share of the variance that is explained, 0 by chance; `objects`. Empty where there are too few.
    """
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.preprocessing import OneHotEncoder

    half = (matched.image.max(initial=0) + 1) // 2
    seen, unseen = matched.image < half, matched.image >= half
    if min(seen.sum(), unseen.sum()) < 2:
        return {}
    encoder = OneHotEncoder(handle_unknown="ignore").fit(matched.codes[seen])
    known, others = (encoder.transform(matched.codes[part]) for part in (seen, unseen))
    found = {"objects": float(len(matched.image)), "overlap": float(matched.overlap.mean())}
    for name, labels in classes.items():
        values, counts = np.unique(labels[seen], return_counts=True)
        usual = values[counts.argmax()]
        model = LogisticRegression(max_iter=ITERATIONS) if len(values) > 1 else None
        told = model.fit(known, labels[seen]).predict(others) if model else usual
        found |= {f"{name}_accuracy": float(np.mean(told == labels[unseen]))}
        found |= {f"{name}_chance": float(np.mean(usual == labels[unseen]))}
    found["position_r2"] = float(Ridge().fit(known, places[seen]).score(others, places[unseen]))
    return found
