"""Making a map: everything under names that nobody knows, then the control segment gets its own.

 1  a control segment `shmmap.NAME.v8c.new`, under an flock that lasts as long as its maker does;
    its words: NONCE and geometry, which say how the parts are called, then MAGIC
 2  the parts, under names with the nonce
 3  READY; rename the control segment to `shmmap.NAME.v8c`, unless something has that name: the
    publication

**Crash**: before 3 a dead maker leaves a control segment that nobody locks, which says what else it
left; the next maker of that name removes it all. After 3 the map is whole.
**Re-entry**: a signal handler or finalizer of the maker's own task may make the very same map
between any two steps. It finds `new` locked, takes another name, and is done first; 3 fails then,
what was made is removed, and its own map is taken. The child of a fork in here begins again.
**Names**: `v8c` says layout 8, compiled: see `flavours`.
**Locks**: the creation lock of the name, one for all its flavours; also where two hold it after all
(somebody removed the creators' file), no maker removes what another one makes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from ..errors import ConfigMismatch, MapUnlinked, SharedMemoryFull, ShmMapError
from ..memory import geometry
from ..memory.layout import LAYOUT_VERSION, constants
from ..memory.table import row_of
from ..memory.words import ControlWords, ShardWords
from ..system import descriptors, removal, segment
from ..system.creation import Turn, creation_lock
from ..system.process import boot_id, this_process
from ..system.unfinished import Undo
from .control import ENGINE_NUMBER, Control, Remains, checksum, map_control, remove_files
from .headers import draft_header
from .parameters import Parameters
from .reaping import reap

K = constants()
_TRIES = 8  # of nonces whose names are taken
_TEMPORARIES = ("", "1", "2", "3")


def random_word() -> int:
    """Draw 64 bits that nobody can guess."""
    return int.from_bytes(os.urandom(8), "little")


def make_map(
    name: str, wanted: Parameters, turn: Turn, remains: Remains | None
) -> Control | None:
    """Make a map; None: another one has the name meanwhile, or had one of ours: begin again. The
    creation lock is held, and no live map had the name; `remains`: what had it.

    Raises:
        SharedMemoryFull, SystemCallError: nothing is left behind.
        ConfigMismatch: another user takes our names as we make them.
    """
    shape = wanted.plan()
    if remains is not None:
        remains.remove()
    remove_all_dead(name)
    try:
        segment.check_room(f"map {name!r}", shape.total_bytes)
    except SharedMemoryFull:
        if not reap(name):
            raise
        segment.check_room(f"map {name!r}", shape.total_bytes)
    for _ in range(_TRIES):
        attempt = _Attempt(name)
        undo = Undo(attempt.remove, lambda: creation_lock(name, 0))
        try:
            control = _try_to_make(name, wanted, shape, turn, attempt)
        except FileExistsError:  # of a nonce that was read off the first name, or a child's
            undo.settle()
            continue
        except BaseException as error:  # a handler may have raised as it was published
            undo.settle()
            if isinstance(error, OSError) and not isinstance(error, ShmMapError):
                raise segment.refused(f"making map {name!r}", error) from error
            raise
        if control is None:
            undo.settle()
            return None
        control.undo = undo
        return control
    raise ConfigMismatch(
        f"map {name!r}: names of its parts exist, though they are random: another user of this "
        "machine watches /dev/shm and takes our names. Find them (ls -l /dev/shm), then try again"
    )


class Successor:
    """A map that is made under a name of its own, to take the place of another one. Until `close`,
    nobody takes it for a dead maker's."""

    control: Control

    def __init__(self, name: str) -> None:
        self.name = name
        self._attempt = _Attempt(name)
        self._undo = Undo(self._attempt.remove, lambda: creation_lock(name, 0))
        self._descriptor = -1

    def make(self, wanted: Parameters, turn: Turn) -> None:
        """Make it. The creation lock is held.

        Raises:
            SharedMemoryFull, SystemCallError, ConfigMismatch: see `make_map`.
        """
        name, shape = self.name, wanted.plan()
        remove_all_dead(name)
        segment.check_room(f"map {name!r} beside the one that it is to replace", shape.total_bytes)
        self._descriptor = _temporary(name, turn, self._attempt)
        self._attempt.identity = descriptors.identity_of(self._descriptor)
        self.control = _fill(name, wanted, shape, self._attempt.label, self._descriptor,
                             self._attempt.made, turn)

    def take_over(self, former: Control, turn: Turn) -> None:
        """Take the name of a map whose shards are held, and retire that; the publication. The
        creation lock is held.

        **Crash**: before the exchange whoever opens the name, or finds the shards held by the
        dead, makes the former map READY again; after it, RETIRED. **Re-entry**: what a handler
        raises, or does in a child that it forks, changes nothing of what came of the exchange.
        """
        turn.check()
        self.control.FEATURES = former.FEATURES
        try:
            former.STATE = K["STATE_REPLACING"]
            if not segment.exchange(self._attempt.label, segment.control_name(self.name)):
                raise MapUnlinked(f"map {self.name!r} was unlinked while it was being replaced")
        finally:
            if turn.is_ours():  # root may have unlinked it meanwhile: see `creation`
                found = segment.identity_at(segment.control_name(self.name))
                former.STATE = K["STATE_READY" if found == former.identity else "STATE_RETIRED"]
                if found == self._attempt.identity:
                    self._undo.drop()

    def remove_former(self, former: Control) -> None:
        """Remove the files of the map whose name was taken; what stays is a dead maker's."""
        remove_files(former.object_files(self.name))
        removal.unlink_if(self._attempt.label, former.identity)

    def close(self) -> None:
        """End the making: what has taken no name is removed. Idempotent."""
        if self._undo.is_noted():
            self._undo.settle()
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            if this_process() == self._attempt.process:
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # its mapping would keep the lock
            descriptors.close_own(descriptor, self._attempt.process, self._attempt.identity)


class _Attempt:
    """What one attempt at making a map has made: all that has to be removed if it fails."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process = this_process()
        self.label = ""  # of its control segment, until that is published
        self.identity: descriptors.Identity | None = None
        self.made: list[str] = []  # its parts, each noted before it is made

    def remove(self) -> bool:
        """Remove it all, what leads to the rest last; not in a child: there it is the parent's.
        False: the kernel refused; it is tried again later.

        Nobody has the map: it was not published, or marked as unlinked before anybody could come.
        """
        if this_process() != self.process:
            return True
        is_done = True
        try:  # what the making failed of says more than what comes now
            remove_files(self.made[::-1])
            if self.identity is not None:
                removal.unlink_if(segment.control_name(self.name), self.identity)
        except OSError:
            is_done = False
        try:
            if self.identity is not None:  # where it was published this name leads to nothing
                removal.unlink_if(self.label, self.identity)
            elif self.label and segment.identity_at(self.label) is not None:
                is_done = _remove_dead(self.name, self.label) and is_done
        except OSError:
            is_done = False
        return is_done


def _try_to_make(
    name: str, wanted: Parameters, shape: geometry.Geometry, turn: Turn, attempt: _Attempt
) -> Control | None:
    """Make a map and publish it; None: something has its name."""
    descriptor = _temporary(name, turn, attempt)
    control = None
    try:
        attempt.identity = descriptors.identity_of(descriptor)
        control = _fill(name, wanted, shape, attempt.label, descriptor, attempt.made, turn)
        turn.check()
        if segment.publish(attempt.label, segment.control_name(name)):
            try:  # its mappings would keep it locked, in children too
                if turn.is_ours():
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
            except MemoryError:  # so it is: the map is there all the same
                pass
            except OSError:
                pass
            return control
        control.close()
        return None
    except BaseException:
        if control is not None:
            if turn.is_ours():
                control.retire()
            control.close()
        raise
    finally:
        descriptors.close_own(descriptor, turn.process, attempt.identity)


def _temporary(name: str, turn: Turn, attempt: _Attempt) -> int:
    """Make an empty control segment under a name of its own, `attempt.label`, and return its
    descriptor, by which it is locked."""
    for which in (*_TEMPORARIES, f"{random_word():016x}"):
        label = segment.temporary_name(name, which)
        turn.check()
        attempt.label = label
        try:
            descriptor = segment.make(label, 0o600)
        except FileExistsError:
            if not _remove_dead(name, label):
                continue  # its maker lives, or it is a stranger's
            try:
                descriptor = segment.make(label, 0o600)
            except FileExistsError:
                continue
        # one that makes this map before the next line takes it for a dead one's, and removes it
        is_locked = False
        try:
            identity = descriptors.identity_of(descriptor)
            if _lock(descriptor) and segment.identity_at(label) == identity:
                is_locked = True
                return descriptor
        finally:
            if not is_locked:
                os.close(descriptor)
    attempt.label = ""
    raise ConfigMismatch(f"map {name!r}: {label} exists, though its name is random")


def remove_all_dead(name: str) -> None:
    """Remove what dead makers of that name left, and dead replacers. The creation lock is held."""
    for which in _TEMPORARIES:
        label = segment.temporary_name(name, which)
        with contextlib.suppress(OSError):  # it is there for the next maker
            if segment.identity_at(label) is not None:
                _remove_dead(name, label)


def _lock(descriptor: int) -> bool:
    """Lock a control segment that is being made, for as long as a descriptor of it is open."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _remove_dead(name: str, label: str) -> bool:
    """Remove what a dead maker left under a name of its own; tell whether that is free now."""
    opener = this_process()
    try:
        descriptor, status = segment.open_checked(label, 0o666, None)
    except ShmMapError:
        return False
    identity = status.st_dev, status.st_ino
    try:
        if not _lock(descriptor):
            return False
        size = geometry.control_bytes()
        if os.fstat(descriptor).st_size == size:  # looked at once it is locked
            left = map_control(descriptor, size, identity)
            try:
                if left.NONCE:
                    remove_files(left.object_files(name))
            finally:
                left.close()
        return removal.unlink_if(label, identity)
    except OSError:
        return False
    finally:
        descriptors.close_own(descriptor, opener, identity)


def _fill(
    name: str, wanted: Parameters, shape: geometry.Geometry, label: str, descriptor: int,
    made: list[str], turn: Turn,
) -> Control:
    """Make the control segment and all parts; note each in `made` before it is made."""
    size = geometry.control_bytes()
    mode = 0o600 if wanted.mode is None else wanted.mode
    segment.fill(descriptor, label, size, size, mode)
    identity = descriptors.identity_of(descriptor)
    control = map_control(descriptor, size, identity)
    try:
        nonce = random_word() or 1
        _copy(control.words, control_words(wanted, shape, nonce).words, turn)
        # else reserved with the first deadline; a tombstone has one
        leases = bool(wanted.ttl_ns or wanted.tombstones_ns)
        parts = [(segment.shard_name(name, nonce, 0, n), n, shape, leases)
                 for n in range(shape.shards)]
        parts.append((segment.locks_name(name, nonce), geometry.LOCK_NUMBER,
                      geometry.lock_geometry(), True))
        turn.check()
        made.append(segment.liveness_name(name, nonce))
        segment.create(made[-1], 8, 8, mode).close()
        for part, number, its_shape, reserves in parts:
            turn.check()
            _make_shard(part, its_shape, nonce, number, mode, reserves, made, turn)
        turn.check()
        control.STATE = K["STATE_READY"]
        return control
    except BaseException:
        control.close()
        raise


def _copy(words: memoryview, draft: memoryview, turn: Turn) -> None:
    """Fill a segment from its start, in one step: the rest of several, a child that was forked in
    the middle of them would take after its parent has published the map."""
    where = slice(0, len(draft))
    turn.check()
    words[where] = draft


def control_words(wanted: Parameters, shape: geometry.Geometry, nonce: int) -> ControlWords:
    """Return what a map's control segment says of it, in private memory; it is not READY."""
    draft = ControlWords(bytearray(K["C_BYTES_TOTAL"]))
    wanted.store_shape(row_of(draft, 0), shape, 0)
    draft.NONCE = nonce
    draft.LAYOUT, draft.ENGINE = LAYOUT_VERSION, ENGINE_NUMBER
    draft.BOOT_HIGH, draft.BOOT_LOW = boot_id()
    draft.BYTES, draft.ROWS = geometry.control_bytes(), geometry.WORKER_ROWS
    draft.HASH_SEED = random_word() if wanted.hash_seed is None else wanted.hash_seed
    draft.MAGIC = K["CONTROL_MAGIC"]
    wanted.store(draft)
    draft.CHECK = checksum(draft.words)
    return draft


def _make_shard(
    label: str, shape: geometry.Geometry, nonce: int, number: int, mode: int, leases: bool,
    made: list[str], turn: Turn,
) -> None:
    """Make one shard's segment and semaphore; `leases`: reserve the pages of its deadlines."""
    draft = draft_header(shape, nonce, number)
    draft.HAS_DEADLINES = int(leases)
    reserved = shape.areas.end if leases else shape.areas.deadlines
    made.append(label)
    mapping = segment.create(label, shape.areas.end, reserved, mode)
    try:
        with ShardWords(mapping.buffer) as header:
            _copy(header.words, draft.words, turn)
    finally:
        mapping.close()
    made.append(segment.semaphore_file(label))
    segment.create_semaphore(label, mode)
