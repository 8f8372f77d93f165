"""A map as one process sees it: mappings, shards, the worker's row; shared by all handles.

Opening goes through the creation lock, so what is found half-made was left by
the dead. There is one attachment a process and map (by nonce), however many
handles.
"""

from __future__ import annotations

import atexit
import os
import re
import secrets
import sys
import time
import weakref
from typing import Any

from . import _shard_cy, creation, geometry, segment
from ._clock_cy import Clock
from ._lock_cy import ShardLock
from ._repair_cy import Repairer
from .errors import (
    ConfigMismatch,
    EntryTooLarge,
    MapCorrupted,
    MapExists,
    MapFull,
    MapNotFound,
    MapUnlinked,
    ShmMapError,
)
from .layout import LAYOUT_VERSION, constants
from .parameters import Parameters
from .sweeper import Sweeper
from .workers import KernelGuard, Worker

K = constants()
ENGINE = "compiled" if _shard_cy.COMPILED else "pure"
_ENGINES = {K["ENGINE_COMPILED"]: "compiled", K["ENGINE_PURE"]: "pure"}
_ENGINE_NUMBER = K["ENGINE_COMPILED"] if ENGINE == "compiled" else K["ENGINE_PURE"]
_CONTROL_GUARD = 0x7FFFF  # the number of the control segment among the pure engine's guards
_attachments: dict[tuple[str, int], Attachment] = {}


def _memory(mapping: segment.Mapping, guard: KernelGuard) -> Any:
    """Give what the engine's `memory()` takes: the buffer, or the pure engine's Memory."""
    if ENGINE == "compiled":
        return mapping.buffer
    from ._words import Memory

    return Memory(mapping.buffer, guard)


def boot_id() -> tuple[int, int]:
    """Identify this boot of the kernel, as two words."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        digits = file.read().strip().replace("-", "")
    return int(digits[:16], 16), int(digits[16:], 16)


class Control:
    """A mapped control segment, its words readable by name."""

    def __init__(self, mapping: segment.Mapping) -> None:
        self.mapping = mapping
        self.words = memoryview(mapping.buffer).cast("B").cast("Q")

    def __getitem__(self, field: str) -> int:
        return self.words[K[f"C_{field}"] >> 3]

    def __setitem__(self, field: str, value: int) -> None:
        self.words[K[f"C_{field}"] >> 3] = value

    def close(self) -> None:
        """Unmap it."""
        self.words.release()
        self.mapping.close()

    def geometry(self) -> geometry.Geometry:
        """Read the current generation's layout."""
        current = f"GEN{self['GEN_CURRENT'] & 1}"
        return geometry.Geometry(
            self[f"{current}_SHARDS"], self[f"{current}_SLOTS"], self[f"{current}_SLOT_SIZE"],
            self[f"{current}_BUCKETS"], self["ON_FULL"] & 1,
        )

    def workers_live(self, name: str) -> bool:
        """Tell whether any worker of this map lives."""
        try:
            worker = Worker(name, segment.liveness_name(name, self["NONCE"]), self.words, self["ROWS"])
        except OSError:
            return False
        try:
            return bool(worker.rows_in_use())
        finally:
            os.close(worker.descriptor)


def parts(name: str) -> list[str]:
    """List the objects of the map `name` (of any nonce) but its control segment."""
    pattern = re.compile(rf"(sem\.)?shmmap\.{re.escape(name)}\.[0-9a-f]{{16}}\..+")
    return [entry for entry in os.listdir(segment.SHM_DIRECTORY) if pattern.fullmatch(entry)]


def remove_objects(name: str) -> None:
    """Remove every object of a map, its control segment last. The creation lock is held."""
    for entry in parts(name):
        if entry.startswith("sem."):
            segment.unlink_semaphore("/" + entry[4:])
        else:
            segment.unlink("/" + entry)
    segment.unlink(segment.control_name(name))


def open_control(name: str, mode: int | None, owner_uid: int | None) -> Control | None:
    """Open and verify the control segment of a live map; None: there is none, or only what a
    dead creator, an earlier boot or an unlink left. The creation lock is held."""
    label = segment.control_name(name)
    try:
        descriptor = segment.open_checked(label, mode, owner_uid)
    except MapNotFound:
        return None
    try:
        size = os.fstat(descriptor).st_size
        if size < K["C_BYTES_TOTAL"]:
            if size == 0:
                return None
            raise MapCorrupted(f"{label} has {size} bytes, too few for a map: {_REMOVE.format(name)}")
        control = Control(segment.Mapping(descriptor, size))
    finally:
        os.close(descriptor)
    try:
        live = _verify(control, name, label)
    except BaseException:
        control.close()
        raise
    if not live:
        control.close()
        return None
    return control


_REMOVE = "if nothing uses it, remove it with: python -m shmmap unlink {}"


def _verify(control: Control, name: str, label: str) -> bool:
    """Tell whether a control segment is a live map's; raise if it is nothing to touch."""
    magic = control["MAGIC"]
    if magic == 0 and control["NONCE"] == 0:
        return False  # its maker died before naming any part
    if magic != K["CONTROL_MAGIC"]:
        if magic.to_bytes(8, "big") == K["CONTROL_MAGIC"].to_bytes(8, "little"):
            raise ConfigMismatch(f"{label} was made on a machine of the other byte order")
        raise MapCorrupted(f"{label} is not a map (no magic number): {_REMOVE.format(name)}")
    if control["LAYOUT"] != LAYOUT_VERSION:
        raise ConfigMismatch(
            f"{label} has layout {control['LAYOUT']}, this version of shmmap reads "
            f"{LAYOUT_VERSION}: use one version in all processes, or unlink the map"
        )
    if (control["BOOT_HIGH"], control["BOOT_LOW"]) != boot_id():
        return False
    if control["STATE"] != K["STATE_READY"]:
        return False
    shape = control.geometry()
    if (
        control["BYTES"] != control.mapping.size
        or control["ROWS"] != geometry.WORKER_ROWS
        or control.mapping.size != geometry.control_bytes()
        or control["GEN_CURRENT"] > 1
        or not 1 <= shape.shards <= geometry.SHARD_LIMIT
        or shape.shards & (shape.shards - 1)
        or not 2 <= shape.slots <= geometry.SLOT_LIMIT
        or shape.slot_size % 8 or not 32 <= shape.slot_size <= 1 << 20
        or not shape.slots <= shape.buckets * 8 <= shape.slots * 8 + 8
        or shape.areas.end != control[f"GEN{control['GEN_CURRENT']}_BYTES"]
    ):
        raise MapCorrupted(f"{label} contradicts itself (sizes): {_REMOVE.format(name)}")
    if control["ENGINE"] != _ENGINE_NUMBER:
        theirs = _ENGINES.get(control["ENGINE"], "unknown")
        raise ConfigMismatch(
            f"map {name!r} was made by the {theirs} engine, this process runs the {ENGINE} one; "
            "the two cannot share a live map. Install shmmap the same way in every environment "
            "that uses it (python -m shmmap doctor says how), or unlink the map"
        )
    return not (control["EPHEMERAL"] and not control.workers_live(name))


def create_objects(name: str, wanted: Parameters) -> Control:
    """Make a map's objects, control segment first, READY last. The creation lock is held."""
    shape = wanted.plan()
    mode = 0o600 if wanted.mode is None else wanted.mode
    segment.check_room(f"map {name!r}", shape.total_bytes)
    remove_objects(name)
    size = geometry.control_bytes()
    control = Control(segment.create(segment.control_name(name), size, size, mode))
    try:
        nonce = secrets.randbits(64) or 1
        high, low = boot_id()
        for field, value in (
            ("NONCE", nonce), ("LAYOUT", LAYOUT_VERSION), ("ENGINE", _ENGINE_NUMBER),
            ("BOOT_HIGH", high), ("BOOT_LOW", low), ("BYTES", size),
            ("ROWS", geometry.WORKER_ROWS), ("HASH_SEED", secrets.randbits(64)),
            ("GEN0_SHARDS", shape.shards), ("GEN0_SLOTS", shape.slots),
            ("GEN0_SLOT_SIZE", shape.slot_size), ("GEN0_BUCKETS", shape.buckets),
            ("GEN0_BYTES", shape.areas.end),
        ):
            control[field] = value
        wanted.store(control.words)
        control["MAGIC"] = K["CONTROL_MAGIC"]
        segment.create(segment.liveness_name(name, nonce), 8, 8, mode).close()
        for number in range(shape.shards):
            _create_shard(segment.shard_name(name, nonce, 0, number), shape, nonce, number, mode)
        control["STATE"] = K["STATE_READY"]
        return control
    except BaseException:
        control.close()
        remove_objects(name)
        raise


def _create_shard(label: str, shape: geometry.Geometry, nonce: int, number: int, mode: int) -> None:
    mapping = segment.create(label, shape.areas.end, shape.areas.deadlines, mode)
    words = memoryview(mapping.buffer).cast("B").cast("Q")
    for field, value in (
        ("MAGIC", K["SHARD_MAGIC"]), ("NONCE", nonce), ("NUMBER", number),
        ("SLOTS", shape.slots), ("SLOT_SIZE", shape.slot_size), ("BUCKETS", shape.buckets),
        ("EVICTS", shape.evicts), ("FRESH", 1), ("FREE_SLOTS", shape.slots),
        ("RING_TARGET", max(1, shape.slots // 10)),
    ):
        words[K[f"S_{field}"] >> 3] = value
    words.release()
    mapping.close()
    segment.create_semaphore(label, mode)


class Attachment:
    """See the module. `handles` counts; the last one to go takes the attachment along."""

    def __init__(self, name: str, control: Control, owner_uid: int | None) -> None:
        self.name = name
        self.control = control
        self.nonce = control["NONCE"]
        self.parameters = Parameters.load(control.words)
        self.geometry = control.geometry()
        self.seed = control["HASH_SEED"]
        self.safe = self.parameters.codec == "safe"
        self.evicts = self.geometry.evicts
        self.ttl_ns = self.parameters.ttl_ns
        self.clock = Clock()
        self.handles: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self.inside: list[set[int]] = [set() for _ in range(self.geometry.shards)]
        self.mappings: list[segment.Mapping] = []
        self.memories: list[Any] = []
        self.worker = Worker(
            f"map {name!r}", segment.liveness_name(name, self.nonce), control.words, control["ROWS"]
        )
        self.guards = [KernelGuard(self.worker.descriptor, _CONTROL_GUARD)]
        self.control_memory = _memory(control.mapping, self.guards[0])
        self.fork_memory = self.worker.fork_page.buffer
        self.shards: list[Any] = []
        try:
            for number in range(self.geometry.shards):
                self.shards.append(self._attach_shard(number, owner_uid))
            self.repairers = [Repairer(shard) for shard in self.shards]
            self.worker.join(self.clock.now_ns())
        except BaseException:
            self._unmap()
            raise
        self.sweeper = Sweeper(self)

    def _attach_shard(self, number: int, owner_uid: int | None) -> Any:
        """Map one shard's segment, verify its header, open its semaphore."""
        shape = self.geometry
        generation = self.control[f"GEN{self.control['GEN_CURRENT']}_NUMBER"]
        label = segment.shard_name(self.name, self.nonce, generation, number)
        mapping = segment.attach(label, shape.areas.end, self.parameters.mode, owner_uid)
        self.mappings.append(mapping)
        words = memoryview(mapping.buffer).cast("B").cast("Q")
        for field, value in (
            ("MAGIC", K["SHARD_MAGIC"]), ("NONCE", self.nonce), ("NUMBER", number),
            ("SLOTS", shape.slots), ("SLOT_SIZE", shape.slot_size), ("BUCKETS", shape.buckets),
            ("EVICTS", shape.evicts),
        ):
            if words[K[f"S_{field}"] >> 3] != value:
                raise MapCorrupted(
                    f"segment {label} is not shard {number} of map {self.name!r} ({field}): "
                    + _REMOVE.format(self.name)
                )
        words.release()
        path = segment.SHM_DIRECTORY + segment.semaphore_file(label)
        if os.path.exists(path):
            segment.verify_owner(os.stat(path), path, self.parameters.mode, owner_uid)
        guard = KernelGuard(self.worker.descriptor, number)
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
        """Go on in a forked child with a row of its own; refuse a map that was unlinked."""
        if self.control["STATE"] != K["STATE_READY"]:
            raise MapUnlinked(
                f"map {self.name!r} was unlinked; open it again by name to get its successor"
            )
        with creation.process_state().mutex:
            if self.worker.fork_page.word == 0:
                for guard in self.guards:
                    guard.after_fork()
                self.inside = [set() for _ in range(self.geometry.shards)]
                self.worker.join(self.clock.now_ns())
                self.sweeper = Sweeper(self)
                for handle in list(self.handles.values()):
                    handle.after_fork()
                leave_at_exit()

    def start_sweeper(self) -> None:
        """Start this process's sweeper thread, unless the map is swept by hand."""
        self.sweeper.start()

    def reserve_deadlines(self, number: int) -> None:
        """Reserve the pages of a shard's deadlines, then say so in its header."""
        areas = self.geometry.areas
        generation = self.control[f"GEN{self.control['GEN_CURRENT']}_NUMBER"]
        label = segment.shard_name(self.name, self.nonce, generation, number)
        try:
            segment.reserve(label, areas.deadlines, areas.end)
        except FileNotFoundError:
            raise MapUnlinked(f"map {self.name!r} was unlinked") from None
        words = memoryview(self.mappings[number].buffer).cast("B").cast("Q")
        words[K["S_HAS_DEADLINES"] >> 3] = 1
        words.release()

    def _unmap(self) -> None:
        self.worker.leave()
        for shard in self.shards:
            shard.lock.close()
        for memory in self.memories:
            if hasattr(memory, "release"):
                memory.release()
        if hasattr(self.control_memory, "release"):
            self.control_memory.release()
        for mapping in self.mappings:
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

    # -- errors that need to know the map --------------------------------------------

    def describe_wait(self, shard: Any, waited_ns: int) -> str:
        """Say who holds a shard's lock, for how long at least, and what to do."""
        owner = shard.lock.owner()
        pid = self.worker.pid_of(owner) if owner else 0
        where = f"map {self.name!r}, shard {shard.number}: not free within {waited_ns / 1e9:g} s"
        if not pid:
            return f"{where}; it was just released, or goes round among many writers: try again, " \
                   "raise lock_timeout=, or use more shards="
        import psutil

        try:
            process = psutil.Process(pid)
            state = f"{process.name()}, {process.status()}"
        except psutil.Error:
            state = "of another pid namespace, or ending"
        advice = (
            f"it is stopped: kill -CONT {pid} lets it finish, kill -KILL {pid} lets the next "
            "writer take over" if "stopped" in state else
            "if it makes no progress, end it: the next writer takes over. If it is only slow, raise "
            "lock_timeout= or use more shards="
        )
        return f"{where}; held by process {pid} ({state}) for at least that long; {advice}"

    def error_for(self, status: int, shard: Any, data_bytes: int) -> Exception:
        """Give the exception for a status of the shard."""
        where = f"map {self.name!r}, shard {shard.number}"
        if status == _shard_cy.FULL:
            return MapFull(
                f"{where} has no room for {data_bytes:,} bytes; nothing was changed. Make the map "
                'larger (size=, capacity=), give entries a ttl, or open it with on_full="evict"'
            )
        if status == _shard_cy.TOO_LARGE:
            return EntryTooLarge(
                f"{where} holds entries of at most {self.geometry.max_entry_bytes:,} bytes (key and "
                f"value), this one has {data_bytes:,}; "
                + geometry.advice_for(data_bytes, self.geometry)
            )
        return MapCorrupted(
            f"{where}: its memory holds what no operation leaves. m.check() lists what; if it "
            "stays, dump what you can read, unlink the map and make it again"
        )


def get_attachment(
    name: str, wanted: Parameters, may_create: bool, may_attach: bool, nonce: int | None,
    owner_uid: int | None,
) -> Attachment:
    """Give this process's attachment to a map, creating the map if need be and allowed."""
    with creation.creation_lock(name):
        control = open_control(name, wanted.mode, owner_uid)
        if control is None:
            if nonce is not None or not may_create:
                raise MapNotFound(
                    f"no map {name!r}"
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
            return found
        fresh = Attachment(name, control, owner_uid)
        _attachments[(name, fresh.nonce)] = fresh
        leave_at_exit()
        return fresh


def retire(attachment: Attachment) -> None:
    """Mark a map as unlinked and remove its objects."""
    with creation.creation_lock(attachment.name):
        if attachment.control["STATE"] == K["STATE_READY"]:
            attachment.control["STATE"] = K["STATE_RETIRED"]
            remove_objects(attachment.name)


def release(attachment: Attachment) -> None:
    """Take the attachment down once no handle is left."""
    with creation.creation_lock(attachment.name):
        if not attachment.handles:
            attachment.leave()


def leave_all() -> None:
    """Close every handle of this process, at its exit."""
    for attachment in list(_attachments.values()):
        if attachment.worker.fork_page.word:  # a child that never used it has nothing to give back
            for handle in list(attachment.handles.values()):
                try:
                    handle.close()
                except (ShmMapError, OSError):
                    pass


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
    while handle.seal():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0005)
    return True
