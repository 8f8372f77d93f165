"""write="behind", attacked: by deaths between two steps, other tiers, slow and refusing stores."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from shmmap import StoreRefused, StoreUnavailable, Tiered
from shmmap.testing import LocalStore
from shmmap.tiers import draining, held_back

from ...support.engines import once
from .conftest import listens, part_of, until

pytestmark = once  # the same with either engine


def too_late(puts: Any, *given: Any) -> Any:
    """Take nothing, as if all came too late."""
    return [None] * len(puts)


def copied(tier: Tiered, key: str, value: Any) -> None:
    """Write a key, and wait until the machine has a copy of it that stays."""
    listens(tier)
    tier[key] = value
    tier.flush(20)
    until(lambda: tier[key] == value and tier.map.get(key))
    time.sleep(0.1)
    until(lambda: tier[key] == value and tier.map.get(key))


def test_what_was_read_once_is_not_unread(behind):
    """The writer is killed between the journal and the copy."""
    store = LocalStore()
    tier = behind(store, max_staleness=60)
    copied(tier, "a", 1)
    store.is_cut = True
    child = os.fork()
    if child == 0:
        tier._asking.drop = lambda *keys, **how: os.kill(  # type: ignore[method-assign]
            os.getpid(), signal.SIGKILL)
        tier["a"] = 2
    os.waitpid(child, 0)
    assert tier["a"] == 1, "nobody has read it yet"
    assert tier.get_many(["a"]) == {"a": 2}
    assert tier["a"] == 2


def test_the_copies_of_a_tier_without_the_journal_are_its_own(behind, tiers):
    store = LocalStore()
    tier = behind(store, max_staleness=60)
    plain = tiers(store, tier.map, max_staleness=60)
    copied(tier, "a", 1)
    store.put_latest = too_late  # type: ignore[method-assign]
    tier["a"] = 2
    for _ in range(3):
        assert plain["a"] == 1 and tier["a"] == 2 == tier["a"]


def test_records_of_another_codec_are_left_alone(behind, tiers):
    store = LocalStore()
    tier = behind(store)
    other = behind(store, tier.journal, codec="json")
    other._behind.stop()
    other["a"] = {"b": 1}
    tier["c"] = 1
    tier.flush(20)
    time.sleep(0.05)
    assert b"shmmap:a" not in store.kept
    third = behind(store, tier.journal, other.map)
    third.flush(20)
    assert store.kept[b"shmmap:a"][0] == b'{"b":1}'


@pytest.mark.parametrize("act", [
    lambda tier: tier.add("a", 5), lambda tier: not tier.replace("a", 5),
    lambda tier: tier.flush(20) or not tier.store.kept,
])
def test_what_was_overwritten_before_it_was_carried_is_waited_for(behind, act):
    """Neither what was written, nor what came after it, is in the store yet."""
    store = LocalStore()
    tier = behind(store)
    put_latest, store.put_latest = store.put_latest, too_late  # type: ignore[method-assign]
    tier["a"] = 1

    def others() -> None:
        time.sleep(0.05)
        tier["a"] = 2
        time.sleep(0.1)
        store.put_latest = put_latest  # type: ignore[method-assign]

    thread = threading.Thread(target=others)
    thread.start()
    assert not act(tier)
    thread.join()


@pytest.mark.parametrize("is_hot", [True, False])
def test_a_key_that_is_written_all_the_time_is_settled(behind, is_hot):
    """It waits in the journal at every look; without the note of what was carried, for ever."""
    store = LocalStore()
    tier = behind(store)
    tier._behind.stop()
    part = part_of(tier, has_lease=True)
    put_latest = store.put_latest

    def overwritten(*given: Any) -> Any:
        if is_hot:
            tier["a"] = time.monotonic_ns()
        return put_latest(*given)

    store.put_latest = overwritten  # type: ignore[method-assign]
    for key in range(1200):
        tier["others", key] = key
    tier["a"] = 1
    seen = part._journal.now()
    carried = 0
    while part.turn() and carried < 8:
        carried += 1
        assert store.kept or part.carried_until() <= seen
    assert (tier._behind.pending("a") is not None) is is_hot
    assert (part.carried_until() > seen) is is_hot
    assert tier._behind._wait(b"shmmap:a", seen, time.monotonic())


def test_one_that_was_stopped_as_it_took_the_lock_counts_from_before(behind, monkeypatch):
    """Its lease may be over before it does anything."""
    store = LocalStore()
    tier = behind(store)
    tier._behind.stop()
    part = part_of(tier)
    journal, late = tier._behind.journal, [0]
    now = journal.now
    monkeypatch.setattr(journal, "now", lambda: now() + late[0])
    m = journal.map

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(m, name)

        def lock(self, *given: Any, **more: Any) -> Any:
            late[0] += 10_000_000_000
            return m.lock(*given, **more)

    monkeypatch.setattr(journal, "map", Slow())
    before = now()
    assert part._begin() and part._renewed - before < 5_000_000_000
    part._leave()


def refusing(store: LocalStore, name: bytes, asked: list[int]) -> None:
    """Have a store refuse a name."""
    put_latest = store.put_latest

    def put(puts: Any, *given: Any) -> Any:
        asked.extend(1 for one in puts if one.name == name)
        return [StoreRefused("not this one") if one.name == name else put_latest([one], *given)[0]
                for one in puts]

    store.put_latest = put  # type: ignore[method-assign]


def test_what_is_refused_is_in_nobody_s_way(behind, monkeypatch):
    monkeypatch.setattr("shmmap.tiers.behind.SETTLE_S", 0.05)
    store, asked = LocalStore(), []
    refusing(store, b"shmmap:bad", asked)
    tier = behind(store)
    tier["bad"] = 1
    until(lambda: asked)
    began = time.monotonic()
    for number in range(100):
        tier["good"] = number
        time.sleep(0.005)
        assert "not this one" in tier.report().trouble
    until(lambda: store.kept)
    assert 1 <= len(asked) <= 2 + (time.monotonic() - began) / held_back.AGAIN_S
    with pytest.raises(StoreUnavailable, match="not this one"):
        tier.incr("bad")
    assert tier.get("another", 7) == 7, "the store answers"
    monkeypatch.setattr(held_back, "AGAIN_S", 60.0)
    before = len(asked)
    tier["bad"] = 2
    until(lambda: len(asked) > before)
    time.sleep(0.05)
    assert len(asked) == before + 1


def overwritten(tier: Tiered, store: LocalStore, key: str) -> None:
    """Have a key be overwritten whenever something is carried."""
    put_latest = store.put_latest

    def put(*given: Any) -> Any:
        tier[key] = time.monotonic_ns()
        return put_latest(*given)

    store.put_latest = put  # type: ignore[method-assign]


@pytest.mark.parametrize("refused", [b"shmmap:bad", b"shmmap:none"])
def test_what_is_refused_is_not_said_to_be_carried(behind, refused):
    store = LocalStore()
    refusing(store, refused, [])
    tier = behind(store)
    tier._behind.stop()
    part = part_of(tier, has_lease=True)
    overwritten(tier, store, "a")
    tier["a"] = tier["bad"] = 1
    for _ in range(3):  # as it is refused, and as it is put off
        part.turn()
    assert (part.carried_until() == 0) is (refused == b"shmmap:bad")


@pytest.mark.parametrize("what", ["a word", 1 << 62, b""])
def test_damage_to_what_is_noted_hinders_nobody_for_long(behind, what, monkeypatch):
    monkeypatch.setattr(draining, "MOST_MORE_S", 0.0)
    store = LocalStore()
    tier = behind(store)
    tier.close()
    tier.journal.set(tier._behind.part.place, what)
    tier.journal.set((tier._behind.journal.tag, b"shmmap:b"), "a word")
    if what != 1 << 62:
        tier.journal.set(tier._behind.part.carried_place, what)
    again = behind(store, tier.journal, tier.map)
    again["a"] = 1
    again.flush(5)
    assert store.kept


def test_much_is_sent_in_pieces(behind):
    """All at once would be under way for longer than the store takes it."""
    store = LocalStore()
    tier = behind(store, room="8MB")
    sizes: list[int] = []
    put_latest = store.put_latest

    def put(puts: Any, *given: Any) -> Any:
        sizes.append(sum(len(one.data) for one in puts))
        return put_latest(puts, *given)

    store.put_latest = put  # type: ignore[method-assign]
    store.is_cut = True
    for number in range(100):
        tier[number] = b"x" * 30_000
    store.is_cut = False
    tier.flush(20)
    assert len(store.kept) == 100 and max(sizes) <= draining.AT_ONCE_BYTES


def test_what_waits_is_listed_once_a_round(behind, monkeypatch):
    store = LocalStore()
    tier = behind(store)
    tier._behind.stop()
    part = part_of(tier, has_lease=True)
    for number in range(3 * draining.AT_ONCE):
        tier[number] = 1
    listed: list[int] = []
    names = part._journal.names
    monkeypatch.setattr(part._journal, "names", lambda: listed.append(1) or names())
    while part.turn():
        pass
    assert len(store.kept) == 3 * draining.AT_ONCE and len(listed) == 2


def test_a_slow_store_is_named(behind, monkeypatch):
    monkeypatch.setattr(draining, "RENEW_S", 0.05)
    store = LocalStore()
    tier = behind(store)
    store.put_latest = too_late  # type: ignore[method-assign]
    tier["a"] = 1
    until(lambda: "later than" in tier.report().trouble)
    moment = store.moment
    store.moment = lambda: time.sleep(0.1) or moment()  # type: ignore
    until(lambda: "to tell its time" in tier.report().trouble)


def test_another_server_s_clock_is_no_excuse(server):
    """After a failover: what began by a clock that is ahead of this one."""
    from shmmap.tiers.redis_store import RedisStore
    from shmmap.tiers.store import Put

    for one in (LocalStore(), RedisStore(server.client())):
        given = Put(b"a", b"x", None, b"")
        assert one.put_latest([given], one.moment() + 5_000, 500, 1 << 62) == [None]
        assert one.get(b"a") is None


def test_keys_are_counted_once(behind):
    tier = behind(LocalStore())
    assert tier.delete_many(["a", "a", 1, "b", 1]) == 3


def test_a_flush_has_a_timeout_that_is_a_number(behind):
    store = LocalStore()
    tier = behind(store)
    store.is_cut = True
    tier["a"] = 1
    with pytest.raises(ValueError, match="nan"):
        tier.flush(float("nan"))


@pytest.mark.parametrize("how", ["late", "unanswered"])
def test_a_slow_wire_takes_smaller_pieces(behind, how):
    """What is too much for it at once would never arrive."""
    store = LocalStore()
    tier = behind(store, room="4MB")
    put_latest, sizes = store.put_latest, []

    def put(puts: Any, *given: Any) -> Any:
        sizes.append(sum(len(one.data) for one in puts))
        if sizes[-1] <= 40_000:
            return put_latest(puts, *given)
        if how == "late":
            return [None] * len(puts)
        raise StoreUnavailable("nothing was heard")

    store.put_latest = put  # type: ignore[method-assign]
    part = part_of(tier, has_lease=True)
    tier._behind.stop()
    for number in range(30):
        tier[number] = b"x" * 30_000
    for _ in range(100):
        part._quiet_until = 0
        with suppress(StoreUnavailable):
            part.turn()
        if how == "unanswered" and sizes and sizes[-1] > 40_000:
            part._step()
            part._renewed = 1 << 62
            part._quiet_until = 0
    assert len(store.kept) == 30 and max(sizes) > 40_000


def test_a_store_that_is_waited_for_longer_has_longer(behind):
    store = LocalStore()
    tier = behind(store)
    tier._behind.stop()
    store.timeout_s = 11.0
    part, within = part_of(tier), []
    put_latest = store.put_latest
    store.put_latest = lambda puts, began, within_ms, believed: (  # type: ignore[method-assign]
        within.append(within_ms) or put_latest(puts, began, within_ms, believed))
    tier["a"] = 1
    assert part._begin() and part.turn()
    said_s = (tier.journal.get(part.place) - part._journal.now()) / 1e9
    assert within == [draining.WITHIN_MS + 15_000]
    assert within[0] / 1e3 < said_s and within[0] / 1e3 + draining.RENEW_S < part._lock.lease
    part._leave()


def away(store: LocalStore, sent: list[bytes]) -> None:
    """Have the server of some names be away."""
    put_latest = store.put_latest

    def put(puts: Any, *given: Any) -> Any:
        sent.extend(one.name for one in puts)
        return [is_away() if b"away" in one.name else put_latest([one], *given)[0]
                for one in puts]

    def is_away() -> StoreUnavailable:
        error = StoreUnavailable("one of them is silent")
        error.was_sent, error.server = False, "silent"
        return error

    store.put_latest = put  # type: ignore[method-assign]


def test_what_waits_for_a_silent_server_is_not_sent_again_and_again(behind):
    """As some of it is sent in vain, all others go on waiting."""
    store, sent = LocalStore(), []
    put_latest = store.put_latest
    away(store, sent)
    tier = behind(store)
    many = 6 * draining.AT_ONCE
    tier.set_many({f"away{number}": number for number in range(many)})
    until(lambda: len(sent) >= many)
    sent.clear()
    began = time.monotonic()
    for number in range(50):
        tier["good"] = number
        time.sleep(0.02)
    until(lambda: tier._behind.pending("good") is None)
    rounds = 2 + (time.monotonic() - began) / held_back.AGAIN_S
    assert sum(b"away" in name for name in sent) <= rounds * draining.AT_ONCE
    assert "silent" in tier.report().trouble
    store.put_latest = put_latest  # type: ignore[method-assign]
    tier.flush(5)
    assert len(store.kept) == many + 1


def test_a_round_with_a_silent_server_has_not_carried_everything(behind):
    store = LocalStore()
    away(store, [])
    tier = behind(store)
    tier._behind.stop()
    part = part_of(tier, has_lease=True)
    overwritten(tier, store, "hot")
    tier["away"] = tier["hot"] = 1
    seen = part._journal.now()
    for _ in range(4):
        part.turn()
    assert store.kept and part.carried_until() <= seen
