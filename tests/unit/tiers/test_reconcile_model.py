"""However stores were written apart, and whatever comes between the steps of reconciling them: they
become one, and hold what was written last. Each safeguard is one: without it that fails."""

from __future__ import annotations

from typing import Any

import pytest

from shmmap import DELETE, ReconcileReport
from shmmap.testing import LocalStore
from shmmap.tiers import reconciling, store_side
from shmmap.tiers.digests import Digests, range_of
from shmmap.tiers.reconciling import Kept, Reconciling
from shmmap.tiers.stamps import Stamps
from shmmap.tiers.store_side import Policies, StoreSide
from shmmap.tiers.stored import Writing

from .sides import (
    SKEW_S,
    Machine,
    comes_to_rest,
    look_at_largest,
    look_at_last,
    look_at_union,
    reconcile,
)

SEEDS = range(100)


@pytest.mark.parametrize("look", [look_at_last, look_at_largest, look_at_union])
def test_they_become_one(look):
    look(SEEDS)


@pytest.mark.parametrize("look", [look_at_last, look_at_largest, look_at_union])
def test_without_the_condition_a_later_write_is_lost(monkeypatch, look):
    def put_if(self: LocalStore, puts: Any, began: Any, within_ms: int) -> Any:
        self._begin()
        for put in puts:
            self._put(put.name, put.data, put.ttl_s)
        return [True] * len(puts)

    monkeypatch.setattr(LocalStore, "put_if", put_if)
    with pytest.raises(AssertionError):
        look(SEEDS)


def test_without_tombstones_a_removed_key_comes_back(monkeypatch):
    real = Machine.put

    def put(self: Machine, key: Any, value: Any, ttl_s: Any = None) -> bytes:
        stamp = real(self, key, value, ttl_s)
        if value is DELETE:
            self.store._put(self.names.name_of(key), None, None)
        return stamp

    monkeypatch.setattr(Machine, "put", put)
    with pytest.raises(AssertionError):
        look_at_last(SEEDS)


def _behind() -> None:
    for fast, slow in ((SKEW_S, -SKEW_S), (-SKEW_S, SKEW_S)):
        one, other = Machine(fast), Machine(slow)
        one.put("a", 1)
        other.put("b", 2)
        assert reconcile(one, other)[2:4] == (1, 1)
        one.put("b", 3)
        other.put("a", 4)
        reconcile(one, other)
        assert one.everything() == other.everything()
        assert (one.value("a"), one.value("b")) == (4, 3)


def test_what_is_written_after_a_reconcile_is_later_than_what_it_brought():
    _behind()


def test_without_what_was_met_a_clock_that_is_behind_loses_its_write(monkeypatch):
    monkeypatch.setattr(Writing, "met", lambda self, stamp: None)
    with pytest.raises(AssertionError):
        _behind()


def test_a_new_value_is_later_than_both(monkeypatch):
    def stamps() -> tuple[int, bool]:
        one, other = Machine(-SKEW_S), Machine(SKEW_S)
        one.put("a", (1,))
        there = other.put("a", (2,))
        decide = Policies(one.side, one.writing, None).called(lambda key, x, y: x + y)
        Reconciling(one.side, other.side, decide).run()
        now = one.everything()["a"]
        return one.value("a"), now == other.everything()["a"] and now[2:14] > there

    assert stamps() == ((1, 2), True)
    monkeypatch.setattr(Stamps, "met", lambda self, stamp: True)
    monkeypatch.setattr(Stamps, "after", lambda self, stamp: self.next())
    assert stamps() == ((1, 2), False)


def test_without_the_same_bytes_again_it_never_comes_to_rest(monkeypatch):
    def unlike(*given: Any, **more: Any) -> Any:
        return _Unlike(max(*given, **more))

    monkeypatch.setattr(store_side, "max", unlike, raising=False)
    with pytest.raises(AssertionError, match="come to rest"):
        look_at_union(SEEDS)


class _Unlike(Kept):
    """What has never the bytes that a function returned."""

    def __new__(cls, kept: Any) -> Any:
        """Make it."""
        return super().__new__(cls, *kept) if isinstance(kept, tuple) else kept

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """Other bytes."""
        return self[1] + b"!"


class Between(StoreSide):
    """A side where something happens before what is got."""

    happens: Any = None

    def get(self, names: Any) -> Any:
        """Let it happen, once."""
        happens, self.happens = self.happens, None
        if happens:
            happens()
        return super().get(names)


def _between(happens: Any) -> tuple[Machine, Machine]:
    one, other = Machine(), Machine()
    one.side = Between(one.store, one.names, one.writing)
    one.side.happens = lambda: happens(one, other)
    return one, other


def test_what_is_got_is_what_was_compared():
    """One side has gone back meanwhile: another process wrote, whose clock is behind."""
    def goes_back(one: Machine, other: Machine) -> None:
        one.store._put(b"t:a", early, None)

    one, other = _between(goes_back)
    early = one.writing.encode("early")
    other.put("a", "later")
    one.put("a", "last")
    assert reconcile(one, other).received == 1
    assert one.value("a") == other.value("a") == "later"


def test_without_that_look_the_earlier_one_wins(monkeypatch):
    monkeypatch.setattr(reconciling._Pair, "is_still", lambda self, ours, other: True)
    with pytest.raises(AssertionError):
        test_what_is_got_is_what_was_compared()


def _sum_of(one: Machine, other: Machine) -> list[Any]:
    """Have a function add, which must see no sum of its own; others write meanwhile."""
    seen = []

    def add(key: Any, mine: int, theirs: int) -> int:
        seen.append((mine, theirs))
        if len(seen) == 1:
            other.put("a", 300)
        return mine + theirs

    one.put("a", 1)
    other.put("a", 20)
    report = reconcile(one, other, add)
    assert report.resolved == 1 and one.value("a") == other.value("a")
    return [*seen, one.value("a")]


def test_a_function_is_not_given_its_own_sum():
    assert _sum_of(Machine(), Machine()) == [(1, 20), (1, 300), 301]


def test_without_the_order_of_writing_it_is(monkeypatch):
    real = Reconciling._put

    def put(self: Any, side: Any, began: Any, writes: Any) -> Any:
        done = real(self, side, began, writes)
        return done if side is self._mine else {write.name for write in writes}

    monkeypatch.setattr(Reconciling, "_put", put)
    with pytest.raises(AssertionError):
        test_a_function_is_not_given_its_own_sum()


class Stopped(StoreSide):
    """A side that is asked to write by a process that was stopped for long."""

    stops = 1

    def put_if(self, writes: Any, began: Any, within_ms: int) -> Any:
        """Write, some time later."""
        if self.stops:
            self.stops -= 1
            began -= 3_600_000
        return super().put_if(writes, began, within_ms)


def _goes_on_late(machine: Machine) -> ReconcileReport:
    one, other = machine, Machine()
    other.side = Stopped(other.store, other.names, other.writing)
    asked = []
    real = other.side.versions_of

    def versions_of(names: Any) -> Any:
        asked.append(names)
        if len(asked) == 2:  # removed since, and the tombstones have expired
            one.store._put(b"t:a", None, None)
        return real(names)

    other.side.versions_of = versions_of  # type: ignore[method-assign]
    one.put("a", 1)
    report = reconcile(one, other)
    assert other.value("a") is None
    return report


def test_one_that_was_stopped_brings_nothing_back():
    report = _goes_on_late(Machine())
    assert report.sent == report.changed == 0


def test_without_the_limit_it_does(monkeypatch):
    monkeypatch.setattr(reconciling, "WITHIN_MS", 1 << 40)
    with pytest.raises(AssertionError):
        _goes_on_late(Machine())


def _written_all_the_time(many: int) -> tuple[ReconcileReport, Machine, Machine]:
    one, other = Machine(), Machine()
    for number in range(3):
        one.put(number, "first")
    left = [many]
    for machine in (one, other):
        machine.side = Disturbed(machine.store, machine.names, machine.writing)
        machine.side.disturbs = lambda at=machine: (left[0] and at.put(1, left[0]), down(left))
    return reconcile(one, other), one, other


def down(left: list[int]) -> None:
    left[0] = max(0, left[0] - 1)


class Disturbed(StoreSide):
    """A side where somebody writes just before each write."""

    disturbs: Any = None

    def put_if(self, *given: Any) -> Any:
        """Write, once that is done."""
        self.disturbs()
        return super().put_if(*given)


def test_what_others_write_all_the_time_is_left_to_them():
    report, one, other = _written_all_the_time(100)
    assert (report.sent, report.received, report.changed) == (2, 0, 1)
    assert {one.value(1), other.value(1)} & {96, 97}  # the last ones
    report, one, other = _written_all_the_time(4)
    assert (report.sent + report.received, report.changed) == (3, 0)
    assert one.value(1) == other.value(1) == 1
    report, one, other = _written_all_the_time(0)
    assert (report.sent, report.changed) == (3, 0)


class Twice(StoreSide):
    """A side that names everything twice."""

    def versions(self) -> Any:
        """Yield each piece twice."""
        for piece in super().versions():
            yield piece
            yield piece


def _seen_twice() -> None:
    one, other = Machine(), Machine()
    one.side = Twice(one.store, one.names, one.writing)
    for number in range(50):
        one.put(number, number)
    report = reconcile(one, other)
    assert (report.sent, report.changed) == (50, 0) and other.value(7) == 7
    other.side = Twice(other.store, other.names, other.writing)
    assert reconcile(one, other)[2:5] == (0, 0, 0)
    other.put(51, 51)
    assert reconcile(one, other)[2:4] == (1, 0)
    comes_to_rest([one, other])
    of_range: dict[int, str] = {}
    for number in range(5_000):  # two names of one range, each on one side
        key = f"k{number}"
        alike = of_range.setdefault(range_of(key.encode()), key)
        if alike != key:
            break
    one.put(key, 1)
    other.put(alike, 2)
    assert reconcile(one, other)[2:4] == (1, 1)


def test_what_is_named_twice_counts_once(monkeypatch):
    monkeypatch.setattr(reconciling, "NAMES_AT_ONCE", 1)  # so nothing is kept of the first listing
    one, other = Machine(), Machine()
    for machine in (one, other):
        machine.side = Twice(machine.store, machine.names, machine.writing)
    one.put("a", 1)
    other.put("b", 2)
    report = reconcile(one, other)
    assert report[:5] == (2, 0, 1, 1, 0)
    one.put("a", 3)
    assert reconcile(one, other)[2:5] == (0, 1, 0)


def test_a_side_may_name_something_twice():
    _seen_twice()


def test_without_a_sum_what_is_named_twice_is_not_seen(monkeypatch):
    def add(self: Digests, name: bytes, version: bytes) -> None:
        self.counts[range_of(name)] += 1
        self.sums[range_of(name)] ^= hash((name, version))

    monkeypatch.setattr(Digests, "add", add)
    with pytest.raises(AssertionError):
        _seen_twice()


def _dies_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    passed_s = [0.0]
    monkeypatch.setattr(reconciling, "monotonic", lambda: passed_s[0])

    def passes(one: Machine, other: Machine) -> None:
        passed_s[0] += 50
        one.side.happens = lambda: passes(one, other)  # type: ignore[attr-defined]

    one, other = _between(passes)
    for number, ttl_s in enumerate((None, 40, 90)):
        one.put(number, number, ttl_s)
    reconcile(one, other)
    assert [other.value(number) for number in range(3)] == [0, None, 2]
    found = other.store.get(other.names.name_of(2))
    assert found is not None and found.ttl_s is not None and 39 < found.ttl_s <= 40


def test_what_expires_on_the_way_does_not_come_back(monkeypatch):
    _dies_on_the_way(monkeypatch)


def test_without_the_time_it_takes_it_does(monkeypatch):
    monkeypatch.setattr(reconciling, "_later", lambda kept, since_s: kept)
    with pytest.raises(AssertionError):
        _dies_on_the_way(monkeypatch)


def _slow_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call takes four seconds of the sides' clocks, which refuse what comes after ten."""
    passed_s = [0.0]
    monkeypatch.setattr(reconciling, "monotonic", lambda: passed_s[0])

    def slow(key: Any, mine: int, theirs: int) -> int:
        passed_s[0] += 4
        return max(mine, theirs)

    one, other = Machine(), Machine()
    for machine in (one, other):
        machine.side.moment = lambda: int(passed_s[0] * 1000)  # type: ignore[method-assign]
        machine.store.put_if = _late(machine.store, passed_s)  # type: ignore[method-assign]
    for number in range(20):
        one.put(number, number)
        other.put(number, -number)
    report = reconcile(one, other, slow)
    assert report.changed == 0 and report.resolved + report.sent + report.received == 20
    assert one.everything() == other.everything()


def _late(store: LocalStore, passed_s: list[float]) -> Any:
    real = store.put_if

    def put_if(puts: Any, began: Any, within_ms: int) -> Any:
        late = passed_s[0] * 1000 - began > within_ms
        return [None] * len(puts) if late else real(puts, store.moment(), within_ms)

    return put_if


def test_a_slow_function_comes_to_its_end(monkeypatch):
    _slow_function(monkeypatch)


def test_without_a_pause_it_does_not(monkeypatch):
    monkeypatch.setattr(reconciling, "DECIDING_S", 1e9)
    with pytest.raises(AssertionError):
        _slow_function(monkeypatch)
