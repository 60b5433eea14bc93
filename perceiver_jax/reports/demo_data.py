# SPDX-License-Identifier: Apache-2.0
"""What the demo page (`reports/demo.py`) draws: the attention maps of a run, made small enough for one page.

A map is uint8, 255 at its peak, and all maps of a step are one base64 text; beside them are the numbers of each map,
computed before. Means over heads and over latents are the entries 0 of their axes, taken before latents are left out.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.figures.attention import COLORMAPS, DIVERGING
from perceiver_jax.figures.images import displayable
from perceiver_jax.metrics.attention import map_statistics
from perceiver_jax.reports import attention_maps
from perceiver_jax.reports.attention_examples import characters

BYTES = 16 * 2**20
"""Of all maps, a byte a value; base64 makes four of three."""
LIMITS = (
    ("latents", 16),
    ("steps", 12),
    ("examples", 4),
    ("latents", 4),
    ("steps", 4),
    ("examples", 1),
    ("latents", 1),
)
"""What is left out, in this order, until the maps fit."""
COLORS = 33  # of a colormap; the page interpolates
CURVES = 8  # channels of a sequence that can be told apart


def version(run: Path) -> str:
    """Another one whenever the run has more maps."""
    steps = attention_maps.steps(run)
    return f"{len(steps)}-{steps[-1]}"


def demo_data(run: Path, pair: Sequence[int]) -> dict[str, Any]:
    """JSON-able: everything the page shows.

    Args:
        pair: the steps that it begins with.

    Raises:
        ConfigError: the run has no attention maps.
    """
    about, examples, known = (
        attention_maps.read_about(run),
        attention_maps.read_examples(run),
        attention_maps.steps(run),
    )
    first, last = (attention_maps.read(run, step) for step in (known[0], known[-1]))
    kept = fitting(last["cross"].shape, len(known))
    latents = most_focused(last["cross"], kept["latents"])
    spread = np.linspace(0, len(known) - 1, kept["steps"]).astype(int)
    steps = sorted({known[k] for k in spread} | set(pair))
    arrays = [first if s == known[0] else last if s == known[-1] else attention_maps.read(run, s) for s in steps]
    order = _order(about, last["cross"].shape[-1])
    count = kept["examples"]
    mask = real_inputs(examples, last["cross"].shape)
    packed = [pack(one["cross"][:count][..., order], latents, mask[:count]) for one in arrays]
    return {
        "version": version(run),
        "about": _about(run, last["cross"].shape, kept),
        "kind": "sequence" if about["kind"] == "image" and about["grid"] is None else about["kind"],
        "grid": about["grid"],
        "patch": about["patch"],
        "stages": last["cross"].shape[1],
        "heads": last["cross"].shape[2],
        "latents": latents.tolist(),
        "inputs": last["cross"].shape[-1],
        "steps": steps,
        "epochs": [about["steps"][f"{step:08d}"] for step in steps],
        "start": [steps.index(step) for step in pair],
        "examples": [_example(about, examples, arrays, k) for k in range(count)],
        "maps": [_base64(maps) for maps, _ in packed],
        "numbers": [_base64(numbers) for _, numbers in packed],
        "colormaps": colormaps(),
    }


def fitting(shape: Sequence[int], num_steps: int, budget: int = BYTES) -> dict[str, int]:
    """How many examples, latents and steps the page keeps of maps (examples, stages, heads, latents, inputs)."""
    examples, stages, heads, latents, inputs = shape
    kept = {"examples": examples, "latents": latents, "steps": num_steps}
    for name, limit in LIMITS:
        size = kept["steps"] * kept["examples"] * stages * (heads + 1) * (kept["latents"] + 1) * inputs
        if size > budget:
            kept[name] = min(kept[name], limit)
    return kept


def most_focused(cross: np.ndarray, number: int) -> np.ndarray:
    """The latents whose attention has the least entropy, in their own order."""
    entropy = -(cross * np.log(np.maximum(cross, 1e-12))).sum(-1).mean((0, 1, 2))
    return np.sort(np.argsort(entropy, kind="stable")[:number])


def real_inputs(examples: dict[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
    """(examples, inputs): all that are no padding."""
    return np.asarray(examples["mask"], bool) if "mask" in examples else np.ones((shape[0], shape[-1]), bool)


def pack(cross: np.ndarray, latents: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps as uint8 with the means before heads and latents, and deviation, entropy and peak of each as float32.

    Args:
        cross: (examples, stages, heads, latents, inputs).
        latents: those that are kept.
        mask: (examples, inputs), true for real.

    Returns:
        maps and numbers; relative: 1 is what each input would get if all got the same. Entropy is the share of the
        greatest.
    """
    with_mean = np.concatenate([cross.mean(2, keepdims=True), cross], axis=2)
    maps = np.concatenate([with_mean.mean(3, keepdims=True), with_mean[:, :, :, latents]], axis=3)
    flat, mask = maps.reshape(-1, maps.shape[-1]), np.repeat(mask, np.prod(maps.shape[1:4]), axis=0)
    found = map_statistics(flat, mask)
    even = 1 / np.maximum(mask.sum(1), 1)
    numbers = np.stack([found["std"] / even, found["entropy_share"], flat.max(1) / even], axis=-1)
    levels = np.round(255 * flat / np.maximum(flat.max(1), 1e-12)[:, None]).astype(np.uint8)
    return levels.reshape(maps.shape), numbers.reshape(*maps.shape[:4], 3).astype("<f4")


def colormaps() -> list[dict[str, Any]]:
    """Each as the page's drawing library takes it."""
    import matplotlib

    places = np.linspace(0, 1, COLORS)
    found = []
    for name, use in COLORMAPS.items():
        colors = (255 * matplotlib.colormaps[name](places)[:, :3]).round().astype(int).tolist()
        scale = [[place, f"rgb({r},{g},{b})"] for place, (r, g, b) in zip(places, colors, strict=True)]
        found.append({"name": name, "use": use, "diverging": name == DIVERGING, "scale": scale})
    return found


def _order(about: dict[str, Any], inputs: int) -> np.ndarray:
    """Where the inputs of a picture with its pixels in their own order stand in the maps."""
    permutation = about["permutation"]
    return np.argsort(permutation) if permutation and len(permutation) == inputs else np.arange(inputs)


def _about(run: Path, shape: Sequence[int], kept: dict[str, int]) -> str:
    examples, _, _, latents, inputs = shape
    text = f"{run.resolve().name}: where the latents look, {inputs:,} inputs"
    number = {"examples": examples, "latents": latents}
    left_out = [f"{kept[name]} of {count} {name}" for name, count in number.items() if kept[name] < count]
    return text + (f"; the page has {', '.join(left_out)} (the most focused ones)" if left_out else "")


def _example(about: dict[str, Any], examples: dict[str, np.ndarray], arrays: list, k: int) -> dict[str, Any]:
    """What one example looks like, its title and what was predicted at each step."""
    names, array = about["class_names"], examples[about["array"]][k]
    label = _class(names, int(examples["label"][k])) if "label" in examples else ""
    real = np.flatnonzero(examples["mask"][k]) if "mask" in examples else np.zeros(0, int)
    length = int(real.max(initial=-1)) + 1 if len(real) else arrays[-1]["cross"].shape[-1]
    return {
        "title": f"{k + 1}: {label}" if label else f"{k + 1}",
        "length": length,
        "guesses": [_guess(names, one["probabilities"][k]) for one in arrays],
        **SHOWN[about["kind"]](about, array, length),
    }


def _class(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else f"class {index}"


def _guess(names: Sequence[str], probabilities: np.ndarray) -> str:
    best = int(probabilities.argmax())
    return f"{_class(names, best)}, {100 * float(probabilities[best]):.1f} %"


def _image(about: dict[str, Any], array: np.ndarray, length: int) -> dict[str, Any]:
    from PIL import Image

    height, width, channels = array.shape
    if len(about["permutation"] or []) == height * width == length:
        array = array.reshape(-1, channels)[np.argsort(about["permutation"])].reshape(array.shape)
    stream = io.BytesIO()
    Image.fromarray(displayable(array[None])[0]).save(stream, format="PNG")
    image = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
    return {"image": image, "width": width, "height": height, "curves": []}


def _points(about: dict[str, Any], array: np.ndarray, length: int) -> dict[str, Any]:
    return {"points": np.round(array[:length, :3].astype(float), 4).T.tolist()}


def _sequence(about: dict[str, Any], array: np.ndarray, length: int) -> dict[str, Any]:
    return {"curves": np.round(array[:length].reshape(length, -1)[:, :CURVES].astype(float), 4).T.tolist()}


def _text(about: dict[str, Any], array: np.ndarray, length: int) -> dict[str, Any]:
    """A letter for each token; one of several bytes stands at its first."""
    text, starts = characters(array[:length])
    letters = np.full(length, "", "<U1")
    letters[starts] = list(text)
    return {"letters": letters.tolist()}


SHOWN = {"image": _image, "points": _points, "sequence": _sequence, "text": _text}


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
