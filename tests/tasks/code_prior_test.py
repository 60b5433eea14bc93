# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax import registry
from perceiver_jax.config import section, to_dict
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError
from perceiver_jax.metrics import statistics
from perceiver_jax.models.slot_autoencoder import as_pixels
from perceiver_jax.tasks.code_prior import FROZEN
from perceiver_jax.training.optim import make_optimizer
from perceiver_jax.training.state import state_maker
from perceiver_jax.training.step import make_train_step
from perceiver_jax.weights.transfer import leaves

SPEC = Spec({"codes": ArraySpec((2, 3), "int32")})
AUTOENCODER = section(
    "model",
    "svq",
    encoder=section("encoder", "patches", patch_size=4, num_channels=4),
    decoder=section("decoder", "pixels", patch_size=4, num_channels=4),
    **{"num_slots": 2, "slot_dim": 6, "num_blocks": 3, "codebook_size": 5, "mlp_dim": 4, "feature_dim": 4},
)
PRIOR = {"codebook_size": 5, "dim": 8, "num_layers": 1, "num_heads": 2}


def build(spec=SPEC, **prior):
    model = registry.build("model", to_dict(section("model", "code_prior", **PRIOR | prior)), spec=spec)
    return registry.build(
        "task", {"name": "code_prior", "autoencoder": to_dict(AUTOENCODER), "image_size": 8}, model=model, spec=spec
    )


@pytest.fixture(scope="module")
def case():
    task = build()
    batch = {"codes": jax.random.randint(jax.random.key(0), (4, 2, 3), 0, 5), "id": jnp.arange(4)}
    variables = jax.jit(lambda key: task.init(key, SPEC))(jax.random.key(1))
    evaluate = jax.jit(lambda batch: task.evaluate(variables, batch, {"dropout": jax.random.key(2)}))
    return task, variables, batch | {"weight": jnp.ones(4)}, evaluate


def summary(task, *stats):
    total = None
    for part in stats:
        total = statistics.add(total, part)
    return task.summarize(total)


def test_bits_accuracy_and_unigram_entropy_equal_numpy(case):
    task, variables, batch, evaluate = case
    found = summary(task, evaluate(batch))
    logits = np.asarray(task.model.apply({"params": variables["params"]}, batch["codes"]), np.float64)
    codes = np.asarray(batch["codes"])
    nats = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, codes[..., None], -1)[..., 0]
    assert found["loss"] == pytest.approx(nats.sum((1, 2)).mean(), rel=1e-5)
    assert found["bits_per_code"] == pytest.approx(nats.mean() / np.log(2), rel=1e-5)
    assert found["accuracy"] == pytest.approx((logits.argmax(-1) == codes).mean())
    shares = [np.bincount(codes[..., m].ravel(), minlength=5) / 8 for m in range(3)]
    entropy = np.mean([-(p[p > 0] * np.log2(p[p > 0])).sum() for p in shares])
    assert found["unigram_bits"] == pytest.approx(entropy, rel=1e-5)
    shares = [np.bincount(codes[:, s, m], minlength=5) / 4 for s, m in np.ndindex(2, 3)]
    entropy = np.mean([-(p[p > 0] * np.log2(p[p > 0])).sum() for p in shares])
    assert found["place_bits"] == pytest.approx(entropy, rel=1e-5) and entropy < found["unigram_bits"]


def test_padding_counts_nothing_and_halves_add_up(case):
    task, _, batch, evaluate = case
    half = batch | {"weight": jnp.array([1.0, 1, 0, 0])}
    other = batch | {"codes": batch["codes"].at[2:].set(0), "weight": half["weight"]}
    assert summary(task, evaluate(half)) == pytest.approx(summary(task, evaluate(other)))
    rest = batch | {"weight": jnp.array([0.0, 0, 1, 1])}
    assert summary(task, evaluate(half), evaluate(rest)) == pytest.approx(summary(task, evaluate(batch)))


def test_images_are_decoded_from_the_codes_by_the_frozen_autoencoder(case):
    task, variables, batch, _ = case
    keys = jax.random.split(jax.random.key(3), 4)
    made = jax.jit(task.generate)(variables, keys)
    frozen = variables[FROZEN]
    slots = task.autoencoder.apply(frozen, made.codes, method="lookup")
    image = as_pixels(task.autoencoder.apply(frozen, slots, jax.random.key(0), method="decode"))
    assert made.images.shape == (4, 8, 8, 3) and made.images.dtype == jnp.uint8
    np.testing.assert_allclose(made.images.astype(int), image.astype(int), atol=1)
    pictures = task.visualize({"sample": np.asarray(made.images)}, {}, {})
    assert pictures["samples"].dtype == np.uint8 and pictures["samples"].ndim == 3


def test_a_step_moves_the_prior_alone_and_a_non_finite_one_nothing(case):
    task, _, batch, _ = case
    optimizer = make_optimizer(name="adam")
    state = state_maker(task, optimizer, SPEC, ema=False)(jax.random.key(0))
    step = jax.jit(make_train_step(task, optimizer, lambda step: 0.1, seed=0))
    moved, _ = step(state, batch)
    params, frozen = (leaves(tree) for tree in (moved.params, moved.extra[FROZEN]))
    assert all((params[path] != leaf).any() for path, leaf in leaves(state.params).items() if "bias" not in path)
    assert all((frozen[path] == leaf).all() for path, leaf in leaves(state.extra[FROZEN]).items())
    broken = state.replace(params=state.params | {"biases": state.params["biases"].at[0, 0].set(jnp.nan)})
    kept, report = step(broken, batch)
    assert int(report.bad_steps) == 1 and int(kept.step) == 1
    for path, leaf in leaves(broken.params).items():
        np.testing.assert_array_equal(leaves(kept.params)[path], leaf)


def test_codes_of_another_shape_are_said():
    with pytest.raises(ConfigError, match=r"codes of \(2, 3, 7\).*the autoencoder makes \(2, 3, 5\)"):
        build(codebook_size=7)
    with pytest.raises(ConfigError, match="codebook_size=0"):
        untold = registry.build("model", to_dict(section("model", "code_prior")), spec=SPEC)
        untold.init(jax.random.key(0), jnp.zeros((1, 2, 3), jnp.int32))
