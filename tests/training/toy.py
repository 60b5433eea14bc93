# SPDX-License-Identifier: Apache-2.0
"""A linear classifier on a small set in memory: everything of a training run but the cost."""

import dataclasses

import numpy as np
from flax import linen as nn

from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.tasks.classification import Classification
from perceiver_jax.training.controls import Best, Controls, Patience, Plateau
from perceiver_jax.training.optim import make_optimizer
from perceiver_jax.training.schedules import make_schedule
from perceiver_jax.training.settings import Settings, Training
from perceiver_jax.training.sharding import make_mesh
from perceiver_jax.training.watchdog import Limits

LIMITS = Limits(**{field.name: 60.0 for field in dataclasses.fields(Limits)})
"""Far more than a step of the toy takes."""


class Linear(nn.Module):
    """One dense layer and dropout."""

    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, inputs, *, train: bool = False):
        hidden = nn.gelu(nn.Dense(16)(inputs))
        return nn.Dense(3)(nn.Dropout(self.dropout_rate, deterministic=not train)(hidden))


@dataclasses.dataclass(frozen=True)
class Blobs:
    """Three Gaussian classes; example i is a function of i. `poison`: ids whose values are NaN."""

    num_train: int = 64
    poison: tuple[int, ...] = ()

    splits = ("train", "validation", "test")
    spec = Spec({"x": ArraySpec((4,), "float32"), "label": ArraySpec((), "int32")}, class_names=("a", "b", "c"))

    def num_examples(self, split):
        return self.num_train if split == "train" else 30

    def labels(self, split):
        return (np.arange(self.num_examples(split)) % 3).astype(np.int32)

    def load(self, split, ids, epoch):
        noise = np.stack([np.random.default_rng([len(split), int(i)]).normal(size=4) for i in ids])
        label = (ids % 3).astype(np.int32)
        x = (noise + 2 * np.eye(4)[label]).astype(np.float32)
        x[np.isin(ids, self.poison)] = np.nan
        return {"x": x, "label": label}


def make_training(
    *, source=None, dropout_rate=0.3, plateau=0, early_stopping=0, learning_rate=0.02, **settings
) -> Training:
    """A run of 24 steps in 3 epochs, evaluated and saved each epoch, logged every 5 steps."""
    defaults = dict(
        seed=0,
        num_steps=24,
        steps_per_epoch=8,
        batch_size=8,
        evaluation_batch_size=8,
        log_every=5,
        evaluate_every=8,
        checkpoint_every=4,
        max_bad_steps=3,
        limits=LIMITS,
    )
    settings = Settings(**defaults | settings)
    source = source or Blobs()
    return Training(
        task=Classification(model=Linear(dropout_rate), input_name="x", num_classes=3),
        source=source,
        optimizer=make_optimizer(name="lamb", weight_decay=0.01, clip_norm=1.0),
        schedule=make_schedule(
            name="cosine", learning_rate=learning_rate, num_steps=settings.num_steps, steps_per_epoch=8
        ),
        mesh=make_mesh(),
        controls=Controls(
            best=Best(metric="accuracy", mode="max"),
            plateau=Plateau(metric="loss", mode="min", patience=plateau, factor=0.5, min_delta=1e-3),
            early_stopping=Patience(metric="loss", mode="min", patience=early_stopping),
        ),
        settings=settings,
    )
