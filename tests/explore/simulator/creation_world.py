"""Processes that open, lock, unlink and close one map on a simulated operating system.

What runs is the engine's own: attachment, control, creation, segment, workers, lock. Steps are the
system calls and the accesses to the control segment; a shard's memory is touched within a step.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partialmethod
from typing import Any, NamedTuple

import pytest

from shmmap.errors import MapUnlinked
from shmmap.lifecycle import (
    attached,
    attachment,
    control,
    ephemeral,
    lingering,
    making,
    opening,
    places,
    reaping,
    routes,
    siblings,
)
from shmmap.lifecycle.parameters import Parameters
from shmmap.lifecycle.request import Request
from shmmap.memory import geometry
from shmmap.memory.layout import constants
from shmmap.operations import _holding_cy
from shmmap.operations._takes_cy import Takes
from shmmap.operations.host import NEVER
from shmmap.shard import _lock_cy
from shmmap.system import (
    creation,
    descriptors,
    liveness,
    mutex,
    record_lock,
    removal,
    segment,
    unfinished,
    worker_table,
)

from .machine import CALL, LIVENESS, PAUSE, READ, WRITE, Machine, Semaphore
from .system import CHECKER, FIRST_PID, PerProcess, System
from .world import SimulatedClock

K = constants()
NAME = "m"
ROWS = 5
LOCK_TIMEOUT_NS = 1_000_000_000
LINGER_S = 1000
SHAPE = {"capacity": 4, "shards": 1, "sweep_interval": None}
Operation = tuple[Any, ...]


class Processes(NamedTuple):
    """What each process does; `before`: (process, operation) pairs that are done at the start.

    `alike`: the processes that have the pid of process 0, one after the other; `apart`: those in
    another pid namespace.
    """

    name: str
    programs: tuple[tuple[Operation, ...], ...]
    before: tuple[tuple[int, Operation], ...] = ()
    bound: int = 2
    deaths: int = 1  # preemptions to explore after each death of process 0; -1: it never dies
    ephemeral: bool = False
    linger: bool = False
    keeps: bool = False  # what was written is there at the end
    follows: bool = False  # handles go over to the map that has the name: see `replacing_world`
    alike: tuple[int, ...] = ()
    apart: tuple[int, ...] = ()


class SimulatedMapping:
    """A mapped file."""

    is_cut = False

    def __init__(self, system: System, descriptor: int, size: int) -> None:
        self.buffer = system.file(descriptor).data
        self.size = size
        assert size == len(self.buffer)

    def tell(self, flag_address: int) -> None:
        """Do nothing: here nobody cuts files off."""

    def close(self) -> None:
        """Do nothing: whoever holds the memory keeps it."""


class SimulatedHold:
    """A lock on a file that lasts as long as its mapping."""

    def __init__(self, system: System, descriptor: int) -> None:
        system.flock(descriptor, fcntl.LOCK_SH)
        self._locks = system.file(descriptor).open_locks
        self._key = system.number(), next(system.numbers)
        self._locks[self._key] = False
        self._system = system

    def end(self) -> None:
        """Unmap it."""
        self._system.machine.step(LIVENESS, "unmap")
        self._locks.pop(self._key, None)


class SimulatedForkPage:
    """The page that a fork would wipe."""

    is_cut = False

    def __init__(self) -> None:
        self.buffer = bytearray(16)
        self.flag_address = 0

    @property
    def word(self) -> int:
        return int.from_bytes(self.buffer[:8], "little")

    @word.setter
    def word(self, value: int) -> None:
        self.buffer[:] = value.to_bytes(8, "little") + (value > 0).to_bytes(8, "little")

    def clear(self) -> None:
        self.word = 0


class SimulatedSweeper:
    """One that is never due, and looks for no files."""

    trouble = None

    def __init__(self, attached: Any) -> None:
        pass

    def start(self) -> bool:
        return True

    stop = start

    def heed(self) -> None:
        pass

    def is_run_here(self) -> bool:
        return False

    is_busy = is_run_here

    def look_for_files(self, due: int, version: int) -> int:
        return NEVER

    def reap(self, handle: Any) -> int:
        return 0


class _Handle(Takes):
    """A handle as far as opening goes."""

    def _use(self, found: Any, key: int) -> None:
        self._bind(found, LOCK_TIMEOUT_NS)
        self._handle_number = key


def numbered_handle() -> Any:
    """Make a handle that is not open, with its number in the process."""
    handle: Any = _Handle()
    handle._handle_number = id(handle)
    return handle


class CreationWorld:
    """One name, and the processes that use it."""

    def __init__(self, scenario: Processes) -> None:
        self.scenario = scenario
        self.machine = Machine()
        self.system = System(self.machine, len(scenario.programs))
        self.system.namespaces = dict.fromkeys(scenario.apart, 2)
        self.wanted = Parameters.read({
            **SHAPE, "ephemeral": scenario.ephemeral or scenario.linger,
            "linger": LINGER_S if scenario.linger else None,
        })
        self.may_end = any(  # a child that has closed its descriptors keeps no map
            operation[0] in ("unlink", "fork_closed") for program in scenario.programs
            for operation in program)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let the engine find the simulated system."""
        system, machine = self.system, self.machine
        with pytest.MonkeyPatch.context() as patch:
            for module, names in (
                (creation, "os fcntl sleep monotonic this_process"),
                (record_lock, "os fcntl"),
                (segment, "os publish this_process"), (control, "os"), (removal, "os"),
                (making, "os fcntl random_word this_process"),
                (liveness, "sleep monotonic this_process own_pid OWN_NUMBER"),
                (worker_table, "os sleep monotonic this_process own_pid"),
                (attachment, "os this_process"), (ephemeral, "os"),
                (opening, "os sleep monotonic this_process OWN_NUMBER"), (mutex, "this_process"),
                (descriptors, "os this_process"), (reaping, "os"), (places, "os"),
                (routes, "sleep"),
            ):
                for name in names.split():
                    is_module = name in ("os", "fcntl")
                    patch.setattr(module, name, system if is_module else getattr(system, name))
            patch.setattr(segment, "Mapping", type("Mapping", (SimulatedMapping,), {
                "__init__": partialmethod(SimulatedMapping.__init__, system)}))
            patch.setattr(segment, "is_missing", lambda: False)
            patch.setattr(control, "boot_id", lambda: (1, 2))
            patch.setattr(making, "boot_id", lambda: (1, 2))
            patch.setattr(ephemeral, "effective_uid", lambda pid: 0)
            patch.setattr(geometry, "WORKER_ROWS", ROWS)
            for module in (liveness, worker_table):
                patch.setattr(module, "start_ticks", system.start_ticks)
                patch.setattr(module, "pid_namespace", system.pid_namespace)
            patch.setattr(liveness, "exists", lambda pid: True)
            patch.setattr(liveness, "is_visible", lambda pid: True)
            patch.setattr(liveness, "has_mapped", lambda pid, inode: True)
            patch.setattr(liveness, "is_past_its_program", lambda pid: False)
            patch.setattr(worker_table, "ForkPage", SimulatedForkPage)
            patch.setattr(worker_table, "Hold", lambda number: SimulatedHold(system, number))
            patch.setattr(ephemeral, "_PATIENCE_S", 0.0)
            # what is told of maps of other flavours is read from files, and changes nothing
            patch.setattr(siblings, "others", lambda name, owner: [])
            patch.setattr(opening, "leave_at_exit", lambda: None)
            patch.setattr(attachment, "Sweeper", SimulatedSweeper)
            patch.setattr(attachment, "Clock", lambda: SimulatedClock(machine))
            patch.setattr(lingering, "now_ns", lambda: machine.now_ns)
            patch.setattr(_lock_cy, "sem_open", system.open_semaphore)
            patch.setattr(_lock_cy, "sem_close", lambda semaphore: None)
            patch.setattr(_lock_cy, "sem_wait", self.wait)
            patch.setattr(_lock_cy, "sem_wake", machine.wake)
            patch.setattr(_lock_cy, "pause", lambda: machine.step(PAUSE, "pause"))
            patch.setattr(_lock_cy, "SPINS", 0)
            patch.setattr(_lock_cy, "QUICK_SPINS", 0)
            patch.setattr(_lock_cy, "clock_ns", lambda number: machine.now_ns)
            patch.setattr(_holding_cy, "clock_ns", lambda number: machine.now_ns)
            for owner, name, kind, arguments in (
                (control.Control, "__getitem__", READ, 1),
                (control.Control, "__setitem__", WRITE, 1), (control.Control, "retire", WRITE, 0),
                (liveness.Judge, "_get", READ, 2), (liveness.Judge, "_set", WRITE, 2),
            ):
                patch.setattr(owner, name, self.stepping(getattr(owner, name), kind, arguments))
            patch.setattr(making, "_copy", self.copying(making._copy))
            self.patch = patch
            yield

    def stepping(self, access: Any, kind: int, arguments: int) -> Any:
        """Make an access to the control segment a step."""
        def step(owner: Any, *given: Any) -> Any:
            self.machine.step(kind, given[:arguments])
            return access(owner, *given)

        return step

    def copying(self, copy: Any) -> Any:
        """Make the filling of a segment two steps: a death may leave the first half."""
        def step(words: Any, draft: Any, turn: Any) -> None:
            half = len(draft) // 2
            self.machine.step(WRITE, ("NONCE",))
            copy(words, draft[:half], turn)
            self.machine.step(WRITE, ("NONCE",))
            copy(words, draft, turn)

        return step

    def wait(self, semaphore: Any, ns: int) -> None:
        """Wait for a semaphore; one that is gone gives no token."""
        self.machine.wait(semaphore or Semaphore(), ns)

    def restore(self) -> None:
        """Begin a run: nothing but what `before` does."""
        system = self.system
        self.machine.workers = []
        self.machine.now_ns = 1_000
        system.reset()
        system.pids = dict.fromkeys(self.scenario.alike, FIRST_PID)
        attachments = PerProcess(system)
        self.patch.setattr(opening, "_attachments", attachments)
        self.patch.setattr(attached, "attachments", attachments)
        self.written: set[int] = set()
        self.patch.setattr(creation, "_files", PerProcess(system))
        self.patch.setattr(creation, "_mutexes", PerProcess(system))
        self.patch.setattr(unfinished, "_noted", PerProcess(system))
        self.handles: dict[int, Any] = {}
        self.inside: set[int] = set()
        self.tokens: dict[tuple[int, int], int] = {}  # nonce and token: whose it was
        self.problems: list[str] = []
        for number, operation in self.scenario.before:
            system.acting = number
            self.perform(number, operation)
        system.acting = CHECKER

    def works(self) -> list[Callable[[], None]]:
        """Make the processes' work."""
        def work_of(number: int, operations: tuple[Operation, ...]) -> Callable[[], None]:
            def work() -> None:
                for operation in operations:
                    self.machine.step(CALL, operation[0])
                    self.perform(number, operation)

            return work

        return [work_of(i, operations) for i, operations in enumerate(self.scenario.programs)]

    # -- what processes do --------------------------------------------------------------

    def perform(self, number: int, operation: Operation) -> None:
        """Do one thing; a map that was unlinked meanwhile is no error where somebody may."""
        name, *arguments = operation
        self.machine.now_ns += 1  # no two things happen at one time
        try:
            getattr(self, "do_" + name)(number, *arguments)
        except MapUnlinked:
            if not self.may_end:
                raise

    def do_open(self, number: int) -> None:
        """Open the map, creating it if need be."""
        handle = numbered_handle()
        opening.join_map(handle, handle._handle_number, Request(NAME, self.wanted))
        self.handles[number] = handle
        self.note_token(number)

    def note_token(self, number: int) -> None:
        """Notice a token that two processes were given."""
        found = self.handles[number].attachment
        token = found.nonce, found.worker.fork_page.word
        other = self.tokens.setdefault(token, number)
        if other != number:
            self.problems.append(f"processes {number} and {other} have had one token: {token}")

    def do_open_again(self, number: int) -> None:
        """Open the map a second time in one process: another handle on the same attachment."""
        handle = numbered_handle()
        opening.join_map(handle, handle._handle_number, Request(NAME, self.wanted))

    def do_close(self, number: int) -> None:
        """Close the handle; the last process to leave an ephemeral map unlinks it."""
        handle = self.handles.pop(number)
        handle._seal()
        handle.attachment.handles.pop(handle._handle_number, None)
        opening.release(handle.attachment)

    def do_unlink(self, number: int) -> None:
        """Unlink the map."""
        handle = self.handles[number]
        handle.enter()
        try:
            opening.retire(handle.attachment)
        finally:
            handle.leave()

    def do_set(self, number: int) -> None:
        """Write, and read what was written."""
        handle = self.handles[number]
        handle.set(f"key of {number}", number)
        if handle.get(f"key of {number}") != number:
            self.problems.append(f"process {number} does not find what it wrote")
        self.written.add(number)
        self.note_token(number)

    def do_fork(self, number: int) -> None:
        """Go on as a child would that a process has forked which ended then."""
        found = self.handles[number].attachment
        self.system.drop_locks(self.system.file(found.worker.descriptor))
        self.system.pids[number] = 200 + number
        found.worker.fork_page.clear()

    def do_fork_closed(self, number: int) -> None:
        """The same, of a child that has closed every descriptor, as daemons do; nor does it hold
        the map, as where another user kept it from that."""
        self.do_fork(number)
        worker = self.handles[number].attachment.worker
        self.system.close(worker.descriptor)
        worker._hold.end()
        vars(worker).pop("_hold", None)

    def do_lock(self, number: int) -> None:
        """Hold a shard's lock for a moment; nobody else alive may."""
        handle = self.handles[number]
        handle.enter()
        shard = handle.shards[0]
        handle.hold(shard, 0)
        others = [other for other in self.inside if self.system.lives(other)]
        if others:
            self.problems.append(f"process {number} has the lock, and so has {others[0]}")
        self.inside.add(number)
        self.machine.step(CALL, "inside")  # here another one starts to wait,
        self.machine.step(CALL, "still inside")  # and here its patience ends
        self.inside.discard(number)
        handle.drop(shard)
        handle.leave()

    def do_stray_close(self, number: int) -> None:
        """Lose all locks on the liveness file: somebody opened it in this process and closed it."""
        found = self.handles[number].attachment
        self.machine.step(CALL, "stray close")
        self.system.drop_locks(self.system.file(found.worker.descriptor))

    def do_clear_rows(self, number: int) -> None:
        """Free the rows of the dead, as a sweep does."""
        self.handles[number].attachment.worker.clear_dead_rows()

    def do_later(self, number: int) -> None:
        """Let so much time pass that a map which lingers does so no more."""
        self.machine.step(CALL, "later")
        self.machine.now_ns += 2 * LINGER_S * 10**9

    def do_reap(self, number: int) -> None:
        """Look for maps that nobody came back to, as the sweeper of another map does."""
        reaping.reap()

    def do_after(self, number: int, other: int) -> None:
        """Wait for the end of another process."""
        while self.system.lives(other):
            self.machine.step(PAUSE, "after")  # let others go on, whatever the priorities
            self.machine.wait(Semaphore(), 1_000_000)

    # -- at the end of a run --------------------------------------------------------------

    def judge(self) -> str | None:
        """Say what is wrong after a run; None: nothing."""
        problems = list(self.problems)
        try:
            self.do_open(CHECKER)
        except Exception as error:
            return "\n".join([*problems, f"afterwards: {type(error).__name__}: {error}"])
        checker = self.handles.pop(CHECKER)
        found = checker.attachment
        lost = [number for number in sorted(self.written)
                if self.scenario.keeps and checker.get(f"key of {number}") != number]
        if lost:
            problems.append(f"what the processes {lost} wrote is gone")
        for number, handle in self.handles.items():
            mine = handle.attachment
            if mine.control.STATE == K["STATE_READY"] and mine.nonce != found.nonce:
                problems.append(f"process {number} has a map of its own, {mine.nonce}, and does "
                                f"not know that the name leads to {found.nonce}")
        labels = [f"shmmap.{NAME}.{found.nonce:016x}.{part}"
                  for part in ("locks", *(f"0.{n}" for n in range(found.geometry.shards)))]
        expected = {segment.control_name(NAME)[1:], "shmmap.0.creators", *labels,
                    *("sem." + label for label in labels), labels[0].replace(".locks", ".live")}
        if set(self.system.files) != expected:
            problems.append(f"lost or left: {sorted(expected ^ set(self.system.files))}")
        return "\n".join(problems) or None
