"""write="behind", in any order of its steps: the machine never goes back behind what it has
written, and the store ends with what was written last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shmmap.tiers import draining
from shmmap.tiers.asking import Asking
from shmmap.tiers.behind import Behind
from shmmap.tiers.draining import Part
from shmmap.tiers.journal import Journal
from shmmap.tiers.machine_clock import MachineClock

from ...support.engines import once
from .schedules import InTurns, Turns, World, some
from .test_schedules import KEY, TAG, Machine

pytestmark = once  # the same with either engine

NAME = b"t:k"


class BehindMachine(Machine):
    """A machine that writes behind. Values are the numbers of their writes, in the order in which
    the journal has had them."""

    def __init__(self, m: Any, journal: Any, turns: Turns) -> None:
        super().__init__(m, turns)
        journal.clear()
        self.journal = Journal(journal, TAG)
        self.clock = MachineClock(journal)
        self.clock.offset()
        self.acked = 0

    def in_turns(self) -> Journal:
        """Return the journal, each operation of which is a step."""
        return Journal(InTurns(self.journal.map, self.turns.turn), TAG)  # type: ignore[arg-type]

    def reader(self) -> Callable[[], None]:
        """Return one that reads, twice."""
        asking = self.another()
        behind = Behind.__new__(Behind)
        behind.journal, behind._names = self.in_turns(), self.names
        asking.pending = behind.pending

        def read() -> None:
            seen = 0
            for _ in range(2):
                least = max(seen, self.acked)
                copy = asking.pending(KEY)
                if copy is None:
                    there, version = asking.look(KEY)
                    copy = there or asking.ask(KEY, version)
                seen = self.number(copy) or 0
                assert seen >= least, f"{seen} was read after {least}"

        return read

    def write(self) -> None:
        """Write as Tiered does."""
        asking = self.another()
        self.turns.turn()
        self.last += 1
        mine = self.last
        kind, data = self.writing.pack(mine)
        self.journal.put(NAME, kind, data, None)
        asking.drop(KEY)
        self.acked = max(self.acked, mine)

    def carrier(self) -> Callable[[], None]:
        """Return one that carries what waits, three times at most."""
        part = Part(self.in_turns(), self.store, self.writing, self.clock)
        part._renewed = 1 << 62

        def carry() -> None:
            for _ in range(3):
                part.turn()

        return carry

    def judge(self) -> None:
        """Assert, with all carried and heard, that the last write is there."""
        part = Part(self.journal, self.store, self.writing, self.clock)
        part._renewed = 1 << 62
        while part.turn():
            pass
        assert self.there() == self.last, f"{self.there()} is there, {self.last} was last"
        super().judge()


def world(m: Any, journal: Any, turns: Turns) -> World:
    """Two read, two write, two carry: one of them was thought dead; the listener hears."""
    machine = BehindMachine(m, journal, turns)
    machine.store._put(NAME, machine.writing.encode(0), None)
    return {
        "read": machine.reader(), "read too": machine.reader(),
        "write": lambda: [machine.write() for _ in range(2)] and None, "write too": machine.write,
        "carry": machine.carrier(), "carry too": machine.carrier(), "listen": machine.listen,
    }, machine.judge


def run(make: Any, other: Any, count: int) -> None:
    m, journal = make(), other()
    some(lambda turns: world(m, journal, turns), range(count))


def test_many_schedules(make, other):
    run(make, other, 1_500)


def drop_whatever(self: Journal, name: bytes, record: Any) -> bool:
    return self.map.delete((self.tag, name)) > 0


def look_then_mark(self: Asking, keys: Any) -> Any:
    made = [self.pending(key) for key, _ in keys]
    pending, self.pending = self.pending, lambda key: None
    try:
        found = ask_many(self, keys) if None in made else made
    finally:
        self.pending = pending
    return [copy or one for copy, one in zip(made, found, strict=True)]


ask_many = Asking.ask_many


def drop_first(self: Part, began: Any) -> bool:
    journal, found = self._journal, self._take()
    for name, record in found:
        journal.drop(name, record)
    self._store.put_latest(
        [self._put(name, record, self._clock.offset().stamp_of(record.version))
         for name, record in found], began, draining.WITHIN_MS, 1 << 62)
    return True


def no_stamps(self: Part, name: bytes, record: Any, stamp: bytes) -> Any:
    return put(self, name, record, stamp)._replace(stamp=b"")


put = Part._put


@pytest.mark.parametrize(("where", "step", "broken"), [
    (Journal, "drop", drop_whatever), (Asking, "ask_many", look_then_mark),
    (Part, "_carry", drop_first), (Part, "_put", no_stamps),
])
def test_each_safeguard_is_one(make, other, monkeypatch, where, step, broken):
    monkeypatch.setattr(where, step, broken)
    with pytest.raises(AssertionError, match="schedule"):
        run(make, other, 6_000)
