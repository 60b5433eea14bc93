# SPDX-License-Identifier: Apache-2.0
"""Batches are the same for any start, number of processes and workers; evaluation is exact."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from perceiver_jax.data.pipeline import evaluation_batches, train_batches
from perceiver_jax.data.plan import Plan
from perceiver_jax.data.solids import Solids
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError

SOURCE = Solids(num_points=8, num_train=50, num_validation=7, num_test=10, scale=(0.5, 2.0), jitter=0.1)
PLAN = Plan(50, 8, seed=1)


def take(**options):
    with train_batches(SOURCE, PLAN, **{"start_step": 0, "num_steps": 14, **options}) as batches:
        return list(batches)


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])


@pytest.fixture(scope="module")
def full_run():
    return take()


def test_batches_hold_what_the_plan_says(full_run):
    assert len(full_run) == 14
    for i, batch in enumerate(full_run):
        np.testing.assert_array_equal(batch["id"], PLAN.ids(i))
        np.testing.assert_array_equal(batch["points"], SOURCE.load("train", PLAN.ids(i), PLAN.epoch(i))["points"])
        assert batch["weight"].dtype == np.float32 and (batch["weight"] == 1).all()
        assert batch["id"].dtype == np.int32


@pytest.mark.parametrize("start", [1, 6, 13, 14])
def test_a_resumed_run_goes_on_with_the_next_batch(full_run, start):
    assert_equal(take(start_step=start), full_run[start:])


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_batch(full_run, count):
    parts = [take(process_index=p, process_count=count) for p in range(count)]
    joined = [{name: np.concatenate([part[i][name] for part in parts]) for name in full_run[i]} for i in range(14)]
    assert_equal(joined, full_run)


def test_workers_change_nothing(full_run):
    assert_equal(take(num_workers=2, start_step=3), full_run[3:])


def test_epochs_augment_anew(full_run):
    epochs = full_run[:6], full_run[6:12]
    first, second = ({int(i): b["points"][k] for b in part for k, i in enumerate(b["id"])} for part in epochs)
    shared = set(first) & set(second)
    assert len(shared) > 40 and not any(np.array_equal(first[i], second[i]) for i in shared)


def test_batch_must_split_over_processes():
    with pytest.raises(ConfigError, match=r"batch_size=8 does not split over 3 processes. Use a multiple of 3, e.g. 6"):
        take(process_index=0, process_count=3)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("split, size", [("validation", 7), ("test", 10)])
def test_evaluation_counts_each_example_once(split, size, count):
    parts = []
    for p in range(count):
        with evaluation_batches(SOURCE, split, 4, process_index=p, process_count=count) as batches:
            parts.append(list(batches))
    whole = [{name: np.concatenate([part[i][name] for part in parts]) for name in b} for i, b in enumerate(parts[0])]
    ids, weight, points = (np.concatenate([batch[name] for batch in whole]) for name in ("id", "weight", "points"))
    assert ids[weight == 1].tolist() == list(range(size)) and weight.sum() == size
    assert (ids[weight == 0] == -1).all() and len(ids) % 4 == 0
    np.testing.assert_array_equal(points[:size], SOURCE.load(split, np.arange(size), None)["points"])
    last = whole[-1]
    for row in np.flatnonzero(last["weight"] == 0):
        np.testing.assert_array_equal(last["points"][row], last["points"][0])


def test_evaluation_of_a_part():
    with evaluation_batches(SOURCE, "test", 4, num_examples=5) as batches:
        assert batches.num_batches == 2
        assert sum(batch["weight"].sum() for batch in batches) == 5


def test_unknown_split():
    with pytest.raises(ConfigError, match="split='dev': the data has train, validation, test"):
        evaluation_batches(SOURCE, "dev", 4)


class Broken:
    """Fails at the example `bad`, in the way it is told to."""

    spec = Spec({"x": ArraySpec((2,), "float32")})
    splits = ("train",)

    def __init__(self, error=None, dtype="float32", bad=3):
        self.error, self.dtype, self.bad = error, dtype, bad

    def num_examples(self, split):
        return 8

    def labels(self, split):
        return np.zeros(8, np.int32)

    def load(self, split, ids, epoch):
        if self.error and self.bad in ids:
            raise self.error
        return {"x": np.zeros((len(ids), 2), self.dtype)}


@pytest.mark.parametrize(
    "source, error, message",
    [
        (
            Broken(ConfigError("a.h5: record 3 is broken")),
            ConfigError,
            r"record 3 is broken \(batch 1 of 'train'.* 2..3, at example 3\)",
        ),
        (
            Broken(KeyError("x")),
            RuntimeError,
            r"KeyError: 'x' \(batch 1 of 'train', 2 examples with ids 2..3, at example 3\)",
        ),
        (Broken(dtype="float64"), ValueError, r"Broken.load does not keep its spec"),
    ],
)
def test_errors_of_a_source_say_where(source, error, message):
    plan = Plan(8, 2, shuffle=False)
    with (
        train_batches(source, plan, start_step=0, num_steps=4) as batches,
        pytest.raises(error, match=message),
    ):
        list(batches)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_very_record_arrives_within_seconds(num_workers):
    plan = Plan(8, 4, shuffle=False)
    options = {"start_step": 0, "num_steps": 2, "num_workers": num_workers, "prefetch": 1}
    source = Broken(ConfigError("not an image"), bad=6)
    with train_batches(source, plan, **options) as batches:
        next(batches)  # the worker has started
        began = time.monotonic()
        with pytest.raises(ConfigError, match=r"not an image \(batch 1 of 'train', 4 examples.*, at example 6\)"):
            next(batches)
    assert time.monotonic() - began < 5


def test_a_batch_that_fails_only_as_a_whole_names_the_batch():
    class Full(Broken):
        def load(self, split, ids, epoch):
            if len(ids) == 4:
                raise self.error
            return super().load(split, ids, epoch)

    plan = Plan(8, 4, shuffle=False)
    with (
        train_batches(Full(OSError("full"), bad=None), plan, start_step=0, num_steps=1) as batches,
        pytest.raises(RuntimeError, match=r"OSError: full \(batch 0 of 'train', 4 examples with ids 0..3\)"),
    ):
        next(batches)


def test_close_twice_and_no_threads_left():
    batches = train_batches(SOURCE, PLAN, start_step=0, num_steps=1000)
    next(batches)
    batches.close()
    batches.close()
    deadline = time.monotonic() + 10
    while any(t.name.startswith("grain-prefetch") for t in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(t.name.startswith("grain-prefetch") for t in threading.enumerate())


PARENT = """
import multiprocessing
from perceiver_jax.data.pipeline import train_batches
from perceiver_jax.data.plan import Plan
from perceiver_jax.data.solids import Solids
if __name__ == "__main__":
    batches = train_batches(Solids(num_points=8), Plan(64, 8), start_step=0, num_steps=10**6, num_workers=2)
    next(batches), next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    while True:
        next(batches)
"""


def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment)
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2 and all(_runs(pid) for pid in workers)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while any(_runs(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in workers)


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
