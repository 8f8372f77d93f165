"""Named locks on the simulated machine: who may be inside, what tokens rise, what deaths leave.

What runs is the engine's own lock table on a shard of the machine. A program waits as a process
does: it tries, sleeps, tries again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

from shmmap.locks.lock_table import LockTable, Record
from shmmap.memory.layout import constants
from shmmap.operations._listing_cy import list_entries
from shmmap.shard._checking_cy import Checker

from .machine import CALL, Semaphore
from .world import CHECKER, LOCK_TIMEOUT_NS, World

SLEEP_NS = constants()["DEADLINE_TICK_NS"] // 10
FOR_EVER = float("inf")
Operation = tuple[Any, ...]


class Lockers(NamedTuple):
    """What each worker does. `dead`: a lock that somebody held who has died; `deaths`: preemptions
    to explore after each death of worker 0."""

    name: str
    programs: tuple[tuple[Operation, ...], ...]
    bound: int = 2
    dead: str = ""
    deaths: int = 0


class Taking(NamedTuple):
    """A lock that was had: when trying began and ended (events), its token, its lease's end."""

    worker: int
    began: int
    ended: int
    fence: int
    safe_until_ns: float
    raw: bytes


class SimulatedTable(LockTable):
    """A handle on the lock shard of a simulated process."""

    def __init__(self) -> None:
        self.near_cache: dict[Any, Any] = {}

    def lapsed_version(self, raw: bytes) -> int:
        """Try again: leases here stand for such as are longer than the steps that take a lock."""
        return 0


class LockWorld(World):
    """One lock shard of four slots, and what its users believe."""

    def __init__(self, scenario: Lockers) -> None:
        super().__init__(len(scenario.programs), 4, 64, False)
        self.scenario = scenario
        for number, handle in self.handles.items():
            part = handle.attachment
            part.liveness, part.is_dead = part.worker, part.worker.is_dead
            part.holds, part.sequences = {}, itertools.count(1)
            self.handles[number] = SimulatedTable()
            self.handles[number]._bind(part, LOCK_TIMEOUT_NS)
        if scenario.dead:
            with self.installed():
                word = self.handles[CHECKER].attachment.worker.fork_page.word
                gone = Record(word + (1 << 40), 1, 0)  # of another incarnation
                self.handles[CHECKER].add(scenario.dead, gone.pack(), None)
        self.save()

    def restore(self) -> None:
        super().restore()
        self.inside: dict[str, list[Taking]] = {}
        self.all: list[Taking] = []
        self.problems: list[str] = []
        for table in self.handles.values():
            table.attachment.holds.clear()
            table.attachment.sequences = itertools.count(1)

    def works(self) -> list[Callable[[], None]]:
        """Make the workers' work."""
        def work_of(number: int, operations: tuple[Operation, ...]) -> Callable[[], None]:
            def work() -> None:
                held: dict[str, Taking] = {}
                for name, *arguments in operations:
                    self.machine.step(CALL, name)
                    getattr(self, "do_" + name)(number, held, *arguments)

            return work

        return [work_of(i, operations) for i, operations in enumerate(self.scenario.programs)]

    # -- what workers do ----------------------------------------------------------------

    def do_lock(
        self, number: int, held: dict[str, Taking], key: str, lease_ns: int | None = None
    ) -> None:
        """Take a lock, however long it takes, and be inside for a moment."""
        machine, table = self.machine, self.handles[number]
        record = table.new_record()
        raw = record.pack()
        table.attachment.holds[record.sequence] = raw
        while True:
            began, began_ns = next(self.events), machine.now_ns
            fence = table.take_lock(key, raw, None if lease_ns is None else lease_ns / 1e9)
            if fence:
                break
            machine.wait(Semaphore(), SLEEP_NS)
        end_ns = FOR_EVER if lease_ns is None else began_ns + lease_ns
        held[key] = taking = Taking(number, began, next(self.events), fence, end_ns, raw)
        self.all.append(taking)
        self.look(number, key)
        self.inside.setdefault(key, []).append(taking)
        machine.step(CALL, "inside")

    def look(self, number: int, key: str) -> None:
        """Notice others who are inside by right."""
        for other in self.inside.get(key, ()):
            lives = not self.machine.workers[other.worker].dead
            if other.worker != number and lives and self.machine.now_ns < other.safe_until_ns:
                self.problems.append(f"worker {number} enters while worker {other.worker} is in")

    def do_unlock(self, number: int, held: dict[str, Taking], key: str) -> None:
        """Free a lock; a lock without a lease is still ours."""
        taking = held.pop(key)
        self.inside[key] = [other for other in self.inside[key] if other.worker != number]
        freed = self.handles[number].give_back(key, taking.raw)
        if not freed and self.machine.now_ns < taking.safe_until_ns:
            self.problems.append(f"worker {number} has lost its lock before the lease was over")

    def do_extend(
        self, number: int, held: dict[str, Taking], key: str, lease_ns: int
    ) -> None:
        """Have the lease start anew."""
        began_ns, taking = self.machine.now_ns, held[key]
        self.inside[key] = [other for other in self.inside[key] if other.worker != number]
        if self.handles[number].renew(key, taking.raw, lease_ns / 1e9):
            held[key] = taking = taking._replace(safe_until_ns=began_ns + lease_ns)
        elif began_ns < taking.safe_until_ns and self.machine.now_ns < taking.safe_until_ns:
            self.problems.append(f"worker {number} could not extend a lease that was not over")
        self.inside[key].append(taking)

    def do_renew(
        self, number: int, held: dict[str, Taking], other: int, key: str, lease_ns: int
    ) -> None:
        """Have the lease of another worker's holding start anew, as a thread of its process does.
        What it is said to be safe until stays: it may be left before this has come to its end."""
        for taking in list(self.all):
            if taking.worker == other:
                self.handles[number].renew(key, taking.raw, lease_ns / 1e9)

    def do_sweep(self, number: int, held: dict[str, Taking]) -> None:
        """Free what the dead hold, and leases that are over."""
        self.handles[number].sweep()

    def do_advance(self, number: int, held: dict[str, Taking], ns: int) -> None:
        """Let time pass."""
        self.machine.advance(ns)

    # -- at the end of a run ------------------------------------------------------------

    def judge(self) -> str | None:
        """Say what is wrong after a run; None: nothing."""
        problems, table = list(self.problems), self.handles[CHECKER]
        table.sweep()
        left = {raw for _, raw in list_entries(table, 0, True)[1]}
        inside = [
            taking for takings in self.inside.values() for taking in takings
            if not self.machine.workers[taking.worker].dead
        ]
        if left - {taking.raw for taking in inside}:
            problems.append("a lock is held for ever")
        lasting = {one.raw for one in inside if self.machine.now_ns < one.safe_until_ns}
        if lasting - left:
            problems.append("a lock is free that is held")
        problems += Checker(table.shards[0]).problems()
        if self.held():
            problems.append("the lock shard's own lock is held")
        for one in self.all:
            problems += [
                f"token {one.fence} is not below {other.fence}, which was given later"
                for other in self.all if one.ended < other.began and one.fence >= other.fence
            ]
        if len({taking.fence for taking in self.all}) != len(self.all):
            problems.append("a token was given twice")
        return "\n".join(problems) or None
