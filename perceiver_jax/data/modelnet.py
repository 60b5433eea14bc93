# SPDX-License-Identifier: Apache-2.0
"""ModelNet40, ModelNet10, or any set of point clouds in one of their forms (`layouts` lists them).

HDF5 files are read as they are; the other forms are prepared once (`prepared`). The official sets have no validation
part: one is carved from the training part, class by class.
"""

import dataclasses
import pathlib

import numpy as np

from perceiver_jax.data import randomness
from perceiver_jax.data.fetch import Wanted, find_set
from perceiver_jax.data.layouts import Layout, form, read_layout
from perceiver_jax.data.modelnet_hdf5 import Clouds, read_hdf5
from perceiver_jax.data.points import PointAugmentation, random_subset
from perceiver_jax.data.prepared import fingerprint, prepare, roots
from perceiver_jax.data.read_once import LabelledSplits
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.data.splits import carved, check_fraction
from perceiver_jax.errors import ConfigError

ADDRESS = "https://shapenet.cs.stanford.edu/media/modelnet40_ply_hdf5_2048.zip"
WANTED = Wanted(
    what="ModelNet",
    forms="HDF5 files, text with normals, or class folders of .off, .pcd or .ply",
    form_of=form,
    config="configs/modelnet40.py",
    official=ADDRESS,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelNet(LabelledSplits, PointAugmentation):
    """Clouds, read into memory at the first use; pickles without them.

    Attributes:
        path: the folder with the files, or the one above it, or a .zip of them. It is only read, unless there is
            nothing: then the set is downloaded into it.
        num_points: points used of each cloud: the first ones, in training too unless `resample`.
        num_evaluation_points: points used in evaluation, if not `num_points`; the Perceiver takes any number.
        resample: another random subset of the stored points for each cloud and epoch.
        normals: the points get their normals as three features; text and meshes have them, other forms may.
        validation_fraction: share of each class of the training part that becomes the validation split.
        test_fraction: the same for the test split, where the set has none of its own.
        split_seed: chooses which.
        stored_points: points of each cloud that are kept where the set is prepared; default those that are used.
        sample_seed: of the points taken from meshes and from larger clouds.
        prepared_path: where prepared and unpacked files go; default `path`.prepared or, where that cannot be written,
            perceiver_jax in the user's cache folder.
        address: what is downloaded, a .zip.
        download: whether to.

    Raises:
        ConfigError: at the first use: nothing there and no network, a broken file or record, or too few points.
    """

    path: str
    num_points: int = 2048
    num_evaluation_points: int | None = None
    resample: bool = False
    normals: bool = False
    validation_fraction: float = 0.1
    test_fraction: float = 0.2
    split_seed: int = 0
    stored_points: int | None = None
    sample_seed: int = 0
    prepared_path: str = ""
    address: str = ADDRESS
    download: bool = True

    def __post_init__(self):
        super().__post_init__()
        for name in ("num_points", "num_evaluation_points", "stored_points"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value}: expected at least 1{', or None' * (name != 'num_points')}.")
        check_fraction(self, "validation_fraction")
        check_fraction(self, "test_fraction", zero=False)

    @property
    def spec(self) -> Spec:
        arrays = {
            "points": ArraySpec((self.num_points, 6 if self.normals else 3), "float32"),
            "label": ArraySpec((), "int32"),
        }
        longest = max(self.num_points, self.num_evaluation_points or 0)
        varies = self.num_evaluation_points not in (None, self.num_points)
        return Spec(arrays, class_names=self._read()[0], max_length=longest if varies else None)

    def load(self, split: str, ids: np.ndarray, epoch: int | None) -> dict[str, np.ndarray]:
        clouds, ids = self._read()[1][split], np.asarray(ids)
        stored = clouds.points.shape[1]
        if epoch is None:
            points = clouds.points[ids, : self.num_evaluation_points or self.num_points]
        elif stored == self.num_points or not self.resample:
            points = clouds.points[ids, : self.num_points]
        else:
            key = randomness.keys(self.seed, "subset", ids, epoch)
            rows = ids[:, None] * stored + random_subset(stored, self.num_points, key)
            points = clouds.points.reshape(-1, clouds.points.shape[2]).take(rows, axis=0)
        return {"points": self.apply(points, ids, epoch), "label": clouds.label[ids]}

    def _content(self) -> tuple[tuple[str, ...], dict[str, Clouds]]:
        """(class names, splits)."""
        names, splits = self._find()
        self._check_size(splits["train"].points.shape[1])
        fractions = {"test": self.test_fraction, "validation": self.validation_fraction}
        return names, carved(splits, fractions, self.split_seed)

    def _find(self) -> tuple[tuple[str, ...], dict[str, Clouds]]:
        """Class names, training part and, where the set has one, the test part."""
        path = pathlib.Path(self.path).expanduser()
        candidates = roots(path, self.prepared_path)
        folder = find_set(path, candidates, self.address if self.download else "", WANTED)
        if (kind := form(folder)) == "hdf5":
            names, train, test = read_hdf5(folder, self.normals)
            return names, {"train": train, "test": test}
        return self._prepared(read_layout(folder, kind), candidates)

    def _prepared(self, layout: Layout, candidates: list[pathlib.Path]):
        from perceiver_jax.data import prepared_clouds  # imports TFDS and trimesh

        num_points = self.stored_points or max(self.num_points, self.num_evaluation_points or 0)
        options = {"num_points": num_points, "normals": self.normals, "sample_seed": self.sample_seed}
        files = [name for split in layout.files.values() for name, _ in split]
        described = {"form": layout.form, "class_names": layout.class_names, "splits": layout.files}
        name = f"{layout.form}-{fingerprint(layout.folder, files, **described, **options)}"
        made = prepare(candidates, name, lambda folder: prepared_clouds.write(layout, folder, **options))
        return prepared_clouds.read(layout, made, num_points=num_points, normals=self.normals)

    def _check_size(self, stored: int) -> None:
        for name in ("num_points", "num_evaluation_points"):
            if stored < (getattr(self, name) or 0):
                also = f", or raise stored_points={self.stored_points}" if self.stored_points == stored else ""
                raise ConfigError(
                    f"{name}={getattr(self, name)}: the clouds in {self.path} have {stored} points. "
                    f"Set --config.data.{name}={stored} or less{also}."
                )
