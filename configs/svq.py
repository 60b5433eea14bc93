# SPDX-License-Identifier: Apache-2.0
"""SVQ (Wu et al. 2024, https://arxiv.org/abs/2402.01203), stage one: images as codes of objects' blocks.

    python -m perceiver_jax.main --config=configs/svq.py:shapes

Default and `:shapes`: 4 slots of 4 blocks, 512 codes of 16 channels each, on discs, squares and triangles of 64 pixels,
up to 3 of them so that a slot is left for the background. `:multi_dsprites`: sprites on grey, 6 slots. `:official`: the
authors' sizes (github.com/yfw/nlotm) on 128 pixels. `:cpu`: 32 pixels and MLPs, for two cores; `:tiny` checks
everything in a minute. After another variant, `convolutions` and `pixels` replace the decoder of image tokens by one
whose slots each draw their part, `transformer` the other way round, e.g. `:cpu,transformer`. `:own`: images of your
own, with or without masks, --config.data.path=DIR_OR_NPZ, as in configs/slot_attention.py. The prior over the codes:
configs/svq_prior.py.

`:cpu` reached on 1,000 test images (seed 0): from codes alone 23.3 dB, FG-ARI 0.677 and ARI 0.864 of the masks, all 64
codes of every codebook in use, perplexity 49.8; 26 min 31 s on one of two busy CPU cores. `:cpu,multi_dsprites`:
22.3 dB, 0.503, 0.774, all codes, 56.6; 12 min 28 s on two cores. The others: not measured.
"""

from perceiver_jax.config import ConfigDict, default, section, vary

ABLATIONS = ("one_iteration", "fewer_codebooks", "convolutions", "transformer")
NEXT_STAGES = {"prior": "svq_prior.py"}


def get_config(variants: str = "") -> ConfigDict:
    """Adam 1e-4, batch 32, 100 epochs; the variants are the functions below."""
    config = default()
    config.num_epochs, config.log_every_steps = 100.0, 100
    config.evaluation.update(batch_size=64, metric="mse", mode="min")
    config.data = section("data", "shapes", max_objects=3, num_train=10_000)
    config.task = section("task", "svq")
    decoder = section("decoder", "transformer", vocab_size=512, num_layers=4)
    encoder = section("encoder", "convolutions", strides=(1, 2, 1, 1))
    config.model = section("model", "svq", encoder=encoder, decoder=decoder)
    config.optimizer = section("optimizer", "adam", learning_rate=1e-4, clip_norm=1.0)
    config.schedule = section("schedule", "constant", warmup_epochs=5.0)
    sizes = {"shapes": lambda config: None, "multi_dsprites": multi_dsprites, "official": official, "own": own}
    decoders = {"convolutions": convolutions, "pixels": pixels, "transformer": transformer}
    fewer = {
        "one_iteration": lambda config: config.model.update(num_iterations=1),
        "fewer_codebooks": lambda config: config.model.update(num_blocks=config.model.num_blocks // 2),
    }
    return vary(config, variants, sizes | {"cpu": cpu, "tiny": tiny} | decoders | fewer)


def multi_dsprites(config: ConfigDict) -> None:
    """2 to 5 sprites on grey, 60,000 images, 6 slots; also after `cpu`."""
    config.data = section("data", "sprites", size=config.data.size, num_train=60_000)
    config.model.num_slots = 6


def own(config: ConfigDict) -> None:
    """Your images on 64 pixels, of up to 6 objects where there are masks; 7 slots."""
    config.data = section("data", "own_scenes", path="data/own_scenes", image_size=64, max_objects=6)
    config.model.num_slots = 7


def official(config: ConfigDict) -> None:
    """16 blocks of 128 channels, 64 codes each; 1,024 image tokens of 4,096; batch 40, half-life 250,000 steps.

    Encoder 1e-4, decoder and VAE 3e-4, as the authors; what else differs: docs/svq.md, "Against the authors' code".
    """
    config.data.update(size=128, max_objects=4)
    config.model.encoder = section("encoder", "convolutions", num_channels=512, strides=(2, 1, 1, 1))
    config.model.update(num_slots=5, slot_dim=2048, num_blocks=16, codebook_size=64, mlp_dim=12, feature_dim=192)
    config.model.initializer, config.model.decoder = "shared_gaussian", section("decoder", "transformer")
    config.batch_size, config.num_epochs = 40, 500.0
    config.optimizer.update(clip_norm=None, clip_max=0.05, rate_factors=("decoder=3",))
    config.schedule = section("schedule", "exponential", gamma=0.5, decay_steps=250_000, warmup_steps=30_000)


def convolutions(config: ConfigDict) -> None:
    """The published broadcast decoder of 64 pixels: grid of image_size / 8."""
    config.model.decoder = section("decoder", "convolutions", strides=(2, 2, 2, 1))


def pixels(config: ConfigDict) -> None:
    """An MLP at each place of 4 x 4 pixels."""
    config.model.decoder = section("decoder", "pixels", patch_size=4, fourier_bands=8)


def transformer(config: ConfigDict) -> None:
    """Image tokens."""
    config.model.decoder = section(
        "decoder", "transformer", vocab_size=256, num_layers=3, dim=128, annealing_steps=5000
    )


def cpu(config: ConfigDict) -> None:
    """Encoder, decoder and schedule of configs/slot_attention.py:cpu; 4 slots of 8 blocks, 64 codes each."""
    config.data.update(size=32, min_radius=0.12, max_radius=0.2, num_train=50_000)
    config.model.encoder = section("encoder", "patches", patch_size=4, context=4, num_channels=128)
    config.model.decoder = section("decoder", "pixels", patch_size=4, fourier_bands=8, num_channels=64)
    config.model.update(num_blocks=8, codebook_size=64, mlp_dim=32, initializer="learned_noise", gradient="bilevel")
    config.model.continuous_steps, config.num_steps = 4_000, 20_000  # slots find objects first
    config.optimizer.update(learning_rate=2e-3, clip_norm=768.0)  # of a sum over 3,072 colours, divided by 4
    config.schedule = section("schedule", "cosine", warmup_steps=500)


def tiny(config: ConfigDict) -> None:
    """A few hundred steps of `cpu` at 16 pixels."""
    cpu(config)
    config.data.update(size=16, max_objects=2, min_objects=1, num_train=2048, num_validation=64, num_test=64)
    config.data.update(min_radius=0.15, max_radius=0.25)
    config.model.encoder.num_channels = config.model.decoder.num_channels = 32
    config.model.update(num_slots=3, slot_dim=32, mlp_dim=16, feature_dim=32, num_blocks=4, codebook_size=16)
    config.model.continuous_steps, config.schedule.warmup_steps = 64, 16
    config.num_steps, config.log_every_steps = 256, 32
