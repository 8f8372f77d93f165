"""LocalMap.resize: by the same engine, in private memory."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import shmmap
from shmmap.memory.layout import PAGE
from shmmap.memory.table import read_table
from shmmap.testing import LocalMap, local_maps

from ...support.leftovers import objects_of

LIMIT_S = 60
ENTRIES = {number: f"value-{number}" * (1 + number % 9) for number in range(1500)}
WAYS = {
    "split": ({"shards": 2}, {"shards": 16}),
    "join": ({"shards": 16}, {"shards": 1}),
    "other slots": ({"shards": 4}, {"value_size": 300, "size": "4MB"}),
    "shrink, evict": ({"shards": 4, "on_full": "evict"}, {"shards": 2, "size": "200kB"}),
}


@pytest.fixture
def local(name: str) -> Iterator[Callable[..., Any]]:
    """Open LocalMaps of the test's name, with entries; they are unlinked at the end."""
    def open_map(**parameters: Any) -> Any:
        m = LocalMap(name, **{"size": "2MB", **parameters})
        m.update(ENTRIES)
        return m

    yield open_map
    for left in [one for one in local_maps._maps if one.startswith(name)]:
        with LocalMap.attach(left) as m:
            m.unlink()
    assert not objects_of(name)


def resident(m: Any) -> int:
    """Count the bytes of the map's segments, as the store has them."""
    return sum(one.size for one in m.attachment.store._segments.values())


@pytest.mark.parametrize("way", WAYS)
def test_it_is_what_a_shared_map_is(local, make, way):
    """The same change of both: the same entries, or as many, the same figures."""
    before, shape = WAYS[way]
    mine, shared = local(**before), make(size="2MB", **before)
    shared.update(ENTRIES)
    for m in (mine, shared):
        m.set("leased", 1, ttl=600)
        m.resize(**shape)
        assert m.check() == []
    assert mine.parameters == {**shared.parameters, "sweep_interval": mine.sweep_interval}
    if before.get("on_full") != "evict":
        assert dict(mine) == dict(shared) == {**ENTRIES, "leased": 1}
        assert 590 < mine.ttl("leased") <= 600
        ours, theirs = mine.stats(), shared.stats()
        assert (ours.slots, ours.size_bytes) == (theirs.slots, theirs.size_bytes)
    else:
        assert 0 < len(mine) < len(ENTRIES)


def test_only_the_new_shards_are_left(local):
    m = local(shards=4)
    names = set(m.attachment.store.list())
    m.resize(shards=16, size="1MB")
    left = m.attachment.store.list()
    assert len(left) == 17 and len(set(left) & names) == 1  # that of the named locks
    assert resident(m) <= 10**6


def test_threads_go_on_meanwhile(local):
    m = local(shards=2)
    counted = [0] * 3
    is_over = threading.Event()
    wrong: list[object] = []

    def work(number: int) -> None:
        while not is_over.is_set():
            m.incr(("counter", number))
            counted[number] += 1
            key = counted[number] % len(ENTRIES)
            if m.get(key) != ENTRIES[key]:
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for shape in ({"shards": 32}, {"shards": 4, "size": "3MB"}, {"value_size": 50}):
        m.resize(**shape)
    is_over.set()
    for thread in threads:
        thread.join(LIMIT_S)
    assert not wrong and [m[("counter", number)] for number in range(3)] == counted
    assert m.check() == []


def test_it_can_be_taken_back(local):
    m = local(shards=4)
    resize = m.resize(shards=16, rate=3000, wait=False)
    until = time.monotonic() + LIMIT_S
    while not resize.progress().done and time.monotonic() < until:
        time.sleep(0.005)
    m.attachment.control.MOVE_RATE = 0
    resize.cancel()
    assert m.parameters["shards"] == 4 and dict(m) == ENTRIES
    assert len(m.attachment.store.list()) == 5


def test_what_cannot_fit_is_refused(local):
    m = local(shards=4)
    with pytest.raises(shmmap.MapFull, match="Nothing was moved"):
        m.resize(size="200kB", shards=1)
    with pytest.raises(shmmap.SharedMemoryFull, match="this machine has"):
        m.resize(size="900TB", shards=4096)
    assert m.parameters["shards"] == 4 and dict(m) == ENTRIES


def test_who_closes_it_in_the_middle_goes_on_when_it_is_opened(local, name):
    m = local(shards=4)
    m.resize(shards=16, rate=100, wait=False)
    m.close()
    m = LocalMap(name)
    assert read_table(m.attachment.control).is_moving and m[7] == ENTRIES[7]
    m.attachment.control.MOVE_RATE = 0
    assert m.resize().wait(LIMIT_S) and dict(m) == ENTRIES and m.parameters["shards"] == 16


def test_a_forked_child_goes_on_with_its_own(local, start):
    m = local(shards=4)
    m.resize(shards=16, rate=100, wait=False)

    def work(child: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            m.attachment.control.MOVE_RATE = 0
            assert m.resize().wait(LIMIT_S)
            return dict(m) == ENTRIES, m.parameters["shards"], len(m.attachment.store.list())

    assert start(work).end() == (True, 16, 17)
    assert read_table(m.attachment.control).is_moving
    m.attachment.control.MOVE_RATE = 0
    assert m.resize().wait(LIMIT_S) and dict(m) == ENTRIES


def test_an_opener_may_ask_for_it(local, name):
    m = local(shards=4)
    with LocalMap(name, shards=8, on_mismatch="resize") as other:
        assert other.resize().wait(LIMIT_S) and m.parameters["shards"] == 8
    assert dict(m) == ENTRIES


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="this system tells no RSS")
def test_the_memory_comes_back(local):
    def pages() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1])

    m = local(shards=4)
    m.resize(size="48MB")  # whatever the seed: one shard of the four gets more than the others
    m.set_many({("long", n): bytes(3000) for n in range(8000)})
    before = pages()
    m.clear()
    m.resize(size="1MB")
    assert (before - pages()) * PAGE > 20_000_000
