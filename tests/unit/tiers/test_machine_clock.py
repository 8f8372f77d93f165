"""The clock of a machine that writes behind: later writes have later stamps, and it comes back."""

from __future__ import annotations

import random
from typing import Any

import pytest

from shmmap.tiers import machine_clock
from shmmap.tiers.machine_clock import AHEAD_NS, LEAD_NS, MachineClock, Offset

SECOND = 1_000_000_000
WALL = 1_800_000_000 * SECOND  # less the time since boot


class Entry:
    """One entry, as a map has it."""

    def __init__(self) -> None:
        self.data: Any = None
        self.version = 0

    def get_versioned(self, key: Any) -> tuple[Any, int]:
        return self.data, self.version

    def cas(self, key: Any, data: bytes, version: int, ttl: None) -> bool:
        if version != self.version:
            return False
        self.data, self.version = data, version + 1
        return True


class Machine:
    """A machine whose clocks are set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000 * SECOND
        self.ahead = 0  # of the wall clock
        self.entry = Entry()
        monkeypatch.setattr(machine_clock, "wall_ns", lambda: WALL + self.now + self.ahead)
        monkeypatch.setattr(machine_clock, "latest_believed",
                            lambda: WALL + self.now + self.ahead + 60 * SECOND)
        self.clock = self.process()

    def process(self) -> MachineClock:
        """Return what another process of it has."""
        made = MachineClock(self.entry)  # type: ignore[arg-type]
        made._since_boot = lambda: self.now  # type: ignore[method-assign, assignment]
        return made

    def excess(self) -> int:
        """Return how far its stamps are ahead of the true time."""
        return self.clock.now() - WALL - self.now


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


def pass_time(machine: Machine, seconds: float) -> None:
    """Have nothing wait for so long."""
    for _ in range(20):
        machine.now += int(seconds * SECOND / 20)
        machine.clock.rest(machine.now, lambda: True)


@pytest.mark.parametrize("ahead_s", [1, 3_600, 10 * 365 * 86_400])
def test_a_wall_clock_that_was_ahead_once_is_forgotten(machine, ahead_s):
    machine.ahead = ahead_s * SECOND
    assert machine.excess() == ahead_s * SECOND
    machine.ahead = 0
    assert machine.excess() == ahead_s * SECOND  # nobody has looked
    pass_time(machine, 2.5 * ahead_s + 60)
    assert 0 <= machine.excess() <= AHEAD_NS
    assert machine.clock.offset().excess == 0


def test_what_is_a_little_ahead_stays(machine):
    before = machine.clock.offset()
    machine.clock.met(machine.clock.now() + AHEAD_NS // 2)
    raised = machine.clock.offset()
    pass_time(machine, 60)
    assert raised != before and machine.clock.offset() == raised


def test_what_waits_keeps_what_it_was_put_by(machine):
    """Two writes of one key wait for hours; the first has been sent, by the offset of then."""
    machine.ahead = 100 * SECOND
    first = machine.now << 1
    sent = machine.clock.offset().stamp_of(first)
    machine.ahead = 0
    second = machine.now + 2 << 1
    machine.clock.rest(machine.now, lambda: True)
    for _ in range(50):
        machine.now += 10 * SECOND
        machine.clock.rest(machine.now, lambda: False)
        assert machine.clock.offset().stamp_of(second) > sent
    assert machine.clock.offset().excess  # it has been led back, and that is not taken off
    assert machine.excess() <= AHEAD_NS


def test_nobody_makes_an_earlier_stamp_by_an_offset_that_it_has_read(machine):
    """Who has read the offset is LEAD_NS late at most, and makes none after that."""
    machine.ahead = 100 * SECOND
    read = machine.clock.offset()
    machine.ahead = 0
    machine.clock.rest(machine.now, lambda: True)
    later = machine.clock.offset()
    assert later.excess
    for at in range(machine.now, machine.now + LEAD_NS, LEAD_NS // 50):
        assert read.at(at) == later.at(at)


@pytest.mark.parametrize("since", [0, 7])
def test_no_two_versions_have_one_stamp(since):
    """At half the rate two nanoseconds have the same time."""
    offset = Offset(WALL, since, 40, b"abcd")
    stamps = [offset.stamp_of(time_ns << 1) for time_ns in range(since + 200)]
    assert stamps == sorted(set(stamps))


def test_whatever_happens_later_writes_are_later(machine):
    """Wall clocks that jump, stamps of others, several processes, records that wait."""
    for seed in range(300):
        rng = random.Random(seed)
        machine.entry.data, machine.ahead = None, 0
        processes = [machine.process() for _ in range(3)]
        waiting: list[int] = []
        last, last_version = b"", 0  # of what is in the store
        for _ in range(200):
            machine.now += rng.choice([2, 1_000, SECOND, 20 * SECOND])
            clock = rng.choice(processes)
            match rng.randrange(6):
                case 0:
                    machine.ahead = rng.choice([-1, 0, 1, 50]) * SECOND
                case 1:
                    clock.met(WALL + machine.now + rng.randrange(-5, 50) * SECOND)
                case 2:
                    waiting.append(machine.now << 1)
                case 3:
                    clock.rest(machine.now, lambda: not waiting)  # noqa: B023
                case 4 if waiting:
                    version = rng.choice([waiting[0], waiting[-1]])
                    sent = clock.offset().stamp_of(version)
                    assert (sent > last) if version > last_version else (
                        sent[:8] >= last[:8] or version < last_version), seed
                    if version >= last_version:
                        last, last_version = sent, version
                    if version == waiting[-1]:
                        waiting = []
                case _:
                    through = clock.now().to_bytes(8, "big")
                    assert through > last[:8], seed
                    assert machine.excess() >= machine.ahead - SECOND // 100, seed
                    if not waiting:
                        last, last_version = through, machine.now << 1


def test_a_process_that_has_met_a_later_stamp_is_later_whatever_it_knew(machine):
    """What it has seen of the offset was led back since, by another process."""
    other = machine.process()
    machine.ahead = 100 * SECOND
    other.met(other.now())
    machine.ahead = 0
    machine.clock.rest(machine.now, lambda: True)
    machine.now += 300 * SECOND
    met = machine.now + WALL + 30 * SECOND
    other.met(met)
    assert other.now() > met
