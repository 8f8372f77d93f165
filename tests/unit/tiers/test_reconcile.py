"""tier.reconcile: what it does, tells and refuses; two real servers, and others that write."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest

import shmmap
from shmmap import DELETE, ReconcileReport, StoreUnavailable, Tiered
from shmmap.testing import LocalStore
from shmmap.tiers.digests import Digests
from shmmap.tiers.reconciled import TierReconciled
from shmmap.tiers.watching import Part

from ...support.redis_server import RedisServer
from .conftest import until
from .test_tombstones import bytes_in, life_in, put_bytes

BOTH: dict[str, Any] = {"tombstones": 3600, "consistency": "linearizable"}


@pytest.fixture
def two(tiers: Any, store: Any, request: pytest.FixtureRequest) -> tuple[Tiered, Tiered]:
    """Two tiers of two stores, of two machines."""
    other = LocalStore()
    if not isinstance(store, LocalStore):
        other = request.getfixturevalue("running").client(db=1)
        other.flushdb()
    made = tiers(store, **BOTH), tiers(other, **BOTH)
    for tier, raw in zip(made, (store, other), strict=True):
        tier.raw = raw
    return made


def told(report: ReconcileReport) -> dict[str, int]:
    """Return what is not 0."""
    return {field: value for field, value in report._asdict().items()
            if value and field != "seconds"}


def test_two_become_one(two):
    one, other = two
    for tier in two:
        tier.set_many({("same", number): number for number in range(1_500)})
    assert one.reconcile(other).equal == 0  # each write has a stamp of its own
    one["here"] = {"a": 1}
    other["there"] = b"b"
    one["both"] = "earlier"
    other["both"] = "later"
    one["gone"] = 1
    other["gone"] = 1
    assert one.delete("gone")
    assert other.delete(("same", 7))
    report = one.reconcile(other)
    assert told(report) == {"compared": 1504, "equal": 1499, "received": 3, "sent": 2, "deleted": 2}
    for tier in two:
        assert tier["here"] == {"a": 1} and tier["there"] == b"b" and tier["both"] == "later"
        assert "gone" not in tier and ("same", 7) not in tier and ("same", 8) in tier
    assert one.digests() == other.digests()
    for again in (one.reconcile(other), other.reconcile(one)):
        assert told(again) == {"compared": 1504, "equal": 1504} and again.seconds > 0
    gone = [bytes_in(_raw(tier), b"shmmap:gone") for tier in two]
    assert gone[0] and gone[0] == gone[1]


def _raw(tier: Tiered) -> Any:
    """Return what looks into a tier's store: see `two`."""
    return tier.__dict__["raw"]


def test_prefixes_are_each_one_s_own(tiers, store):
    """Also one that looks like a pattern; what lies beside it is nobody's business."""
    one = tiers(store, prefix="a*[x]?\\:", **BOTH)
    other = tiers(store, prefix="b:", **BOTH)
    beside = tiers(store, prefix="ab[x]c\\:", **BOTH)
    beside["no"] = 1
    one["k"] = 1
    other["l"] = 2
    assert told(one.reconcile(other)) == {"compared": 2, "received": 1, "sent": 1}
    assert one.get_many(["k", "l", "no"]) == other.get_many(["k", "l", "no"]) == {"k": 1, "l": 2}


def test_times_to_live_are_carried_over(two):
    one, other = two
    one.set("a", 1, ttl=100)
    other.set("b", 1, ttl=200)
    other.set("c", 1)
    one.delete("d")
    other.delete("e")
    one.reconcile(other)
    for tier in two:
        assert 98 < tier.ttl("a") <= 100 and 198 < tier.ttl("b") <= 200 and tier.ttl("c") is None
        for name in (b"shmmap:d", b"shmmap:e"):
            assert 3598 < life_in(_raw(tier), name) <= 3600


def test_the_largest(tiers):
    one, other = two = [tiers(LocalStore(), **BOTH) for _ in range(2)]
    for number, (mine, theirs) in enumerate([(5, 4), (4, 5), (6, 6), (2.5, 2)]):
        one[number] = mine
        other[number] = theirs
    one.set("life", 9, ttl=50)
    other["life"] = 8
    one["gone"] = 7
    other.delete("gone")
    other.delete("back")
    one["back"] = 1
    report = one.reconcile(other, "max")
    for tier in two:
        assert [tier[number] for number in range(4)] == [5, 5, 6, 2.5] and tier["life"] == 9
        assert tier.ttl("life") <= 50 and "gone" not in tier and tier["back"] == 1
    assert told(report) == {
        "compared": 7, "resolved": 3, "received": 3, "sent": 1, "deleted": 1}
    assert one.reconcile(other, "max").equal == 7
    one["odd"] = 1
    other["odd"] = "text"
    with pytest.raises(TypeError, match="key 'odd': policy=\"max\" cannot compare a int and a str"):
        one.reconcile(other, "max")


def test_a_function_that_returns_nothing_is_refused(tiers):
    one, other = (tiers(LocalStore(), **BOTH) for _ in range(2))
    one["a"], other["a"] = 1, 2
    with pytest.raises(TypeError, match=r"key 'a': .* is a `return` missing"):
        one.reconcile(other, lambda key, mine, theirs: None)
    assert (one["a"], other["a"]) == (1, 2)
    other["a"] = None
    one.reconcile(other, lambda key, mine, theirs: None)
    assert one["a"] is other["a"] is None


def test_a_function(tiers):
    one, other = two = [tiers(LocalStore(), **BOTH) for _ in range(2)]
    seen = {}

    def merge(key: Any, mine: Any, theirs: Any) -> Any:
        seen[key] = mine, theirs
        if DELETE in (mine, theirs):
            return DELETE
        return {**mine, **theirs}

    one["a"] = {"x": 1}
    other.set("a", {"y": 2}, ttl=60)
    one["b", 1] = {}
    other.delete(("b", 1))
    other["c"] = {}
    one.delete("c")
    one["only"] = 5
    report = one.reconcile(other, merge)
    assert seen == {"a": ({"x": 1}, {"y": 2}), ("b", 1): ({}, DELETE), "c": (DELETE, {})}
    for tier in two:
        assert tier["a"] == {"x": 1, "y": 2} and tier.ttl("a") is None and tier["only"] == 5
        assert ("b", 1) not in tier and "c" not in tier
    assert told(report) == {"compared": 4, "resolved": 1, "received": 1, "sent": 2, "deleted": 2}
    assert one.reconcile(other, merge).equal == 4

    def fails(*given: Any) -> Any:
        raise OSError("of the function's own")

    one["a"] = {}
    other["a"] = {}
    with pytest.raises(OSError, match="the function's own"):
        one.reconcile(other, fails)


def test_what_is_foreign_is_left_alone(two):
    one, other = two
    stamped = b"\xd5\x01" + b"\0" * 12
    for number, data in enumerate([b"", b"x", b"text of others'", stamped + b"\xf0" + b"data",
                                   stamped + b"\xfe" + b"no tombstone", stamped,
                                   b".." + stamped[2:] + b"\x07"]):
        put_bytes(_raw(one), data, b"shmmap:%d" % number)
        other[str(number)] = 1
    put_bytes(_raw(one), stamped + b"\x07", b"shmmap:\0\1\2not a key's name")
    for data in (b"?", b"!"):  # it is a value, and cannot be read
        tier = one if data == b"?" else other
        tier.store.set(b"shmmap:odd", stamped[:13] + data + b"\x0a" + data, None)
    before = [{name: bytes_in(_raw(tier), name) for name in
               [b"shmmap:%d" % n for n in range(7)]} for tier in two]
    with one.lock("a"), other.lock("b"):
        report = one.reconcile(other, lambda key, mine, theirs: mine)
    assert report.foreign == 9 and not report.changed and not report.received + report.sent
    assert before == [{name: bytes_in(_raw(tier), name) for name in
                       [b"shmmap:%d" % n for n in range(7)]} for tier in two]
    if not isinstance(one.store, LocalStore):
        _raw(one).rpush("shmmap:list", "a")
        other["list"] = 1
        assert one.reconcile(other).foreign == 9 and _raw(one).lrange("shmmap:list", 0, 5) == [b"a"]


def _from_ahead(tier: Tiered, key: str, value: Any) -> None:
    """Write with a clock that is an hour ahead."""
    stamps = tier._writing._stamps
    last, stamps._now = stamps._last, lambda: time.time_ns() + 3600 * 10**9
    tier[key] = value
    stamps._now, stamps._last = time.time_ns, last


@pytest.mark.parametrize("policy", ["last", "max", lambda key, mine, theirs: mine])
def test_a_stamp_from_too_far_ahead_is_not_believed(tiers, policy):
    one, other = (tiers(LocalStore(), **BOTH) for _ in range(2))
    _from_ahead(one, "a", 99)
    other["a"] = 1
    _from_ahead(one, "b", 99)
    _from_ahead(one, "c", 99)
    _from_ahead(other, "c", 98)
    report = one.reconcile(other, policy)
    assert told(report) == {"compared": 3, "received": 1, "unbelieved": 3}
    assert (one["a"], one["b"], one["c"]) == (1, 99, 99)
    assert (other["a"], other.get("b"), other["c"]) == (1, None, 98)


def test_this_machine_s_copies_are_taken_out(tiers, monkeypatch):
    """Whoever listens has not heard of it yet."""
    monkeypatch.setattr(Part, "_take_out", lambda self, event: None)
    one, other = (tiers(LocalStore(), tombstones=60, max_staleness=60) for _ in range(2))
    one["a"] = 1
    other["b"] = 1
    one.reconcile(other)
    one["b"] = 2
    other["a"] = 2
    assert one["a"] == other["b"] == 1
    one.reconcile(other)
    assert one["a"] == other["b"] == 2

    monkeypatch.setattr(TierReconciled, "_side", lambda self: type(SIDE(self))(
        self.store, self._names, self._writing))
    one["b"] = 3
    other["a"] = 3
    assert one["a"] == other["b"] == 2
    one.reconcile(other)
    assert one["a"] == other["b"] == 2  # without that


SIDE = TierReconciled._side


def test_a_store_without_a_tier(two, running):
    one, other = two
    one["a"] = 1
    other["b"] = 2
    if isinstance(one.store, LocalStore):
        assert one.reconcile(other.store)[2:4] == (1, 1)
    else:
        assert one.reconcile(f"unix://{running.path}?db=1")[2:4] == (1, 1)
        assert told(one.reconcile(running.client(db=1))) == {"compared": 2, "equal": 2}
    assert one["b"] == 2 and other["a"] == 1


def test_a_store_that_was_opened_for_it_is_closed(tiers, running, monkeypatch):
    from shmmap.tiers.redis_store import RedisStore

    closed = []
    monkeypatch.setattr(RedisStore, "close", lambda self: closed.append(self))
    one = tiers(LocalStore())
    url = f"unix://{running.path}?db=1"
    one.reconcile(url)
    assert [store.where for store in closed] == [f"{running.path}/1"]


def test_digests_go_from_machine_to_machine(two):
    one, other = two
    other.set_many({number: number for number in range(100)})
    data = other.digests().to_bytes()
    assert len(data) == 16 + 1024 * 24
    digests = Digests.from_bytes(data)
    assert digests == other.digests() and digests != one.digests() and len(digests) == 100
    assert one.reconcile(other, digests=digests)[2:4] == (100, 0)
    assert one.digests() == digests and repr(digests) == "<Digests of 100 names>"
    if isinstance(other.store, LocalStore):  # one call for its time, and none to list it
        before = other.store.calls
        assert one.reconcile(other, digests=digests).equal == 100
        assert other.store.calls == before
    for wrong in (b"", data[:-1], b"x" + data[1:]):
        with pytest.raises(ValueError, match="no digests"):
            Digests.from_bytes(wrong)


def test_what_is_refused(tiers):
    one, json = tiers(LocalStore()), tiers(LocalStore(), codec="json")
    safe = tiers(LocalStore(), codec="safe")
    for call in (lambda: json.reconcile(json), json.digests, lambda: json.reconcile(one)):
        with pytest.raises(ValueError, match=r"reconcile and digests need codec=.*'json'"):
            call()
    for other in (json, safe):
        with pytest.raises(ValueError, match=r"two tiers of one codec: map .* has 'auto'"):
            one.reconcile(other)
    for other in (one, tiers(one.store), one.store):
        with pytest.raises(ValueError, match="nothing to reconcile"):
            one.reconcile(other)
    with pytest.raises(ValueError, match='must be "last", "max", or a function'):
        one.reconcile(LocalStore(), "first")

    class Plain:
        where = "plain"
        feed = None

    with pytest.raises(TypeError, match="store plain cannot be reconciled: it has no bury, heads"):
        one.reconcile(Plain())
    closed = tiers(LocalStore())
    closed.close()
    for call in (lambda: closed.reconcile(one), lambda: one.reconcile(closed), closed.digests):
        with pytest.raises(shmmap.MapClosed):
            call()


def test_what_was_done_before_it_broke_off(tiers):
    one, other = tiers(LocalStore()), tiers(LocalStore())
    one.set_many({number: number for number in range(200)})
    puts, real = [], other.store.put_if

    def put_if(*given: Any) -> Any:
        if puts:
            other.store.is_cut = True
        puts.append(given)
        return real(*given)

    other.store.put_if = put_if
    with pytest.raises(StoreUnavailable) as raised:
        one.reconcile(other)
    report = raised.value.report
    assert isinstance(report, ReconcileReport) and report.sent == 16 and report.seconds > 0
    other.store.is_cut = False
    other.store.put_if = real
    again: list[ReconcileReport] = []

    def once_more() -> bool:
        try:
            again.append(one.reconcile(other))
        except StoreUnavailable:  # it is not asked for a moment
            return False
        return True

    until(once_more)
    assert again[0].sent == 184 and one.digests() == other.digests()


def test_many_names_go_in_groups(tiers, monkeypatch):
    from shmmap.tiers import reconciling

    monkeypatch.setattr(reconciling, "NAMES_AT_ONCE", 300)
    one, other = tiers(LocalStore(), **BOTH), tiers(LocalStore(), **BOTH)
    one.set_many({number: number for number in range(2_000)})
    other.set_many({number: -number for number in range(1_000, 3_000)})
    lists = []
    real = one.store.list_heads
    one.store.list_heads = lambda prefix: lists.append(prefix) or real(prefix)
    assert told(one.reconcile(other)) == {"compared": 3_000, "received": 2_000, "sent": 1_000}
    assert len(lists) > 10 and one.digests() == other.digests()


def _live(tiers: Any, stores: list[Any], seconds: float) -> None:
    """Two machines write for some time, each to its own store, while they are reconciled; then what
    was acknowledged last of each key is what both have."""
    both = [tiers(store, tombstones=3600) for store in stores]
    writing = [tiers(store, tombstones=3600) for store in stores]  # other processes'
    stop = threading.Event()
    done: list[dict[str, tuple[bytes, Any]]] = [{}, {}]
    failed: list[BaseException] = []

    def write(at: int) -> None:
        tier, draw = writing[at], random.Random(at)
        stamps = tier._writing._stamps
        number = 0
        try:
            while not stop.is_set():
                key, number = f"k{draw.randrange(40)}", number + 1
                with stamps._lock:  # the stamp that it gets is the last
                    if draw.random() < 0.2:
                        tier.delete(key)
                        value = None
                    else:
                        tier[key] = value = (at, number)
                    stamp = stamps._last.to_bytes(8, "big") + stamps._maker
                done[at][key] = stamp, value
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(at,)) for at in range(2)]
    for thread in threads:
        thread.start()
    until_s, ran = time.monotonic() + seconds, 0
    elsewhere = tiers(stores[0], tombstones=3600)
    while time.monotonic() < until_s:
        both[0].reconcile(both[1])
        elsewhere.reconcile(both[1])
        ran += 1
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed and ran > 3 and min(map(len, done)) == 40
    while told(both[0].reconcile(both[1])).keys() != {"compared", "equal"}:
        pass
    for key in done[0]:
        last = max(done[0][key], done[1][key])[1]
        for tier in both:
            assert tier.get(key, consistency="linearizable") == last, key


def test_nothing_that_was_acknowledged_later_is_lost(tiers, server, tmp_path_factory):
    """By two real servers."""
    another = RedisServer(tmp_path_factory.mktemp("another"))
    try:
        _live(tiers, [server.client(), another.client()], 2.0)
    finally:
        another.kill()


def test_without_the_condition_it_is(tiers, running, monkeypatch):
    from shmmap.tiers import redis_scripts

    text = redis_scripts.PUT_IF.replace("if there ~= ARGV[3] then return 0 end", "")
    assert text != redis_scripts.PUT_IF
    monkeypatch.setattr(redis_scripts, "PUT_IF", text)
    stores = [running.client(), running.client(db=1)]
    for store in stores:
        store.flushdb()
    with pytest.raises(AssertionError):
        for _ in range(5):
            _live(tiers, stores, 1.0)
