# SPDX-License-Identifier: Apache-2.0
"""Optimizers: LAMB as the Perceiver papers train with it (You et al. 2020, algorithm 2), AdamW and Adam.

`update` returns the descent direction; the learning rate is not part of it. The train step applies
`params - rate * direction`, rate = schedule(step) * state.lr_scale: the rate logged is the one applied.
"""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import optax

from perceiver_jax.errors import ConfigError
from perceiver_jax.models import stacked_axes
from perceiver_jax.weights import parameter_paths

Number = int | float
DECAY_EXCLUDE = ("*/bias", "*/scale")
"""Biases and LayerNorm scales; latents, positions and embeddings are decayed, as in DeepMind's code."""
EPS = {"lamb": 1e-6, "adamw": 1e-8, "adam": 1e-8}


def make_optimizer(
    *,
    name: str,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number | None = None,
    weight_decay: Number = 0.0,
    decay_exclude: Sequence[str] = DECAY_EXCLUDE,
    clip_norm: Number | None = None,
    clip_max: Number | None = None,
    frozen: Sequence[str] = (),
    rate_factors: Sequence[str] = (),
) -> optax.GradientTransformation:
    """Builds an optimizer whose updates are descent directions, to be scaled by the rate and subtracted.

    Args:
        name: `lamb`: clip -> Adam -> + weight_decay * p -> times |p| / |u| for every parameter (1 where
            either norm is zero), for stacked layers each layer by itself; `adamw`: without that ratio;
            `adam`: without ratio and decay.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: added to the root of the second moment; None is 1e-6 for lamb and 1e-8 for the others.
        weight_decay: decoupled, times the rate; not for adam.
        decay_exclude: path patterns (see `parameter_paths`) of parameters that are not decayed; not for adam.
        clip_norm: largest global norm of the gradients of what is not frozen; None does not clip.
        clip_max: largest magnitude of any of their components, to which all of them are scaled down together, as
            PyTorch's clip_grad_norm_ with the norm "inf"; None does not. It comes before `clip_norm`.
        frozen: path patterns of parameters whose direction is zero and for which no moments are stored.
        rate_factors: "PATTERN=FACTOR": what the rate is multiplied by for the parameters of a path pattern, e.g.
            "decoder/vae=3"; factors of several patterns multiply.

    Raises:
        ConfigError: a value out of range (here), a pattern that matches nothing (in `init`).
    """
    _check(name, b1, b2, eps, weight_decay, decay_exclude, clip_norm, clip_max)

    def decayed(params):
        return jax.tree.map(lambda excluded: not excluded, parameter_paths.select(params, decay_exclude))

    chain = [optax.scale_by_adam(b1, b2, EPS[name] if eps is None else eps)]
    if clip_norm is not None:
        chain.insert(0, optax.clip_by_global_norm(clip_norm))
    if clip_max is not None:
        chain.insert(0, clip_by_largest(clip_max))
    if weight_decay:
        chain.append(optax.add_decayed_weights(weight_decay, mask=decayed))
    if name == "lamb":
        chain.append(scale_by_trust_ratio())
    factors = _factors(rate_factors)
    if factors:
        chain.append(scale_by_path(factors))
    optimizer = _freeze(optax.chain(*chain), frozen)

    def init(params):
        own = [pattern for pattern in decay_exclude if pattern not in DECAY_EXCLUDE]
        parameter_paths.check_patterns(params, frozen, "frozen")
        parameter_paths.check_patterns(params, own, "decay_exclude")
        parameter_paths.check_patterns(params, list(factors), "rate_factors")
        return optimizer.init(params)

    return optax.GradientTransformation(init, optimizer.update)


def clip_by_largest(limit: Number) -> optax.GradientTransformation:
    """Scales all gradients by the same factor, so that none of their components is larger than `limit`."""

    def update(updates, state, params):
        largest = jnp.stack([jnp.abs(leaf).max(initial=0) for leaf in jax.tree.leaves(updates)]).max()
        factor = jnp.where(largest > limit, limit / largest, 1)
        return jax.tree.map(lambda leaf: leaf * factor, updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def scale_by_trust_ratio() -> optax.GradientTransformation:
    """LAMB's ratio |p| / |u| of every parameter, and of every layer in a parameter that stacks layers."""

    def scale(path, update, param):
        axes = tuple(range(stacked_axes(parameter_paths.join(path).split("/")), param.ndim))
        norms = (jnp.sqrt(jnp.sum(jnp.square(x), axes, keepdims=True)) for x in (param, update))
        param_norm, update_norm = norms
        usable = (param_norm > 0) & (update_norm > 0)
        return update * jnp.where(usable, param_norm / jnp.where(usable, update_norm, 1), 1)

    def update(updates, state, params):
        return jax.tree_util.tree_map_with_path(scale, updates, params), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def scale_by_path(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Times the factor of every path pattern that selects the parameter."""

    def scale(path, update):
        joined = parameter_paths.join(path)
        return update * math.prod(f for pattern, f in factors.items() if parameter_paths.matches(joined, [pattern]))

    def update(updates, state, params):
        return jax.tree_util.tree_map_with_path(scale, updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def _factors(rules: Sequence[str]) -> dict[str, float]:
    """Pattern -> factor of "PATTERN=FACTOR" rules."""
    factors = {}
    for rule in rules:
        pattern, _, factor = rule.rpartition("=")
        try:
            factors[pattern] = float(factor)
        except ValueError:
            factors[pattern] = math.nan
        if not pattern or not 0 <= factors[pattern] < math.inf:
            raise ConfigError(f"optimizer: rate_factors={rule!r}: expected PATTERN=FACTOR, e.g. 'decoder/vae=3'.")
    return factors


def _freeze(optimizer: optax.GradientTransformation, frozen: Sequence[str]) -> optax.GradientTransformation:
    """Zero directions and no state for the parameters that match; `optimizer` never sees them."""
    if not frozen:
        return optimizer

    def labels(params):
        selected = parameter_paths.select(params, frozen)
        return jax.tree.map(lambda hit: "frozen" if hit else "trained", selected)

    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def _check(name, b1, b2, eps, weight_decay, decay_exclude, clip_norm, clip_max) -> None:
    """Raises one ConfigError that lists every value out of range."""
    rules = [  # argument, value, is it in range, what was expected
        ("name", name, name in EPS, f"one of {', '.join(EPS)}"),
        ("b1", b1, 0 <= b1 < 1, "in [0, 1)"),
        ("b2", b2, 0 <= b2 < 1, "in [0, 1)"),
        ("eps", eps, eps is None or eps > 0, "> 0 or None"),
        ("weight_decay", weight_decay, weight_decay >= 0, ">= 0"),
        ("weight_decay", weight_decay, not weight_decay or name != "adam", "0 with adam; use adamw or lamb"),
        (
            "decay_exclude",
            tuple(decay_exclude),
            tuple(decay_exclude) == DECAY_EXCLUDE or name != "adam",
            "the default with adam, which decays nothing",
        ),
        ("clip_norm", clip_norm, clip_norm is None or clip_norm > 0, "> 0 or None"),
        ("clip_max", clip_max, clip_max is None or clip_max > 0, "> 0 or None"),
    ]
    problems = [f"{key}={value!r}: expected {expected}" for key, value, good, expected in rules if not good]
    if problems:
        raise ConfigError(f"optimizer: {'; '.join(problems)}. Correct the config.")
