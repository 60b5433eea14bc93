# SPDX-License-Identifier: Apache-2.0
"""Classification: what is counted, that padding is not, and that batches add up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.metrics import statistics
from perceiver_jax.tasks.classification import Classification

SPEC = Spec({"x": ArraySpec((6,), "float32"), "label": ArraySpec((), "int32")}, class_names=tuple("abcdef"))


class Identity(nn.Module):
    """The inputs are the logits; `train` shows through as a shift of class 0."""

    @nn.compact
    def __call__(self, inputs, mask=None, *, train=False):
        return inputs + self.param("zero", nn.initializers.zeros, ())


TASK = Classification(model=Identity(), input_name="x", num_classes=6)


def make_batch(rows):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(12, 6)), jnp.float32)[rows]
    label = jnp.asarray(rng.integers(0, 6, 12), jnp.int32)[rows]
    return {"x": logits, "label": label, "weight": jnp.ones(len(label)), "id": jnp.arange(len(label))}


def evaluate(batch):
    return TASK.evaluate(TASK.init(jax.random.key(0), SPEC), batch, {})


def test_two_batches_add_up_to_the_whole():
    parts = [evaluate(make_batch(slice(0, 5))), evaluate(make_batch(slice(5, 12)))]
    total = statistics.add(statistics.add(None, parts[0]), parts[1])
    whole = statistics.add(None, evaluate(make_batch(slice(0, 12))))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), total, whole)
    assert TASK.summarize(total)["accuracy"] == np.trace(total["confusion"]) / 12


def test_padding_rows_count_nothing():
    batch, real = make_batch(slice(0, 12)), make_batch(slice(0, 9))
    padded = batch | {"weight": batch["weight"].at[9:].set(0), "x": batch["x"].at[9:].set(jnp.nan)}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), evaluate(padded), evaluate(real))


def test_results_name_the_classes():
    stats = statistics.add(None, evaluate(make_batch(slice(0, 12))))
    results = TASK.results(stats, SPEC.class_names)
    assert list(results["per_class"]) == list("abcdef") and np.sum(results["confusion"]) == 12


def test_smoothing_is_for_training_only():
    smooth = Classification(model=Identity(), input_name="x", num_classes=6, label_smoothing=0.2)
    variables, batch = TASK.init(jax.random.key(0), SPEC), make_batch(slice(0, 12))
    losses = [smooth.loss(variables, batch, {}, train=train)[0].value() for train in (True, False)]
    assert losses[0] != losses[1] == pytest.approx(TASK.loss(variables, batch, {}, train=True)[0].value())


def test_mask_reaches_the_model_where_there_is_one():
    batch = make_batch(slice(0, 12))
    assert set(TASK.inputs(batch)) == {"inputs"}
    assert set(TASK.inputs(batch | {"mask": jnp.ones((12, 6))})) == {"inputs", "mask"}


def test_predictions_are_one_row_an_example():
    predicted = TASK.predict(TASK.init(jax.random.key(0), SPEC), make_batch(slice(0, 12)), {})
    np.testing.assert_allclose(predicted["probabilities"].sum(-1), np.ones(12), rtol=1e-5)
    np.testing.assert_array_equal(predicted["logits"].argmax(-1), predicted["probabilities"].argmax(-1))
