"""The near cache: what it keeps, for how long, and what it never gives."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import shmmap

from ...support.damage import Damage

BOUNDED = {"consistency": "bounded", "max_staleness": 1e6}


class Thing:
    """Something that can be changed, and be watched as it goes."""

    watcher: Any = None

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        if Thing.watcher:
            Thing.watcher(self)


class Name(str):
    """Equal to the str that it is made of, and not a str exactly."""


class Odd(str):
    """A str that says it equals nothing: no key, since a map would find it by its text."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return False


@contextmanager
def stuck(m: Any, key: str) -> Iterator[None]:
    """As if a writer had been stopped in the flip of a key."""
    damage = Damage(m)
    at = damage.slot_word(damage.head(key.encode()))
    version = damage.words[at]
    lock = m.attachment.shards[0].lock
    assert lock.lock(m.attachment.worker.fork_page.word | 0x1234, 10**9) in (0, 1, 2)
    damage.set_header("SEQUENCE", damage.header("SEQUENCE") + 1)
    damage.words[at] = 0
    try:
        yield
    finally:
        damage.words[at] = version
        damage.set_header("SEQUENCE", damage.header("SEQUENCE") + 1)
        lock.unlock()


def test_a_hit_gives_the_same_object(make):
    m = make(near=10)
    m.set_many({"list": [1, 2], "array": np.arange(3), "text": "t" * 100})
    for key in ("list", "array", "text"):
        first = m[key]
        assert m[key] is first and m.get(key) is first and m.get_versioned(key)[0] is first
        assert m.get_many([key])[key] is first
    assert make()["list"] is not make()["list"]


def test_near_copy_gives_what_may_be_changed_anew(make):
    m = make(near=10, near_copy=True)
    m.set_many({"list": [1, 2], "array": np.arange(3), "text": "t" * 100})
    m["list"].append(3)
    m["array"][0] = 7
    assert m["list"] == [1, 2] and m["array"][0] == 0
    assert m["text"] is m["text"]
    assert m.stats().near_hits == 3


def test_hits_are_counted(make):
    m = make(near=10)
    m["a"] = 1
    before = m.stats()
    for _ in range(5):
        assert m["a"] == 1
    after = m.stats()
    assert (after.hits - before.hits, after.near_hits - before.near_hits) == (5, 4)
    assert m.get("a", **BOUNDED) == m.get("a", **BOUNDED) == 1
    last = m.stats()
    assert (last.hits - after.hits, last.near_hits - after.near_hits) == (2, 2)
    other = make(near=10, **BOUNDED)
    assert other["a"] == other["a"] == 1
    other.close()
    assert m.stats().near_hits - last.near_hits == 1


WRITES: dict[str, Any] = {
    "set": lambda m: m.set("k", 2), "replace": lambda m: m.replace("k", 2),
    "cas": lambda m: m.cas("k", 2, m.get_versioned("k")[1]), "incr": lambda m: m.incr("k"),
    "set_many": lambda m: m.set_many({"k": 2}), "update": lambda m: m.update(k=2),
    "delete": lambda m: m.delete("k"), "pop": lambda m: m.pop("k"), "clear": lambda m: m.clear(),
    "popitem": lambda m: m.popitem(), "delete_many": lambda m: m.delete_many(["k"]),
    "expired at once": lambda m: m.set("k", 2, ttl=0), "touch away": lambda m: m.touch("k", -1),
    "of a key that equals it": lambda m: m.set(Name("k"), 2),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("how", ["linearizable", "session", "bounded"])
@pytest.mark.parametrize("who", ["own", "another"])
def test_a_write_is_seen_at_once(make, write, how, who):
    bound = {"max_staleness": 1e6} if how == "bounded" else {}
    m = make(near=10, consistency=how, **bound)
    m["k"] = 1
    assert m["k"] == 1
    WRITES[write](m if who == "own" else make())
    seen = m.get("k")
    assert seen == (1 if how == "bounded" and who == "another" else make().get("k"))
    assert m.get("k", consistency="linearizable") == make().get("k")


def test_keys_that_are_equal_share_an_entry(make):
    m = make(near=10, **BOUNDED)
    for key, others in {
        1: (1.0, True, np.int64(1)), "s": (Name("s"), np.str_("s")),
        (1, ("a", None)): ((True, (Name("a"), None)), (1.0, (np.str_("a"), None))),
        0.5: (np.float64(0.5),), b"b": (np.bytes_(b"b"),),
    }.items():
        m[key] = first = [1]
        first = m[key]
        for number, other in enumerate(others):
            assert m[other] is first and m.get(other) is first
            m[other] = [number]
            assert m[key] == [number]
            first = m[key]
    assert len(m.near) == 5


def test_what_is_no_key_is_refused_as_ever(make):
    m = make(near=10)
    deep: Any = ()
    for _ in range(200):
        deep = (deep,)
    for wrong in ([], {}, object(), float("nan"), ([],), deep, Odd("s")):
        for operation in (m.get, m.__getitem__, m.get_versioned, lambda key: key in m):
            with pytest.raises(TypeError):
                operation(wrong)
    assert len(m.near) == 0


def test_it_holds_at_most_so_many_and_what_is_used_stays(make):
    m = make(near=20)
    m.set_many({i: i for i in range(500)})
    for i in range(500):
        assert m[i] == i
        assert m[7] == 7
        assert len(m.near) <= 20
    before = m.stats().near_hits
    assert m[7] == 7
    assert m.stats().near_hits == before + 1


def test_it_holds_no_more_where_all_is_used(make):
    m = make(near=20)
    m.set_many({i: i for i in range(100)})
    for i in range(100):
        before = m.stats().near_hits
        assert m[i] == m[i] == i
        assert m.stats().near_hits == before + 1
        assert len(m.near) == min(i + 1, 20)


def test_one_entry_is_enough(make):
    m = make(near=1)
    m.set_many({1: [1], 2: [2]})
    for key in (1, 2, 1, 1, 2):
        assert m[key] == [key] and len(m.near) == 1


def test_an_entry_goes_with_its_deadline(make, freeze):
    m = make(near=10, **BOUNDED)
    clock = freeze(m)
    m.set("k", [1], ttl=5)
    first = m["k"]
    clock.advance(4.999_999_999)
    assert m["k"] is first and m.get("k", consistency="linearizable") is first
    clock.advance(1e-9)
    assert m.get("k") is None and m.get("k", consistency="session") is None


def test_a_bound_counts_from_when_it_was_read_or_compared(make, freeze):
    m, other = make(near=10, consistency="bounded", max_staleness=10), make()
    clock = freeze(m)
    m["k"] = 1
    assert m["k"] == 1
    clock.advance(10)
    assert m["k"] == 1
    clock.advance(1)
    assert m["k"] == 1  # compared
    other["k"] = 2
    clock.advance(10)
    assert m["k"] == 1
    assert m.get("k", max_staleness=9) == 2
    assert m["k"] == 2


def test_a_sweep_prunes(make, freeze):
    m, other = make(near=100), make()
    clock = freeze(m)
    m.set_many({i: Thing(i) for i in range(10)}, ttl=5)
    m.set_many({i: Thing(i) for i in range(10, 20)})
    m["stays"] = 1
    watched = [weakref.ref(m[i]) for i in range(20)]
    assert m["stays"] == 1 and len(m.near) == 21
    clock.advance(6)
    other.delete_many(range(10, 20))
    assert m["stays"] == 1 and len(m.near) == 21
    other.sweep()
    assert m.get("anything") is None  # the next miss
    assert len(m.near) == 1
    gc.collect()
    assert not any(reference() for reference in watched)


def test_close_lets_everything_go(make):
    m = make(near=10)
    m["k"] = Thing(1)
    watched = weakref.ref(m["k"])
    m.close()
    gc.collect()
    assert watched() is None
    for how in ({}, BOUNDED):
        with pytest.raises(shmmap.MapClosed):
            m.get("k", **how)


def test_an_unlinked_map_answers_no_more(make):
    m = make(near=10)
    m["k"] = 1
    assert m["k"] == 1
    m.unlink()
    for how in ({}, BOUNDED, {"consistency": "session"}):
        with pytest.raises(shmmap.MapUnlinked):
            m.get("k", **how)


def test_a_bounded_answer_touches_no_shared_memory(make):
    """Unlinking is told in the control segment: who does not look there does not know."""
    m, other = make(near=10), make()
    m["k"] = 1
    assert m["k"] == 1
    other.unlink()
    assert m.get("k", **BOUNDED) == 1
    with pytest.raises(shmmap.MapUnlinked):
        m.get("k")


def test_a_forked_child_starts_with_none(make, start):
    m = make(near=10, **BOUNDED)
    m["k"] = [1]
    first = m["k"]

    def work(child: Any) -> Any:
        value = m["k"]
        return value is first, m["k"] is value, len(m.near)

    assert start(work).result() == (False, True, 1)
    assert m["k"] is first


def test_a_pickled_handle_keeps_it(make):
    m = make(near=10, near_copy=True, consistency="bounded", max_staleness=7.5)
    with pickle.loads(pickle.dumps(m)) as other:
        assert (other.near.size, other.near.copies, other.near.bound_ns) == (10, True, 7.5e9)
    plain = make()
    with pickle.loads(pickle.dumps(plain)) as other:
        assert other.near is None


def test_a_read_that_was_overtaken_is_not_kept(make):
    """A thread has read and decodes; meanwhile another thread of the handle writes."""
    m = make(near=10, **BOUNDED)
    m["k"] = Slow(1)
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(m["k"]))
    with Slow.held():
        thread.start()
        assert Slow.started.wait(30)
        m["k"] = 2
    thread.join(30)
    assert got[0].number == 1
    assert m["k"] == 2


def test_a_read_that_saw_less_is_not_kept(make):
    """A thread has read and decodes; meanwhile another one reads what a third process wrote."""
    m, other = make(near=10, **BOUNDED), make()
    m["k"] = Slow(1)
    thread = threading.Thread(target=lambda: m["k"])
    with Slow.held():
        thread.start()
        assert Slow.started.wait(30)
        other["k"] = 2
        assert m["k"] == 2
    thread.join(30)
    assert m["k"] == 2
    assert "k" in m


@pytest.mark.skipif(shmmap.ENGINE != "pure", reason="the compiled engine keeps the GIL in there")
def test_a_read_that_begins_as_another_thread_writes_falls_back_on_nothing(make):
    m, other = make(shards=1, near=10, consistency="session", lock_timeout=0.1), make(shards=1)
    writes: list[Any] = []

    class Overtaken(OrderedDict[Any, Any]):
        """Another thread writes just before this one stores, and a third process after it."""

        def __setitem__(self, key: Any, value: Any) -> None:
            if writes:
                writes.pop()()
                stopped.append(stuck(other, "key"))
                stopped[-1].__enter__()
            super().__setitem__(key, value)

    for change in (lambda: m.set("key", 3), lambda: (m.clear(), other.set("key", 3))):
        stopped: list[Any] = []
        m["key"] = 1
        assert m["key"] == 1
        m.near.entries = Overtaken(m.near.entries)
        other["key"] = 2
        writes.append(change)
        with pytest.raises(shmmap.ShardBusy):
            m["key"]
        stopped[0].__exit__(None, None, None)
        assert m["key"] == 3


class Slow:
    """Takes as long to unpickle as a test wants."""

    started = threading.Event()
    go_on = threading.Event()

    def __init__(self, number: int) -> None:
        self.number = number

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        Slow.started.set()
        assert Slow.go_on.wait(30)

    @staticmethod
    @contextmanager
    def held() -> Iterator[None]:
        """Let unpickling wait in here."""
        Slow.started.clear()
        Slow.go_on.clear()
        try:
            yield
        finally:
            Slow.go_on.set()


def test_finalizers_may_call_the_map(make):
    """A value that goes may read, write and fill the near cache it goes from."""
    m = make(near=3)
    m.set_many({i: Thing(i) for i in range(30)})
    called = []

    def watcher(thing: Thing) -> None:
        called.append(thing.number)
        if len(called) < 200:
            m.get((thing.number + 1) % 30)
            m["last"] = thing.number

    Thing.watcher = watcher
    try:
        for i in range(60):
            m.get(i % 30)
            m[i % 30] = Thing(i % 30)
        m.clear()
    finally:
        Thing.watcher = None
    assert called and len(m.near) <= 3 and m.check() == []


def test_a_value_that_cannot_be_decoded_is_not_kept(make):
    m = make(shards=1, near=10, **BOUNDED)
    m["k"] = Thing(1)
    assert m["k"].number == 1
    other = make()
    other["k"] = Thing(2)
    damage = Damage(m)
    at = damage.slot_word(damage.head(b"k"), 16 + 8) * 8
    damage.octets[at] ^= 1
    with pytest.raises(shmmap.MapCorrupted):
        m.get("k", consistency="linearizable")
    with pytest.raises(shmmap.MapCorrupted):
        m["k"]
    m["k"] = 3
    assert m["k"] == 3


def test_it_is_as_fresh_as_the_map_while_another_process_writes(make, start):
    m, plain = make(shards=1, near=10), make()
    m["n"] = 0

    def write_on(child: Any) -> None:
        child.tell("ready")
        number = 0
        while not child._pipe.poll(0):
            number += 1
            m["n"] = number
            if number % 7 == 0:
                m.touch("n", 1000)
                m["other"] = number

    child = start(write_on)
    child.hear()
    last = 0
    for _ in range(20_000 if shmmap.ENGINE == "compiled" else 1_000):
        before, near, again, after = plain["n"], m["n"], m["n"], plain["n"]
        assert last <= before <= near <= again <= after
        last = after
    child.tell("enough")
    child.result()
    assert last > 0 and m.check() == []


SEEN_SINCE: dict[str, Any] = {
    "contains": lambda m: "key" in m, "ttl": lambda m: m.ttl("key"), "list": list,
    "items": lambda m: dict(m.items()), "len": len, "a failed add": lambda m: m.add("key", 3),
    "a failed cas": lambda m: m.cas("key", 3, 4),
}


@pytest.mark.parametrize("look", SEEN_SINCE)
def test_a_session_does_not_go_back_behind_what_was_only_looked_at(make, look):
    m, other = make(shards=1, near=10, consistency="session", lock_timeout=0.1), make()
    m["key"] = 1
    assert m["key"] == 1
    with stuck(m, "key"):
        assert m["key"] == 1 and m.get_versioned("key")[0] == 1
    other["key"] = 2
    SEEN_SINCE[look](m)
    with stuck(m, "key"), pytest.raises(shmmap.ShardBusy):
        m["key"]
    assert m["key"] == 2
    with stuck(m, "key"):
        assert m["key"] == 2
        with pytest.raises(shmmap.ShardBusy):
            m.get("key", consistency="linearizable")


def test_a_session_that_saw_an_entry_gone_does_not_bring_it_back(make):
    m, other = make(shards=1, near=10, consistency="session", lock_timeout=0.1), make()
    m["key"] = 1
    assert m["key"] == 1
    other.delete("key")
    assert m.get("key") is None
    other["key"] = 2
    with stuck(m, "key"), pytest.raises(shmmap.ShardBusy):
        m["key"]


def test_a_write_that_got_no_lock_leaves_what_is_held(make):
    m = make(shards=1, near=10, consistency="session", lock_timeout=0.1)
    m["key"] = 1
    assert m["key"] == 1
    with stuck(m, "key"):
        with pytest.raises(shmmap.LockTimeout):
            m["key"] = 2
        assert m["key"] == 1


def test_setdefault_is_one_step_whatever_the_consistency(make):
    m, other = make(near=10, **BOUNDED), make()
    m["k"] = 1
    assert m["k"] == 1
    other.delete("k")
    assert m["k"] == 1
    assert m.setdefault("k", 2) == 2 == other["k"]


def test_hits_keep_an_entry_from_eviction(make):
    m = make(size=177_152, shards=1, on_full="evict", near=10)
    other = make()
    m["hot"] = 1
    for i in range(5000):
        assert m.get("hot") == 1, i
        other[i] = i
    assert m.stats().evicted > 1000


def test_a_session_without_a_near_cache_is_linearizable(make):
    m = make(shards=1, consistency="session", lock_timeout=0.1)
    m["key"] = 1
    assert m["key"] == m.get("key", consistency="session") == 1
    with stuck(m, "key"), pytest.raises(shmmap.ShardBusy):
        m["key"]


@pytest.mark.parametrize(("wrong", "error", "says"), [
    ({"near": -1}, ValueError, "near=-1"), ({"near": True}, TypeError, "near"),
    ({"near": 1.5}, TypeError, "near"), ({"near_copy": 1}, TypeError, "near_copy"),
    ({"consistency": "eventual"}, ValueError, "'linearizable', 'session', 'bounded'"),
    ({"consistency": 1}, TypeError, "consistency"),
    ({"consistency": "bounded", "max_staleness": 1}, ValueError, "near=N"),
    ({"near": 1, "consistency": "bounded"}, ValueError, "max_staleness="),
    ({"near": 1, "max_staleness": 1}, ValueError, 'consistency="bounded"'),
    ({"near": 1, "consistency": "session", "max_staleness": 1}, ValueError, "bounded"),
    ({"near": 1, "consistency": "bounded", "max_staleness": -1}, ValueError, "max_staleness=-1"),
    ({"near": 1, "consistency": "bounded", "max_staleness": float("nan")}, ValueError, "nan"),
    ({"near": 1, "consistency": "bounded", "max_staleness": "1"}, TypeError, "seconds"),
    ({"near": 1, "consistency": "bounded", "max_staleness": True}, TypeError, "seconds"),
])
def test_what_cannot_be_is_refused(make, name, wrong, error, says):
    with pytest.raises(error, match=says):
        shmmap.ShmMap(name, "1MB", **wrong)
    m = make(near=wrong.pop("near", 0)) if type(wrong.get("near", 0)) is int and (
        wrong.get("near", 0) >= 0) else None
    if m is not None and "near_copy" not in wrong:
        with pytest.raises(error, match=says):
            m.get("k", **wrong)
