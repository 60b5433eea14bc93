# SPDX-License-Identifier: Apache-2.0
"""Look at a config's data: `python -m perceiver_jax.check_data --config=configs/modelnet40.py [--output_dir=DIR]`.

Prints shapes, types, ranges and class counts of every split and draws a sheet of samples as the model sees them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from perceiver_jax import command_line
from perceiver_jax.errors import ConfigError

OUTPUT_DIR = flags.DEFINE_string("output_dir", ".", "where samples.png goes")
WRITE_TFDS = flags.DEFINE_string("write_tfds", "", "a new folder: writes the images there, as TFDS array_record files")
NUM_SAMPLES = flags.DEFINE_integer("num_samples", 20, "pictures on the sheet", lower_bound=1)
CHECKED = 256
"""Examples of a split that are read for the ranges."""


def main(argv: Sequence[str]) -> None:
    """Checks the data of --config."""
    from perceiver_jax import config as configs
    from perceiver_jax import experiment

    command_line.config_file()
    source = experiment.build_source(configs.to_dict(flags.FLAGS.config))
    for split in source.splits:
        _print_split(source, split)
    _print_classes(source)
    if (file := _draw(source)) is not None:
        print(f"samples: {file}")
    if WRITE_TFDS.value:
        from perceiver_jax.data import prepared_images  # imports TFDS

        print(f"written: {prepared_images.write_source(Path(WRITE_TFDS.value).expanduser(), source)}")


def _print_split(source, split: str) -> None:
    count = source.num_examples(split)
    ids = np.unique(np.linspace(0, count - 1, min(count, CHECKED)).astype(np.int64))
    print(f"{split}: {count:,} examples ({len(ids)} read)")
    for name, array in source.load(split, ids, None).items():
        low, high = array.min(), array.max()
        mean = "" if array.dtype.kind in "iu" else f", mean {array.mean():.4g}, std {array.std():.4g}"
        print(f"  {name}: {tuple(array.shape[1:])} {array.dtype}, {low:.4g} to {high:.4g}{mean}")


def _print_classes(source) -> None:
    names = source.spec.class_names
    if not names:
        return
    counts = {split: np.bincount(source.labels(split), minlength=len(names)) for split in source.splits}
    print(f"{'class':<24}" + "".join(f"{split:>12}" for split in counts))
    for index, name in enumerate(names):
        print(f"{name:<24}" + "".join(f"{counts[split][index]:>12,}" for split in counts))


def _draw(source) -> Path | None:
    """The sheet's file; None for data that no picture is drawn of."""
    from PIL import Image

    from perceiver_jax.reports.examples import sheet

    count = source.num_examples("train")
    ids = np.linspace(0, count - 1, min(NUM_SAMPLES.value, count)).astype(np.int64)
    batch = source.load("train", ids, 0)
    names = source.spec.class_names
    titles = [names[label] if names else f"{label} objects" for label in source.labels("train")[ids]]
    picture = sheet(source, batch, titles)
    if picture is None:
        return None
    folder = Path(OUTPUT_DIR.value)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / "samples.png")
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written ({error.strerror}). Choose another with --output_dir."
        ) from error
    return folder / "samples.png"


def run() -> None:
    """The command."""
    command_line.define_config()
    command_line.run(main)


if __name__ == "__main__":
    run()
