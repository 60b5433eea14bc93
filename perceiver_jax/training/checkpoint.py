# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run: saved asynchronously by Orbax, promised in a ledger, verified before they are used.

    checkpoints/STEP/            `state` and `progress` as Orbax writes them, and our `manifest.json`
    checkpoints/committed.jsonl  the ledger

A save: the state is copied to the host (this alone blocks), Orbax writes and commits, then a thread on
process 0 takes checksums of the files, writes the manifest, promises the step in the ledger, and only then prunes older
steps. Killed anywhere in between, the earlier promises stand. Every process calls every method; only process
0 checks, prunes and cleans up.
"""

import logging
import math
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, SupportsFloat

import jax
import orbax.checkpoint as ocp

from perceiver_jax.errors import ConfigError
from perceiver_jax.training import disk, exchange, manifest
from perceiver_jax.training.ledger import Ledger, Promise, require

log = logging.getLogger(__name__)

SAVE_TIMEOUT = 3600
"""Seconds Orbax may take to write one step."""
FILE_SIZE = 64 << 20
"""Bytes after which Orbax begins another file: one of them is checked per thread."""


class Checkpoints:
    """The checkpoints below one folder; a context manager, or call `close`, else the last save may be
    lost.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        keep_latest: int = 2,
        keep_every_steps: int = 0,
        read_only: bool = False,
    ):
        """Opens the folder and, unless `read_only`, makes it and removes what was never promised.

        Args:
            folder: `checkpoints` of the run.
            keep_latest: how many of the newest steps stay; beside them the best by score always stays.
            keep_every_steps: multiples of it stay too; 0 is none.
            read_only: for looking only, also while a run writes here: removes nothing, and `save` is not
                allowed.

        Raises:
            ConfigError: the folder cannot be written, or has steps but no ledger.
            Retry: the disk is full.
        """
        if keep_latest < 1 or keep_every_steps < 0:
            raise ConfigError(
                f"keep_latest={keep_latest}, keep_every_steps={keep_every_steps}: expected at least 1 and 0. "
                "Correct the config."
            )
        self.folder = Path(folder).absolute()
        self._keep_latest, self._keep_every = keep_latest, keep_every_steps
        self._writes = not read_only
        self._edits = self._writes and jax.process_index() == 0
        self._damaged: set[int] = set()
        self._background = ThreadPoolExecutor(1, "promise")
        self._saving: Future | None = None
        self._orbax: ocp.AsyncCheckpointer | None = None
        self._open()

    def _open(self) -> None:
        require(self.folder)
        try:
            if self._edits:
                self.folder.mkdir(parents=True, exist_ok=True)
            self._ledger = Ledger(self.folder / "committed.jsonl", read_only=not self._edits)
        except OSError as error:
            raise disk.explain(error, self.folder, "opening the checkpoints") or error from error
        if self._ledger.damaged_lines:
            log.warning("%s: damaged, ignored: lines %s", self._ledger.path, self._ledger.damaged_lines)
        self._require_a_promise()
        if self._edits:
            self._remove_unpromised()
        # The same on every process, so that all of them save a step or none does.
        self._saved = set(self._ledger.promises)

    def save(
        self, step: int, state: Any, progress: dict, score: SupportsFloat | None = None, *, replace: bool = False
    ) -> None:
        """Starts saving and returns when the state is copied and may be donated. No-op if promised.

        Args:
            step: names the folder.
            state: any pytree of arrays and numbers.
            progress: what JSON can hold; floats come back exactly, also inf and nan; tuples come back as
                lists.
            score: of the evaluation at this step, higher is better; without one, or not finite, it is never
                the best.
            replace: save a promised step anew; until that is done, the one before it is the newest.

        Raises:
            Retry: the disk is full, now or in the previous save.
            ConfigError: the folder cannot be written.
        """
        assert self._writes, "opened read_only"
        self.wait()
        self._background.submit(int)  # starts the thread now: once Orbax's are busy, that takes long
        if step in self._saved and not replace:
            return
        arrays, target = manifest.layout(state), self.folder / str(step)
        needed = sum(math.prod(shape) * jax.numpy.dtype(dtype).itemsize for shape, dtype in arrays.values())
        items = ocp.args.Composite(
            state=ocp.args.PyTreeSave(state, ocdbt_target_data_file_size=FILE_SIZE),
            progress=ocp.args.JsonSave(progress),
        )
        try:
            if self._edits and step in self._ledger.promises:
                self._ledger.withdraw(step, "replaced")
            self._checkpointer().save(target, items, force=True)  # what may lie there is not promised
        except Exception as error:
            raise self._explained(error, step, needed) from error
        self._saved.add(step)
        self._damaged.discard(step)
        self._saving = self._background.submit(self._finish, step, arrays, score, needed)

    def rescore(self, step: int, score: SupportsFloat | None) -> None:
        """Gives a promised step the score of an evaluation that came after it was saved."""
        self.wait()
        if self._edits and step in self._ledger.promises:
            old = self._ledger.promises[step]
            self._ledger.promise(Promise(step, old.manifest, score, old.time))

    def wait(self) -> None:
        """Returns when the last save is promised; raises what went wrong with it."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def close(self) -> None:
        """Waits for the last save and releases everything; may be called twice."""
        try:
            self.wait()
        finally:
            self._background.shutdown()
            self._release()

    def _release(self) -> None:
        """Closes Orbax, which raises once more what went wrong in its threads, and the ledger."""
        orbax, self._orbax = self._orbax, None
        self._ledger.close()
        try:
            if orbax is not None:
                orbax.close()
        except Exception as error:
            raise disk.explain(error, self.folder, "finishing the last save") or error from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            self.close()
        except Exception as error:
            if kind is None:
                raise
            log.error("the last checkpoint was not saved: %s", error)

    def steps(self) -> list[int]:
        """Promised steps, rising, without those found damaged."""
        return sorted(self._promises())

    def latest(self) -> int | None:
        """The newest step; None if nothing was ever promised."""
        return max(self._promises(), default=None)

    def best(self) -> int | None:
        """The step of the highest score, the latest of equals; None if no step has one."""
        scored = [p for p in self._promises().values() if p.score is not None]
        return max(scored, key=lambda p: (p.score, p.step)).step if scored else None

    def restore(
        self, target: Any, step: int | Literal["latest", "best"] = "latest", *, part: bool = False
    ) -> tuple[Any, dict, int]:
        """Reads a verified checkpoint into the shapes, types and shardings of `target`.

        Args:
            target: pytree of `jax.ShapeDtypeStruct`; a leaf without sharding goes to the first local device.
            step: a step, which must be intact; or "latest"; or "best", which is the latest where no step has
                a score. If one of these two is damaged, a warning names the file and the next older (next
                best) is taken.
            part: `target` is a dict of some of the state's fields; the others are not read.

        Returns:
            state, progress, step.

        Raises:
            ConfigError: the step is not there or damaged, no promised step is intact, or it does not fit the
                target.
        """
        self.wait()
        chosen, damaged = exchange.on_first("intact checkpoint", lambda: self._find_intact(step))
        self._damaged |= set(damaged)
        self._saved -= set(damaged)
        return *self._read(target, self.folder / str(chosen), part), chosen

    def _find_intact(self, step: int | str) -> tuple[int, list[int]]:
        """The step to restore, and all that were found damaged; one process looks for all."""
        if isinstance(step, int) and step not in self._promises():
            raise ConfigError(f"{self.folder}: no step {step} among the saved {self.steps()}. Choose one of them.")
        while (promise := self._choose(step)) is not None:
            damage = manifest.find_damage(self.folder / str(promise.step), promise.manifest)
            if damage is None:
                return promise.step, sorted(self._damaged)
            self._damaged.add(promise.step)
            if step == promise.step:
                raise ConfigError(f"step {step} is damaged: {damage}. Choose another of {self.steps()}.")
            other = self._choose(step)
            then = "no other is left" if other is None else f"trying step {other.step}"
            log.warning("step %d is damaged: %s; %s", promise.step, damage, then)
        raise ConfigError(
            f"{self.folder}: no intact checkpoint (damaged: {sorted(self._damaged)}). "
            "Put one back from a copy, or choose another --workdir to start afresh."
        )

    def _promises(self) -> dict[int, Promise]:
        if not self._edits:
            self._ledger = Ledger(self._ledger.path, read_only=True)
        return {step: p for step, p in self._ledger.promises.copy().items() if step not in self._damaged}

    def _choose(self, step: int | str) -> Promise | None:
        if not isinstance(step, int):
            best = self.best() if step == "best" else None
            step = self.latest() if best is None else best
        return self._promises().get(step)

    def _read(self, target: Any, folder: Path, part: bool) -> tuple[Any, dict]:
        found = manifest.read_layout(folder)
        if part:
            found = {path: array for path, array in found.items() if path.partition("/")[0] in target}
        manifest.check_layout(found, manifest.layout(target), f"checkpoint {folder}")
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

        def place(leaf):
            sharding = getattr(leaf, "sharding", None) or here
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        placed = jax.tree.map(place, target)
        restore_args = ocp.checkpoint_utils.construct_restore_args(placed)
        items = ocp.args.Composite(
            state=ocp.args.PyTreeRestore(placed, restore_args=restore_args, partial_restore=part),
            progress=ocp.args.JsonRestore(),
        )
        restored = self._checkpointer().restore(folder, items)
        return restored.state, restored.progress

    def _finish(self, step: int, arrays: manifest.Layout, score: SupportsFloat | None, needed: int) -> None:
        """In the background: waits for Orbax, and until the step is promised, which all processes are told."""
        try:
            if not self._edits:
                self._checkpointer().wait_until_finished()
            exchange.on_first("promise", lambda: self._promise(step, arrays, score, needed))
        except BaseException as error:
            self._saved.discard(step)
            raise self._explained(error, step, needed) from error

    def _promise(self, step: int, arrays: manifest.Layout, score: SupportsFloat | None, needed: int) -> None:
        """On process 0: waits for Orbax, promises the step, prunes."""
        try:
            self._checkpointer().wait_until_finished()
            digest = manifest.write(self.folder / str(step), arrays)
            self._ledger.promise(Promise(step, digest, score, time.time()))
            self._prune()
        except Exception as error:
            raise self._explained(error, step, needed) from error

    def _explained(self, error: BaseException, step: int, needed: int) -> BaseException:
        last = self.latest()
        hint = "No step is saved yet. " if last is None else f"Step {last} is saved. "
        return disk.explain(error, self.folder, f"saving step {step}", needed=needed, hint=hint) or error

    def _checkpointer(self) -> ocp.AsyncCheckpointer:
        if self._orbax is None:
            handler = ocp.CompositeCheckpointHandler(
                state=ocp.PyTreeCheckpointHandler(), progress=ocp.JsonCheckpointHandler()
            )
            options = ocp.options.AsyncOptions(timeout_secs=SAVE_TIMEOUT)
            self._orbax = ocp.AsyncCheckpointer(handler, async_options=options)
        return self._orbax

    def _prune(self) -> None:
        """Withdraws, then removes, what need not be kept and what is damaged; the newest always stays."""
        steps = self.steps()
        kept = {*steps[-self._keep_latest :], self.best()}
        if self._keep_every:
            kept |= {step for step in steps if step % self._keep_every == 0}
        for step in sorted(self._ledger.promises.keys() - kept):
            self._ledger.withdraw(step, "damaged" if step in self._damaged else "pruned")
            shutil.rmtree(self.folder / str(step), ignore_errors=True)

    def _require_a_promise(self) -> None:
        """An empty ledger is a fresh start only where nothing was ever promised: never a silent restart."""
        finished = [p for p in self.folder.glob("*") if p.name.isdigit() and (p / manifest.NAME).exists()]
        if not self._ledger.promises and (self._ledger.num_lines or len(finished) > 1):
            raise ConfigError(
                f"{self._ledger.path}: promises no step any more, it must be damaged. "
                "Put it back from a copy, or choose another --workdir to start afresh."
            )

    def check_fits(self, target: Any) -> None:
        """Raises a ConfigError with the differences if the newest step with an intact manifest does not fit."""
        for step, promise in sorted(self._promises().items(), reverse=True):
            folder = self.folder / str(step)
            if manifest.is_intact(folder, promise.manifest):  # of one that is damaged `restore` speaks
                manifest.check_layout(manifest.read_layout(folder), manifest.layout(target), f"checkpoint {folder}")
                return

    def _remove_unpromised(self) -> None:
        """Removes left-overs of saves that were cut off; whole steps only while the ledger is whole too."""
        for path in sorted(self.folder.glob("*")):
            cut_off = ".orbax-checkpoint-tmp" in path.name
            unpromised = path.name.isdigit() and int(path.name) not in self._ledger.promises
            if path.is_dir() and (cut_off or (unpromised and not self._ledger.damaged_lines)):
                log.warning("removing %s: its save was never finished", path)
                shutil.rmtree(path, ignore_errors=True)
