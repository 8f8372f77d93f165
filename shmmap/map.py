"""ShmMap: how a map is made, opened, inspected and closed. Its operations on keys are inherited."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import subclasses
from .checks import Key, Value
from .copies import dumps, merging, snapshots
from .copies.dumps import DumpReport
from .copies.merging import MergeReport
from .copies.snapshots import Snapshot
from .errors import MapClosed, MapCorrupted, MapUnlinked, ShmMapError
from .in_asyncio import InAsyncio
from .lifecycle import checking, last_words, opening
from .lifecycle import stats as statistics
from .lifecycle.closing import Closing
from .lifecycle.control import ENGINE
from .lifecycle.parameters import UNSAID, MapOptions, Parameters, check_handle, check_name
from .lifecycle.stats import Stats
from .lifecycle.sweeper import SweepReport
from .locks import single_flight
from .locks.deferred_release import see_to_it
from .locks.lock_table import LockTable
from .locks.lockable import Lockable
from .memory.layout import constants
from .operations._near_cy import read_consistency, read_size
from .operations._takes_cy import COMPILED, Takes
from .operations._writes_cy import DEFAULT
from .operations.views import MapListings
from .system.presences import alive
from .system.tasks import new_lock

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .lifecycle.attachment import Attachment
    from .lifecycle.parameters import Options

K = constants()
_numbers = itertools.count(1)  # of handles: an id is given again, though vars() of one is kept
LOCK_TIMEOUT_S = 5.0


class ShmMap(Takes, MapListings, Lockable, InAsyncio, MutableMapping[Key, Value]):
    """A dict that every process on the machine shares: open it by name, use it as a dict.

    The first to open a name creates the map; all others attach to it. Parameters that are
    not given take the map's values (when attaching) or the defaults (when creating); one that
    is given must agree with the map that exists.

    Args:
        name: 1 to 100 of A-Z a-z 0-9 _ -; the same name is the same map.
        size: bytes of all shared memory, as int or "64MB" (10**6), "64MiB" (2**20).
            Default "64MB".
        capacity: instead of size: hold so many entries of value_size, with a failure chance of
            1e-6 or less.
        shards: power of two; default 64, fewer for small maps, more from 1 GB on.
        value_size: bytes that a typical value has; slots are made to fit it (default 100).
        key_size: bytes that a typical key has (default 16).
        ttl: seconds until an entry expires, unless its write says otherwise; None: never.
        on_full: "raise" MapFull (default), or "evict" the entries least worth keeping.
        codec: "auto" (default) pickles what is not stored natively; "safe" refuses pickles.
        ephemeral: True: the last live process to close the map unlinks it.
        max_idle: seconds after which a sweep removes entries that were not written; None: never.
        sweep_interval: seconds between sweeps (30); None: only by m.sweep().
        mode: permission bits of every object (0o600); group and others: read and write, or none.
        lock_timeout: seconds to wait for a shard's lock (5.0); this handle's only.
        owner_uid: attach only to a map of this user (default: my own).
        near: how many entries this handle keeps decoded in this process (0: none). A read that
            finds one there costs one look at its version in shared memory, and gives the same
            object to every reader: do not change it.
        near_copy: True: lists, dicts and all else that can be changed is decoded anew each time.
        consistency: of this handle's reads, and of one call: `get(k, consistency=...)`.
            "linearizable" (default): what the map has now. "session": the same, but where a
            stopped writer is in the way, what this handle has read, never older than anything it
            has seen or written. "bounded": what was true within the last max_staleness seconds;
            own writes are always seen.
        max_staleness: seconds; with "bounded", and only there.

    Raises:
        ConfigMismatch: the map that exists has other parameters, another engine or another owner.
        MapCorrupted: what has the name is not a whole map.
        SharedMemoryFull: /dev/shm has no room for it.
        WorkersFull: too many processes use it.
        LockTimeout: another process is making or unlinking it, and does not end.
        ValueError: an argument is out of range; of a wrong type: TypeError.

    Threads may share a handle; forked children go on with it; a pickled handle attaches again
    where it is unpickled.

    >>> with ShmMap("doctest", size="1MB", ephemeral=True) as m:
    ...     m["answer"] = 42
    ...     m["answer"], m.incr("answer"), len(m)
    (42, 43, 1)
    """

    __hash__ = None  # type: ignore[assignment]
    _handle_number = 0  # of one that was never opened
    _table: LockTable | None = None

    if TYPE_CHECKING:  # what the annotations of compiled classes cannot say
        name: str

        def ttl(self, key: Key) -> float | None: ...
        def get_versioned(self, key: Key, default: Value = None) -> tuple[Value, int]: ...
        def get_many(self, keys: Iterable[Key]) -> dict[Key, Value]: ...

    def __init__(
        self,
        name: str,
        size: int | str | None = None,
        *,
        capacity: int | None = None,
        shards: int | None = None,
        ttl: float | None = UNSAID,
        on_full: str | None = None,
        value_size: int | None = None,
        key_size: int | None = None,
        codec: str | None = None,
        ephemeral: bool | None = None,
        max_idle: float | None = UNSAID,
        sweep_interval: float | None = UNSAID,
        mode: int | None = None,
        lock_timeout: float = LOCK_TIMEOUT_S,
        owner_uid: int | None = None,
        near: int = 0,
        near_copy: bool = False,
        consistency: str = "linearizable",
        max_staleness: float | None = None,
        _may: tuple[bool, bool] = (True, True),
        _nonce: int | None = None, _seed: int | None = None,
    ) -> None:
        name = check_name(name)
        lock_timeout, owner_uid = check_handle(lock_timeout, owner_uid)
        near, near_copy = read_size(near, near_copy)
        read_consistency(consistency, max_staleness, -1, near)  # to refuse what is wrong
        wanted = Parameters.read(
            {
                "size": size, "capacity": capacity, "shards": shards, "ttl": ttl,
                "on_full": on_full, "value_size": value_size, "key_size": key_size,
                "codec": codec, "ephemeral": ephemeral, "max_idle": max_idle,
                "sweep_interval": sweep_interval, "mode": mode, "hash_seed": _seed,
            }
        )
        self._lock_timeout = float(lock_timeout)
        self._owner_uid = owner_uid
        self._reading = (near, near_copy, consistency, max_staleness)
        self._handle_number = self._handle_number or next(_numbers)
        opening.join_map(
            self, int(lock_timeout * 1e9), name, wanted, *_may, _nonce, owner_uid
        )

    @classmethod
    def create(
        cls, name: str, size: int | str | None = None, **parameters: Unpack[MapOptions]
    ) -> ShmMap:
        """Create a map; raises MapExists if there is one. Arguments as for the class."""
        return cls(name, size, _may=(True, False), **parameters)

    @classmethod
    def attach(cls, name: str, **parameters: Unpack[MapOptions]) -> ShmMap:
        """Attach to a map; raises MapNotFound if there is none. Arguments as for the class."""
        return cls(name, _may=(False, True), **parameters)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the name and the creation, never a successor's; entries stay where they are. A
        subclass comes back as itself, without a call of its `__init__`, with its attributes."""
        said = (self.name, self._live.nonce, self._lock_timeout, self._owner_uid, self._reading)
        kind = () if type(self) is ShmMap else (type(self),)
        state = subclasses.without_private(self, self.__getstate__())
        return (_reattach, said + kind, state) if state else (_reattach, said + kind)

    def __getstate__(self) -> Value:
        return subclasses.state_of(self)

    def __setstate__(self, state: Value) -> None:
        subclasses.set_state(self, state)

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        subclasses.check_names(cls, ShmMap)

    if not COMPILED:
        __setattr__ = subclasses.set_attribute

    def _bind(self, attachment: Any, lock_timeout_ns: int) -> None:
        """Begin to use a map: what takes memory first, then what has others take it for open."""
        near, near_copy, consistency, max_staleness = self._reading
        bound = read_consistency(consistency, max_staleness, -1, near)
        words = last_words.keep(attachment, self._handle_number)
        super()._bind(attachment, lock_timeout_ns)  # type: ignore[no-untyped-call]
        try:
            self._use_near(near, near_copy, bound)
            self._last_words = words
        except BaseException:
            last_words.forget(self._handle_number)
            self._seal()
            raise

    @property
    def _live(self) -> Attachment:
        """The attachment of an open handle."""
        if self.closed:
            raise MapClosed(f"map {self.name!r}: this handle is closed; open the map again")
        return self.attachment  # type: ignore[no-any-return]

    @contextmanager
    def _inside(self) -> Iterator[Attachment]:
        """Return the attachment, and have `close` wait until it is no longer used."""
        mark = new_lock(threading.Lock)
        mark.acquire()
        try:
            self._begin(mark)
            if self.attachment.locks.is_owing:
                see_to_it(self.attachment)
            yield self.attachment
        finally:
            mark.release()  # a call into C, before which no signal handler comes
            self._end(mark)

    # -- workers among themselves -------------------------------------------------------

    def get_or_set(
        self, key: Key, factory: Callable[[], Value], ttl: float | None = DEFAULT, *,
        stale: float = 0, timeout: float | None = None,
    ) -> Value:
        """Return the value of `key`; if there is none, `factory()`, stored for all: of all workers
        of the machine that miss it at once, one computes it, the others wait and read it.

        Args:
            factory: computes the value; no shard is locked meanwhile. What it raises reaches
                this caller only, and the next one tries. If the worker that computes dies, the
                next one computes at once. It may ask for other keys, but not in a ring: factories
                that need each other's values wait for each other.
            ttl: seconds that the value is good for; the map's default if not given.
            stale: seconds (needs a ttl) that it may be served after that, while one worker computes
                it anew and the others do not wait. `get` sees it for ttl + stale.
            timeout: seconds to wait for another worker's value; None: for ever.

        Raises:
            LockTimeout: names who is computing it.
            Reentered: `factory` asks for its own key.
        A value that cannot be stored is given to its caller all the same, one that cannot be
        unpickled any more is computed anew: with a CacheWarning once; `stats().uncached` counts.
        Only a MemoryError of its unpickling is raised: it is this process that lacks memory.
        Reads without a lock if it is there. What is gone again at once (ttl=0, or evicted) waiters
        compute one after the other; where no more locks can be held, all compute.

        >>> with ShmMap("doctest", size="1MB", ephemeral=True) as m:
        ...     m.get_or_set("page", lambda: "drawn", ttl=60), m["page"]
        ('drawn', 'drawn')
        """
        return single_flight.get_or_set(self, key, factory, ttl, stale, timeout)

    def _lock_table(self) -> LockTable:
        """Return this handle's way to the lock shard. To be called inside."""
        if self._table is None:
            table = LockTable()
            table._bind(self.attachment.locks, int(self._lock_timeout * 1e9))
            self._table = table
        return self._table

    def _after_fork(self) -> None:
        """Start anew in a child."""
        super()._after_fork()  # type: ignore[no-untyped-call]
        self._table = None

    # -- as a mapping ---------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Copy all entries as they are at one instant: see Snapshot, a read-only mapping.

        Every write that returned before this was called is in it, and of two writes of one
        process never the second without the first, whatever shards they are in.

        Readers never wait for it. Writers of a shard wait while what has just changed there is
        copied, and once, for `held_seconds` of what this returns, while all shards are held
        (tens of microseconds where the machine is not overloaded). Takes O(used slots) of this
        process's own memory, and of time. One snapshot of a map is taken at a time; others wait.

        Raises:
            LockTimeout: a shard could not be had for `lock_timeout` seconds; the map is as ever.
            MapCorrupted: the map's memory was damaged.
        """
        with self._inside() as attached:
            return snapshots.take(self, attached, self._lock_timeout)

    def __repr__(self) -> str:
        """Name the map and count its entries, or say why they cannot be counted. Raises nothing."""
        try:
            state = f"{len(self)} entries, {ENGINE} engine"
        except ShmMapError as error:
            state = "closed" if self.closed else type(error).__name__
        return f"<ShmMap {self.name!r}, {state}>"

    # -- care -------------------------------------------------------------------------

    def sweep(self) -> SweepReport:
        """Remove expired and idle entries of all shards now, and the rows of dead workers. Locks
        one shard at a time, each for a bounded number of removals."""
        with self._inside() as found:
            found.notice_removal()
            return found.sweeper.sweep(self)  # type: ignore[no-any-return]

    def sweep_if_due(self) -> SweepReport | None:
        """Sweep if an interval has passed and no other process is sweeping: for a scheduler
        of your own. Returns None if there was nothing to do."""
        with self._inside() as found:
            found.notice_removal()
            return found.sweeper.sweep_if_due(self)  # type: ignore[no-any-return]

    def stats(self) -> Stats:
        """Return the map's figures: see Stats. Takes no lock; O(shards)."""
        with self._inside() as found:
            for handle in alive(found.handles):
                handle._tally()
            return statistics.gather(found, len(self))

    def check(self) -> list[str]:
        """List what is wrong in the map: nothing, unless memory was damaged.

        Copies each shard under its lock and checks the copy: O(size). The shard of the named
        locks is one of them.
        """
        with self._inside() as attached:
            attached.notice_removal()
            return [
                f"{checking.label(attached, number)}: {problem}"
                for number in range(attached.geometry.shards + 1)
                for problem in checking.check_shard(self, attached, number)
            ]

    def repair(self) -> None:
        """Rebuild every shard's index, free list and counts from its slots, and drop entries
        that cannot be read. Deaths are repaired on their own; this is for memory that was
        damaged."""
        with self._inside() as attached:
            for number in range(attached.geometry.shards + 1):
                checking.repair_shard(self, attached, number)

    # -- copies -------------------------------------------------------------------------

    def dump(self, path: str | bytes | os.PathLike[str]) -> DumpReport:
        """Write every entry to a file, from which `load` or `merge` brings them back.

        The file takes its place by a rename, whole and synced to the disk, with the map's
        permission bits, or not at all; a link that another user put into a folder like /tmp is
        refused. Deadlines go on while it lies there. All entries are of one instant, copied as
        they are. O(bytes) of time and memory: `snapshot`. OSError, MapCorrupted, LockTimeout.
        """
        return dumps.dump(self, path)

    @classmethod
    def load(
        cls, path: str | bytes | os.PathLike[str], name: str, size: int | str | None = None,
        **parameters: Unpack[MapOptions],
    ) -> ShmMap:
        """Merge a dump into the map `name`, and return that map.

        If there is none it is created, with the dumped map's hash seed and its parameters (but
        `ephemeral` and `mode`) unless given here, so that what it held fits; where that fails it
        is unlinked again. All of the file is compared with its checksums before anything is
        written. Pickles are not loaded, but who reads these entries does: load only what you trust,
        or into a map with codec="safe". Arguments, errors and evictions as for class and `merge`.
        """
        said: Options = {**parameters}
        if size is not None:
            said["size"] = size
        return merging.load(cls, path, name, said)[0]  # type: ignore[no-any-return]

    def merge(self, other: ShmMap | str | bytes | os.PathLike[str]) -> MergeReport:
        """Write the entries of another map, or of a dump (its path), where they are newer.

        For each key the last write wins: an entry is written only if its key has no live entry
        here, or one that was written before it. It keeps its deadline and counts as written now, so
        of several copies merge the newest first. A deleted or expired key leaves no trace: an older
        copy brings it back. One step for each entry, not for all; may be run again.

        Raises DumpCorrupted, ConfigMismatch (a dump of another format or byte order), OSError;
        TypeError for pickles where codec="safe"; MapFull, EntryTooLarge, LockTimeout, whose
        `report` says what was written before. With on_full="evict" what was merged may be evicted.
        """
        return merging.merge(self, other)

    # -- the end ------------------------------------------------------------------------

    def close(self) -> None:
        """Let this handle go; entries stay, its named locks are free. Idempotent.

        Waits for operations in other threads, `lock_timeout` and a second at most, never for one
        of its own thread (of which a signal handler or a finalizer may close the map). What is
        still under way then goes on, and the last of it ends what is left to do here; new
        operations raise MapClosed. So long it waits, too, for a process that is opening or closing
        the same ephemeral map; what that keeps from being done is done later (at exit, say).
        """
        if self.closed:
            return
        found = self._live
        if not found.worker.fork_page.word:  # a child that never used it: the parent's threads
            self._after_fork()  # that were inside are not here
        Closing(self, found).run(self._lock_timeout + 1.0)

    def unlink(self) -> None:
        """Remove the map from the machine: every handle of every process gets MapUnlinked."""
        try:
            with self._inside() as attached:
                opening.retire(attached)
                if self.near is not None:  # nor do bounded reads answer any more
                    self.near.clear()
        except (MapUnlinked, MapCorrupted):  # what is left of it can be removed all the same
            opening.retire(self._live)

    def __enter__(self) -> ShmMap:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _reattach(  # its pickles name it as `shmmap._reattach`: see `_name_it`
    name: str, nonce: int, lock_timeout: float, owner_uid: int | None, reading: tuple[Value, ...],
    kind: type[ShmMap] | None = None,
) -> ShmMap:
    made = ShmMap.__new__(kind or ShmMap)
    said = zip(("near", "near_copy", "consistency", "max_staleness"), reading, strict=True)
    ShmMap.__init__(made, name, lock_timeout=lock_timeout, owner_uid=owner_uid, _nonce=nonce,
                    _may=(False, True), **dict(said))
    return made
