# SPDX-License-Identifier: Apache-2.0
"""Numbers from attention maps, in NumPy: one map an example out of stages, heads and latents; rollout; statistics."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

AXES = ("example", "stage", "head", "latent", "input")
GUESSED = {1: AXES[4:], 2: AXES[3:], 3: AXES[2:], 4: ("example", *AXES[2:]), 5: AXES}
"""What the axes of so many are, where nobody says."""
FUSIONS = {"mean": np.mean, "max": np.max, "min": np.min}
PEAK = 2.0  # standard deviations above the mean from which an input is a peak

Maps = Float[np.ndarray, "examples inputs"]


def full_layout(
    weights: Float[np.ndarray, "..."], axes: Sequence[str] | None = None
) -> Float[np.ndarray, "examples stages heads latents inputs"]:
    """The weights with all five axes in their order; those that are absent have length 1.

    Args:
        axes: names of the axes there are, in any order; None: by their number.

    Raises:
        ValueError: unknown or doubled names, or not as many as axes.
    """
    axes = tuple(GUESSED.get(weights.ndim, ()) if axes is None else axes)
    if len(axes) != weights.ndim or len(set(axes)) != len(axes) or not set(axes) <= set(AXES) or "input" not in axes:
        raise ValueError(f"axes {axes} of weights of shape {weights.shape}: expected some of {', '.join(AXES)}.")
    ordered = weights.transpose([axes.index(axis) for axis in AXES if axis in axes])
    return np.expand_dims(ordered, tuple(i for i, axis in enumerate(AXES) if axis not in axes))


def fused(
    weights: Float[np.ndarray, "..."],
    axes: Sequence[str] | None = None,
    *,
    stage: int | None = None,
    head: int | None = None,
    fusion: str = "mean",
) -> Maps:
    """One map an example, which sums to 1: heads are fused by mean, max or min, stages and latents by mean.

    Args:
        stage, head: from 0; None takes all.
    """
    full = full_layout(np.asarray(weights, np.float64), axes)
    full = full if stage is None else full[:, stage : stage + 1]
    full = full if head is None else full[:, :, head : head + 1]
    return normalized(FUSIONS[fusion](full, axis=2).mean((1, 2)))


def rollout(
    cross: Float[np.ndarray, "examples stages heads latents inputs"],
    latent: Float[np.ndarray, "examples layers latent_heads latents latents"],
    latent_stage: Int[np.ndarray, "layers"],
    *,
    fusion: str = "mean",
) -> Float[np.ndarray, "examples latents inputs"]:
    """What each latent has of each input after all layers (Abnar & Zuidema 2020, adapted to latents); rows sum to 1.

    R is what the latents have of the inputs. The first cross-attend gives R = C_1, since latents know nothing of the
    inputs before; a later one R = (R + C_s) / 2 and a layer among the latents R = (I + A) / 2 R, where halves stand for
    the residual connections; C_s and A are fused over heads and scaled to rows that sum to 1.
    """
    crosses, layers = (normalized(FUSIONS[fusion](np.asarray(part, np.float64), axis=2)) for part in (cross, latent))
    rolled = crosses[:, 0]
    for stage in range(crosses.shape[1]):
        if stage:
            rolled = (rolled + crosses[:, stage]) / 2
        for layer in np.flatnonzero(latent_stage == stage):
            rolled = (rolled + layers[:, layer] @ rolled) / 2
    return rolled


def normalized(weights: Float[np.ndarray, "*rows inputs"]) -> Float[np.ndarray, "*rows inputs"]:
    """Rows scaled to sum to 1; a row of zeros stays."""
    total = weights.sum(-1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def map_statistics(
    maps: Maps, mask: Shaped[np.ndarray, "examples inputs"] | None = None, on: Maps | None = None
) -> dict[str, Float[np.ndarray, "examples"]]:
    """Numbers of each map over its real inputs.

    Args:
        mask: 1 for real; None means all are.
        on: share of the object in each input, where that is known.

    Returns:
        `mean`; `std`; `entropy` in nats and `entropy_share` of the greatest, ln(real inputs); `peaks`, the number of
        inputs more than two standard deviations above the mean; and with `on`, `on_object`, the share of the attention
        that is on the object, and `object_share`, the share of the inputs that the object is.
    """
    real = np.ones(maps.shape, bool) if mask is None else np.asarray(mask, bool)
    count = np.maximum(real.sum(1), 1)
    mean = maps.sum(1, where=real) / count
    std = np.sqrt(((maps - mean[:, None]) ** 2).sum(1, where=real) / count)
    entropy = -(maps * np.log(np.where(maps > 0, maps, 1))).sum(1)
    share = np.divide(entropy, np.log(count), out=np.zeros_like(entropy), where=count > 1)
    numbers = {"mean": mean, "std": std, "entropy": entropy, "entropy_share": share}
    numbers["peaks"] = is_peak(maps, real).sum(1).astype(np.float64)
    if on is not None:
        numbers |= {"on_object": (maps * on).sum(1), "object_share": (on * real).sum(1) / count}
    return numbers


def is_peak(
    maps: Maps, mask: Shaped[np.ndarray, "examples inputs"] | None = None
) -> Shaped[np.ndarray, "examples inputs"]:
    """Inputs whose attention is more than two standard deviations above the mean of the real ones."""
    real = np.ones(maps.shape, bool) if mask is None else np.asarray(mask, bool)
    mean = maps.mean(1, where=real, keepdims=True)
    return real & (maps > mean + PEAK * maps.std(1, where=real, keepdims=True))
