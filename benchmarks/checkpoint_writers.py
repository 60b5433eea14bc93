# SPDX-License-Identifier: Apache-2.0
"""Orbax alone and our `Checkpoints` behind one interface, to be timed by `checkpoint_cost`."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from perceiver_jax.training import manifest
from perceiver_jax.training.checkpoint import FILE_SIZE, Checkpoints

STEP = 1
FIRST = {"first": np.zeros(1)}
"""Saved before anything is timed: the first save of a process starts Orbax's threads."""


class Orbax:
    """What Orbax does without us, with the same items and options; it checks nothing."""

    def __init__(self, folder: Path):
        self.folder = folder
        handler = ocp.CompositeCheckpointHandler(
            state=ocp.PyTreeCheckpointHandler(), progress=ocp.JsonCheckpointHandler()
        )
        self._checkpointer = ocp.AsyncCheckpointer(handler)
        self.save(FIRST, 0)
        self.wait()

    def save(self, state: Any, step: int = STEP) -> None:
        items = ocp.args.Composite(
            state=ocp.args.PyTreeSave(state, ocdbt_target_data_file_size=FILE_SIZE),
            progress=ocp.args.JsonSave({}),
        )
        self._checkpointer.save(self.folder / str(step), items)

    def wait(self) -> None:
        self._checkpointer.wait_until_finished()

    def restore(self, state: Any) -> Any:
        arguments = ocp.checkpoint_utils.construct_restore_args(state)
        items = ocp.args.Composite(
            state=ocp.args.PyTreeRestore(state, restore_args=arguments), progress=ocp.args.JsonRestore()
        )
        return self._checkpointer.restore(self.folder / str(STEP), items).state

    def check(self) -> None:
        """There is none."""

    def __enter__(self) -> "Orbax":
        return self

    def __exit__(self, *_) -> None:
        self._checkpointer.close()


class SyncedOrbax(Orbax):
    """Orbax, and what it wrote put on the disk, without which a power cut takes a save back."""

    def wait(self) -> None:
        super().wait()
        with ThreadPoolExecutor(manifest.NUM_THREADS) as pool:
            list(pool.map(manifest.sync, self.folder.rglob("*")))


class Ours:
    """`Checkpoints` as the loop uses it."""

    def __init__(self, folder: Path):
        self._checkpoints = Checkpoints(folder)
        self._folder = folder
        self.save(FIRST, 0)
        self.wait()

    def save(self, state: Any, step: int = STEP) -> None:
        self._checkpoints.save(step, state, {})

    def wait(self) -> None:
        self._checkpoints.wait()

    def restore(self, state: Any) -> Any:
        return self._checkpoints.restore(state)[0]

    def check(self) -> None:
        """What `restore` does before it reads: all files against the manifest."""
        step = self._folder / str(STEP)
        damage = manifest.find_damage(step, hashlib.sha256((step / manifest.NAME).read_bytes()).hexdigest())
        assert damage is None, damage

    def __enter__(self) -> "Ours":
        return self

    def __exit__(self, *_) -> None:
        self._checkpoints.close()
