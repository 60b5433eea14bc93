# SPDX-License-Identifier: Apache-2.0
"""Run folders with attention maps as `training.capture` leaves them, without a training."""

import numpy as np

from perceiver_jax.files import write_arrays, write_json

NAMES = ["cat </script>", "개 @DATA@"]
EXAMPLES, STAGES, HEADS, LATENTS = 2, 2, 2, 3
CLASSES = np.asarray([[0.9, 0.1], [0.2, 0.8]], np.float16)


def write_run(run, kind, steps=(8, 16, 24), steps_per_epoch=8):
    """A run with maps of `kind` in `run`; the maps narrow with the steps."""
    examples, grid = shown(kind)
    (run / "attention").mkdir(parents=True, exist_ok=True)
    array = next(iter(examples))
    inputs = 16 if kind == "image" else examples[array].shape[1]
    examples |= {"label": np.asarray([0, 1], np.int32), "id": np.asarray([3, 4], np.int32)}
    write_arrays(run / "attention" / "examples.npz", examples)
    for step in steps:
        write_arrays(run / "attention" / f"{step:08d}.npz", maps(step, inputs, examples.get("mask")))
    about = {"kind": kind, "array": array, "grid": grid, "patch": 2, "permutation": None, "axes": {}}
    epochs = {f"{step:08d}": step / steps_per_epoch for step in steps}
    write_json(run / "attention" / "about.json", about | {"class_names": NAMES, "steps": epochs})
    return run


def shown(kind):
    """The examples, and the grid of an image."""
    rng = np.random.default_rng(0)
    if kind == "image":
        return {"image": rng.integers(0, 255, (EXAMPLES, 8, 8, 3), np.uint8)}, [4, 4]
    if kind == "points":
        return {"points": rng.normal(size=(EXAMPLES, 40, 3)).astype(np.float32)}, None
    mask = np.arange(20) < np.asarray([[20], [15]])
    if kind == "text":
        return {"tokens": rng.integers(70, 100, (EXAMPLES, 20)).astype(np.int32), "mask": mask}, None
    return {"sequence": rng.normal(size=(EXAMPLES, 20, 2)).astype(np.float32), "mask": mask}, None


def maps(step, inputs, mask):
    """As a STEP.npz holds them."""
    rng = np.random.default_rng(step)
    logits = rng.normal(size=(EXAMPLES, STAGES, HEADS, LATENTS, inputs)) * step / 8
    weights = np.exp(logits) * (1 if mask is None else mask[:, None, None, None])
    latent = np.full((EXAMPLES, 2, 1, LATENTS, LATENTS), 1 / LATENTS, np.float16)
    return {
        "cross": (weights / weights.sum(-1, keepdims=True)).astype(np.float16),
        "latent": latent,
        "latent_stage": np.asarray([0, 1]),
        "probabilities": CLASSES,
        "id": np.asarray([3, 4], np.int32),
        "label": np.asarray([0, 1], np.int32),
    }
