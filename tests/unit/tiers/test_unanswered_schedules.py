"""What one server of several has not answered may be done later, in any order of the steps: the
store ends with what was written last, also where nothing has stamps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from shmmap import StoreUnavailable
from shmmap.testing import LocalStore
from shmmap.tiers import draining, held_back
from shmmap.tiers.draining import Part
from shmmap.tiers.held_back import HeldBack
from shmmap.tiers.journal import Journal
from shmmap.tiers.machine_clock import MachineClock
from shmmap.tiers.stamps import Stamps
from shmmap.tiers.store import Put
from shmmap.tiers.stored import Writing

from ...support.engines import once
from .schedules import InTurns, Turns, World, some

pytestmark = once
NAME, TAG = b"t:k", 7
WITHIN = 200  # steps, each of which is a millisecond


class Wire:
    """A store. What it is sent while it `loses` has no answer, and comes when it comes, or never:
    it is refused then."""

    where = "wire"

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.kept = LocalStore(lambda: None, waits=False)
        self.loses = False
        self.under_way: list[tuple[Put, int]] = []

    def moment(self) -> int:
        """Return the time."""
        self.turns.turn()
        return self.turns.now

    def put_latest(
        self, puts: Sequence[Put], began: int, within_ms: int, believed_ns: int
    ) -> list[Any]:
        """Write or remove each of these, or lose the answer."""
        self.turns.turn()
        answers: list[Any] = []
        for put in puts:
            if self.loses:
                self.under_way.append((put, began + within_ms))
                answers.append(StoreUnavailable("nothing was heard"))
            else:
                answers.append(self.do(put, began + within_ms) or None)
        return answers

    def do(self, put: Put, until: int) -> bool:
        """Do it, if it is in time."""
        if self.turns.now <= until:
            self.kept._put(put.name, put.data, None)
        return self.turns.now <= until

    def lose(self) -> None:
        """Lose answers, three times."""
        for _ in range(3):
            self.turns.turn()
            self.loses = True
            for _ in range(5):
                self.turns.turn()
            self.loses = False

    def deliver(self) -> None:
        """Let something come that was under way."""
        for _ in range(10):
            self.turns.turn()
            if self.under_way:
                self.do(*self.under_way.pop(0))


class Carried:
    """A machine whose writes are carried."""

    def __init__(self, journal: Any, turns: Turns) -> None:
        journal.clear()
        self.turns = turns
        self.journal = self.timed(Journal(journal, TAG))
        self.wire = Wire(turns)
        self.writing = Writing(False, Stamps())
        self.clock = MachineClock(journal)
        self.clock.offset()
        self.last = b""

    def timed(self, journal: Journal) -> Journal:
        """Have a step be a millisecond."""
        journal.now = lambda: self.turns.now * 1_000_000
        return journal

    def part(self, journal: Journal) -> Part:
        """Return one that may carry, and knows no stamps."""
        made = Part(journal, self.wire, self.writing, self.clock)  # type: ignore[arg-type]
        real = made._put
        made._put = lambda *given: real(*given)._replace(stamp=b"")  # type: ignore[method-assign]
        return made

    def write(self) -> None:
        """Write some times."""
        for number in range(6):
            for _ in range(6):
                self.turns.turn()
            self.last = bytes((number,))
            self.journal.put(NAME, 1, self.last, None)

    def carry(self) -> None:
        """Become the one that carries, some times, and leave it again."""
        map_in_turns: Any = InTurns(self.journal.map, self.turns.turn)
        part = self.part(self.timed(Journal(map_in_turns, TAG)))
        for _ in range(6):
            self.turns.turn()
            if part._begin():
                for _ in range(2):
                    part.turn()
                part._leave()

    def judge(self) -> None:
        """Carry what is left, and let all come that is under way, as late as it can."""
        part = self.part(self.journal)
        while self.journal.look(NAME) is not None:
            self.turns.now += 1
            if part._lock is not None or part._begin():
                part.turn()
        for one in self.wire.under_way:
            self.wire.do(*one)
        found = self.wire.kept.kept[NAME][0]
        assert found.endswith(self.last), f"{found!r} is there, {self.last!r} was last"
        part._leave()


def world(journal: Any, turns: Turns) -> World:
    """One writes, two carry one after the other, some answers are lost."""
    machine = Carried(journal, turns)
    return {
        "write": machine.write, "carry": machine.carry, "carry too": machine.carry,
        "lose": machine.wire.lose, "deliver": machine.wire.deliver,
    }, machine.judge


@pytest.fixture(autouse=True)
def steps_are_milliseconds(monkeypatch):
    monkeypatch.setattr(draining, "WITHIN_MS", WITHIN)
    monkeypatch.setattr(draining, "RENEW_S", 0.3)
    monkeypatch.setattr(draining, "OPEN_NS", (300 + WITHIN) * 1_000_000)
    monkeypatch.setattr(draining, "LIST_S", 0.0)
    monkeypatch.setattr(held_back, "AGAIN_S", 0.0)


def run(make: Any, count: int) -> None:
    journal = make()
    some(lambda turns: world(journal, turns), range(count))


def test_many_schedules(make):
    run(make, 1_500)


def hold_not(self: HeldBack, name: bytes, now: int, open_until: int, server: str) -> None:
    self.not_sent(name, now)
    self.open_until = max(self.open_until, open_until)


def hold_and_forget(self: HeldBack, name: bytes, now: int, open_until: int, server: str) -> None:
    unanswered(self, name, now, open_until)
    self.open_until = 0


def unsay_all(self: Part) -> None:
    self._journal.map.set(self.place, 0, None)


unanswered = HeldBack.unanswered
Broken = Callable[..., None]


@pytest.mark.parametrize(("where", "step", "broken"), [
    (HeldBack, "unanswered", hold_not), (HeldBack, "unanswered", hold_and_forget),
    (Part, "_unsay", unsay_all),
])
def test_each_safeguard_is_one(make, monkeypatch, where, step, broken):
    monkeypatch.setattr(where, step, broken)
    with pytest.raises(AssertionError, match="schedule"):
        run(make, 6_000)
