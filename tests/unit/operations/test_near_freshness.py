"""The near cache: how fresh it is, by its consistency, its deadlines, and what was seen since."""

from __future__ import annotations

import time
from typing import Any

import pytest

import shmmap

from .near import BOUNDED, Name, stuck

WRITES: dict[str, Any] = {
    "set": lambda m: m.set("k", 2), "replace": lambda m: m.replace("k", 2),
    "cas": lambda m: m.cas("k", 2, m.get_versioned("k")[1]), "incr": lambda m: m.incr("k"),
    "set_many": lambda m: m.set_many({"k": 2}), "update": lambda m: m.update(k=2),
    "delete": lambda m: m.delete("k"), "pop": lambda m: m.pop("k"), "clear": lambda m: m.clear(),
    "popitem": lambda m: m.popitem(), "delete_many": lambda m: m.delete_many(["k"]),
    "expired at once": lambda m: m.set("k", 2, ttl=0), "touch away": lambda m: m.touch("k", -1),
    "of a key that equals it": lambda m: m.set(Name("k"), 2),
}
ROUNDS = 20_000 if shmmap.ENGINE == "compiled" else 1_000


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


def test_a_bounded_answer_touches_no_shared_memory(make):
    """Unlinking is told in the control segment: who does not look there does not know."""
    m, other = make(near=10, on_unlinked="raise"), make()
    m["k"] = 1
    assert m["k"] == 1
    other.unlink()
    assert m.get("k", **BOUNDED) == 1
    with pytest.raises(shmmap.MapUnlinked):
        m.get("k")


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
    last = rounds = 0
    deadline = time.monotonic() + 30  # the child may not have run yet
    while rounds < ROUNDS or (last == 0 and time.monotonic() < deadline):
        rounds += 1
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


def test_a_session_without_a_near_cache_is_linearizable(make):
    m = make(shards=1, consistency="session", lock_timeout=0.1)
    m["key"] = 1
    assert m["key"] == m.get("key", consistency="session") == 1
    with stuck(m, "key"), pytest.raises(shmmap.ShardBusy):
        m["key"]
