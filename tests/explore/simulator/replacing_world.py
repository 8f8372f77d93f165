"""Processes that replace one map by another of another shape, while others use it and follow.

What runs beside the engine is `replacing.replace`, `reopening.reopen`, and how `ShmMap` opens.
There is a step more than in the world of creations: before a shard's lock is asked for, since a
writer that has seen that the map is there may be stopped just then.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from shmmap import entering
from shmmap.copies import replacing, snapshots
from shmmap.errors import MapUnlinked
from shmmap.lifecycle import half_replaced, making, opening, reopening
from shmmap.lifecycle.parameters import Parameters
from shmmap.lifecycle.request import AS_IT_IS, Request
from shmmap.locks import waiting, waking
from shmmap.locks.lock_table import LockTable
from shmmap.map import ShmMap
from shmmap.operations import _cut_cy
from shmmap.operations._holding_cy import Holding
from shmmap.operations._takes_cy import Takes
from shmmap.system import creation, segment
from shmmap.system.mutex import Mutex

from .creation_world import LINGER_S, LOCK_TIMEOUT_NS, NAME, SHAPE, CreationWorld, Processes
from .machine import CALL, PAUSE, Semaphore

COUNTER = "counter"
SMALL, LARGE = {**SHAPE, "capacity": 8}, {**SHAPE, "capacity": 16}
WIDE = {**LARGE, "shards": 2}
KEYS = "b", COUNTER  # in the two shards of a wide map


class FollowingHandle(Takes):
    """A handle as far as opening, replacing and following go: ShmMap without its finalizers, which
    would come in the middle of another run."""

    _ways = opening
    _lock_timeout = LOCK_TIMEOUT_NS / 1e9
    _last_words: Any = None
    _table: LockTable | None = None
    _open, _reopen = ShmMap._open, ShmMap._reopen
    _inside, _live = ShmMap._inside, ShmMap._live
    _in_one_map, _lock_table = ShmMap._in_one_map, ShmMap._lock_table

    def __init__(self, request: Request) -> None:
        self._request = request
        self._handle_number = next(reopening.numbers)
        self._turn = Mutex()

    def _use(self, found: Any, number: int) -> None:
        if not self._turning:
            self._bind(found, LOCK_TIMEOUT_NS)
            self._follows = self._request.on_unlinked == "reopen"
        self._point_at(found, found.ttl_ns, None)
        self._table = None
        self._handle_number = number

    def snapshot(self) -> snapshots.Snapshot:
        """See ShmMap."""
        with self._inside() as attached:
            return snapshots.take(self, attached, self._lock_timeout)

    def close(self) -> None:
        """Let it go."""
        if self._seal():
            self.attachment.handles.pop(self._handle_number, None)
            opening.release(self.attachment)

    def _replace(self) -> Any:
        """See ShmMap."""
        asked = self._request
        former = FollowingHandle(asked._replace(
            wanted=Parameters(), may_create=False, on_mismatch=AS_IT_IS, on_unlinked="raise"))
        opening.join_map(former, former._handle_number, former._request)
        try:
            had = former._live.parameters
            wanted = asked.again(had).wanted._replace(hash_seed=had.hash_seed)

            def bind(successor: making.Successor) -> Any:
                made = FollowingHandle(asked._replace(wanted=Parameters(), on_unlinked="raise"))
                opening.open_apart(made, made._handle_number, successor)
                return made

            return replacing.replace(former, wanted, bind)
        finally:
            former.close()


class ReplacingWorld(CreationWorld):
    """One name, and processes that follow the maps that have it."""

    def __init__(self, scenario: Processes) -> None:
        super().__init__(scenario)
        self.life = {"ephemeral": self.wanted.ephemeral,
                     "linger": LINGER_S if scenario.linger else None}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let the engine find the simulated system."""
        system, machine = self.system, self.machine
        with super().installed():
            patch = self.patch
            for module, names in (
                (replacing, "os sleep monotonic"), (half_replaced, "os"), (segment, "exchange"),
                (snapshots, "sleep"),
            ):
                for name in names.split():
                    patch.setattr(module, name, system if name == "os" else getattr(system, name))
            patch.setattr(snapshots, "monotonic_ns", lambda: machine.now_ns)
            patch.setattr(_cut_cy, "clock_ns", lambda number: machine.now_ns)
            for name in ("sleep", "monotonic"):
                patch.setattr(waiting, name, getattr(system, name))
            patch.setattr(waiting, "can_wait_for", lambda lock: False)  # poll
            patch.setattr(waking, "see", lambda m: None)
            patch.setattr(waking, "wake", lambda part, name, wakes: None)
            patch.setattr(reopening, "_tell", lambda name, nonce: None)
            patch.setattr(entering, "warn", lambda text: None)
            hold = Holding.hold

            def stepping(handle: Any, shard: Any, unit: int) -> Any:
                machine.step(CALL, "hold")
                self.be_late(system.number())
                return hold(handle, shard, unit)

            patch.setattr(Holding, "hold", stepping)
            yield

    def restore(self) -> None:
        """Begin a run."""
        self.begun, self.acknowledged = dict.fromkeys(KEYS, 0), dict.fromkeys(KEYS, 0)
        self.lockers: set[int] = set()
        self.late: dict[int, int] = {}  # process: the one whose end it is to wait for in `hold`
        self.stopped: set[int] = set()  # and those that do
        self.patch.setattr(reopening, "numbers", itertools.count(1))
        super().restore()

    def make_handle(self, shape: dict[str, Any], on_mismatch: str = AS_IT_IS,
                    on_unlinked: str = "reopen") -> Any:
        """Open the map in a shape."""
        handle: Any = FollowingHandle(Request(
            NAME, Parameters.read({**shape, **self.life}), on_mismatch=on_mismatch,
            on_unlinked=on_unlinked))
        handle._open()
        return handle

    def do_open(self, number: int, shape: dict[str, Any] = SMALL) -> None:
        """Open the map as it is, creating it if need be."""
        self.handles[number] = self.make_handle(shape)
        self.note_token(number)

    def do_open_strictly(self, number: int) -> None:
        """Open the map to use that one and no other."""
        self.handles[number] = self.make_handle(SMALL, on_unlinked="raise")

    def do_strictly(self, number: int, operation: str) -> None:
        """Use such a map; that it was replaced is an answer, too."""
        with suppress(MapUnlinked):
            self.perform(number, (operation,))

    def do_replace(self, number: int, shape: dict[str, Any] = LARGE) -> None:
        """Have the map be of another shape."""
        before = self.handles.pop(number, None)
        self.handles[number] = handle = self.make_handle(shape, "replace")
        if before is not None:
            before.close()
        capacity = handle.attachment.parameters.capacity
        if not self.may_end and capacity not in (SMALL["capacity"], LARGE["capacity"]):
            self.problems.append(f"process {number} has a map of capacity {capacity}")

    def do_close(self, number: int) -> None:
        """Close the handle. Where no other process is left, nobody finds an ephemeral map; one that
        dies as this one looks may have been seen to live."""
        handle = self.handles.pop(number)
        identity = handle.attachment.control.identity
        others = range(len(self.machine.workers))
        is_alone = not any(self.system.lives(other) for other in others if other != number)
        handle.close()
        is_removed = self.wanted.ephemeral and not self.wanted.linger_ns and is_alone
        if is_removed and segment.identity_at(segment.control_name(NAME)) == identity:
            self.problems.append(f"process {number} was the last to close the map, which is there")

    def do_is_gone(self, number: int) -> None:
        """Notice an ephemeral map that nobody has, and that is there all the same."""
        if segment.identity_at(segment.control_name(NAME)) is not None:
            self.problems.append(f"the map is there, after process {number} looked for it")

    def do_count(self, number: int, key: str = COUNTER) -> None:
        """Raise a counter; whatever map that is in, the others see it."""
        self.begun[key] += 1
        self.handles[number].incr(key)
        self.acknowledged[key] += 1

    def do_count_all(self, number: int) -> None:
        """Raise counters in each shard."""
        for key in KEYS:
            self.do_count(number, key)

    def do_read(self, number: int) -> None:
        """Read the counter: no count that was acknowledged before is missing, unless somebody may
        have unlinked the map."""
        least = self.acknowledged[COUNTER]
        found = self.handles[number].get(COUNTER, 0)
        most = self.begun[COUNTER]
        if self.scenario.keeps and not least <= found <= most:
            self.problems.append(f"process {number} read {found} of {least} to {most}")

    def do_count_late(self, number: int, until: int) -> None:
        """Raise a counter, but be stopped before the shard is asked for, until another process has
        ended."""
        self.late[number] = until
        self.do_count(number)

    def be_late(self, number: int) -> None:
        """Wait in `hold`, where one is to."""
        until = self.late.pop(number, None)
        if until is not None:
            self.stopped.add(number)
            self.do_after(number, until)

    def do_when_late(self, number: int, *others: int) -> None:
        """Wait until others are stopped there."""
        while any(other not in self.stopped and self.system.lives(other) for other in others):
            self.machine.step(PAUSE, "when late")
            self.machine.wait(Semaphore(), 1_000_000)

    def do_guard(self, number: int, until: int | None = None) -> None:
        """Be inside a named lock for a moment, or until the end of a process; nobody else alive
        may."""
        lock = ShmMap.lock(self.handles[number], "guard")
        lock.acquire()
        self.enter_guard(number)
        self.machine.step(CALL, "inside")
        if until is not None:
            self.do_after(number, until)
        self.lockers.discard(number)
        lock.release()

    def do_try_guard(self, number: int) -> None:
        """Take the named lock for good if it is free."""
        if ShmMap.lock(self.handles[number], "guard").acquire(blocking=False):
            self.enter_guard(number)

    def enter_guard(self, number: int) -> None:
        """Notice two holders of one lock."""
        others = [other for other in self.lockers if self.system.lives(other)]
        if others:
            self.problems.append(f"process {number} has the named lock, and so has {others[0]}")
        self.lockers.add(number)

    def judge(self) -> str | None:
        """Say what is wrong after a run; None: nothing."""
        if any(worker.dead for worker in self.machine.workers):
            # what it left is there for the next who makes a map
            with creation.creation_lock(NAME):
                making.remove_all_dead(NAME)
        said = super().judge()
        problems = [said] if said else []
        checker = self.make_handle(SMALL)
        for key in KEYS if self.scenario.keeps else ():
            found, least, most = checker.get(key, 0), self.acknowledged[key], self.begun[key]
            if not least <= found <= most:
                problems.append(f"{found} of {key!r} was counted, of {least} to {most}")
        return "\n".join(problems) or None
