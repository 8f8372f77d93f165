"""A map on the simulated machine: one shard, a handle for each process, a history of calls.

The handles, shard, lock, repair and worker rows are the engine's own; only what lies outside
the process is the machine's: memory, clock, semaphore, kernel locks.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from greenlet import getcurrent

from shmmap.copies import snapshots
from shmmap.errors import MapFull
from shmmap.lifecycle import headers
from shmmap.lifecycle.attachment import Attachment
from shmmap.memory._atomics import Memory
from shmmap.memory._clock_cy import Clock
from shmmap.memory.geometry import SHARD_LIMIT, Geometry
from shmmap.memory.layout import constants
from shmmap.operations import (
    _cut_cy,
    _handle_cy,
    _holding_cy,
    _listing_cy,
    _pop_any_cy,
    _reads_cy,
    _takes_cy,
    reentry,
)
from shmmap.operations._care_cy import TOMBSTONES, rebuild_shard, sweep_part
from shmmap.operations._listing_cy import list_entries
from shmmap.operations.host import NEVER
from shmmap.operations.order import in_order
from shmmap.operations.routing import ShardMoved
from shmmap.shard import _lock_cy
from shmmap.shard._checking_cy import Checker
from shmmap.shard._expiry_cy import word_of_base
from shmmap.shard._lock_cy import ShardLock
from shmmap.shard._repair_cy import equip
from shmmap.shard._shard_cy import Shard
from shmmap.system import liveness, worker_table
from shmmap.system.worker_table import Worker
from shmmap.torture.linearizability import (
    ABSENT,
    GONE,
    UNKNOWN,
    Call,
    find_violation,
    rounded_up,
)

from ..judges.cuts import find_torn
from ..judges.seen import NEAR, Seen
from .handles import SimulatedHandle
from .kernel import FIRST_PID, Kernel
from .machine import CALL, CLOCK, PAUSE, Machine, Semaphore, SharedMemory

K = constants()
SEED = 7
MAKE_COPIES = snapshots._make_copies
LOCK_TIMEOUT_NS = 5_000_000_000
CHECKER = 9  # the process that sets up and looks at the end; never a worker
ROWS = 10


class SimulatedClock(Clock):
    """The machine's clock."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine

    def now(self) -> int:
        return self.machine.clock()

    def now_ns(self) -> int:
        return self.machine.clock()

    def look(self) -> None:
        """As a step, but not one of those between which the judge has the operation decide what
        has expired: a version takes its time from it, nothing else."""
        self.machine.step(CLOCK, "clock")
        self.seen_ns = self.machine.now_ns


class SimulatedWorker(Worker):
    """A worker row and the judge of others, over the simulated kernel."""

    def __init__(self, control: Any, kernel: Kernel) -> None:
        self.label = "simulated map"
        self._control = control
        self._rows = ROWS
        self.file = kernel
        self._inode = 0
        self._claims = {}
        self._holds_file = False
        self._seen_by, self._namespace = 0, kernel.pid_namespace()
        self.fork_page = SimpleNamespace(word=0, is_cut=False)
        self.row = -1
        self.incarnation = 0


class SimulatedAttachment(Attachment):
    """What a handle needs of its process's attachment."""

    geometry: Any = None  # there: a property, of what the control segment says

    def __init__(self, world: World) -> None:
        self.name = "simulated"
        self.geometry = world.shape
        self.seed = SEED
        self.safe = self.coder = False
        self.evicts = bool(world.shape.evicts)
        self.ttl_ns, self.tombstones_ns, self.wall_ns = 0, world.tombstones_ns, 1000
        self.clock = SimulatedClock(world.machine)
        self.held = {}
        self.snapshots = threading.RLock()
        self.worker = SimulatedWorker(world.control_words, world.kernel)
        self.worker.join(0)
        self.worker.publish()
        self.control_memory = Memory(world.control)
        self.fork_memory = Memory(bytearray(
            self.worker.fork_page.word.to_bytes(8, "little") + (1).to_bytes(8, "little")
        ))
        if world.all_memory:
            self.control_memory = SharedMemory(world.machine, world.control, 1 << 20)
            self.fork_memory = SharedMemory(world.machine, self.fork_memory.octets, 1 << 21)
        self.map_shards(world)

    def map_shards(self, world: World) -> None:
        """Have this process's shards over the world's memory."""
        shape = world.shape
        self.shards = []
        for number, segment in enumerate(world.segments):
            memory = SharedMemory(world.machine, segment, number << 16)
            lock = ShardLock(memory, None, self.worker)
            lock.semaphore = world.semaphores[number]
            self.shards.append(equip(Shard(
                memory, number, shape.slots, shape.slot_size, shape.buckets, shape.evicts,
                shape.shards.bit_length() - 1, SEED, lock, self.clock, 0,
            )))

    def restore_deadlines(self, shard: Any) -> None:
        """Do nothing: the pages are always there."""

    def start_sweeper(self) -> bool:
        """Do nothing: scenarios sweep by themselves."""
        return True

    def look_for_files(self, due: int, version: int) -> int:
        """Do nothing: there are none."""
        return NEVER

    def notice_removal(self) -> None:
        """Do nothing: the map is there for good."""

    def reserve_deadlines(self, shard: Any) -> None:
        """Say that the pages are there, in one store."""
        shard.mem.words[K["S_HAS_DEADLINES"] >> 3] = 1


class World:
    """One map, restored before each run to what it was at `save`.

    `all_memory`: also the control segment and each process's own page are accessed in steps.
    `homes`: which process each worker belongs to, where some are threads of one.
    """

    attachment_kind: type[SimulatedAttachment] = SimulatedAttachment

    def __init__(
        self, processes: int, slots: int, slot_size: int, evicts: bool, all_memory: bool = False,
        shards: int = 1, homes: tuple[int, ...] = (), tombstones_ns: int = 0,
    ) -> None:
        self.all_memory, self.tombstones_ns = all_memory, tombstones_ns
        self.homes = homes or tuple(range(processes))
        buckets = 1 if slots <= 7 else slots // 5
        self.shape = Geometry(shards, slots, slot_size, buckets, int(evicts))
        self.machine = Machine()
        self.kernel = Kernel(self.machine)
        self.kernel.homes = homes
        self.semaphores = [Semaphore() for _ in range(shards)]
        self.control = bytearray(K["C_BYTES_TOTAL"] + ROWS * K["R_BYTES_TOTAL"])
        self.control_words = memoryview(self.control).cast("Q")
        self.control_words[K["C_STATE"] >> 3] = K["STATE_READY"]
        self.segments: list[bytearray] = []
        self.make_segments()
        self.words_of = [memoryview(segment).cast("Q") for segment in self.segments]
        self.handles: dict[int, Any] = {}
        with self.installed():
            for number in (*range(processes), CHECKER):
                self.kernel.acting = pid = FIRST_PID + number
                self.kernel.ticks[pid] = 50 + 10 * number
                self.handles[number] = SimulatedHandle()
                self.handles[number]._bind(self.attachment_kind(self), LOCK_TIMEOUT_NS)
        self.kernel.acting = FIRST_PID + CHECKER
        self.keys: list[str] = []
        self.never_full = False
        self.calls: list[tuple[str, Call]] = []
        self.cuts: list[Call] = []  # snapshots; their results are dicts
        self.copied_again = False
        self.seen = Seen()
        self.events = itertools.count()  # when calls start and end
        self.save()

    def make_segments(self) -> None:
        """Make the shards' memory, empty."""
        shape = self.shape
        for _ in range(shape.shards):
            self.segments.append(bytearray(shape.areas.end))
            words = memoryview(self.segments[-1]).cast("Q")
            for field, value in (
                ("FRESH", 1), ("FREE_SLOTS", shape.slots),
                ("RING_TARGET", max(1, shape.slots // 10)), ("SLOTS", shape.slots),
                ("DEADLINE_BASE", word_of_base(0)),
            ):
                words[K[f"S_{field}"] >> 3] = value

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let the engine find the machine's kernel, semaphores and clock."""
        machine = self.machine
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(headers, "CLOCK", Clock(0))
            patch.setattr(liveness, "OWN_NUMBER", self.kernel.OWN_NUMBER)
            for module in (liveness, worker_table):
                for name in ("this_process", "own_pid"):
                    patch.setattr(module, name, getattr(self.kernel, name))
                patch.setattr(module, "start_ticks", self.kernel.start_ticks)
                patch.setattr(module, "pid_namespace", self.kernel.pid_namespace)
            patch.setattr(liveness, "exists", self.kernel.lives)
            patch.setattr(liveness, "has_mapped", lambda pid, inode: True)
            patch.setattr(liveness, "is_past_its_program", lambda pid: False)
            patch.setattr(_handle_cy, "thread_number", lambda: self._number() + 1)
            for module in (_handle_cy, reentry):
                patch.setattr(module, "threading", SimpleNamespace(get_ident=getcurrent))
            patch.setattr(_lock_cy, "sem_wait", machine.wait)
            patch.setattr(_lock_cy, "sem_wake", machine.wake)
            patch.setattr(_lock_cy, "pause", lambda: machine.step(PAUSE, "pause"))
            patch.setattr(_lock_cy, "clock_ns", lambda number: machine.now_ns)
            patch.setattr(_holding_cy, "clock_ns", lambda number: machine.now_ns)
            patch.setattr(_cut_cy, "clock_ns", lambda number: machine.now_ns)
            patch.setattr(snapshots, "monotonic_ns", lambda: machine.now_ns)
            patch.setattr(snapshots, "_make_copies", self._make_copies)
            patch.setattr(snapshots, "sleep", lambda s: machine.sleep(round(s * 1e9)))
            # more turns of these loops would do what the first ones do, and cost schedules
            patch.setattr(_lock_cy, "SPINS", 0)
            patch.setattr(_lock_cy, "QUICK_SPINS", 0)
            for module in (_reads_cy, _takes_cy, _listing_cy):
                patch.setattr(module, "READ_TRIES", 2)
            for module in (_takes_cy, _pop_any_cy):
                patch.setattr(module, "clock_ns", lambda number: machine.now_ns)
            yield

    def _make_copies(self, attached: Any, shards: Any, clock: Any, whole: bool) -> Any:
        """Copy for a snapshot; a second time only where memory was damaged, which it is not."""
        self.copied_again |= whole
        return MAKE_COPIES(attached, shards, clock, whole)

    # -- between runs ---------------------------------------------------------------

    def save(self) -> None:
        """Keep the state that every run starts from."""
        segments = [bytes(segment) for segment in self.segments]
        self._saved = segments, bytes(self.control), dict(self.kernel.locks)
        self._start_ns, self._first_calls = self.machine.now_ns, list(self.calls)
        self._first_seen = self.seen.copy()
        self._events = next(self.events)

    def restore(self) -> None:
        """Go back to it."""
        segments, self.control[:], locks = self._saved
        for segment, saved in zip(self.segments, segments, strict=True):
            segment[:] = saved
        self.cuts, self.copied_again = [], False
        self.kernel.locks = dict(locks)
        self.machine.now_ns, self.calls = self._start_ns, list(self._first_calls)
        self.seen = self._first_seen.copy()
        self.machine.workers = []
        for semaphore in self.semaphores:
            semaphore.tokens = 0
        self.open: dict[int, Call] = {}
        self.events = itertools.count(self._events)
        for handle in self.handles.values():
            handle.attachment.held.clear()
            handle._after_fork()
            handle.near = None

    def memory(self) -> bytes:
        """Return what is in all shards."""
        return b"".join(self.segments)

    def held(self) -> list[int]:
        """List the shards whose lock is held."""
        return [n for n, words in enumerate(self.words_of) if words[K["S_OWNER"] >> 3]]

    # -- calls ------------------------------------------------------------------------

    def call(self, name: str, key: str, *arguments: Any, ttl_ns: int | None = None) -> Any:
        """Make one call as the current worker, and put it into the history."""
        machine = self.machine
        worker = machine.current
        number = self._number()
        machine.step(CALL, name)
        if worker is not None:
            worker.clock = None
        self.open[number] = Call(next(self.events), None, name, (key, *arguments), ttl_ns, number,
                                 (machine.now_ns, machine.now_ns))
        self.seen.times.append((self.open[number].start, machine.now_ns))
        try:
            result = self._perform(self.handles[self._home(number)], name, key, arguments, ttl_ns)
        except MapFull:
            if self.never_full:
                raise
            del self.open[number]
            return None
        self._close(number, result)
        return result[0] if name in NEAR else result

    def _number(self) -> int:
        worker = self.machine.current
        return CHECKER if worker is None else worker.number

    def _home(self, number: int) -> int:
        return CHECKER if number == CHECKER else self.homes[number]

    def _perform(
        self, handle: Any, name: str, key: str, arguments: tuple[Any, ...], ttl_ns: int | None
    ) -> Any:
        if name == "bring":
            if handle.bring(key):
                self.seen.problems.append(f"a copy from before all brought {key!r} back")
            return None
        if name in ("sweep", "unbury", "aged"):
            before_ns = {"sweep": 0, "unbury": TOMBSTONES, "aged": self.machine.now_ns}[name]
            for unit in range(0, SHARD_LIMIT, SHARD_LIMIT // len(handle.shards)):
                following = 1
                while following:
                    following = sweep_part(handle, unit, following, before_ns, 2)
            return None
        if name == "repair":
            return self._repair(handle)
        if name == "list":
            return list(in_order(lambda unit: list_entries(handle, unit, True)))
        if name == "snapshot":
            return dict(snapshots.take(handle, handle.attachment, LOCK_TIMEOUT_NS / 1e9))
        if name == "clear":
            return handle.clear()
        if name == "popitem":
            try:
                return handle.popitem()
            except KeyError:
                return None
        if name in NEAR:
            return handle.read_near(name, key, ABSENT, *arguments)
        if name in ("apply", "edit"):
            return handle.change(name, key, *arguments, None)
        if name in ("get", "pop"):
            return getattr(handle, name)(key, ABSENT)
        if name == "get_and_touch":
            return handle.get_and_touch(key, None if ttl_ns is None else ttl_ns / 1e9, ABSENT)
        if name == "get_versioned":
            return handle.get_versioned(key, ABSENT)
        ttl = {"ttl": None if ttl_ns is None else ttl_ns / 1e9}
        if name in ("delete", "contains"):
            ttl = {}
        return getattr(handle, name)(key, *arguments, **ttl)

    def _repair(self, handle: Any) -> None:
        """Repair all shards, as `checking` does; from the first on where one has moved."""
        while True:
            try:
                for shard in handle._settled():
                    rebuild_shard(handle, shard)
                return
            except ShardMoved:
                continue

    def _close(self, number: int, result: Any) -> None:
        """Put a call into the history of each key that it is about: it returned."""
        call = self.open.pop(number)
        worker = self.machine.current
        now_ns = self.machine.now_ns  # others may have removed what expired until now
        first = worker.clock[0] if worker is not None and worker.clock else call.clock[0]
        call = call._replace(end=next(self.events), clock=(first, now_ns))
        self.seen.times.append((call.end, now_ns))
        late = False
        if call.name in NEAR:
            result, late = result
            self.seen.check(call, self._home(number), result[1])
            if late:
                bound_ns = call.arguments[1] if call.name == "bounded" else None
                call = self.seen.widened(call, self._home(number), bound_ns)
        if not late:
            self.seen.note(call, self._home(number), result)
        self._record(call, result)

    def interrupted(self, number: int, died: bool) -> None:
        """Put a call into the history that did not return: it took effect before it raised, or
        never. One that died may be carried out later, by a repair."""
        call = self.open.pop(number, None)
        clock = self.machine.workers[number].clock
        if call is None:
            return
        if clock is not None or (call.result or 0) <= 0:  # else it had not yet given a deadline
            first = clock[0] if clock is not None else call.clock[0]
            end = None if died else next(self.events)
            self._record(call._replace(end=end, clock=(first, 1 << 62)), UNKNOWN)

    def _record(self, call: Call, result: Any) -> None:
        name, ttl_ns = call.name, call.result
        key, *arguments = call.arguments
        deadline = None
        if ttl_ns is not None:
            at = rounded_up(call.clock[0] + ttl_ns)
            deadline = GONE if ttl_ns <= 0 else (at, at)
        if name == "snapshot":
            if result is not UNKNOWN and self.shape.evicts:  # too many orders: each key alone
                self._record_of_all(call, result.items())
            elif result is not UNKNOWN:
                self.cuts.append(call._replace(arguments=(), result=result))
            return
        if name in ("list", "clear", "popitem"):
            self._record_of_all(call, result)
            return
        if name in ("apply", "edit"):
            if result is None:  # a conflict: nothing was changed
                return
            name, arguments = "incr", [*arguments]
        if name in ("cas", "merge"):
            value, version = arguments
            fields: tuple[Any, ...] = (value, deadline, version)
        elif name in ("set", "add", "replace", "incr"):
            fields = (*arguments, 0, deadline) if name == "incr" else (*arguments, deadline)
        else:
            fields = (deadline,) if name in ("touch", "get_and_touch") else ()
        if name not in ("sweep", "unbury", "aged", "repair", "bring"):
            name = "get_versioned" if name in NEAR else name
            self.calls.append((key, call._replace(name=name, arguments=fields, result=result)))
        if name == "aged" or (
            self.shape.evicts and name in ("set", "add", "incr", "cas", "merge", "replace")
        ):
            gone = call._replace(name="evict", arguments=())
            self.calls += [(other, gone) for other in self.keys]

    def _record_of_all(self, call: Call, result: Any) -> None:
        """Put a call that is about every key into their histories."""
        seen = call._replace(name="get", arguments=())
        if call.name == "clear":
            self.calls += [(key, call._replace(arguments=(), result=result)) for key in self.keys]
        elif result is UNKNOWN:
            if call.name == "popitem":
                gone = call._replace(name="evict", arguments=())
                self.calls += [(key, gone) for key in self.keys]
        elif call.name == "popitem" and result is not None:
            taken = call._replace(name="pop", arguments=(), result=result[1])
            self.calls.append((result[0], taken))
        else:
            pairs = result or []
            absent = set(self.keys) - {key for key, _ in pairs}
            self.calls += [(key, seen._replace(result=value)) for key, value in pairs]
            self.calls += [(key, seen._replace(result=ABSENT)) for key in sorted(absent)]

    # -- at the end of a run -----------------------------------------------------------

    def judge(self) -> str | None:
        """Say what is wrong after a run; None: nothing."""
        for number in list(self.open):
            self.interrupted(number, died=True)
        died = any(worker.dead for worker in self.machine.workers)
        if died:
            self.call("sweep", "")  # takes over what the dead left
        problems: list[str] = [
            problem for shard in self.handles[CHECKER].shards
            for problem in Checker(shard).problems()
        ]
        if self.machine.stalls and not died:
            problems.append("a wakeup was lost: only a timeout let the last sleeper go on")
        problems += [f"the lock of shard {number} is held" for number in self.held()]
        if not died and any(words[K["S_TRACKING"] >> 3] for words in self.words_of):
            problems.append("changes are still marked, for nobody")
        if self.copied_again:
            problems.append("a snapshot took a sound map for a damaged one")
        problems += self.seen.problems
        for key in self.keys:
            value = self.call("get", key)
            for handle in self.handles.values():  # no near cache may know better
                if handle.near is not None and handle.get(key, ABSENT) != value:
                    problems.append(f"a near cache has another value of {key!r} than {value!r}")
        for key in self.keys:
            violation = find_violation(call for about, call in self.calls if about == key)
            if violation:
                problems.append(f"key {key!r}: {violation}")
        torn = find_torn(self.keys, self.calls, self.cuts)
        if torn:
            problems.append(torn)
        return "\n".join(problems) or None
