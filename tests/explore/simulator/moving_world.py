"""A map whose shards move while simulated processes use it.

What runs is the engine's own: the table, the groups, the segments and their names, the steps of a
move, what dead movers left, the routes of each process. What stands in: /dev/shm (`moving_files`)
and the creation lock. Movers have no lease, so that several can be at it at once; each goes on
until nothing is left to move, and then unmaps what it can.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from shmmap.lifecycle import places, routes, store
from shmmap.lifecycle.control import shape_of
from shmmap.lifecycle.headers import draft_header
from shmmap.lifecycle.parameters import Parameters
from shmmap.memory.geometry import Geometry, buckets_for
from shmmap.memory.layout import constants
from shmmap.memory.table import Table, generation_of, read_table, row_of
from shmmap.memory.words import ControlWords, Words
from shmmap.moving import changing, cleaning, group
from shmmap.operations import _moves_cy
from shmmap.operations._takes_cy import Takes
from shmmap.shard import _lock_cy
from shmmap.shard._checking_cy import Checker
from shmmap.shard._expiry_cy import word_of_base
from shmmap.shard._repair_cy import equip
from shmmap.system import reserving, segment
from shmmap.torture.linearizability import Call

from ..judges.counts import find_twice, find_wrong_count
from .machine import CALL, LIVENESS, SharedMemory, View
from .moving_files import Files, MappedMemory, Mapping, Segment
from .world import CHECKER, LOCK_TIMEOUT_NS, SimulatedAttachment, World

K = constants()
NONCE = 5
PAUSE_NS = 500_000
CONTROL_BASE = 1 << 20
TABLE = range(K["C_TABLE"] >> 3, K["C_MOVER"] >> 3)  # words of the control segment
Shape = tuple[int, int, int]  # shards, slots, bytes a slot


class TableView(View):
    """The control segment: only what is said of generations is accessed in steps."""

    __slots__ = ()

    def __getitem__(self, at: Any) -> Any:
        return super().__getitem__(at) if self._is_table(at) else self.items[at]

    def __setitem__(self, at: Any, value: Any) -> None:
        if self._is_table(at):
            super().__setitem__(at, value)
        else:
            self.items[at] = value

    def _is_table(self, at: Any) -> bool:
        return not isinstance(at, int) or at >> self.shift in TABLE


class TableMemory(SharedMemory):
    """The control segment, likewise."""

    __slots__ = ()
    view_kind = TableView


class MovingAttachment(SimulatedAttachment):
    """What moves need of a process's attachment."""

    parameters: Any = None
    sweeper: Any = None  # in the background nobody sweeps

    def map_shards(self, world: MovingWorld) -> None:  # type: ignore[override]
        self.world = world
        self.nonce, self.owner_uid, self.locks = NONCE, None, None
        self.parameters = world.parameters
        self.control_memory = TableMemory(world.machine, world.control, CONTROL_BASE)
        self.control: Any = ControlWords.__new__(ControlWords)
        self.control.first, self.control.words = 0, self.control_memory.words
        self.handles: Any = weakref.WeakValueDictionary()
        self.movers = []
        self.find_shards()

    def find_shards(self) -> None:
        """Open the map, as a process that has nothing of it yet."""
        self.places = places.Places(self)
        routes.find_all(self)

    def memory_of(self, mapping: Any, number: int) -> Any:
        """Return a segment's memory as this process has it mapped."""
        return MappedMemory(self.world.machine, mapping.buffer, mapping.buffer.base)

    def refuse_lost(self) -> None:
        """Do nothing: the map is there for good."""

    def look_after(self) -> None:
        """Do nothing: who moves it is in the scenario."""

    def has_its_name(self) -> bool:
        """The map is there for good."""
        return True

    def save(self) -> tuple[Any, ...]:
        """Keep what is mapped, and where it is looked."""
        mapped = self.places.all()
        semaphores = [place.shard.lock.semaphore for place in mapped]
        return (list(self.shards), mapped, semaphores, dict(self.places._closing),
                dict(self.places.known))

    def restore(self, saved: tuple[Any, ...]) -> None:
        """Go back to it."""
        shards, mapped, semaphores, closing, known = saved
        self.shards = list(shards)
        self.movers = []
        self.places = places.Places(self)
        self.places._by_id = {id(place.shard): place for place in mapped}
        self.places._closing, self.places.known = dict(closing), dict(known)
        for place, semaphore in zip(mapped, semaphores, strict=True):
            place.memory.revive()
            place.shard.lock.semaphore = semaphore
            if place.shard.repairer is None:
                equip(place.shard)


class MovingWorld(World):
    """See the module. `shapes`: those that `resize` and `begin` have by number."""

    attachment_kind = MovingAttachment

    def __init__(self, shapes: tuple[Shape, ...], *arguments: Any) -> None:
        self.shapes = shapes
        super().__init__(*arguments)

    def make_segments(self) -> None:
        """Make the first generation, as who creates a map does."""
        self.files = Files(self.machine)
        self.lists: list[tuple[Call, list[str]]] = []
        self.counts: list[Call] = []
        self.creator = 0  # the process that has the creation lock
        shape = self.shape
        self.parameters = Parameters.read({
            "size": 1 << 20, "on_full": "evict" if shape.evicts else "raise", "mode": 0o600})
        control = ControlWords(self.control)
        self.parameters.store_shape(row_of(control, 0), shape, 0)
        control.TABLE = Table().word()
        for number in range(shape.shards):
            label = segment.shard_name("simulated", NONCE, 0, number)
            made = self.files.create(label, shape.areas.end, 0, 0).buffer
            draft = draft_header(shape, NONCE, number)
            draft.DEADLINE_BASE = word_of_base(0)
            memoryview(made).cast("Q")[: len(draft.words)] = draft.words
            self.files.create_semaphore(label, 0)
            self.segments.append(made)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let the engine find the machine's files too."""
        machine, files = self.machine, self.files
        original = Words.__init__

        def over(record: Any, buffer: Any, first: int = 0) -> None:
            if not isinstance(buffer, (View, Segment)):
                original(record, buffer, first)
                return
            record.first, record.words = first, buffer
            if isinstance(buffer, Segment):
                record.words = View(machine, memoryview(buffer).cast("Q"), buffer.base)

        def sleep(seconds: float) -> None:
            machine.sleep(round(seconds * 1e9))

        with super().installed(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(Words, "__init__", over)
            for name in (
                "create", "attach", "unlink", "create_semaphore", "identity_at", "status_at"
            ):
                patch.setattr(segment, name, getattr(files, name))
            patch.setattr(segment, "Mapping", Mapping)
            for module in (places, store):
                patch.setattr(module, "os", files)
            patch.setattr(_lock_cy, "sem_open", files.open_semaphore)
            patch.setattr(_lock_cy, "sem_close", lambda semaphore: None)
            patch.setattr(_moves_cy, "clock_ns", lambda number: machine.now_ns)
            patch.setattr(reserving, "reserve", lambda *_: machine.step(LIVENESS, "reserve"))
            patch.setattr(group, "this_process", self.kernel.this_process)
            patch.setattr(group, "monotonic", lambda: machine.now_ns / 1e9)
            patch.setattr(group, "monotonic_ns", lambda: machine.now_ns)
            patch.setattr(group, "sleep", sleep)
            patch.setattr(routes, "sleep", sleep)
            patch.setattr(changing, "refuse_others", lambda attachment: None)
            patch.setattr(store, "creation_lock", self.creation_lock)
            yield

    @contextmanager
    def creation_lock(self, name: str) -> Iterator[Any]:
        """Be the only one that writes rows of the table; a death frees it."""
        me = self.kernel.getpid()
        self.machine.step(LIVENESS, "creation")
        while self.creator and self.kernel.lives(self.creator):
            self.machine.sleep(PAUSE_NS)
        self.creator = me
        try:
            yield SimpleNamespace(check=lambda: None)
        finally:
            self.creator = 0

    # -- between runs ---------------------------------------------------------------

    def save(self) -> None:
        """Keep the state that every run starts from."""
        super().save()
        self._saved_files = self.files.save()
        self._saved_parts = {n: handle.attachment.save() for n, handle in self.handles.items()}
        for handle in self.handles.values():
            handle.attachment.handles[0] = handle

    def restore(self) -> None:
        """Go back to it."""
        super().restore()
        self.files.restore(self._saved_files)
        group._attempts = itertools.count(1)  # tokens are in names
        self.lists, self.counts, self.creator = [], [], 0
        for number, handle in self.handles.items():
            handle.attachment.restore(self._saved_parts[number])
            handle._route(handle.attachment.shards)

    def memory(self) -> bytes:
        """Return all that others can see."""
        names = ",".join([*self.files.segments, *sorted(self.files.semaphore_files)])
        return b"".join([*self.files.segments.values(), self.control, names.encode()])

    # -- calls ------------------------------------------------------------------------

    def call(self, name: str, key: Any, *arguments: Any, ttl_ns: int | None = None) -> Any:
        """Make one call: of a map, or one that moves it."""
        work = getattr(self, "do_" + name, None)
        if work is None:
            return super().call(name, key, *arguments, ttl_ns=ttl_ns)
        self.machine.step(CALL, name)
        return work(self.handles[self._home(self._number())], *([key] if key != "" else []))

    def do_open(self, handle: Any) -> None:
        """Open the map, as a process that has just begun."""
        handle.attachment.find_shards()
        handle._route(handle.attachment.shards)
        handle.near = None

    def do_begin(self, handle: Any, number: int) -> None:
        """Have the map move to a shape from here on."""
        shards, slots, slot_size = self.shapes[number]
        buckets = 1 if slots <= 7 else buckets_for(slots)
        shape = Geometry(shards, slots, slot_size, buckets, int(self.shape.evicts))
        with self.mover(handle) as (mover, groups):
            changing.begin(mover, handle.attachment, groups, self.parameters, shape, 0)

    def do_cancel(self, handle: Any) -> None:
        """Have it go back to the shape that it had."""
        with self.mover(handle) as (mover, groups):
            changing.take_back(mover, handle.attachment, groups)
        self.do_move(handle)

    def do_resize(self, handle: Any, number: int) -> None:
        """Move it to a shape."""
        self.do_begin(handle, number)
        self.do_move(handle)

    @contextmanager
    def mover(self, handle: Any) -> Iterator[tuple[Any, Any]]:
        """Have a handle of a mover's own, and what moves groups by it."""
        attachment = handle.attachment
        mover: Any = Takes()
        mover._bind(attachment, LOCK_TIMEOUT_NS)
        attachment.movers.append(mover)
        try:
            yield mover, group.GroupMover(mover, attachment, lambda entries: None)
        finally:
            mover._seal()
            if mover in attachment.movers:
                attachment.movers.remove(mover)

    def do_move_one(self, handle: Any) -> None:
        """Move one group."""
        with self.mover(handle) as (_, groups):
            groups.move_next(read_table(handle.attachment.control))

    def do_move(self, handle: Any) -> None:
        """Move what is left to move; see `moving.mover`."""
        attachment = handle.attachment
        number, start = self._number(), next(self.events)
        if self.shape.evicts:  # what finds no room is dropped, at any time from here on
            gone = Call(start, None, "evict", (), None, number, (self.machine.now_ns, 1 << 62))
            self.calls += [(key, gone) for key in self.keys]
        with self.mover(handle) as (mover, groups):
            cleaning.clean(attachment, groups.segments)
            while (table := read_table(attachment.control)).is_moving:
                try:
                    if not groups.move_next(table):
                        self.machine.sleep(PAUSE_NS)
                except group.NoRoom:
                    if self.never_full:
                        raise
                    changing.take_back(mover, attachment, groups)
            cleaning.clean(attachment, groups.segments)
            mover._settled()
        self.do_let_go(handle)

    def do_let_go(self, handle: Any) -> None:
        """Unmap what has moved, if nobody in this process can be using it."""
        routes.let_go(handle.attachment)

    def do_len(self, handle: Any) -> None:
        """Count the entries."""
        start, now_ns = next(self.events), self.machine.now_ns
        counted = len(handle)
        self.counts.append(Call(start, next(self.events), "len", (), counted, self._number(),
                                (now_ns, self.machine.now_ns)))

    def _record_of_all(self, call: Call, result: Any) -> None:
        super()._record_of_all(call, result)
        if call.name == "list" and isinstance(result, list):
            self.lists.append((call, [key for key, _ in result]))

    # -- at the end of a run -----------------------------------------------------------

    def judge(self) -> str | None:
        """Say what is wrong after a run: also for a process that opens the map then, and for each
        that has slept through what it did not look at."""
        problems: list[str] = []
        try:
            self._settle(problems)
            found = super().judge()
            problems += [found] if found else []
        except Exception as error:
            problems.append(f"afterwards: {type(error).__name__}: {error}")
        for counted in self.counts:
            problems += find_wrong_count(self.keys, self.calls, counted)
        for call, keys in self.lists:
            problems += find_twice(keys, self.calls, call)
        return "\n".join(problems) or None

    def _settle(self, problems: list[str]) -> None:
        for number in list(self.open):
            self.interrupted(number, died=True)
        workers = self.machine.workers
        died = any(worker.dead for worker in workers)
        handle = self.handles[CHECKER]
        control = ControlWords(self.control)
        if read_table(control).is_moving and not died:
            problems.append("it moves, and nobody moves it")
        self.do_open(handle)
        self.call("sweep", "")
        self.do_move(handle)
        row = generation_of(control)
        labels = [segment.shard_name("simulated", NONCE, row.NUMBER, number)
                  for number in range(row.SHARDS)]
        files = [*self.files.segments, *self.files.semaphore_files]
        right = {*labels, *map(segment.semaphore_file, labels)}
        if set(files) != right:
            problems.append(f"there are {sorted(files)}, and not {sorted(right)}")
        self.words_of = [memoryview(self.files.segments[label]).cast("Q") for label in labels]
        if {shape_of(row).evicts} != {int(self.shape.evicts)}:
            problems.append("the map has another policy")
        problems += [p for shard in handle._settled() for p in Checker(shard).problems()]
        for key in self.keys:
            found = handle.get_versioned(key)
            for number, other in self.handles.items():
                is_dead = number != CHECKER and any(
                    w.dead for w in workers if self._home(w.number) == number)
                if not is_dead and other.get_versioned(key) != found:
                    problems.append(f"process {number} finds another value of {key!r}")
        promised, self.never_full = self.never_full, False  # to the programs, not to these
        for key in self.keys:  # whoever writes gives a version that is new
            for name, *arguments in (("get_versioned",), ("set", 7), ("get_versioned",),
                                     ("delete",), ("get",)):
                self.call(name, key, *arguments)
        self.never_full = promised
