"""write="behind": done when the machine has it, and in the store a moment later, in order."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from typing import Any

import pytest

from shmmap import StoreUnavailable, Tiered
from shmmap.testing import LocalStore
from shmmap.tiers import draining
from shmmap.tiers.machine_clock import MachineClock

from .conftest import listens, part_of, until


def in_store(store: Any, tier: Tiered) -> Tiered:
    """Return a tier that looks into the store, and not into the journal."""
    return Tiered(tier.map, store, consistency="linearizable")


NAME = b"shmmap:a"


@pytest.mark.parametrize("codec", ["auto", "json"])
def test_it_is_read_at_once_and_comes_to_the_store(behind, store, codec):
    tier = behind(store, codec=codec)
    for number, value in enumerate([1, "text", None, {"a": [3]}]):
        tier[number] = value
        assert tier[number] == value and tier.get(number, consistency="session") == value
    tier.set_many({"a": 1, "b": 2})
    assert tier.get_many(["a", "b", "c"]) == {"a": 1, "b": 2}
    tier.flush(20)
    assert tier.report().waiting == 0
    with in_store(store, tier) as look:
        assert look[3] == {"a": [3]} and look.get_many(["a", "b"]) == {"a": 1, "b": 2}
    assert tier[3] == {"a": [3]}


def test_a_write_takes_the_copy_out(behind, store):
    tier = behind(store, max_staleness=60)
    listens(tier)
    tier["a"] = 1
    tier.flush(20)
    until(lambda: tier["a"] == 1 and tier.map.get("a"))
    tier["a"] = 2
    assert tier["a"] == 2
    tier.flush(20)
    until(lambda: tier["a"] == 2 and tier.map.get("a"))
    del tier["a"]
    assert "a" not in tier and tier.get_many(["a"]) == {}


def test_one_of_all_machines_computes(behind):
    """Its value is in the store when the others look."""
    store = LocalStore()
    tier, other = behind(store), behind(store)
    for each in (tier, other):  # nobody carries
        each._behind.stop()
    assert [one.get_or_set("a", lambda one=one: one.map.name) for one in (tier, other)] == (
        [tier.map.name] * 2)


def test_a_write_needs_no_store(behind):
    store = LocalStore()
    tier = behind(store)
    tier["before"] = 0
    tier.flush(20)
    store.is_cut = True
    for number in range(50):
        tier["a"] = number
        tier["b", number] = number
        assert tier["a"] == number == tier["b", number]
    del tier["before"]
    assert "before" not in tier and tier.get("before", 7) == 7
    assert tier.delete("before") is False
    report = tier.report()
    assert report.waiting == 52 and 0 < report.waiting_s < 60
    with pytest.raises(StoreUnavailable, match=r"52 keys .* waits in the map") as raised:
        tier.flush(0.05)
    assert not raised.value.was_sent
    store.is_cut = False
    tier.flush(20)
    assert len(store.kept) == 51 and tier.report().waiting == 0
    assert tier["a"] == 49 and "before" not in tier


def test_of_many_writes_of_a_key_the_last_is_sent(behind):
    store = LocalStore()
    tier = behind(store)
    store.is_cut = True
    for number in range(1000):
        tier["a"] = number
    store.is_cut = False
    tier.flush(20)
    assert tier.report().waiting == 0 and tier["a"] == 999
    until(lambda: tier._behind.part.sent)
    assert tier._behind.part.sent < 10


@pytest.mark.parametrize("act", [
    lambda tier: tier.incr("a"), lambda tier: tier.add("a", 5), lambda tier: tier.replace("a", 5),
    lambda tier: tier.cas("a", 5, tier.get_versioned("a")[1]), lambda tier: tier.pop("a"),
    lambda tier: tier.apply("a", lambda value: value * 2), lambda tier: tier.touch("a", 5),
    lambda tier: tier.ttl("a"), lambda tier: tier.get("a", consistency="linearizable"),
    lambda tier: tier.get_or_set("b", lambda: 9) and tier.get("a"),
])
def test_what_must_see_the_store_waits_for_what_was_written(behind, store, act):
    mirror = {"a": 1}
    tier, plain = behind(store), behind(LocalStore())
    for one in (tier, plain):
        one["a"] = mirror["a"]
    plain.flush(20)
    assert act(tier) == act(plain)
    tier.flush(20)
    assert tier.get("a", consistency="linearizable") == plain.get("a")


def test_what_must_see_the_store_says_so_where_it_cannot(behind, monkeypatch):
    monkeypatch.setattr("shmmap.tiers.behind.SETTLE_S", 0.05)
    store = LocalStore()
    tier = behind(store)
    store.is_cut = True
    tier["a"] = 1
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            tier.incr("a")
        with pytest.raises(StoreUnavailable):
            tier.get("a", consistency="linearizable")
    assert tier["a"] == 1
    tier["a"] = 2
    store.is_cut = False
    until(lambda: tier.report().waiting == 0)
    assert tier["a"] == 2


def test_a_ttl_counts_from_the_write(behind, store):
    tier = behind(store)
    tier.set("a", 1, ttl=0.4)
    tier.set("b", 1, ttl=100)
    assert tier["a"] == 1
    tier.flush(20)
    assert 60 < tier.ttl("b") <= 100
    until(lambda: "a" not in tier)
    tier.set("b", 1, ttl=0)
    assert "b" not in tier


def test_what_expires_before_the_store_has_it_is_removed_there(behind):
    store = LocalStore()
    tier = behind(store)
    tier["a"] = 1
    tier.flush(20)
    store.is_cut = True
    tier.set("a", 2, ttl=0.05)
    until(lambda: "a" not in tier)
    store.is_cut = False
    tier.flush(20)
    assert not store.kept


def asks(tier: Tiered) -> bool:
    """Tell whether the store can be asked."""
    try:
        return tier.get("none", True)  # type: ignore[no-any-return]
    except StoreUnavailable:
        return False


def test_a_full_journal_has_writes_wait(behind):
    store = LocalStore()
    tier = behind(store, room="300KB")
    big = b"x" * 2_000
    store.is_cut = True
    kept = 0
    with pytest.raises(StoreUnavailable) as raised:
        for kept in range(1000):
            tier["key", kept] = big
    assert "has no room" in "".join(getattr(raised.value, "__notes__", ["has no room"]))
    assert 10 < kept < 150
    with pytest.raises(StoreUnavailable):
        tier.set_many({("more", number): big for number in range(200)})
    store.is_cut = False
    tier.flush(20)
    until(lambda: asks(tier))  # the store is asked once a second
    for number in range(kept, 300):
        tier["key", number] = big  # waits where it must
    tier["huge"] = b"x" * 200_000  # no journal takes it
    tier.flush(20)
    assert all(tier["key", number] == big for number in range(300)) and len(tier["huge"]) == 200_000


def test_a_later_write_of_another_machine_stays(behind, tiers):
    store = LocalStore()
    tier, other = behind(store), tiers(store)
    store.is_cut = True
    tier["a"] = "early"
    tier["b"] = "early"
    store.is_cut = False
    held, store.put_latest = store.put_latest, lambda *given: [None] * len(given[0])
    other["a"] = "late"
    store.put_latest = held
    tier.flush(20)
    until(lambda: tier["a"] == "late")
    assert tier["b"] == "early"


def raise_to(clock: MachineClock, ns: int) -> None:
    """Raise a machine's offset."""
    clock._raise_to(ns, time.clock_gettime_ns(time.CLOCK_BOOTTIME))


def be_ahead(tier: Tiered, seconds: int) -> None:
    """Put a machine's clock so far ahead."""
    now = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    raise_to(tier._behind.part._clock, now + seconds * 10**9)


def test_what_follows_a_value_from_a_clock_that_is_ahead_is_later(behind, store, monkeypatch):
    """The other machine's clock is 20 seconds ahead: within what is believed."""
    fast = behind(store)
    be_ahead(fast, 20)
    fast["a"] = 1
    fast.flush(20)
    tier = behind(store)
    assert tier["a"] == 1
    tier["a"] = 2
    tier.flush(20)
    assert tier.get("a", consistency="linearizable") == 2
    later = behind(store, tier.journal, tier.map)  # another process has not read it
    later["a"] = 3
    later.flush(20)
    assert tier.get("a", consistency="linearizable") == 3


def test_a_stamp_from_a_wrong_clock_hinders_nobody(behind, store):
    wrong = behind(store)
    be_ahead(wrong, 200)
    wrong["a"] = 1
    wrong.flush(20)
    tier = behind(store)
    assert tier["a"] == 1
    tier["a"] = 2
    tier.flush(20)
    assert tier.get("a", consistency="linearizable") == 2


def test_one_process_carries_and_the_next_one_after_it(behind, store):
    tier = behind(store)
    other = behind(store, tier.journal, tier.map)
    until(lambda: tier._behind.part.is_draining or other._behind.part.is_draining)
    first, second = (tier, other) if tier._behind.part.is_draining else (other, tier)
    first.close()
    second["a"] = 1
    second.flush(20)
    assert second._behind.part.is_draining and second._behind.part.sent


def test_refusals_keep_what_waits(behind, server):
    tier = behind(server.client())
    tier["a"] = 1
    tier.flush(20)
    client = server.client()
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", 1)
    tier["a"] = 2
    until(lambda: "OOM" in tier.report().trouble)
    assert tier["a"] == 2 and tier.report().waiting == 1
    client.config_set("maxmemory", 0)
    tier.flush(20)
    assert tier.get("a", consistency="linearizable") == 2


def test_another_type_under_the_name_is_replaced(behind, server):
    tier = behind(server.client())
    server.client().rpush("shmmap:a", 1)
    tier["a"] = 2
    tier.flush(20)
    assert tier.get("a", consistency="linearizable") == 2


def test_what_is_sent_late_is_refused(server, store):
    from shmmap.tiers.redis_store import RedisStore
    from shmmap.tiers.stamps import Stamps, latest_believed
    from shmmap.tiers.store import Put

    local, real = LocalStore(), RedisStore(server.client())
    stamps = Stamps()
    old, new = stamps.next(), stamps.next()
    for one in (local, real):
        def put(name: bytes, data: Any, stamp: bytes, ago_ms: int, one: Any = one) -> Any:
            given = Put(name, data, None, stamp)
            return one.put_latest([given], one.moment() - ago_ms, 500, latest_believed())[0]

        def stored(stamp: bytes) -> bytes:
            return b"\xd5\x01" + stamp + b"x"

        assert put(b"a", stored(new), new, 501) is None and one.get(b"a") is None
        assert put(b"a", stored(new), new, 0) is True
        assert put(b"a", stored(old), old, 0) is False and one.get(b"a").data == stored(new)
        assert put(b"a", None, old, 0) is False
        assert put(b"a", stored(new), new, 0) is True, "the same once more"
        assert put(b"a", None, new, 0) is True and one.get(b"a") is None
        assert put(b"b", b"{}", b"", 0) is True and put(b"b", b"[]", b"", 0) is True
        assert put(b"b", stored(old), old, 0) is True, "nothing with a stamp was there"
        rng = random.Random(7)
        for _ in range(300):  # bytes are compared as numbers, whatever the locale
            first, second = (rng.randbytes(7).rjust(8, b"\0") + rng.randbytes(4) for _ in range(2))
            one.delete([b"c"])
            put(b"c", stored(first), first, 0)
            assert put(b"c", stored(second), second, 0) is (second >= first)


@pytest.mark.parametrize(("given", "told"), [
    ({"write": "sideways"}, "one of through, behind"), ({"write": "behind"}, "needs journal="),
    ({"journal": "there"}, "is for write="),
])
def test_wrong_arguments_are_named(make, given, told):
    m = make()
    if "journal" in given:
        given = {"journal": m}
    with pytest.raises((TypeError, ValueError), match=told):
        Tiered(m, LocalStore(), **given)


@pytest.mark.parametrize(("options", "told"), [
    ({"on_full": "evict"}, "on_full='raise'"), ({"ttl": 5}, "default_ttl=None"),
    ({"codec": "json"}, "codec="), ({}, "another map"),
])
def test_a_journal_loses_nothing_by_itself(make, other, options, told):
    m = make()
    journal = other(**options) if options else m
    with pytest.raises(ValueError, match=told):
        Tiered(m, LocalStore(), write="behind", journal=journal)


def write_until_killed(tier: Tiered, acked: Any, keys: int) -> None:
    """Write numbers to keys for ever; note each that was acknowledged."""
    number = 0
    while True:
        number += 1
        tier["key", number % keys] = number
        acked[number % keys] = number


@pytest.mark.parametrize("wire", ["whole", "stopped"])
def test_nothing_acknowledged_is_lost_by_deaths(behind, server, start, wire):
    """Two writers, each with keys of its own; whoever carries is killed again and again."""
    import multiprocessing

    fork = multiprocessing.get_context("fork")
    tier = behind(server.client(), timeout=0.3)
    keys = 5
    acked = [fork.RawArray("Q", keys) for _ in range(4)]
    for turn, mine in enumerate(acked):
        child = os.fork()
        if child == 0:
            try:
                write_until_killed(Apart(tier, turn), mine, keys)
            finally:
                os._exit(1)
        if wire == "stopped" and turn % 2:
            server.stop()
        time.sleep(0.3)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if wire == "stopped" and turn % 2:
            server.go_on()
    tier.flush(20)
    for turn, mine in enumerate(acked):
        for at in range(keys):
            there = tier.get((turn, "key", at), consistency="linearizable")
            assert there in (mine[at], mine[at] + keys) and there, (turn, at, there, mine[at])


class Apart:
    """A tier, whose keys are one writer's own."""

    def __init__(self, tier: Tiered, number: int) -> None:
        self.tier = tier
        self.number = number

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tier[(self.number, *key)] = value


def test_one_that_was_stopped_sends_nothing_old(behind, server, monkeypatch):
    """A child that carries is stopped in the middle of a turn, others take its place and write
    more, and it goes on: what it had read before comes too late."""
    monkeypatch.setattr(draining, "LEASE_S", 0.4)
    monkeypatch.setattr(draining, "RENEW_S", 0.1)
    monkeypatch.setattr(draining, "WITHIN_MS", 200)
    monkeypatch.setattr(draining, "OPEN_NS", 300_000_000)
    tier = behind(server.client(), codec="json")  # no stamps, which would find it, too
    tier._behind.stop()
    tier["a"] = "old"
    reached, go_on = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            part = draining.Part(tier._behind.journal, tier.store, tier._writing,
                                 tier._behind.part._clock)
            real = tier.store.put_latest

            def late(*given: Any) -> Any:
                os.write(reached[1], b"x")
                os.read(go_on[0], 1)
                return real(*given)

            tier.store.put_latest = late  # type: ignore[method-assign]
            while not part._begin():
                time.sleep(0.01)
            part.turn()
        finally:
            os._exit(0)
    os.read(reached[0], 1)
    tier["a"] = "new"
    second = behind(tier.store, tier.journal, tier.map)
    second.flush(20)
    os.write(go_on[1], b"x")
    os.waitpid(child, 0)
    assert second.get("a", consistency="linearizable") == "new"
    for end in (*reached, *go_on):
        os.close(end)


def test_what_a_dead_one_has_sent_is_waited_for(behind, monkeypatch):
    """It may still be on its way, and come after what the next one sends."""
    monkeypatch.setattr(draining, "OPEN_NS", 150_000_000)
    store = LocalStore()
    tier = behind(store, codec="json")
    tier._behind.stop()
    for how, waits in (("left", False), ("killed", True)):
        one, other = part_of(tier), part_of(tier)
        assert one._begin()
        began = time.monotonic()
        if how == "left":
            one._leave()
        else:
            one._lock.release()
        tier["a"] = how
        assert other._begin()
        while not other.turn():
            time.sleep(0.005)
        assert (time.monotonic() - began > 0.1) is waits and json.loads(store.kept[NAME][0]) == how
        other._leave()


def test_what_was_not_answered_is_waited_for(behind, monkeypatch):
    store = LocalStore()
    tier = behind(store, codec="json")
    tier._behind.stop()
    one, other = part_of(tier), part_of(tier)
    tier["a"] = 1
    assert one._begin()

    def unanswered(*given: Any) -> Any:
        raise StoreUnavailable("nothing was heard")

    monkeypatch.setattr(store, "put_latest", unanswered)
    one._step()
    monkeypatch.undo()
    assert "nothing was heard" in one.trouble and not one.is_draining
    assert other._begin() and not other.turn() and not store.kept
    other._quiet_until = 0
    assert other.turn() and store.kept


def test_an_offset_that_has_risen_makes_nothing_old(behind):
    """One has read the offset, and stands still; the other one carries by a higher one."""
    store = LocalStore()
    tier = behind(store)
    tier._behind.stop()
    one, other, clock = part_of(tier), part_of(tier, has_lease=True), tier._behind.part._clock
    real = clock.offset()
    assert one._begin()
    tier["a"] = "first"

    def carry_meanwhile(*given: Any) -> Any:
        store.put_latest = put_latest  # type: ignore[method-assign]
        tier["a"] = "first"
        raise_to(clock, real.ns + 5_000_000_000)
        assert other.turn()
        tier["a"] = "second"
        return put_latest(*given)

    put_latest = store.put_latest
    store.put_latest = carry_meanwhile  # type: ignore[method-assign]
    one.turn()
    while one.turn():
        pass
    with in_store(store, tier) as look:
        assert look["a"] == "second"


def test_a_later_offset_is_tried_before_anything_is_given_up(behind):
    """The record itself was read; what is there was written before it, by a higher offset."""
    store = LocalStore()
    tier = behind(store)
    tier._behind.stop()
    one, other = (part_of(tier, has_lease=True) for _ in range(2))
    clock = tier._behind.part._clock
    tier["a"] = "first"
    low = clock.offset()
    raise_to(clock, low.ns + 5_000_000_000)
    assert other.turn()
    tier["a"] = "second"
    offsets = iter([low])  # what it has read before the other one raised it
    one._clock = type("Late", (), {"offset": lambda self: next(offsets, None) or clock.offset()})()
    assert one.turn() and one.overtaken == 0
    assert one.turn() and one.sent == 1
    with in_store(store, tier) as look:
        assert look["a"] == "second"


def test_closing_says_what_waits(behind, caplog):
    store = LocalStore()
    tier = behind(store)
    tier["a"] = 1
    tier.flush(20)
    tier.close()
    assert not caplog.text
    store.is_cut = True
    tier = behind(store, tier.journal, tier.map)
    tier["a"], tier["b"] = 1, 2
    until(lambda: tier.report().waiting_s >= 1)
    tier.close()
    assert f"map {tier.journal.name!r}: 2 writes wait for the store local" in caplog.text
