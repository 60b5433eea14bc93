# SPDX-License-Identifier: Apache-2.0
"""Batches of a source in the order of a plan, read ahead through Grain.

Element i is this process's rows of batch i, so the whole state of the data is the step. Grain's own iterator
state is not used: it changes with the number of workers. What to load is for `plan`, how for the source.
"""

import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator

import grain
import numpy as np
from absl import flags

from perceiver_jax.data.buckets import Buckets
from perceiver_jax.data.plan import EvaluationPlan, Plan, evaluation_plan
from perceiver_jax.data.source import Source, VariableLength
from perceiver_jax.data.spec import Spec
from perceiver_jax.errors import ConfigError, Retry

Batch = dict[str, np.ndarray]
KILLED = "terminated unexpectedly"
"""What Grain says of a worker that is gone without an error of its own."""


class Batches(Iterator[Batch]):
    """An iterator that holds a thread or worker processes: close it, or use it in a `with` statement."""

    def __init__(self, iterator: Iterator[Batch], num_batches: int):
        self._iterator = iterator
        self.num_batches = num_batches

    def __next__(self) -> Batch:
        try:
            return next(self._iterator)
        except RuntimeError as error:
            if KILLED not in str(error):
                raise
            raise Retry(
                f"a data worker was killed ({error}); memory may have run out. Run the same command to go on from the "
                "last checkpoint, with fewer workers if it happens again: --config.pipeline.num_workers=0"
            ) from error

    def close(self) -> None:
        """Stops reading ahead and ends the workers; safe to call twice."""
        if hasattr(self._iterator, "close"):
            self._iterator.close()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def train_plan(source: Source, batch_size: int, seed: int) -> Plan:
    """The order of the training split, by length where lengths vary."""
    return Plan(source.num_examples("train"), batch_size, seed, buckets=_buckets(source, "train"))


def typical_spec(source: Source, plan: Plan) -> Spec:
    """The spec of an example as long as the batches of an epoch are on average."""
    if plan.buckets is None:
        return source.spec
    lengths = [plan.length(i) for i in range(plan.steps_per_epoch)]
    return source.spec.at_length(round(float(np.mean(lengths))))


def notes(source: Source) -> list[str]:
    """What a person should know of the batches, a line each."""
    if not isinstance(source, VariableLength):
        return []
    padded, lengths = source.padded_lengths, source.lengths("train")
    shapes = "one shape is compiled" if len(padded) == 1 else f"{len(padded)} shapes are compiled"
    listed = ", ".join(map(str, padded))
    return [f"lengths {lengths.min():,} to {lengths.max():,}, batches padded to {listed}: {shapes}"]


def _buckets(source: Source, split: str) -> Buckets | None:
    if not isinstance(source, VariableLength):
        return None
    return Buckets(source.lengths(split), source.padded_lengths)


def train_batches(
    source: Source,
    plan: Plan,
    *,
    start_step: int,
    num_steps: int,
    process_index: int = 0,
    process_count: int = 1,
    num_workers: int = 0,
    prefetch: int = 4,
) -> Batches:
    """Batches start_step .. num_steps - 1 of the training split; process p gets the p-th share of the rows.

    Args:
        num_workers: processes that load; 0: one thread of this process, the fastest where loading is
            vectorised NumPy.
        prefetch: batches read ahead (by each worker).

    Returns:
        Batches: the arrays of the source's spec, "weight" float32 (rows,) = 1 and "id" int32 (rows,).

    Raises:
        ConfigError: the batch does not split over the processes; from `next`: what the source says, with the
            batch.
    """
    rows = _share(plan.batch_size, process_index, process_count)
    load = functools.partial(_train_batch, source, plan, rows)
    return _serve(load, start_step, num_steps, num_workers, prefetch)


def evaluation_batches(
    source: Source,
    split: str,
    batch_size: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    num_examples: int | None = None,
    prefetch: int = 4,
) -> Batches:
    """Every example of the split once, not augmented (or always the same `num_examples` of them).

    The last batch is filled up with copies of its first row that have weight 0 and id -1.

    Raises:
        ConfigError: no such split, or the batch does not split over the processes.
    """
    if split not in source.splits:
        raise ConfigError(f"split={split!r}: the data has {', '.join(source.splits)}. Use one of these.")
    plan = evaluation_plan(source.num_examples(split), batch_size, num_examples, _buckets(source, split))
    rows = _share(batch_size, process_index, process_count)
    load = functools.partial(_evaluation_batch, source, plan, split, rows)
    return _serve(load, 0, plan.num_batches, 0, prefetch)


def _share(batch_size: int, process_index: int, process_count: int) -> slice:
    if batch_size % process_count:
        fits = max(process_count, batch_size - batch_size % process_count)
        raise ConfigError(
            f"batch_size={batch_size} does not split over {process_count} processes. "
            f"Use a multiple of {process_count}, e.g. {fits}."
        )
    size = batch_size // process_count
    return slice(process_index * size, (process_index + 1) * size)


def _train_batch(source: Source, plan: Plan, rows: slice, i: int) -> Batch:
    ids = plan.ids(i)[rows]
    return _load(source, "train", ids, ids, plan.epoch(i), plan.length(i), i)


def _evaluation_batch(source: Source, plan: EvaluationPlan, split: str, rows: slice, i: int) -> Batch:
    ids = plan.ids(i)
    return _load(source, split, np.where(ids < 0, ids[0], ids)[rows], ids[rows], None, plan.length(i), i)


def _load(
    source: Source, split: str, loaded: np.ndarray, ids: np.ndarray, epoch: int | None, length: int | None, i: int
) -> Batch:
    """The arrays of the examples `loaded`, labelled with `ids`; errors say where they come from."""
    where = f"batch {i} of {split!r}, {len(loaded)} examples with ids {loaded.min()}..{loaded.max()}"
    try:
        arrays = source.load(split, loaded, epoch)
    except Retry as error:
        raise Retry(f"{error} ({where})") from error
    except Exception as error:
        bad, error = _first_bad(source, split, loaded, epoch, error)
        where += "" if bad is None else f", at example {bad}"
        if isinstance(error, ConfigError):
            raise ConfigError(f"{error} ({where})") from error
        raise RuntimeError(f"loading failed: {type(error).__name__}: {error} ({where})") from error
    _check_spec(source, arrays, len(ids), where)
    if length is not None:
        arrays = _padded(source.spec, arrays, length)
    return {**arrays, "weight": (ids >= 0).astype(np.float32), "id": ids.astype(np.int32)}


def _first_bad(source: Source, split: str, ids: np.ndarray, epoch: int | None, error: Exception):
    """The first of the examples that fails by itself, and its error; (None, `error`) where each one loads.

    Halves are loaded, so that it costs no more than loading the batch again.
    """
    if len(ids) == 1:
        return int(ids[0]), error
    for part in np.array_split(ids, 2):
        try:
            source.load(split, part, epoch)
        except Exception as failed:
            return _first_bad(source, split, part, epoch, failed)
    return None, error


def _padded(spec: Spec, arrays: Batch, length: int) -> Batch:
    """The arrays that vary, cut or filled up with zeros to `length`, which every row fits into."""

    def padded(array: np.ndarray) -> np.ndarray:
        missing = [(0, 0), (0, max(length - array.shape[1], 0)), *[(0, 0)] * (array.ndim - 2)]
        return np.pad(array[:, :length], missing)

    return arrays | {name: padded(arrays[name]) for name in spec.varying()}


def _check_spec(source: Source, arrays: Batch, rows: int, where: str) -> None:
    """A source keeps its word: names, types and shapes are the spec's, but for lengths up to its `max_length`."""
    spec = source.spec
    expected = {name: (rows, *array.shape) for name, array in spec.arrays.items()}
    got = {name: array.shape for name, array in arrays.items()}
    for name, shape in got.items():
        wanted = expected.get(name, ())
        if spec.max_length is not None and len(shape) == len(wanted) > 1 and shape[1] <= spec.max_length:
            expected[name] = (wanted[0], shape[1], *wanted[2:])
    types = {name: array.dtype for name, array in spec.arrays.items()}
    if got != expected or types != {name: array.dtype.name for name, array in arrays.items()}:
        raise ValueError(
            f"{type(source).__name__}.load does not keep its spec: expected {expected} of {types}, got {got} ({where})"
        )


def _serve(load: Callable[[int], Batch], start: int, stop: int, num_workers: int, prefetch: int) -> Batches:
    if start >= stop:
        return Batches(iter(()), 0)
    if not flags.FLAGS.is_parsed():  # Grain reads absl flags; in a notebook nobody has parsed them
        flags.FLAGS.mark_as_parsed()
    dataset = grain.MapDataset.range(start, stop).map(load)
    ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=max(1, prefetch))
    batches = dataset.to_iter_dataset(ahead)
    if num_workers:
        options = grain.MultiprocessingOptions(num_workers, per_worker_buffer_size=max(1, prefetch))
        batches = batches.mp_prefetch(options, worker_init_fn=_start_worker)
    return Batches(iter(batches), stop - start)


def _start_worker(index: int, count: int) -> None:
    """Signals to the whole group are the parent's to handle; a worker ends with its parent, also when that is killed.

    Linux's PR_SET_PDEATHSIG would do it too early: it fires when the *thread* that started the worker ends.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sentinel = multiprocessing.parent_process().sentinel

    def follow():
        multiprocessing.connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=follow, name="follow-parent", daemon=True).start()
