"""ShmMap: how a map is made, opened, inspected and closed. Its operations on keys are inherited."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, NoReturn

from . import subclasses
from ._public import public
from .checks import Key, Value, flag, seconds
from .copies import replacing, snapshots
from .copies.snapshots import Snapshot
from .entering import Entering
from .errors import MapClosed, MapCorrupted, MapUnlinked
from .in_asyncio import InAsyncio
from .lifecycle import last_words, opening, reopening
from .lifecycle.closing import Closing
from .lifecycle.names import Named, full_name, namespace_of
from .lifecycle.parameters import UNSAID, MapOptions, Parameters, check_handle
from .lifecycle.request import Request, check_choices
from .locks import single_flight
from .locks.deferred_release import see_to_it
from .locks.editing import Edits
from .locks.lock_table import LockTable
from .locks.lockable import Lockable
from .operations._near_cy import read_consistency, read_size
from .operations._takes_cy import Takes
from .operations._writes_cy import DEFAULT
from .operations.batches import Batches
from .operations.views import MapListings
from .prompt import AtPrompt
from .system.blocks import block
from .system.mutex import Mutex
from .system.tasks import new_lock
from .values.codecs import read_codec

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .checks import Seconds
    from .lifecycle.attachment import Attachment
    from .lifecycle.making import Successor
    from .moving.tuning import AutoShards
    from .operations.changes import Counting
    from .operations.unreadable import OnUnreadable
    from .values.codecs import Codec

LOCK_TIMEOUT_S = 5.0


@public
class ShmMap(
    AtPrompt, subclasses.OwnState, Takes, Batches, Edits, MapListings, Lockable, Entering,
    InAsyncio, Named, MutableMapping[Key, Value],
):
    """A dict that every process on the machine shares: open it by name, use it as a dict.

    The first to open a name creates the map; all others attach to it. Parameters that are
    not given take the map's values (when attaching) or the defaults (when creating). Of those that
    are given, `ttl`, `max_age` and `sweep_interval` are this handle's own; `codec` and `mode` must
    agree with the map that exists; for the others see `on_mismatch`.

    Args:
        name: 1 to 100 of A-Z a-z 0-9 _ -; the same name is the same map.
        namespace: a part of the name, which is then "shop@cache" (also for `m.name`). Default:
            SHMMAP_NAMESPACE of the environment, if it is set; "": none, whatever that says.
        size: bytes of all shared memory, as a number (1e6), "64MB" (10**6), or "64MiB" or "64M"
            (2**20). Default "16MB".
        capacity: instead of size: hold so many entries of value_size, with a failure chance of
            1e-6 or less.
        shards: power of two; default 64, fewer for small maps, more from 1 GB on.
        value_size: bytes that a typical value has; slots are made to fit it (default 100).
        key_size: bytes that a typical key has (default 16).
        ttl: seconds (or a timedelta, as everywhere) until an entry expires, unless its write says
            otherwise; None: never.
        on_full: "raise" MapFull (default), or "evict" the entries least worth keeping.
        codec: "auto" (default) pickles what is not stored natively, "safe" refuses it; "json",
            "msgpack", or an object with name, dumps and loads. A promise: the map's is the same.
        ephemeral: True: the last live process to close the map unlinks it.
        linger: with ephemeral: seconds that it stays after that for whoever comes next (0).
        max_age: seconds after which a sweep removes entries that were not written; None: never.
        sweep_interval: seconds between sweeps (30); None: only by m.sweep().
        tombstones: seconds for which a delete is remembered, so that no `merge` brings the key back
            (and of two maps that merge each other the last write wins in both); None: not at all.
        mode: permission bits of every object (0o600); group and others: read and write, or none.
        lock_timeout: seconds to wait for a shard's lock (5.0); this handle's only.
        owner_uid: attach only to a map of this user (default: my own).
        on_mismatch: what follows where the map that exists has another size, capacity, shards,
            value_size, key_size, on_full, ephemeral, linger or tombstones than given here.
            "attach" (default): it is used as it is, with a MapMismatchWarning once; "raise"
            ConfigMismatch; "resize": it begins to change, as by `resize`, and is used meanwhile;
            "replace": a new map takes its name and its entries.
        on_unlinked: what an operation does that finds the map unlinked, or its files removed.
            "reopen" (default): it goes on with the map that has the name now, which is made if
            there is none, and logs that once. "raise" MapUnlinked (the default of `attach`).
        fresh: True: a new, empty map takes the name in one step; what had it is unlinked.
        near: how many entries this handle keeps decoded in this process (0: none). A read that
            finds one there costs one look at its version in shared memory, and gives the same
            object to every reader: do not change it (an array is read-only).
        near_copy: True: lists, dicts and all else that can be changed is decoded anew each time.
        consistency: of this handle's reads, and of one call: `get(k, consistency=...)`.
            "linearizable" (default): what the map has now. "session": the same, but where a
            stopped writer is in the way, what this handle has read, never older than anything it
            has seen or written. "bounded": what was true within the last max_staleness seconds;
            own writes are always seen.
        max_staleness: seconds; with "bounded", and only there.
        auto_shards: an AutoShards: how the gate "auto-shards", where it is on, chooses the number
            of shards when this process sweeps the map.

    Raises:
        ConfigMismatch: the map that exists has another codec or mode, or another owner.
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
    _ways: Any = opening  # how a map is joined and retired; LocalMap has its own
    _handle_number, _request = 0, Request("", Parameters())  # of one that was never opened
    _table: LockTable | None = None

    if TYPE_CHECKING:  # what the annotations of compiled classes cannot say
        name: str
        incr: Counting

        def ttl(self, key: Key) -> float | None: ...
        def get_versioned(self, key: Key, default: Value = None) -> tuple[Value, int]: ...

    def __init__(
        self,
        name: str,
        size: float | str | None = None,
        *,
        namespace: str | None = None,
        capacity: float | None = None,
        shards: int | None = None,
        ttl: Seconds | None = UNSAID,
        on_full: str | None = None,
        value_size: int | None = None, key_size: int | None = None,
        codec: str | Codec | None = None,
        ephemeral: bool | None = None, linger: Seconds | None = None,
        max_age: Seconds | None = UNSAID,
        sweep_interval: Seconds | None = UNSAID,
        tombstones: Seconds | None = None,
        mode: int | None = None,
        lock_timeout: Seconds = LOCK_TIMEOUT_S, owner_uid: int | None = None,
        near: int = 0, near_copy: bool = False,
        consistency: str = "linearizable", max_staleness: Seconds | None = None,
        on_mismatch: str = "attach", on_unlinked: str | None = None, fresh: bool = False,
        auto_shards: AutoShards | None = None,
        _may: tuple[bool, bool] = (True, True),
        _nonce: int | None = None, _seed: int | None = None,
        _wishes: tuple[Value, ...] | None = None,
        **unknown: NoReturn,
    ) -> None:
        name = full_name(name, namespace)
        if flag(fresh, "fresh") and not _may[0]:
            raise TypeError("attach never makes a map: fresh= is for ShmMap() and ShmMap.create()")
        lock_timeout, owner_uid = check_handle(lock_timeout, owner_uid)
        near, near_copy = read_size(near, near_copy)
        read_consistency(consistency, max_staleness, -1, near)  # to refuse what is wrong
        stale = max_staleness if max_staleness is None else seconds(max_staleness, "max_staleness")
        codec_name, self._own_codec = read_codec(codec)
        wanted = Parameters.read(
            {
                "size": size, "capacity": capacity, "shards": shards, "ttl": ttl,
                "on_full": on_full, "value_size": value_size, "key_size": key_size,
                "codec": codec_name, "ephemeral": ephemeral, "max_age": max_age, "linger": linger,
                "sweep_interval": sweep_interval, "mode": mode, "hash_seed": _seed,
                "tombstones": tombstones, **unknown,
            }
        )
        if on_unlinked is None:
            on_unlinked = "reopen" if _may[0] else "raise"
        self._lock_timeout = float(lock_timeout)
        self._reading = (near, near_copy, consistency, stale)
        if _wishes is not None:
            wanted = Parameters(*_wishes)
        self._request = Request(name, wanted, *_may, _nonce, owner_uid,
                                *check_choices(on_mismatch, on_unlinked), fresh,
                                self._check_tuning(auto_shards))
        self._turn = Mutex()
        self._follows = False  # there is room for it before there is a map that would stay
        self._open()
        self._follows = self._request.on_unlinked == "reopen"

    def _replace(self) -> tuple[ShmMap, replacing.ReplaceReport]:
        """Replace the map that is there by one of the shape that is asked for."""
        asked = self._request
        with ShmMap.attach(
            asked.name, namespace=namespace_of(asked.name), lock_timeout=self._lock_timeout,
            owner_uid=asked.owner_uid, mode=asked.wanted.mode, codec=self._own_codec,
        ) as former:
            had = former._live.parameters  # of its seed too: see `order`
            wanted = asked.again(had).wanted._replace(hash_seed=had.hash_seed)

            def bind(successor: Successor) -> ShmMap:
                made = ShmMap.__new__(ShmMap)
                made._lock_timeout, made._turn = self._lock_timeout, Mutex()
                made._reading, made._own_codec = (0, False, "linearizable", None), None
                made._request = asked._replace(wanted=Parameters(), on_unlinked="raise")
                opening.open_apart(made, next(reopening.numbers), successor)
                return made

            return replacing.replace(former, wanted, bind)  # type: ignore[return-value]

    @classmethod
    def create(
        cls, name: str, size: float | str | None = None, **parameters: Unpack[MapOptions]
    ) -> ShmMap:
        """Create a map; raises MapExists if there is one. Arguments as for the class."""
        return cls(name, size, _may=(True, False), **parameters)

    @classmethod
    def attach(cls, name: str, **parameters: Unpack[MapOptions]) -> ShmMap:
        """Attach to a map; raises MapNotFound if there is none. Arguments as for the class."""
        return cls(name, _may=(False, True), **parameters)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the name and the creation; entries stay where they are. A subclass comes back as
        itself, without a call of its `__init__`, with its attributes."""
        asked = self._request
        reading = (*self._reading, self._own_codec)
        said = (self.name, self._live.nonce, self._lock_timeout, asked.owner_uid, reading,
                type(self), (asked.on_unlinked, tuple(asked.wanted),
                             *[asked.auto_shards] * (asked.auto_shards is not None)))
        state = subclasses.without_private(self, self.__getstate__())
        return (_reattach, said, state) if state else (_reattach, said)

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        subclasses.check_names(cls, ShmMap)

    def _use(self, attachment: Any, number: int) -> None:
        """Begin to use a map, as the handle of that number; also instead of another map. What
        takes memory comes first, then what has others take it for open."""
        near, near_copy, consistency, max_staleness = self._reading
        bound = read_consistency(consistency, max_staleness, -1, near)
        words = last_words.keep(attachment, number)
        former_near = self.near
        is_open = self._turning  # and goes over to another map
        try:
            if is_open and self.closed:
                raise MapClosed(f"map {self.name!r}: this handle was closed as it was reopened")
            if not is_open:
                super()._bind(attachment, int(self._lock_timeout * 1e9))  # type: ignore[no-untyped-call]
            self._use_near(near, near_copy, bound)  # before others can use the new map
            self._table = None
            said = self._request.wanted.ttl_ns
            self._point_at(attachment, attachment.ttl_ns if said is None else said,
                           self._own_codec)
            self._handle_number = number
            self._last_words = words
            attachment.sweeper.heed()
            attachment.notice_move()
        except BaseException:
            if is_open and self.attachment is attachment:  # it has gone over, and that stays
                self._handle_number, self._last_words = number, words
                raise
            last_words.forget(number)
            if not is_open and self.attachment is attachment:
                self._seal()
            raise
        if former_near is not None:
            former_near.clear()

    def _reopen(self, former: Any, error: MapUnlinked) -> None:
        """Go over to the map that has the name now: see `reopening`."""
        reopening.reopen(self, former, self._request, error)

    @property
    def _live(self) -> Attachment:
        """The attachment of an open handle."""
        if self.closed:
            raise MapClosed(f"map {self.name!r}: this handle is closed; open the map again")
        return self.attachment  # type: ignore[no-any-return]

    @block
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
        stale: float = 0, timeout: float | None = None, strict: bool = False,
    ) -> Value:
        """Return the value of `key`; if there is none, `factory()`, stored for all: of all workers
        of the machine that miss it at once, one computes it, the others wait and read it.

        Args:
            factory: computes the value; no shard is locked meanwhile. What it raises reaches
                this caller only; the next one tries, at once if the worker that computes dies. It
                may ask for other keys, but factories that need each other's values wait for ever.
            ttl: seconds that the value is good for; the map's default if not given.
            stale: seconds (needs a ttl) that it may be served after that, while one worker computes
                it anew and the others do not wait. `get` sees it for ttl + stale.
            timeout: seconds to wait for another worker's value; None: for ever.
            strict: True: raise why the value cannot be stored, or looked up just now.
        Raises:
            LockTimeout: `timeout` is over; names the process that computes it.
            Reentered: `factory` asks for its own key.
        The map does not fail the call: a value that cannot be stored reaches its caller, one that
        cannot be looked up just now, or not be unpickled here, is computed. `stats().uncached`
        counts by reason; the logger "shmmap" tells of each once.

        >>> with ShmMap("doctest", size="1MB", ephemeral=True) as m:
        ...     m.get_or_set("page", lambda: "drawn", ttl=60), m["page"]
        ('drawn', 'drawn')
        """
        return single_flight.get_or_set(self, key, factory, ttl, stale, timeout, strict=strict)

    def _lock_table(self) -> LockTable:
        """Return this handle's way to the lock shard. To be called inside."""
        if self._table is None:
            table = LockTable()
            table._bind(self.attachment.locks, int(self._lock_timeout * 1e9))
            self._table = table
        return self._table

    def _after_fork(self) -> None:
        """Start anew in a child; where this task is going over to another map, it goes on."""
        turning = self._turning and self._turn.is_entered()
        super()._after_fork()  # type: ignore[no-untyped-call]
        self._turning, self._table = turning, None

    # -- as a mapping ---------------------------------------------------------------

    def snapshot(self, *, on_unreadable: OnUnreadable = "raise") -> Snapshot:
        """Copy all entries as they are at one instant: see Snapshot, a read-only mapping.

        Every write that returned before this was called is in it, and of two writes of one
        process never the second without the first, whatever shards they are in.

        Readers never wait for it. Writers of a shard wait while what has just changed there is
        copied, and once, for `held_seconds` of what this returns, while all shards are held
        (tens of microseconds where the machine is not overloaded). Takes O(used slots) of this
        process's own memory, and of time. One snapshot of a map is taken at a time; others wait.
        `on_unreadable`: what its listings do where they are not told otherwise: see `items`.

        Raises:
            LockTimeout: a shard could not be had for `lock_timeout` seconds; the map is as ever.
            MapCorrupted: the map's memory was damaged.
        """
        def take(attached: Attachment) -> Snapshot:
            attached.notice_removal()
            return snapshots.take(self, attached, self._lock_timeout, on_unreadable)

        return self._in_one_map(take)

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
        """Remove the map from the machine. Handles that were opened by name go over to a new one:
        see `on_unlinked`; this one, and those of `attach`, raise MapUnlinked from now on."""
        if self.closed:
            raise MapClosed(f"map {self.name!r}: this handle is closed; shmmap.unlink() needs none")
        self._follows = False
        try:
            with self._inside() as attached:
                self._ways.retire(attached)
                if self.near is not None:  # nor do bounded reads answer any more
                    self.near.clear()
        except (MapUnlinked, MapCorrupted):  # what is left of it can be removed all the same
            self._ways.retire(self._live)

    def __enter__(self) -> ShmMap:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@public
def _reattach(  # its pickles name it as `shmmap._reattach`
    name: str, nonce: int, lock_timeout: float, owner_uid: int | None, reading: tuple[Value, ...],
    kind: type[ShmMap] | None = None, asked: tuple[Value, ...] = ("raise", None),
) -> ShmMap:
    made = ShmMap.__new__(kind or ShmMap)
    on_unlinked, wishes, *tuning = asked
    named = ("near", "near_copy", "consistency", "max_staleness", "codec")
    options = dict(zip(named, reading, strict=False))  # an early version's have no codec
    ShmMap.__init__(made, name, namespace=namespace_of(name), lock_timeout=lock_timeout,
                    owner_uid=owner_uid, _nonce=nonce, on_unlinked=on_unlinked, _wishes=wishes,
                    auto_shards=tuning[0] if tuning else None,
                    _may=(False, True), **options)
    return made
