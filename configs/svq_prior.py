# SPDX-License-Identifier: Apache-2.0
"""The prior over the codes of SVQ (Wu et al. 2024, https://arxiv.org/abs/2402.01203, section 3.3): stage two.

    python -m perceiver_jax.main --config=configs/svq.py:shapes --workdir=runs/svq-shapes
    python -m perceiver_jax.main --config=configs/svq_prior.py:shapes --config.init_from=runs/svq-shapes
    python -m perceiver_jax.generate --workdir=runs/svq_prior-shapes --num=8 --temperature=1.0

The run it begins with decides slots, blocks and codes, and its data are encoded once, into its folder codes/. Default,
`:shapes` and `:multi_dsprites`: 4 layers of 8 heads x 32, Adam 1e-4. `:official`: the authors' (github.com/yfw/nlotm)
sizes and schedule, see docs/svq.md. `:cpu`: for two cores; `:tiny` checks everything in a minute.
--config.data.order says in which order the slots of an image come (`perceiver_jax/data/codes.py`): sorted is best.

`:cpu`, on seed 0 of configs/svq.py:cpu: 3.26 bits a code (unigrams 5.63); 49.0 % of samples are scenes by
the exact parser, of codes drawn by unigrams none. On :cpu,multi_dsprites: 3.62 (5.82); 26.2 %, unigrams 0.2 %, in
29 min 26 s on two cores. The others: not measured.
"""

from perceiver_jax.config import ConfigDict, default, section, vary


def get_config(variants: str = "") -> ConfigDict:
    """Adam 1e-4, batch 32, 100 epochs; the variants are the functions below."""
    config = default()
    config.num_epochs = 100.0
    config.log_every_steps = 100
    config.init.rename = (".=frozen",)
    config.evaluation.update(batch_size=64, metric="bits_per_code", mode="min")
    config.data = section("data", "codes", order="sorted")
    config.task = section("task", "code_prior", autoencoder=ConfigDict())
    config.model = section("model", "code_prior")
    config.optimizer = section("optimizer", "adam", learning_rate=1e-4, clip_norm=1.0)
    config.schedule = section("schedule", "cosine", warmup_epochs=1.0)
    sizes = {"shapes": lambda config: None, "multi_dsprites": lambda config: None, "official": official}
    return vary(config, variants, sizes | {"cpu": cpu, "tiny": tiny})


def official(config: ConfigDict) -> None:
    """8 layers of 4 heads x 48, batch 40, 500 epochs, half-life 250,000 steps."""
    config.model.update(dim=192, num_layers=8, num_heads=4)
    config.batch_size, config.num_epochs = 40, 500.0
    config.optimizer.update(learning_rate=3e-4, clip_norm=None, clip_max=0.05)
    config.schedule = section("schedule", "exponential", gamma=0.5, decay_steps=250_000, warmup_steps=30_000)


def cpu(config: ConfigDict) -> None:
    """3 layers of 4 heads x 32, batch 64, 10 epochs."""
    config.model.update(dim=128, num_layers=3, num_heads=4)
    config.batch_size, config.num_epochs = 64, 10.0
    config.optimizer.learning_rate = 1e-3


def tiny(config: ConfigDict) -> None:
    """One layer, a few hundred steps."""
    cpu(config)
    config.model.update(dim=32, num_layers=1, num_heads=2, widening_factor=2)
    config.batch_size, config.num_epochs = 32, 4.0
    config.log_every_steps = 32
    config.optimizer.learning_rate = 3e-3
