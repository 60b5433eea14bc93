# SPDX-License-Identifier: Apache-2.0
"""Where a process finds its place; what runs of several do is in `many_processes_test.py`."""

import jax
import pytest
from jax._src.clusters import cloud_tpu_cluster, cluster

from perceiver_jax.errors import ConfigError, Retry
from perceiver_jax.training import processes
from perceiver_jax.training.processes import Place, agree, find, joined
from perceiver_jax.training.record import data_facts
from tests.training.side_by_side import side_by_side
from tests.training.toy import Blobs

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[001-002]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}


@pytest.fixture
def environment(monkeypatch):
    def put(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def test_alone_without_flags_and_cluster():
    assert find() is None
    assert find(num_processes=1) is None


def test_flags_say_it():
    assert find("host:1234", 4, 2) == Place("host:1234", 4, 2)


def test_slurm_says_it(environment):
    environment(SLURM)
    assert find() == Place("node001:61447", 2, 1, [0])
    assert find("node007:5000") == Place("node007:5000", 2, 1, [0])
    assert find(num_processes=1) is None


def test_one_task_of_slurm_is_alone(environment):
    environment(SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"})
    assert find() is None


def test_open_mpi_says_it(environment):
    environment(OPEN_MPI)
    place = find()
    assert (place.count, place.index, place.local_devices) == (4, 3, [1])
    assert place.coordinator.startswith("10.96.0.1:")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"process_id": 0}, "--coordinator=None --num_processes=None --process_id=0: expected all three"),
        ({"coordinator": "host:1", "num_processes": 2}, "--process_id=None: expected all three"),
        ({"coordinator": "host:1", "num_processes": 2, "process_id": 2}, "a number less than that of the processes"),
        ({"coordinator": "host", "num_processes": 2, "process_id": 0}, "expected HOST:PORT of process 0"),
    ],
)
def test_what_is_missing_or_wrong_is_named(flags, said):
    with pytest.raises(ConfigError, match=said):
        find(**flags)


def test_what_the_cluster_cannot_say_is_named(environment):
    environment(SLURM | {"SLURM_NTASKS": "two"})
    with pytest.raises(ConfigError, match="the cluster does not say the rest .*--num_processes=1 to run alone"):
        find()


def test_other_data_are_refused_by_all():
    sources = [Blobs(), Blobs(), Blobs(num_train=56)]  # the last one has a part of it

    def build(index):
        agree("data", data_facts(sources[index], steps_per_epoch=sources[index].num_train // 8))

    assert side_by_side(2, build) == [None, None]
    for error in side_by_side(3, build):
        assert isinstance(error, ConfigError)
        assert str(error) == (
            "the processes do not have the same data: num_examples.train: process 0 has 64, process 2 has 56; "
            "steps_per_epoch: process 0 has 8, process 2 has 7. Give all of them the same."
        )


RUNTIME = jax.errors.JaxRuntimeError


@pytest.mark.parametrize(
    ("error", "ends_as"),
    [
        (RUNTIME("UNAVAILABLE: The TPU worker went away"), Retry),
        (RUNTIME("ABORTED: Megascale: peer slice 2 has left"), Retry),
        (RUNTIME("DEADLINE_EXCEEDED: megascale transfer timed out"), Retry),
        (RUNTIME("INTERNAL: Megascale runtime: error on host 3"), Retry),
        (RUNTIME("DATA_LOSS: stream closed before all was read"), Retry),
        (RUNTIME("INVALID_ARGUMENT: shapes differ"), RUNTIME),
        (ValueError("DATA_LOSS: a chunk of the checkpoint is damaged"), ValueError),
        (ConnectionError("Connection reset by peer"), Retry),
    ],
)
def test_a_lost_peer_is_told_from_a_bug(error, ends_as, monkeypatch):
    for name in ("call_roll", "_initialize", "agree"):
        monkeypatch.setattr(processes, name, lambda *_: None)
    place = {"coordinator": "host:1", "num_processes": 2, "process_id": 0}
    with pytest.raises(ends_as), joined({}, **place, start_seconds=1.0, heartbeat_seconds=1.0):
        raise error


GKE = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "localhost,host-1"}
SLICES = {"MEGASCALE_COORDINATOR_ADDRESS": "127.0.0.1:8080", "MEGASCALE_NUM_SLICES": "3", "MEGASCALE_SLICE_ID": "2"}
ONE_SLICE = dict.fromkeys(SLICES, "")
METADATA = {
    "agent-worker-number": "2",
    "worker-network-endpoints": "w:0:127.0.0.1,w:1:10.0.0.2,w:2:10.0.0.3",
    "tpu-env": "ACCELERATOR_TYPE: 'v4-24'",
}


@pytest.fixture
def on_tpu(monkeypatch):
    """This machine is one of TPUs, whose metadata server knows `METADATA`."""
    monkeypatch.delenv("TPU_SKIP_MDS_QUERY", raising=False)  # JAX sets it where it finds no TPU
    monkeypatch.setattr(cluster, "running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(cloud_tpu_cluster, "get_metadata", lambda key: (METADATA[key], 200))


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        pytest.param(GKE | ONE_SLICE, Place("localhost:8482", 2, 1), id="GKE"),
        pytest.param(GKE | SLICES, Place("127.0.0.1:8482", 6, 5), id="GKE, three slices"),
        pytest.param({}, Place("127.0.0.1:8482", 3, 2), id="TPU machine"),
    ],
)
def test_gke_and_tpu_machines_say_it(environment, on_tpu, variables, place):
    environment(variables)
    assert find() == place
    assert find(num_processes=1) is None
