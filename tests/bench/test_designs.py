"""The bench's traffic of known writes, and the designs that it is sent through."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import shmmap
from bench.core.results import OURS, Row
from bench.core.workloads import key_of, value_of
from bench.load import map_traffic
from bench.load.map_traffic import Users
from bench.load.worker_pool import WorkerError, WorkerPool
from bench.peers.own_map import all_locks, filled_map, remove
from bench.scenarios.design import designs, locked_reads
from bench.scenarios.design.copy_on_write import CopyOnWrite, CopyOpener
from shmmap import _engine

from .runs import DESIGN_SCALE, design_rows

pytestmark = pytest.mark.skipif(shmmap.ENGINE == "pure", reason="the same with either engine")

SMALL = designs.SCENARIOS[0]._replace(entries=200)


@pytest.fixture(autouse=True)
def no_build_left() -> Iterator[None]:
    before = set(os.listdir(tempfile.gettempdir()))
    yield
    left = set(os.listdir(tempfile.gettempdir())) - before
    assert [entry for entry in left if entry.startswith("shmmap-bench-build-")] == []



# -- traffic --------------------------------------------------------------------------


def users(share: float, opener: Any = None, workers: int = 2, entries: int = 200) -> Users:
    return Users((opener,) if opener else (), entries, (share,), workers, map_traffic.Dial())


@pytest.mark.parametrize("share", [0.0, 0.1, 13.5, 100.0])
def test_a_plan_has_exactly_its_share_of_writes(share):
    chunks = map_traffic.plan(users(share), 0, share)
    operations = [each for chunk in chunks for each in (chunk.first, *chunk.rest)]
    writes = [(key, value) for key, value in operations if value is not None]
    assert len(operations) == 2 * map_traffic.PLAN
    assert len(writes) == 2 * round(map_traffic.PLAN * share / 100) == sum(c.writes for c in chunks)
    assert all(value.startswith(key.encode()) for key, value in writes)


def test_two_workers_never_write_the_same_key():
    keys = [
        {key for chunk in map_traffic.plan(users(100.0), index, 100.0)
         for key, _ in (chunk.first, *chunk.rest)}
        for index in range(2)
    ]
    assert keys[0] and keys[1] and not keys[0] & keys[1]


class DictOpener(NamedTuple):
    """Opens a dict that drops every n-th write, or gives another key's value for every read."""

    drops: int = 0
    wrong: bool = False

    def open(self) -> map_traffic.Store:
        data = {key_of(n): value_of(key_of(n)) for n in range(200)}
        writes: list[str] = []

        def put(key: str, value: bytes) -> None:
            writes.append(key)
            if not self.drops or len(writes) % self.drops:
                data[key] = value

        reads: list[str] = []

        def get(key: str) -> bytes:
            reads.append(key)
            return data["k" + "0" * 15 if self.wrong and len(reads) > 200 else key]

        return map_traffic.Store(get, put, (0,), 0, lambda: None)


def stretch_of(opener: DictOpener, share: float) -> map_traffic.Stretch:
    job = users(share, opener, workers=1)
    return job.begin(0).run(time.monotonic_ns() + 30_000_000)


def test_lost_writes_and_wrong_reads_are_found():
    sound = stretch_of(DictOpener(), 50.0)
    assert sound.problem == "" and sound.operations > 100 and sound.writes > 0
    assert len(sound.times) * map_traffic.CHUNK == sound.operations
    assert "was written" in stretch_of(DictOpener(drops=10), 50.0).problem
    assert "gave" in stretch_of(DictOpener(wrong=True), 0.0).problem


# -- designs ----------------------------------------------------------------------------


def test_copy_on_write_keeps_every_write_of_two_writers():
    lock = multiprocessing.get_context("spawn").Lock()
    name = f"bench-{os.getpid()}-cow"
    entries = {key_of(n): value_of(key_of(n)) for n in range(50)}
    made = CopyOnWrite.create(name, lock, entries)
    try:
        job = Users((CopyOpener(name, lock),), 50, (100.0,), 2, map_traffic.Dial())
        pool = WorkerPool(job, 2)
        try:
            answers = pool.run(0.2)
        finally:
            pool.close()
        assert [answer.problem for answer in answers] == ["", ""]
        assert made.words[0] == 1 + sum(answer.writes for answer in answers)
        assert all(made.get(key).startswith(key.encode()) for key in entries)
        assert made.get(key_of(0)) != entries[key_of(0)] and made.get("absent") is None
        assert len(list(Path("/dev/shm").glob(f"{name}.*"))) == 1
    finally:
        made.remove()


def test_copy_on_write_loses_writes_without_its_lock():
    class Open:
        def __enter__(self) -> None: ...
        def __exit__(self, *exception: object) -> None: ...

    name = f"bench-{os.getpid()}-cow"
    made = CopyOnWrite.create(name, Open(), {"a": b"", "b": b""})
    other = CopyOnWrite(name, Open())
    try:
        other.get("a")
        real, other._refresh = other._refresh, lambda: None  # it has looked before we write
        made.put("a", b"1")
        other.put("b", b"2")
        other._refresh = real
        assert made.get("b") == b"" or made.get("a") == b""  # hence the lock around both
    finally:
        other.close()
        made.remove()


def test_texts_are_replaced_exactly_once():
    source = Path(f"{_engine.path_of(locked_reads.MODULE)}.py").read_text()
    changed = locked_reads.replaced(source)
    assert "range(0)" in changed and changed.count("self.try_fetch(") == 1
    with pytest.raises(ValueError, match="0 times, not once"):
        locked_reads.replaced(changed)


def test_the_build_really_locks_its_reads(tmp_path):
    build = locked_reads.locked_reads()
    if build.problem:
        pytest.skip(build.problem)
    file = tmp_path / build.file
    file.write_bytes(build.content)
    name = f"bench-{os.getpid()}-locked"
    m = filled_map(name, 200, 1)
    try:
        for opener, locked in (
            (map_traffic.MapOpener(name), False), (locked_reads.LockedOpener(name, str(file)), True)
        ):
            before = m.stats()
            pool = WorkerPool(Users((opener,), 200, (0.0,), 1, map_traffic.Dial()), 1)
            try:
                (answer,) = pool.run(0.05)
            finally:
                pool.close()
            after = m.stats()
            reads = after.hits - before.hits
            assert answer.problem == "" and reads == 200 + answer.operations
            assert after.locked_reads - before.locked_reads == (reads if locked else 0)
        # And they wait for it: with the lock held, no read of the changed build gets through.
        with pytest.raises(WorkerError), all_locks(m):
            WorkerPool(users(0.0, locked_reads.LockedOpener(name, str(file)), 1), 1)
    finally:
        remove(m)


def test_designs_with_the_build():
    if locked_reads.locked_reads().problem:
        pytest.skip(locked_reads.locked_reads().problem)
    rows = design_rows(SMALL, DESIGN_SCALE._replace(builds=True))
    names = {OURS, designs.ONE_LOCK, designs.LOCKED, designs.COPIED}
    points = {(row.peer, row.point["write_share"]) for row in rows}
    assert points == set(product(names, (0.0, 50.0)))
    assert not any("skipped" in row.facts for row in rows)


def test_designs_without_a_build(monkeypatch):
    rows = design_rows(SMALL)
    assert {row.peer for row in rows} == {OURS, designs.COPIED}
    assert all(len(row.samples["per_s"]) == 2 for row in rows)
    monkeypatch.setattr(designs, "locked_reads", lambda: locked_reads.Build("", b"", "no gcc"))
    rows = design_rows(SMALL, DESIGN_SCALE._replace(builds=True))
    assert {row.peer for row in rows} == {OURS, designs.COPIED}
    assert {row.facts["skipped"] for row in rows} == {"no gcc"}


def test_where_a_design_breaks():
    def row(peer: str, share: float, rate: float) -> Row:
        return Row.of("d", peer, {"per_s": [rate]}, point={"write_share": share})

    rows = [row(OURS, share, 100.0) for share in (0.0, 1.0, 50.0)]
    rows += [row("slow", 50.0, 10.0), row("slow", 1.0, 49.0), row("slow", 0.0, 51.0)]
    assert designs.breaks(rows) == {OURS: {}, "slow": {"breaks_at": 1.0}}


def test_contention_is_counted_and_timed(name):
    m = filled_map(name, 200, 1)
    try:
        pool = WorkerPool(Late(name), 1)
        try:
            (answer,) = pool.run(0.1)
        finally:
            pool.close()
        assert answer.waits == 1 and len(answer.waited) == 1 and answer.waited[0] > 1_000_000
    finally:
        remove(m)


class Late(NamedTuple):
    """A job: a thread holds every lock for a while as the worker begins to write."""

    name: str

    def begin(self, index: int) -> Any:
        return LateUser(users(100.0, map_traffic.MapOpener(self.name), workers=1), 0)


class LateUser(map_traffic.User):
    def run(self, until_ns: int) -> map_traffic.Stretch:
        with shmmap.ShmMap.attach(self.job.openers[0].name) as m:
            held = threading.Event()

            def hold() -> None:
                with all_locks(m):
                    held.set()
                    time.sleep(0.05)

            thread = threading.Thread(target=hold)
            thread.start()
            held.wait()
            answer = super().run(until_ns)
            thread.join()
            return answer
