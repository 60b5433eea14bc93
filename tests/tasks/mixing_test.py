# SPDX-License-Identifier: Apache-2.0
"""mixup and CutMix: shares and areas agree, the loss is the formula's, and evaluation knows nothing of it.

That the number of devices changes nothing is in `training/sharding_test`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from perceiver_jax import registry
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError
from perceiver_jax.tasks import mixing
from perceiver_jax.tasks.classification import Classification

SPEC = Spec({"image": ArraySpec((8, 6, 3), "uint8"), "label": ArraySpec((), "int32")}, tuple("abcdef"))
RANDOM = np.random.default_rng(0)
IMAGES = jnp.asarray(RANDOM.integers(0, 256, (12, 8, 6, 3)), jnp.uint8)
LABELS = jnp.asarray(RANDOM.integers(0, 6, 12), jnp.int32)
BATCH = {"image": IMAGES, "label": LABELS, "weight": jnp.ones(12), "id": jnp.arange(12)}
RNGS = {"dropout": jax.random.key(1), "mixing": jax.random.key(2)}


class Linear(nn.Module):
    """Logits of the mean colour."""

    @nn.compact
    def __call__(self, inputs, *, train=False):
        return nn.Dense(6)(inputs.astype(jnp.float32).mean((1, 2)) / 255)


def task(**fields):
    return Classification(model=Linear(), input_name="image", num_classes=6, **fields)


VARIABLES = task().init(jax.random.key(0), SPEC)


def test_with_all_of_its_own_an_image_stays_itself():
    weights = jnp.ones((12, 8, 6))
    np.testing.assert_array_equal(mixing.mixed(IMAGES, weights), IMAGES.astype(jnp.float32))
    (labels, own), (_, others) = mixing.shares(LABELS, weights)
    assert (labels == LABELS).all() and (own == 1).all() and (others == 0).all()
    nothing = mixing.mixed(IMAGES, jnp.zeros((12, 8, 6)))
    np.testing.assert_array_equal(nothing, np.roll(IMAGES, -1, axis=0).astype(np.float32))


def test_mixup_is_one_share_an_image():
    weights = mixing.own_weights(jax.random.key(0), IMAGES, 0.2, 0.0)
    assert (weights == weights[:, :1, :1]).all() and len(np.unique(weights[:, 0, 0])) == 12
    own = np.asarray(weights[:, :1, :1, None])
    expected = own * np.asarray(IMAGES, np.float32) + (1 - own) * np.roll(IMAGES, -1, 0).astype(np.float32)
    np.testing.assert_allclose(mixing.mixed(IMAGES, weights), expected, atol=1e-4)


def test_a_box_is_the_partners_and_its_area_is_the_share():
    weights = mixing.own_weights(jax.random.key(0), IMAGES, 0.0, 1.0)
    assert set(np.unique(weights)) == {0, 1}
    for row, image in zip(np.asarray(weights == 0), np.asarray(mixing.mixed(IMAGES, weights)), strict=True):
        height, width = row.any(1).sum(), row.any(0).sum()
        assert row.sum() == height * width  # a rectangle
        assert np.isin(image[row], np.asarray(IMAGES)).all()
    (_, own), (labels, others) = mixing.shares(LABELS, weights)
    np.testing.assert_allclose(others, (weights == 0).sum((1, 2)) / 48, rtol=1e-6)
    np.testing.assert_allclose(own + others, np.ones(12), rtol=1e-6)
    np.testing.assert_array_equal(labels, np.roll(LABELS, -1))


def test_the_area_before_it_is_cut_off_has_the_distribution_asked_for():
    """Of boxes that no border cuts: the mean of 1 - U is 1/2, of Beta(8, 8) as well, with a smaller spread."""
    areas = [1 - mixing.outside_boxes(jax.random.key(3), 500, 64, 64, alpha).mean((1, 2)) for alpha in (1.0, 8.0)]
    assert 0.2 < float(areas[0].mean()) < 0.5 and float(areas[1].std()) < 0.7 * float(areas[0].std())


def test_with_both_each_has_every_other_row():
    weights = np.asarray(mixing.own_weights(jax.random.key(0), IMAGES, 0.2, 1.0))
    assert set(np.unique(weights[1::2])) == {0, 1} and not np.isin(weights[::2], (0, 1)).all()
    assert (weights[::2] == weights[::2, :1, :1]).all()


@pytest.mark.parametrize("alphas", [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_the_loss_is_that_of_soft_labels(alphas):
    mixup_alpha, cutmix_alpha = alphas
    both = task(mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha, label_smoothing=0.1)
    loss, aux = both.loss(VARIABLES, BATCH, RNGS, train=True)
    weights = mixing.own_weights(RNGS["mixing"], IMAGES, *alphas)
    own = np.asarray(weights.mean((1, 2)))[:, None]
    one_hot = np.eye(6)[np.asarray(LABELS)]
    soft = own * one_hot + (1 - own) * np.roll(one_hot, -1, axis=0)
    logits = np.asarray(Linear().apply({"params": VARIABLES["params"]}, mixing.mixed(IMAGES, weights)), np.float64)
    smooth = 0.9 * soft + 0.1 / 6
    expected = -(smooth * (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))).sum(-1)
    np.testing.assert_allclose(smooth.sum(-1), np.ones(12))
    assert loss.value() == pytest.approx(expected.mean(), rel=1e-5)
    hit = soft[np.arange(12), logits.argmax(-1)].mean()  # the share of the target that was predicted
    assert aux.stats["accuracy"].value() == pytest.approx(hit, rel=1e-5)
    assert aux.stats["top5_accuracy"].value() > aux.stats["accuracy"].value()


def test_steps_differ_and_evaluation_is_not_mixed():
    both, plain = task(mixup_alpha=0.2, cutmix_alpha=1.0), task()
    other = RNGS | {"mixing": jax.random.key(3)}
    values = [both.loss(VARIABLES, BATCH, rngs, train=True)[0].value() for rngs in (RNGS, RNGS, other)]
    assert values[0] == values[1] != values[2]
    assert both.loss(VARIABLES, BATCH, {}, train=False)[0] == plain.loss(VARIABLES, BATCH, {}, train=True)[0]
    jax.tree.map(
        np.testing.assert_array_equal, both.evaluate(VARIABLES, BATCH, {}), plain.evaluate(VARIABLES, BATCH, {})
    )


def test_what_cannot_be_is_named():
    with pytest.raises(ConfigError, match=r"mixup_alpha=-0.2: .*cutmix_alpha=-1.0: .*label_smoothing=1.0: "):
        task(mixup_alpha=-0.2, cutmix_alpha=-1.0, label_smoothing=1.0)
    clouds = Spec({"points": ArraySpec((8, 3), "float32"), "label": ArraySpec((), "int32")}, ("a", "b"))
    section = {"name": "classification", "label_smoothing": 0.0, "mixup_alpha": 0.2, "cutmix_alpha": 0.0}
    with pytest.raises(ConfigError, match=r"only images are mixed, points has shape \(8, 3\)"):
        registry.build("task", section, model=Linear(), spec=clouds)
