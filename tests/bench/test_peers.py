"""The peers of the bench: right answers, lies that are found, and nothing that is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench import peers
from bench.core.peer import Peer
from bench.core.results import Row
from bench.core.source_tree import CHECKOUT
from bench.core.workloads import Scale, key_of, value_of
from bench.load.worker_pool import WorkerPool
from bench.peers import server as servers
from bench.peers.answers import OPERATIONS
from bench.peers.base import ServedPeer
from bench.scenarios import latency, startup

from ..support.engines import once
from .runs import Interrupting, measured, setup_of

pytestmark = once  # the same with either engine

TINY = Scale(
    keys=400, hot=8, batches=4, hot_batch=32, slow_batch=3, repetitions=2, seconds=0.02,
)
PRESENT, _ = peers.present_peers()
SHARED = [peer for peer in PRESENT if peer.shared]
SERVED = [peer for peer in PRESENT if issubclass(peer, ServedPeer)]


@pytest.fixture(autouse=True)
def directories(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every directory that is made; none may be there at the end."""
    made: list[str] = []
    plain = tempfile.mkdtemp

    def noted(*args: Any, **named: Any) -> str:
        made.append(plain(*args, **named))
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", noted)
    yield made
    assert [directory for directory in made if os.path.exists(directory)] == []


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def gone(pid: int, seconds: float = 20.0) -> bool:
    """Wait for a process that init reaps."""
    end = time.monotonic() + seconds
    while is_there(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not is_there(pid)


def rows_of(operation: str, *kinds: type[Peer], progress: Any = None) -> list[Row]:
    once = dict.fromkeys(("delete", "get_many", "set_many"), "shuffled")
    keyset = {"miss": "absent", **once}.get(operation, "hot")
    scenario = latency.Latency("tried", "", operation, keyset)
    return measured(scenario, setup_of(TINY, kinds), progress)


def problem_of(operation: str, kind: type[Peer]) -> str:
    (row,) = rows_of(operation, kind)
    return row.problem


@pytest.mark.parametrize("kind", PRESENT, ids=lambda kind: kind.name)
def test_every_statement_answers_rightly(kind):
    assert set(kind.statements) <= set(OPERATIONS)
    assert {"get", "miss", "contains", "set", "incr", "delete"} <= set(kind.statements)
    assert kind.version()
    for operation in kind.statements:
        loop, row = rows_of(operation, peers.EmptyLoop, kind)
        assert (row.peer, row.problem) == (kind.name, ""), operation
        assert len(row.samples["ns"]) == len(row.samples["p99_ns"]) == TINY.repetitions
        assert min(row.samples["ns"]) > 0
        if kind is not peers.EmptyLoop:
            both = zip(row.samples["ns"], loop.samples["ns"], strict=True)
            net = [raw - empty for raw, empty in both]
            assert row.samples["net_ns"] == pytest.approx(net, abs=0.01)


def test_every_scenario_has_an_operation_and_our_map_has_all():
    operations = {s.operation for s in latency.SCENARIOS if isinstance(s, latency.Latency)}
    assert operations == set(OPERATIONS) == set(peers.ShmMapPeer.statements)
    assert {s.name for s in latency.SCENARIOS if s.quick} >= {"get-shuffled", "set-shuffled"}


LIES = {
    "forgets": ("set", "pass"),
    "keeps the old value": ("set", "data.setdefault(key, value)"),
    "finds nothing": ("get", "value = None"),
    "always the same": ("get", "value = data['k000000000000000']"),
    "says yes": ("contains", "value = True"),
    "counts nothing": ("incr", "value = 1"),
    "counts twice": ("incr", "value = data[key] = data[key] + 2"),
    "finds what is not there": ("miss", "value = b'something'"),
    "finds nothing that is there": ("miss", "value = None"),
    "keeps what is deleted": ("delete", "pass"),
    "deletes everything": ("delete", "data.clear()"),
    "another record": ("get_object", "value = {**get(key), 'age': 43}"),
    "drops a record": ("set_object", "pass"),
    "leaves one out": ("get_many", "value = {key: data[key] for key in keys[1:]}"),
    "in another order": ("get_many", "value = [data[key] for key in reversed(keys)]"),
    "values as keys": ("get_many", "value = list(keys)"),
    "writes all but one": ("set_many", "update(list(mapping.items())[1:])"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_peer_that_lies_is_found(lie):
    operation, statement = LIES[lie]

    class Lying(peers.Dict):
        name = "lying"
        statements = {**peers.Dict.statements, operation: statement}  # noqa: RUF012

    assert problem_of(operation, peers.Dict) == ""
    assert problem_of(operation, Lying)


def test_an_answer_that_goes_wrong_during_timing_is_found():
    class Decaying(peers.Dict):
        def names(self) -> dict[str, Any]:
            asked = iter(range(10**9))
            # Right while all keys are verified first, wrong in the timed loops after that.
            verified = 2 * TINY.hot_batch * TINY.batches - 1
            data = self.handle
            return {"get": lambda key: data[key] if next(asked) < verified else b""}

    assert "(timed)" in problem_of("get", Decaying)


def test_a_peer_that_fails_is_told_and_the_others_go_on():
    class Refusing(peers.Lmdb):
        name = "refusing"

        def open(self) -> None:
            raise OSError("no room here")

    class Raising(peers.Dict):
        name = "raising"
        statements = {"get": "value = data[key, key]"}  # noqa: RUF012

    rows = rows_of("get", Refusing, Raising, peers.Dict)
    assert [bool(row.problem) for row in rows] == [True, True, False]
    assert rows[0].problem == "opening: OSError: no room here"
    assert rows[1].problem.startswith("verifying: KeyError")
    assert len(rows[2].samples["ns"]) == TINY.repetitions


def test_ctrl_c_leaves_nothing():
    chosen = [peers.ShmMapPeer, *SHARED]
    with pytest.raises(KeyboardInterrupt):
        rows_of("get", *chosen, progress=Interrupting())


class Raiser(NamedTuple):
    """Raises a counter in another process."""

    kind: type[Peer]
    address: Any
    key: str

    def begin(self, index: int) -> Raiser.Work:
        return Raiser.Work(self)

    class Work:
        def __init__(self, job: Raiser) -> None:
            self.peer = job.kind.attach(job.address)
            self.key = self.peer.native_keys([job.key])[0]
            self.raising = latency.gather_loop(job.kind.statements["incr"], self.peer.names())

        def run(self, until_ns: int) -> int:
            count = 0
            while time.monotonic_ns() < until_ns:
                count += len(self.raising([self.key] * 5, None))
            return count

        def close(self) -> None:
            self.peer.close()


@pytest.mark.parametrize("kind", SHARED, ids=lambda kind: kind.name)
def test_processes_share_and_lose_no_increment(kind):
    peer = kind(10)
    try:
        key = key_of(1)
        peer.fill({key: 0, key_of(2): value_of("other")})
        pool = WorkerPool(Raiser(kind, peer.address, key), 2)
        try:
            counts = pool.run(0.3)
        finally:
            pool.close()
        assert kind.atomic_incr and min(counts) > 0
        assert peer.read_all([key, key_of(2)]) == [sum(counts), value_of("other")]
    finally:
        peer.close()


@pytest.mark.parametrize("kind", PRESENT[1:], ids=lambda kind: kind.name)
@pytest.mark.parametrize("length", [8, 1 << 20])
def test_small_and_large_values(kind, length):
    peer = kind(4, length)
    try:
        entries = {key_of(n): value_of(key_of(n), length) for n in range(4)}
        peer.fill(entries)
        for _ in range(3):
            write = latency.gather_loop(peer.statements["set"], peer.names())
            write(peer.native_keys([key_of(0)]), value_of("new", length))
        assert peer.read(key_of(0)) == value_of("new", length)
        assert peer.read_all(list(entries)[1:]) == list(entries.values())[1:]
    finally:
        peer.close()
        peer.close()  # once more does nothing


@pytest.mark.parametrize("kind", SERVED, ids=lambda kind: kind.name)
def test_a_server_ends_with_its_store(kind, directories):
    peer = kind(10)
    pid = peer.server.pid
    assert is_there(pid)
    peer.close()
    assert not is_there(pid)
    assert directories


@pytest.mark.parametrize("kind", SERVED, ids=lambda kind: kind.name)
def test_a_server_ends_if_its_client_cannot_open(kind):
    pids = []

    class Failing(kind):
        def open(self) -> None:
            pids.append(self.server.pid)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        Failing(10)
    assert not is_there(pids[0])


def test_a_server_that_does_not_serve_is_told_and_ended(monkeypatch):
    with pytest.raises(servers.ServerError, match="last words"):
        servers.Server(lambda socket: ["sh", "-c", "echo last words; exit 1"])
    monkeypatch.setattr(servers, "PATIENCE_S", 0.2)
    started = []
    plain = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **named: started.append(plain(*args, **named))
        or started[-1],
    )
    with pytest.raises(servers.ServerError, match="does not serve"):
        servers.Server(lambda socket: ["sleep", "60"])
    assert not is_there(started[0].pid)


_LEFT_OPEN = """
import sys, time
sys.path.append(sys.argv[1])
from bench import peers
store = {peer.name: peer for peer in peers.PEERS}[sys.argv[2]](10)
print(store.server.pid, store.server.socket, flush=True)
if sys.argv[3] == "raise":
    raise RuntimeError("on purpose")
time.sleep(60)
"""


@pytest.mark.parametrize("end", ["raise", "kill"])
@pytest.mark.parametrize("kind", SERVED, ids=lambda kind: kind.name)
def test_a_server_ends_with_the_runner(kind, end):
    if end == "kill" and shutil.which("setpriv") is None:
        pytest.skip("no setpriv here: a killed runner cannot take its servers along")
    runner = subprocess.Popen(
        [sys.executable, "-c", _LEFT_OPEN, str(CHECKOUT), kind.name, end], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/",
    )
    with runner:
        pid, socket = runner.stdout.readline().split()
        if end == "kill":
            runner.send_signal(signal.SIGKILL)
        assert runner.wait(20) == (-signal.SIGKILL if end == "kill" else 1)
    assert gone(int(pid))
    if end == "kill":
        shutil.rmtree(Path(socket).parent)  # nobody is there to do it
    assert not Path(socket).parent.exists()


def test_missing_peers_say_how_to_get_them(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    monkeypatch.setattr(peers.Lmdb, "distribution", "not_a_module_of_anyone")
    monkeypatch.setattr(peers.Redis, "modules", ("not_a_package_of_anyone.part",))
    monkeypatch.setattr(peers.Memcached, "modules", ("json",))
    present, absent = peers.present_peers()
    assert peers.Lmdb not in present and peers.Dict in present
    assert absent["lmdb"] == "pip install not_a_module_of_anyone"
    assert absent["redis"] == "pip install redis hiredis && apt-get install redis-server"
    assert absent["memcached"] == "apt-get install memcached"


def test_ultra_dict_leaves_the_resource_tracker_to_the_others():
    if peers.UltraDictPeer not in PRESENT:
        pytest.skip(peers.UltraDictPeer.missing())
    from multiprocessing import resource_tracker

    before = resource_tracker.register, resource_tracker.unregister
    peers.UltraDictPeer(10).close()
    assert (resource_tracker.register, resource_tracker.unregister) == before
    assert "shared_memory" in resource_tracker._CLEANUP_FUNCS


def test_imports_are_timed_and_a_wrong_one_is_found(monkeypatch):
    kinds = [peers.Dict, peers.ShmMapPeer, peers.Sqlite]
    empty, ours, sqlite = measured(startup.Import(), setup_of(TINY, kinds))
    assert [row.problem for row in (empty, ours, sqlite)] == ["", "", ""]
    assert ours.median("ms") > empty.median("ms") > 0
    assert len(ours.samples["net_ms"]) == TINY.repetitions and "net_ms" not in empty.samples
    lane = startup.ImportLane("import", peers.ShmMapPeer, tempfile.gettempdir())
    lane.wanted = ["another file"]
    lane.repeat(0)
    assert "imported" in lane.row().problem


def test_attaching_is_timed_and_a_wrong_value_is_found():
    chosen = [peers.Dict, peers.DictLock, peers.ShmMapPeer, peers.Lmdb]
    rows = measured(startup.Attach(), setup_of(TINY, chosen))
    assert [(row.peer, row.problem) for row in rows] == [
        ("dict", ""), ("shmmap", ""), ("lmdb", "")
    ]
    assert all(min(row.samples["ns"]) > 0 for row in rows)
    job = startup.AttachJob(peers.Dict, None, key_of(1), b"value")
    work = job._replace(kind=Absent).begin(0)
    assert "k000000000000001 was" in work.run(0)[1]


class Absent(peers.Dict):
    """Holds nothing of what it is given."""

    def fill(self, entries: Any) -> None:
        self.handle.update(dict.fromkeys(entries, b"nothing"))
