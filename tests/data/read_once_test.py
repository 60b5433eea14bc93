# SPDX-License-Identifier: Apache-2.0
import dataclasses
import pickle
import threading
from types import SimpleNamespace

import numpy as np

from perceiver_jax.data.read_once import LabelledSplits


@dataclasses.dataclass(frozen=True)
class Counted(LabelledSplits):
    calls: list
    inner: "Counted | None" = None

    def _content(self):
        self.calls.append(threading.get_ident())
        if self.inner is not None:
            self.inner.num_examples("train")  # a source that asks another one
        parts = {"train": SimpleNamespace(label=np.arange(3)), "test": SimpleNamespace(label=np.arange(1))}
        return "names", parts


def test_many_threads_read_once():
    source, barrier = Counted([]), threading.Barrier(8)

    def ask():
        barrier.wait()
        assert source.num_examples("train") == 3

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(source.calls) == 1 and not any(thread.is_alive() for thread in threads)
    assert source.splits == ("train", "test") and source.labels("test").tolist() == [0]


def test_it_pickles_without_what_was_read():
    source = Counted([])
    source.labels("train")
    again = pickle.loads(pickle.dumps(source))
    assert len(again.calls) == 1 and again.num_examples("test") == 1 and len(again.calls) == 2


def test_a_source_may_ask_another_while_it_reads():
    source = Counted([], Counted([]))
    asking = threading.Thread(target=source.num_examples, args=("train",), daemon=True)
    asking.start()
    asking.join(timeout=30)
    assert not asking.is_alive() and len(source.inner.calls) == 1
