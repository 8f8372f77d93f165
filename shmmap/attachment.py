"""A map as one process sees it: mappings, shards, the worker's row; shared by all handles.

Opening goes through the creation lock, so what is found half-made was left by
the dead. There is one attachment a process and map (by nonce), however many
handles.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
import weakref
from typing import Any

from . import _shard_cy, creation, explain, geometry, segment
from ._clock_cy import Clock
from ._lock_cy import ShardLock
from ._repair_cy import Repairer
from .control import ENGINE, REMOVE, Control, create_objects, open_control, remove_objects
from .errors import ConfigMismatch, MapCorrupted, MapExists, MapNotFound, MapUnlinked, ShmMapError
from .layout import constants
from .locktable import LockShard
from .parameters import Parameters
from .sweeper import Sweeper
from .workers import KernelGuard, Worker

K = constants()
# the numbers of these segments among the pure engine's guards
_CONTROL_GUARD, _LOCKS_GUARD = 0x7FFFF, 0x7FFFE
_attachments: dict[tuple[str, int], Attachment] = {}


def _memory(mapping: segment.Mapping, guard: KernelGuard) -> Any:
    """Give what the engine's `memory()` takes: the buffer, or the pure engine's Memory."""
    if ENGINE == "compiled":
        return mapping.buffer
    from ._words import Memory

    return Memory(mapping.buffer, guard)


class Attachment:
    """See the module. `handles` counts; the last one to go takes the attachment along."""

    def __init__(self, name: str, control: Control, owner_uid: int | None) -> None:
        self.name = name
        self.control = control
        self.owner_uid = owner_uid
        self.nonce = control["NONCE"]
        self.parameters = Parameters.load(control.words)
        self.geometry = control.geometry()
        self.generation = control[f"GEN{control['GEN_CURRENT']}_NUMBER"]
        self.seed = control["HASH_SEED"]
        self.safe = self.parameters.codec == "safe"
        self.evicts = self.geometry.evicts
        self.ttl_ns = self.parameters.ttl_ns
        self.clock = Clock()
        self.handles: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        # pure engine: by thread and shard, what it may hold
        self.held: dict[tuple[int, int], Any] = {}
        self.snapshots = threading.RLock()  # held by the thread that takes one
        self.mappings: list[segment.Mapping] = []
        self.lock_mappings: list[segment.Mapping] = []  # one
        self.locks: Any = None
        self.memories: list[Any] = []
        self.worker = Worker(
            f"map {name!r}", segment.liveness_name(name, self.nonce), control.words,
            control["ROWS"], self.parameters.mode, owner_uid,
        )
        self.guards = [KernelGuard(self.worker.descriptor, _CONTROL_GUARD)]
        self.control_memory = _memory(control.mapping, self.guards[0])
        self.fork_memory = self.worker.fork_page.buffer
        self.shards: list[Any] = []
        try:
            for number in range(self.geometry.shards):
                self.shards.append(self._attach_map_shard(number))
            self.locks = self._attach_locks()
            self.repairers = [Repairer(shard) for shard in self.shards]
            self.worker.join(self.clock.now_ns())
            self.worker.publish()
            for _, mapping in self._segments():
                mapping.tell(self.worker.fork_page.flag_address)
            self._refuse_cut()  # before that nobody was told
        except BaseException:
            self._unmap()
            raise
        self.sweeper = Sweeper(self)

    def _attach_map_shard(self, number: int) -> Any:
        """Map one of the shards that hold the map's entries."""
        label = segment.shard_name(self.name, self.nonce, self.generation, number)
        return self._attach_shard(label, self.geometry, number, number, self.mappings)

    def _attach_locks(self) -> LockShard:
        """Map the lock shard; in itself it is number 0 of one."""
        label = segment.locks_name(self.name, self.nonce)
        shape = geometry.lock_geometry()
        shard = self._attach_shard(label, shape, 0, geometry.LOCK_NUMBER, self.lock_mappings)
        return LockShard(self, shard, self.lock_mappings[0])

    def _attach_shard(
        self, label: str, shape: geometry.Geometry, number: int, in_header: int,
        mappings: list[segment.Mapping],
    ) -> Any:
        """Map one shard's segment, verify its header, open its semaphore."""
        try:
            mapping = segment.attach(label, shape.areas.end, self.parameters.mode, self.owner_uid)
        except MapNotFound:
            raise MapCorrupted(
                f"map {self.name!r} has lost its segment {label}: " + REMOVE.format(self.name)
            ) from None
        mappings.append(mapping)
        words = memoryview(mapping.buffer).cast("B").cast("Q")
        for field, value in (
            ("MAGIC", K["SHARD_MAGIC"]), ("NONCE", self.nonce), ("NUMBER", in_header),
            ("SLOTS", shape.slots), ("SLOT_SIZE", shape.slot_size), ("BUCKETS", shape.buckets),
            ("EVICTS", shape.evicts),
        ):
            if words[K[f"S_{field}"] >> 3] != value:
                raise MapCorrupted(
                    f"segment {label} is not that shard of map {self.name!r} ({field}): "
                    + REMOVE.format(self.name)
                )
        words.release()
        path = segment.SHM_DIRECTORY + segment.semaphore_file(label)
        if os.path.exists(path):
            segment.verify_owner(os.stat(path), path, self.parameters.mode, self.owner_uid)
        is_locks = mappings is self.lock_mappings
        guard = KernelGuard(self.worker.descriptor, _LOCKS_GUARD if is_locks else number)
        self.guards.append(guard)
        memory = _memory(mapping, guard)
        self.memories.append(memory)
        lock = ShardLock(memory, label, self.worker)
        return _shard_cy.Shard(
            memory, number, shape.slots, shape.slot_size, shape.buckets, shape.evicts,
            shape.shards.bit_length() - 1, self.seed, lock, self.clock,
        )

    # -- life in this process --------------------------------------------------------

    def reenter(self) -> None:
        """Go on in a forked child with a row of its own; refuse a map that was unlinked or that
        another process has cut off."""
        self._refuse_lost()  # before waiting: who has the mutex may be waiting for this thread
        with self._joining():
            self._refuse_lost()
            if self.worker.fork_page.word == 0:
                for guard in self.guards:
                    guard.after_fork()
                self.held = {}
                self.locks.after_fork()
                self.snapshots = threading.RLock()
                self.worker.join(self.clock.now_ns())
                self.sweeper = Sweeper(self)
                for handle in list(self.handles.values()):
                    handle._after_fork()
                leave_at_exit()
                self.worker.publish()  # last: from here on other threads do not come here
                self._refuse_cut()  # `publish` may have overwritten what a fault had told

    def _refuse_lost(self) -> None:
        """Refuse a map that was unlinked, or cut off."""
        # first: where the control segment itself is cut off, this is what finds it out
        unlinked = self.control["STATE"] != K["STATE_READY"]
        if unlinked and not self.control.mapping.is_cut:
            raise MapUnlinked(
                f"map {self.name!r} was unlinked; open it again by name to get its successor"
            )
        self._refuse_cut()

    def _segments(self) -> list[tuple[str, segment.Mapping]]:
        """List what is mapped, by name."""
        found = [(segment.control_name(self.name), self.control.mapping)]
        for number, mapping in enumerate(self.mappings):
            label = segment.shard_name(self.name, self.nonce, self.generation, number)
            found.append((label, mapping))
        locks = segment.locks_name(self.name, self.nonce)
        return found + [(locks, mapping) for mapping in self.lock_mappings]

    def _refuse_cut(self) -> None:
        """Refuse a map of which a segment was cut off. A fork wipes the flag, not the cut."""
        cut = [label for label, mapping in self._segments() if mapping.is_cut]
        if cut:
            self.worker.fork_page.stop()
            raise MapCorrupted(
                f"map {self.name!r} has lost memory: another process truncated {', '.join(cut)} "
                "while it was in use, and this process reads zeros there. Nothing in the map can "
                "be trusted any more. Find out who cut it (a cleaner of /dev/shm?), unlink the "
                "map (m.unlink(), or python -m shmmap unlink) and create it again"
            )

    def _joining(self) -> Any:
        """Hold what joining needs: where the last to leave unlinks, nobody may leave meanwhile."""
        if self.parameters.ephemeral and self.worker.fork_page.word == 0:
            return creation.creation_lock(self.name)
        return creation.process_state().mutex

    def start_sweeper(self) -> None:
        """Start this process's sweeper thread, unless the map is swept by hand."""
        self.sweeper.start()

    def reserve_deadlines(self, number: int) -> None:
        """Reserve the pages of a shard's deadlines, then say so in its header."""
        areas = self.geometry.areas
        label = segment.shard_name(self.name, self.nonce, self.generation, number)
        try:
            segment.reserve(label, areas.deadlines, areas.end)
        except FileNotFoundError:
            raise MapUnlinked(f"map {self.name!r} was unlinked") from None
        except PermissionError as error:
            raise ConfigMismatch(
                f"map {self.name!r}: {label} may not be opened any more, as its first ttl needs: "
                "this process has changed its user since it opened the map. Write an entry with a "
                "ttl before that, or open the map after it"
            ) from error
        words = memoryview(self.mappings[number].buffer).cast("B").cast("Q")
        words[K["S_HAS_DEADLINES"] >> 3] = 1
        words.release()

    def restore_deadlines(self, number: int) -> None:
        """Where the pages of a shard's deadlines are reserved, have its header say so: else a
        repair would leave old ones there, and entries that no longer expire."""
        label = segment.shard_name(self.name, self.nonce, self.generation, number)
        if segment.allocated_bytes(label) > self.geometry.areas.deadlines:
            self.reserve_deadlines(number)

    def _unmap(self) -> None:
        self.worker.leave()
        for shard in self.shards:
            shard.lock.close()
        if self.locks is not None:
            self.locks.shards[0].lock.close()
        for memory in self.memories:
            if hasattr(memory, "release"):
                memory.release()
        if hasattr(self.control_memory, "release"):
            self.control_memory.release()
        for mapping in (*self.mappings, *self.lock_mappings):
            mapping.close()
        self.control.close()

    def leave(self) -> None:
        """Let go, as the last handle closes. The creation lock is held for an ephemeral map."""
        stopped = self.sweeper.stop()
        _attachments.pop((self.name, self.nonce), None)
        last = (
            bool(self.parameters.ephemeral and self.worker.fork_page.word)
            and self.control["STATE"] == K["STATE_READY"]
            and not [row for row, _ in self.worker.rows_in_use() if row != self.worker.row]
        )
        if last:
            self.control["STATE"] = K["STATE_RETIRED"]
            remove_objects(self.name)
        if stopped:  # else its thread is stuck inside: leave it its memory
            self._unmap()

    def describe_wait(self, shard: Any, waited_ns: int) -> str:
        """Say who holds a shard's lock: see `explain`."""
        return explain.describe_wait(self, shard, waited_ns)

    def error_for(self, status: int, shard: Any, data_bytes: int) -> Exception:
        """Give the exception for a status of a shard: see `explain`."""
        return explain.error_for(self, status, shard, data_bytes)


def join_map(
    handle: Any, lock_timeout_ns: int, name: str, wanted: Parameters, may_create: bool,
    may_attach: bool, nonce: int | None, owner_uid: int | None,
) -> Attachment:
    """Bind a handle to this process's attachment to a map, creating the map if need be and
    allowed. Under the creation lock, so that no thread takes the attachment down meanwhile."""
    with creation.creation_lock(name):
        attached = {nonce for known, nonce in _attachments if known == name}
        control = open_control(name, wanted.mode, owner_uid, attached)
        if control is None:
            if nonce is not None or not may_create or owner_uid not in (None, os.geteuid()):
                raise MapNotFound(
                    f"no map {name!r}"
                    + (f" of uid {owner_uid}" if owner_uid is not None else "")
                    + (" (the one that was pickled is gone)" if nonce is not None else "")
                    + ": create it first, or check the spelling (python -m shmmap ls)"
                )
            control = create_objects(name, wanted)
        elif not may_attach:
            control.close()
            raise MapExists(f"map {name!r} exists: attach to it, or unlink it first")
        try:
            if nonce is not None and control["NONCE"] != nonce:
                raise MapNotFound(f"map {name!r} was unlinked and made anew since it was pickled")
            wanted.compare(name, Parameters.load(control.words))
            found = _attachments.get((name, control["NONCE"]))
        except BaseException:
            control.close()
            raise
        if found is not None:
            control.close()
            found.reenter()
        else:
            try:
                found = Attachment(name, control, owner_uid)
            except BaseException:
                with contextlib.suppress(ValueError):  # it may have been closed on the way
                    control.close()
                raise
            _attachments[(name, found.nonce)] = found
            leave_at_exit()
        handle._bind(found, lock_timeout_ns)
        found.handles[id(handle)] = handle
        return found


def retire(attachment: Attachment) -> None:
    """Mark a map as unlinked and remove its objects."""
    with creation.creation_lock(attachment.name):
        if attachment.control["STATE"] == K["STATE_READY"] or _is_remnant(attachment):
            segment.refuse_to_unlink(attachment.name)
            attachment.control["STATE"] = K["STATE_RETIRED"]
            remove_objects(attachment.name)


def _is_remnant(attachment: Attachment) -> bool:
    """Tell whether a control segment that was cut off is still what its name stands for."""
    if not attachment.control.mapping.is_cut:
        return False
    try:
        found = open_control(
            attachment.name, attachment.parameters.mode, attachment.owner_uid, {attachment.nonce}
        )
    except MapCorrupted:
        return True
    if found is None:
        return True
    same = found["NONCE"] == attachment.nonce
    found.close()
    return same


def release(attachment: Attachment) -> None:
    """Take the attachment down once no handle is left."""
    with creation.creation_lock(attachment.name):
        known = _attachments.get((attachment.name, attachment.nonce))
        if not attachment.handles and known is attachment:  # else another thread took it down
            attachment.leave()


def is_opening() -> bool:
    """Tell whether this thread is inside a creation lock."""
    state = creation.process_state()
    return bool(state.held) and bool(state.mutex._is_owned())  # type: ignore[attr-defined]


def leave_all() -> None:
    """Close every handle of this process, at its exit."""
    for attachment in list(_attachments.values()):
        if attachment.worker.fork_page.word:  # a child that never used it has nothing to give back
            for handle in list(attachment.handles.values()):
                with contextlib.suppress(ShmMapError, OSError):
                    handle.close()
            with contextlib.suppress(ShmMapError, OSError):
                release(attachment)  # if its handles were dropped while a map was being opened


_registered_pid = 0


def leave_at_exit() -> None:
    """Have `leave_all` called at exit; multiprocessing's children run no atexit."""
    global _registered_pid
    if _registered_pid != os.getpid():
        if not _registered_pid:
            atexit.register(leave_all)
        _registered_pid = os.getpid()
        if "multiprocessing.process" in sys.modules:
            import multiprocessing.process
            from multiprocessing import util

            if multiprocessing.process.parent_process() is not None:
                util.Finalize(None, leave_all, exitpriority=1)


def wait_for(handle: Any, patience_s: float) -> bool:
    """Wait until no operation of a sealed handle is in flight."""
    deadline = time.monotonic() + patience_s
    while handle._under_way()[0]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0005)
    return True
