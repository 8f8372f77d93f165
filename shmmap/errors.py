"""What can go wrong, in which map, and what to do about it."""

from __future__ import annotations

from ._public import public


@public
class ShmMapError(Exception):
    """Base of every error that this package raises of its own. `report`: of one that broke off
    a merge or a reconcile, the MergeReport or ReconcileReport of what was done before."""

    report: object = None


@public
class MapFull(ShmMapError):
    """A new entry found no room; nothing was changed. Remove entries, give them a ttl, or
    create the map anew, larger or with on_full="evict". A map that evicts raises it for writes that
    said evict=False only."""


@public
class MapExists(ShmMapError):
    """`create` found a live map of that name. Attach to it, or unlink it first."""


@public
class MapNotFound(ShmMapError):
    """`attach` found no map of that name. Create it first, or check the spelling."""


@public
class MapUnlinked(ShmMapError):
    """The map was unlinked while this handle was open. Open it again by name."""


@public
class MapCorrupted(ShmMapError):
    """Shared memory holds bytes that no operation leaves. `check()` says which."""


@public
class DumpCorrupted(ShmMapError):
    """A file is not a dump, was cut off, or holds bytes that no map would have written. Use
    another copy of it."""


@public
class ConfigMismatch(ShmMapError):
    """The map exists with other parameters, or belongs to another user."""


@public
class LockTimeout(ShmMapError, TimeoutError):
    """A shard's lock was not free within `lock_timeout`, or a named lock within its `timeout`.
    The message names the holder."""


@public
class LockLost(ShmMapError):
    """A named lock was no longer this holder's when it was released or extended: its lease had
    passed, the map was closed, or somebody broke it (`shmmap locks --break`). What was done since
    then was not protected."""


@public
class EditConflict(ShmMapError):
    """Others have changed an entry while it was edited (`edit`), or each time that a change of it
    was about to be written (`apply`, `incr` of other numbers than integers). Nothing was stored."""


@public
class ShardBusy(LockTimeout):
    """A read could not be validated in time: its shard's writer is stopped in mid-change."""


@public
class EntryTooLarge(ShmMapError, ValueError):
    """The entry cannot fit into one shard. The message says which shards= or size= would."""


@public
class WorkersFull(ShmMapError):
    """Every row of the worker table belongs to a live process."""


@public
class SharedMemoryFull(ShmMapError, MemoryError):
    """/dev/shm has no room for what was asked. The message says how much was and how much is."""


@public
class SystemCallError(ShmMapError, OSError):
    """The kernel refused what a map needs: no free descriptor, no memory, a limit, a read-only
    file system. `errno` says which; the message says what was being done, and what helps. Nothing
    was changed."""

    def __str__(self) -> str:
        return str(self.args[1]) if len(self.args) > 1 else super().__str__()


@public
class Reentered(ShmMapError, RuntimeError):
    """A signal handler or finalizer called the map while its thread was changing that shard; or
    a thread or task asked for a named lock that it holds, or for a value that it is computing; or
    a coroutine, without `await`, for what another task of its event loop holds or computes."""


@public
class MapClosed(ShmMapError, ValueError):
    """This handle was closed. Open the map again by name."""


@public
class MapMismatchWarning(UserWarning):
    """The map that exists has another shape than was asked for, and is used as it is: see
    `on_mismatch`. Or there is another map of that name, of another version or engine of shmmap,
    which shares nothing with this one. Told once for each map in a process."""


@public
class ValueUnreadable(ShmMapError):
    """A value cannot be unpickled here: its class was renamed or removed since it was stored, say.
    The entry stays. `name`: the map's, `key`: of the entry, `__cause__`: what unpickling raised."""

    name: str = ""
    key: object = None


@public
class StoreUnavailable(ShmMapError, ConnectionError):
    """The store behind a Tiered cannot be reached just now, does not answer in time, or says that
    it cannot serve yet. What a write that raised this has done is not known, unless `was_sent` is
    False: then nothing was. The message names the store, and what it said."""

    was_sent = True
    server = ""  # of a store that has several: which one is silent


@public
class StoreRefused(ShmMapError):
    """The store behind a Tiered can be reached and said no: no memory, no right, a wrong password,
    a name that holds another type. Nothing was changed; the message has its words."""
