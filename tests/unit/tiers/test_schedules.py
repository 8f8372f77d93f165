"""A copy never stays that is not the store's, whatever comes between its steps; and each of the
safeguards is one: without it a schedule shows what it is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shmmap.errors import StoreUnavailable
from shmmap.testing import LocalStore
from shmmap.tiers import copies, watching
from shmmap.tiers.asking import Asking
from shmmap.tiers.copies import Copy
from shmmap.tiers.freshness import Freshness, Known
from shmmap.tiers.stamps import Stamps
from shmmap.tiers.store_keys import StoreKeys
from shmmap.tiers.stored import Writing
from shmmap.tiers.watching import Part

from ...support.engines import once
from .schedules import InTurns, Turns, World, every, some

pytestmark = once  # the same with either engine

KEY, TAG = "k", 7


class Machine:
    """A map, a store, and what uses them, in turns. Values are the numbers of their writes."""

    def __init__(self, m: Any, turns: Turns) -> None:
        m.clear()
        self.m = m
        self.turns = turns
        self.store = LocalStore(turns.turn, waits=False)
        self.names = StoreKeys("t:")
        self.writing = Writing(False, Stamps())
        self.asking = self.another()
        self.feed = self.store.feed(b"t:")
        self.last = 0
        self.times: list[int] = []  # when each write was made

    def another(self) -> Asking:
        """Return what another process asks by."""
        m: Any = InTurns(self.m, self.turns.turn)
        known = Freshness(m, "t")
        known.now = lambda: self.turns.now
        return Asking(m, self.store, self.names, self.writing, known, TAG)

    def there(self) -> int:
        """Return the number in the store."""
        found = self.store.kept.get(b"t:k")
        return int(self.writing.decode(*self.writing.read(found[0], "")[1:], "")) if found else 0

    def number(self, copy: Copy | None) -> int | None:
        """Return the number in a copy; 0: the store had none; None: no copy."""
        return None if copy is None else self.asking.value_in(KEY, copy, 0)

    def write_elsewhere(self) -> None:
        """Write on another machine."""
        self.turns.turn()
        self.last += 1
        self.times.append(self.turns.now)
        self.store._put(b"t:k", self.writing.encode(self.last), None)

    def write_here(self) -> None:
        """Write on this machine, as Tiered does, and look."""
        self.write_elsewhere()
        mine = self.last
        self.asking.drop(KEY)
        self.look_not_below(mine)

    def read(self, asking: Asking | None = None) -> None:
        """Read as Tiered does where there is no fresh copy, and look again as a session does."""
        asking = asking or self.asking
        _, version = asking.look(KEY)
        self.look_not_below(self.number(asking.ask(KEY, version)) or 0)

    def look_not_below(self, seen: int) -> None:
        """Assert that the map has nothing older than this."""
        there = self.number(copies.read(self.m.get(KEY), TAG))
        assert there is None or there >= seen, f"went back from {seen} to {there}"

    def listen(self) -> None:
        """Take out what the feed names, twice at most."""
        for _ in range(2):
            self.hear()

    def hear(self) -> None:
        """Take out one change."""
        event = self.feed.next(0)
        if event is not None:
            self.turns.turn()
            self.m.delete_many([self.names.key_of(name) for name in event.names])

    def judge(self) -> None:
        """Assert, with all heard, that what the map has is what the store has."""
        while self.feed.waiting:
            self.hear()
        there = self.number(copies.read(self.m.get(KEY), TAG))
        assert there is None or there == self.there(), (there, self.there())


Making = Callable[[Any, Turns], World]


def reader_and_writer(m: Any, turns: Turns) -> World:
    """One reads, another machine writes, the listener hears of it."""
    machine = Machine(m, turns)
    machine.store._put(b"t:k", machine.writing.encode(0), None)
    return {"read": machine.read, "write": machine.write_elsewhere,
            "listen": machine.listen}, machine.judge


def two_readers(m: Any, turns: Turns) -> World:
    """Two read at once, while another machine writes."""
    machine = Machine(m, turns)
    other = machine.another()
    return {"read": machine.read, "read too": lambda: machine.read(other),
            "write": machine.write_elsewhere, "listen": machine.hear}, machine.judge


def reader_and_own_writer(m: Any, turns: Turns) -> World:
    """One reads, this machine writes."""
    machine = Machine(m, turns)
    other = machine.another()
    return {"read": lambda: machine.read(other), "write": machine.write_here,
            "listen": machine.hear}, machine.judge


def crowd(m: Any, turns: Turns) -> World:
    """Two read again and again, both machines write."""
    machine = Machine(m, turns)
    other = machine.another()
    return {
        "read": lambda: [machine.read() for _ in range(2)] and None,
        "read too": lambda: [machine.read(other) for _ in range(2)] and None,
        "write": machine.write_elsewhere, "write here": machine.write_here,
        "listen": machine.listen,
    }, machine.judge


@pytest.mark.parametrize(("world", "least"), [(reader_and_writer, 1_000),
                                              (reader_and_own_writer, 1_000)])
def test_every_schedule_of_few(make, world, least):
    m = make()
    assert every(lambda turns: world(m, turns)) >= least


@pytest.mark.parametrize("world", [two_readers, crowd])
def test_many_schedules_of_more(make, world):
    m = make()
    some(lambda turns: world(m, turns), range(2_000))


def keep_whatever(self: Asking, key: Any, version: int, found: Any, copy: Any) -> None:
    self.map.cas(key, copy.as_bytes(TAG), version) or self.map.add(key, copy.as_bytes(TAG))


def keep_always(self: Asking, key: Any, version: int, found: Any, copy: Any) -> None:
    self.map.delete(key)
    self.map.add(key, copy.as_bytes(TAG))


def keep_and_leave(self: Asking, key: Any, version: int, found: Any, copy: Any) -> None:
    self.map.cas(key, copy.as_bytes(TAG), version)


def mark_nothing(self: Asking, key: Any) -> int:
    return 0


@pytest.mark.parametrize(("step", "broken", "world"), [
    ("_keep", keep_whatever, reader_and_writer), ("_keep", keep_always, reader_and_writer),
    ("_keep", keep_and_leave, two_readers), ("drop", lambda self, *keys, must=True: None,
                                             reader_and_own_writer),
])
def test_each_safeguard_is_one(make, monkeypatch, step, broken, world):
    m = make()
    monkeypatch.setattr(Asking, step, broken)
    with pytest.raises(AssertionError, match="schedule"):
        some(lambda turns: world(m, turns), range(5_000))


def test_what_is_asked_without_a_mark_is_not_kept(make, monkeypatch):
    m = make()
    monkeypatch.setattr(Asking, "_mark", mark_nothing)
    machine = Machine(m, Turns())
    machine.write_elsewhere()
    machine.read()
    assert m.get(KEY) is None


# -- how old an answer is ---------------------------------------------------------------------

BOUND = 12  # steps


class Aging(Machine):
    """A machine whose listener proves, is cut off, and begins anew; a step is a unit of time."""

    def __init__(self, m: Any, turns: Turns) -> None:
        super().__init__(m, turns)
        self.store.feeds.clear()
        mine: Any = InTurns(m, turns.turn)
        known = Freshness(mine, "t")
        known.now = lambda: turns.now
        self.part = Part(mine, self.store, self.names, known, 1e-9)
        self.part._renew_at = 1 << 62

    def listen_for(self, rounds: int) -> None:
        """Listen as `Part._step` does, without the lock; what fails begins anew."""
        watch = self.part
        for _ in range(rounds):
            try:
                if watch._feed is None:
                    watch._feed = self.store.feed(b"t:")
                    watch._proof_asked = 0
                    watch._anew()
                watch._hear()
            except StoreUnavailable:
                watch._leave()

    def lose(self) -> None:
        """Cut the listener off."""
        self.turns.turn()
        for feed in self.store.feeds:
            feed.lose()

    def read_bounded(self, asking: Asking) -> None:
        """Read as Tiered does with a bound, and assert that the answer is not older."""
        known = asking._freshness.read()
        for _ in range(2):  # the second time by what was known the first time, as the fast way does
            began = self.turns.now
            copy, version = asking.look(KEY)
            if copy is None or self.turns.now - known.as_of(copy.asked) > BOUND:
                known, copy, version = self.look_anew(asking)
            if copy is None or self.turns.now - known.as_of(copy.asked) > BOUND:
                copy = asking.ask(KEY, version)
            value, ended = self.number(copy) or 0, self.turns.now
            # what ended this value was written later than the bound allows
            assert value >= len(self.times) or self.times[value] >= began - BOUND, (
                f"{value} at {began} to {ended}, writes at {self.times}")

    def look_anew(self, asking: Asking) -> tuple[Known, Any, int]:
        """Look up what is known, and then the copy."""
        known = asking._freshness.read()
        return known, *asking.look(KEY)


def copy_first(self: Aging, asking: Asking) -> tuple[Known, Any, int]:
    """Look up the copy first."""
    found = asking.look(KEY)
    return asking._freshness.read(), *found


def aging(m: Any, turns: Turns) -> World:
    """Two read within a bound; another machine writes, the listener is cut off meanwhile."""
    machine = Aging(m, turns)
    first, second = machine.another(), machine.another()

    def write() -> None:
        for _ in range(3):
            machine.write_elsewhere()
            for _ in range(4):
                turns.turn()

    return {
        "read": lambda: [machine.read_bounded(first) for _ in range(4)] and None,
        "read too": lambda: [machine.read_bounded(second) for _ in range(4)] and None,
        "write": write, "listen": lambda: machine.listen_for(8), "lose": machine.lose,
    }, lambda: None


def test_an_answer_is_never_older_than_the_bound(make):
    m = make()
    some(lambda turns: aging(m, turns), range(3_000))


def proven_when_heard(self: Part) -> None:
    """Count a proof from when it came, not from when it was asked for."""
    self._proof_asked = 0
    self._freshness.publish(self._nonce, self._since, self._now())


def from_the_beginning(self: Part) -> None:
    """Begin anew as if nothing had been missed."""
    self._nonce = self._freshness.nonce
    self._since = getattr(self, "first", self._now())
    self.first = self._since  # type: ignore[attr-defined]
    self._freshness.publish(self._nonce, self._since)


@pytest.mark.parametrize(("where", "step", "broken", "seed"), [  # from which seed on to look
    (watching.Part, "_anew", from_the_beginning, 0),
    (watching.Part, "_take_out", lambda self, event: None, 0),
    (watching.Part, "_publish", proven_when_heard, 0), (Aging, "look_anew", copy_first, 10_000),
    (Known, "as_of", lambda self, asked: max(asked, self.proven), 0),
])
def test_each_part_of_the_bound_is_needed(make, monkeypatch, where, step, broken, seed):
    m = make()
    monkeypatch.setattr(where, step, broken)
    with pytest.raises(AssertionError, match="schedule"):
        some(lambda turns: aging(m, turns), range(seed, seed + 4_000))
