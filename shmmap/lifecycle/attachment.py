"""A map as one process sees it: mappings, shards, the worker's row; shared by all handles.

There is one attachment a process and map (by nonce), however many handles; see `opening`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import (
    ConfigMismatch,
    LockTimeout,
    MapClosed,
    MapCorrupted,
    MapUnlinked,
    SharedMemoryFull,
    SystemCallError,
)
from ..locks.lock_table import LockShard
from ..memory import geometry
from ..memory._clock_cy import Clock
from ..memory.layout import constants
from ..memory.table import generation_of, generations_of, is_moving
from ..memory.words import ShardWords
from ..operations import messages
from ..operations.routing import distinct
from ..system import _sigbus_cy, creation, removal, reserving, segment
from ..system.blocks import block
from ..system.mutex import Mark, Mutex
from ..system.presences import Presences, alive
from ..system.process import this_process
from ..system.tasks import new_lock
from ..system.unfinished import Steps, is_final
from ..system.worker_table import KernelGuard, Worker
from ..values.codecs import coder_here
from . import ephemeral, event_ring, files, half_replaced, left_behind, routes
from .control import ENGINE, LIVE, Control, geometry_of, is_sound, remove_files, shape_of
from .parameters import Parameters
from .places import Places
from .store import SHARED
from .sweeper import Sweeper

if TYPE_CHECKING:
    from ctypes import Array, c_char

    from ..locks.hosts import MapHandle
    from ..memory._atomics import Memory
    from ..shard._shard_cy import Shard

K = constants()
_CONTROL_GUARD = 0x7FFFF  # its number among the pure engine's guards: see `places`
_JOIN_PATIENCE_S = 60.0


class Attachment:
    """See the module. It maps a map's objects; `reenter` makes the process a worker, and calls
    `on_join` in each that it does.

    `handles` are those of this process; once the last one is gone, `leave` takes it down.
    """

    is_private = False  # no other process can have it, and it has no files
    store = SHARED
    _worker_kind: type[Worker] = Worker

    def __init__(
        self, name: str, control: Control, owner_uid: int | None, on_join: Callable[[], None]
    ) -> None:
        self.name = name
        self.control = control
        # whose it was seen to be: this process may become another user's, and meets new segments
        self.owner_uid = owner_uid = os.geteuid() if owner_uid is None else owner_uid
        self._on_join = on_join
        self.nonce = control.NONCE
        # in this order: a table word never comes back
        self._shaped = control.TABLE, Parameters.load(control), geometry_of(control)
        self._part_files = files.computed(name, self.nonce, generations_of(control))
        self.seed = control.HASH_SEED
        self.safe = self.parameters.codec != "auto"
        self.coder = coder_here(self.parameters.codec)
        self.ttl_ns, self.wall_ns = control.TTL_NS, control.WALL_NS
        self.tombstones_ns = control.TOMBSTONES_NS
        self.clock = Clock()
        self.is_down = self._is_left = self.is_apart = False  # apart: see `open_apart`
        self._process = this_process()  # the one that is a worker by this
        self.mutex = Mutex()  # of the tasks of this process, around its row and the others'
        self.handles: weakref.WeakValueDictionary[int, MapHandle] = weakref.WeakValueDictionary()
        self.presences = Presences()  # of the same
        self.held: dict[tuple[int, int], Shard] = {}  # pure engine: by thread and shard
        self.snapshots: Any = new_lock(threading.RLock)  # held by the thread that takes one
        self.lock_mappings: list[segment.Mapping] = []  # one
        self.locks: Any = None
        self.sweeper: Any = None
        self.mover: Any = None  # see `moving.watch`
        self.movers: list[Any] = []  # the handles of those who move
        self.is_tuned = False  # its number of shards, when this process last looked
        self._down: Steps | None = None
        self._is_last, self.events_told = False, -1  # the last one logged: see `event_ring`
        self.worker = self._worker_kind(
            f"map {name!r}", segment.liveness_name(name, self.nonce), control.words,
            control.ROWS, self.parameters.mode, owner_uid, control.identity[1],
            holds_file=bool(self.parameters.ephemeral),
        )
        self.guards: list[KernelGuard] = []  # pure engine
        self.control_memory = self.memory_of(control.mapping, _CONTROL_GUARD)
        self.fork_memory = self.worker.fork_page.buffer
        self.shards: list[Shard] = []  # the routes: see `routes`
        self.places = Places(self)

    def map_parts(self) -> None:
        """Map the shards. Where that fails the caller has it all unmapped."""
        routes.find_all(self)
        self.locks = LockShard(self, *self.places.attach_locks())
        self.lock_mappings.append(self.locks.mapping)
        for mapping in (self.control.mapping, *self.mappings, *self.lock_mappings):
            mapping.tell(self.worker.fork_page.flag_address)
        self._refuse_cut()  # before that nobody was told

    # -- the shape, which may change: see `moving` -----------------------------------

    def _shape(self) -> tuple[int, Parameters, geometry.Geometry]:
        """Return the table word, and what was asked for and laid out then, as far as this process
        knows; of a map that moves, of where it moves to. What never changes is as it was when the
        map was opened, whatever has become of that memory."""
        known = self._shaped
        with contextlib.suppress(ValueError):  # the control segment is unmapped
            word = self.control.TABLE
            if word != known[0] and is_sound(self.control):
                row = generation_of(self.control)
                seen = word, known[1].reshaped(row), shape_of(row)
                if self.control.TABLE == word:
                    self._shaped = known = seen
        return known

    @property
    def parameters(self) -> Parameters:
        """What the map was asked to be; of the shape, the last that was asked for."""
        return self._shape()[1]

    @property
    def geometry(self) -> geometry.Geometry:
        """How the newest generation is laid out."""
        return self._shape()[2]

    @property
    def part_files(self) -> list[str]:
        """The files of the map's parts, of all but its control segment: see `files`."""
        with contextlib.suppress(ValueError):  # unmapped: those that it had when last asked
            self._part_files = files.computed(self.name, self.nonce, generations_of(self.control))
        return files.with_listed(self.name, self.nonce, self._part_files)

    def distinct(self) -> list[Shard]:
        """Return the shards that this process goes by, each once, in the order of the hash."""
        return distinct(self.shards)

    @property
    def mappings(self) -> list[segment.Mapping]:
        """The mappings of these."""
        return [self.places.mapping_of(shard) for shard in self.distinct()]

    def renew(self, handle: MapHandle, shard: Shard, unit: int) -> None:
        """Have this process go by what has the entries of a shard that has moved: of a unit of the
        hash, or of ALL_UNITS."""
        routes.renew(self, handle, shard, unit)

    def memory_of(self, mapping: segment.Mapping, number: int) -> Array[c_char] | Memory:
        """Return what the engine's `memory()` takes: the buffer, or the pure engine's Memory, with
        the guard of that number."""
        if ENGINE == "compiled":
            return mapping.buffer
        from ..memory._atomics import Memory
        self.guards.append(KernelGuard(self.worker, number))
        return Memory(mapping.buffer, self.guards[-1])

    # -- life in this process --------------------------------------------------------

    @block
    def alone(self, timeout_s: float | None) -> Iterator[bool]:
        """Keep the other tasks of this process out; return whether that could be had in time."""
        mark = Mark()
        try:
            yield self.mutex.acquire(mark, timeout_s)
        finally:
            mark.clear()

    def reenter(self) -> None:
        """Become a worker, unless this process is one; refuse a map that was unlinked or that
        another process has cut off. A task may come here in the middle of its own coming here."""
        while True:
            self.refuse_lost()  # before waiting: who has the mutex may be waiting for this thread
            if self.worker.fork_page.word:
                return
            with self._joining():
                self.refuse_lost()
                if self.worker.fork_page.word == 0:
                    self._begin_in_this_process()

    def _begin_in_this_process(self) -> None:
        """Claim a row, and leave behind what threads of a parent held."""
        forked = self._process != this_process()
        if forked and self.is_apart:  # what it has still to copy may be written anew by then
            raise creation.Forked(
                f"map {self.name!r}: a signal handler or a finalizer has forked this process while "
                "it was replacing the map. The parent goes on with that; open the map again here"
            )
        if forked:
            for guard in self.guards:
                guard.after_fork()
            left_behind.renew(self)
            self.held = {}
            self.locks.after_fork()
            self.snapshots = new_lock(threading.RLock)
            self.sweeper = self.mover = None
            self.movers = []
        self._process = this_process()
        self._on_join()
        self.worker.join(self.clock.now_ns())
        event_ring.told_so_far(self)
        if self.parameters.ephemeral:  # held now: from here on nobody takes himself for the last
            self.refuse_lost()
        for handle in alive(self.handles):
            if forked and not handle.closed:
                handle._after_fork()
        if self.sweeper is None:
            self.sweeper = Sweeper(self)
        if forked and self.places.moved_places():
            self.look_after()  # the parent's thread for it is not here
        self.worker.publish()  # last: from here on other threads do not come here
        self._refuse_cut()  # `publish` may have overwritten what a fault had told

    def refuse_lost(self) -> None:
        """Refuse a map that was unlinked, or cut off, or that this process has left."""
        if self.is_down:
            raise MapClosed(f"map {self.name!r}: this process has left it; open it again")
        # first: where the control segment itself is cut off, this is what finds it out
        unlinked = not half_replaced.is_ready(self)
        if unlinked and not self.control.mapping.is_cut:
            raise MapUnlinked(
                f"map {self.name!r} was unlinked; open it again by name, or make it anew"
            )
        self._refuse_cut()

    def notice_removal(self) -> None:
        """Find out that the map's files were removed by somebody else, tell all who have it open,
        and refuse it: whoever opens the name would get another map, and neither would know. Refuse
        one that was unlinked, or replaced, too.

        That its name is not there, or leads elsewhere, is not enough: this process may see another
        /dev/shm than the one that it opened the map in (chroot, a mount namespace), or have made it
        to replace another one, whose name it does not have so far.
        """
        try:
            if self.has_its_name():
                self.is_apart = False
                return
            file = self.worker.file
            label = segment.liveness_name(self.name, self.nonce)
            is_removed = not self.is_apart and file is not None and (
                segment.identity_at(label) == file.identity or not file.links()
            )
        except SystemCallError:  # it cannot be looked at now
            is_removed = False
        self.refuse_lost()  # first: what was unlinked, or replaced, was not by somebody else
        if not is_removed:
            return
        self.control.STATE = K["STATE_RETIRED"]
        raise MapUnlinked(
            f"map {self.name!r}: its files were removed from {segment.SHM_DIRECTORY}, not by "
            "shmmap. A cleaner, or systemd's RemoveIPC=yes at the end of its user's last session? "
            "Open it again by name: others may have a new one already"
        )

    def notice_move(self) -> None:
        """Look after a map that is on its way to another shape, and may have lost its mover."""
        if is_moving(self.control):
            self.look_after()

    def look_after(self) -> None:
        """See `moving.watch.look_after`, which is on a floor above."""
        for handle in alive(self.handles):
            handle._look_after(self)

    def cut_off(self) -> list[str]:
        """Name the segments that were found cut off. Of a shard that has moved it does not count:
        its pages were given back, and a late reader finds none where /dev/shm is full."""
        whole = [(segment.control_name(self.name), self.control.mapping),
                 *[(segment.locks_name(self.name, self.nonce), one) for one in self.lock_mappings]]
        return [label for label, mapping in whole if mapping.is_cut] + [
            place.label for shard in (self.distinct() if _sigbus_cy.was_any_cut() else ())
            if (place := self.places.find(shard)) is not None and place.mapping.is_cut
            and not shard.moved_to()]

    def _refuse_cut(self) -> None:
        """Refuse a map of which a segment was cut off. A fork wipes the flag, not the cut."""
        cut = self.cut_off()
        if not cut and self.worker.fork_page.is_cut:
            self.worker.fork_page.go_on()  # what has moved set it
            cut = self.cut_off()  # again: the next may have come between
        if cut:
            self.worker.fork_page.stop()
            raise MapCorrupted(
                f"map {self.name!r} has lost memory: another process truncated {', '.join(cut)} "
                "while it was in use, and this process reads zeros there. Nothing in the map can "
                "be trusted any more. Find out who cut it (a cleaner of /dev/shm?), unlink the "
                "map (m.unlink(), or python -m shmmap unlink) and create it again"
            )

    @block
    def _joining(self) -> Iterator[None]:
        """Hold what joining needs: where the last to leave unlinks, nobody may leave meanwhile."""
        if (
            self.parameters.ephemeral and self.worker.fork_page.word == 0
            and not self.worker.is_holding  # else nobody takes himself for the last
        ):
            with creation.creation_lock(self.name):
                yield
            return
        with self.alone(_JOIN_PATIENCE_S) as had:
            if not had:
                raise LockTimeout(
                    f"map {self.name!r}: another thread of this process has been joining it for "
                    f"{_JOIN_PATIENCE_S:.0f} s. Try again"
                )
            yield

    # -- what the engine asks for -------------------------------------------------------

    def start_sweeper(self) -> bool:
        """See Sweeper.start."""
        return bool(self.sweeper.start())

    def look_for_files(self, due: int, version: int) -> int:
        """See Sweeper.look_for_files."""
        return int(self.sweeper.look_for_files(due, version))

    def reserve_deadlines(self, shard: Shard) -> None:
        """Reserve the pages of a shard's deadlines, then say so in its header; do nothing where it
        has moved."""
        areas, mapping = self.places.shape_of(shard).areas, self.places.mapping_of(shard)
        try:
            if not shard.moved_to():
                reserving.reserve(self.places.label_of(shard), mapping, areas.deadlines, areas.end)
        except SystemCallError:
            if shard.moved_to():
                return
            self.refuse_lost()  # a kernel that needs the name for it
            raise
        with ShardWords(mapping.buffer) as header:
            header.HAS_DEADLINES = 1

    def restore_deadlines(self, shard: Shard) -> None:
        """Where the pages of a shard's deadlines are reserved, have its header say so: else a
        repair would leave old ones there, and entries that no longer expire."""
        # 0: its name is not seen here, as after chroot. What is reserved needs no more room
        taken = segment.allocated_bytes(self.places.label_of(shard))
        if not 0 < taken <= self.places.shape_of(shard).areas.deadlines:
            with contextlib.suppress(SharedMemoryFull):
                self.reserve_deadlines(shard)

    # -- the end ------------------------------------------------------------------------

    def is_used(self) -> bool:
        """Tell whether there is a handle, be it garbage whose finalizers may still use it."""
        return bool(self.handles) or self.presences.any()

    def end_use(self, number: int) -> None:
        """Note that a handle has come to its end. Idempotent."""
        self.handles.pop(number, None)
        self.presences.end(number)

    def unmap(self) -> None:
        """Give everything back to the system that this process has of the map: see `Steps`.
        Nothing may touch the map any more."""
        self.is_down = True
        if self._down is None:
            self._down = Steps([
                self.worker.leave, *self.places.steps_of_closing(),
                *([self.control_memory.release] if hasattr(self.control_memory, "release") else ()),
                self.control.close,
            ])
        self._down.run()
        self.sweeper = self.mover = None  # ways back here, which would keep all of it
        if self.locks is not None:
            self.locks.detach()

    def leave(self, may_remove: bool, is_open_again: Callable[[], bool]) -> None:
        """Let go, as the last handle closes. The creation lock is held for an ephemeral map, which
        the last process to leave removes, unless a handler of this very task has opened it."""
        stopped = [one.stop() for one in (self.sweeper, self.mover) if one is not None]
        is_stopped, is_over = False not in stopped, True
        try:
            left_ns = self.clock.now_ns()  # before the look: whoever joins after it joins later
            if not self.parameters.ephemeral:
                self.note_leaving()
            if may_remove and not self.is_down and self.parameters.ephemeral and (
                self._is_last or half_replaced.is_ready(self)
            ):
                if ephemeral.is_last(self):
                    self._is_last = True
                    self._is_last = ephemeral.leave_last(self, left_ns, is_open_again)
                elif os.geteuid() == 0:
                    ephemeral.hand_over(self)
        except (SystemCallError, ConfigMismatch, LockTimeout):
            pass  # nobody can tell who is the last: it stays, and `ls` tells of it
        except BaseException as error:
            is_over = is_final(error)  # else it is called again
            raise
        finally:
            if is_over:
                self._is_left = not is_stopped
                if is_stopped:  # else its thread is inside, or is this one: it unmaps as it ends
                    self.unmap()

    def note_leaving(self) -> None:
        """Store in a map that is not ephemeral when it was last left, for `shmmap prune`."""
        if not self.is_down and self.control.STATE in LIVE:
            self.control.LEFT_NS = self.clock.now_ns()

    def sweeping_ended(self) -> None:
        """Do what `leave` had to leave to the sweeper's thread, or the mover's, which ends."""
        if self._is_left and not self.is_down and not [
            one for one in (self.sweeper, self.mover) if one is not None and one.busy
        ]:
            self.unmap()

    def has_its_name(self) -> bool:
        """Tell whether the map's name leads to it, and not to a successor."""
        return segment.identity_at(segment.control_name(self.name)) == self.control.identity

    def remove_files(self) -> None:
        """Remove this map's files, never a successor's, the one that leads to the others last. The
        creation lock is held.

        Raises:
            SystemCallError: one of them is still there; what leads to it is, too.
        """
        found = self._part_files
        try:  # noqa: SIM105  # `suppress` takes memory
            found = self.part_files
        except MemoryError:  # those that it had when last asked
            pass
        remove_files(found)
        removal.unlink_if(segment.control_name(self.name), self.control.identity)

    describe_wait, error_for = messages.describe_wait, messages.error_for  # as methods
