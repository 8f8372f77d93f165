"""Snapshots: all shards of a map at one instant, copied into private memory.

Pre-copy with marks, as a live migration does it: every shard is copied while
its writers go on and mark what they change; what they changed is copied again,
a shard at a time, until that is little; then all shards are held at once, for
as long as the rest takes. That instant is the snapshot. Readers never wait for
any of it.

**Locks**: one snapshot of a map at a time, by a thread lock of the attachment
and a record lock of the kernel, which a death frees; shards in ascending order.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

from .._public import public
from ..checks import Key, Value, refuse_one_key
from ..errors import LockTimeout, MapCorrupted, Reentered, ShmMapError
from ..memory import events
from ..memory._clock_cy import Clock, monotonic_ns
from ..memory.layout import constants
from ..memory.words import ControlWords
from ..operations._batches_cy import read_many
from ..operations._cut_cy import (
    COMPILED,
    copy_changed,
    copy_held,
    copy_whole,
    cut,
    forget_tracking,
    settle_copy,
    track,
)
from ..operations._listing_cy import list_copied, list_entries
from ..operations._reads_cy import MISSING
from ..operations._takes_cy import Takes
from ..operations.host import NEVER
from ..operations.messages import error_for
from ..operations.order import in_order
from ..operations.routing import ShardMoved, spread
from ..operations.unreadable import OnUnreadable, handler_of
from ..operations.views import Handler, Listings, Prefix
from ..shard._shadow_cy import ShardCopy, copy_bytes_needed
from ..shard._status import DAMAGED, WHOLE
from ..system.blocks import block
from ..system.tasks import sleep
from .private import Quiet, private_room

if TYPE_CHECKING:
    from ..lifecycle.attachment import Attachment
    from ..shard._shard_cy import Shard

K = constants()
ROUNDS = 20  # of copying again what changed, at most
FEW = 64  # entries that may be left to copy while all shards are held
MOST = 1000  # entries that are copied under one hold of one shard
# How long a shard that is not free may keep those waiting that we hold already. Most changes
# take a microsecond; who takes longer was put to sleep by the scheduler.
PATIENCE_NS = 300_000 if COMPILED else 5_000_000
_ROW = K["C_BYTES_TOTAL"]  # where a snapshot's private control memory counts its reads
Raw = tuple[int, bytes, int, bytes, int, int]
Stamped = tuple[int, bytes, int, bytes, int, int, int]


@public
class Snapshot(Listings, Mapping[Key, Value]):
    """A map as it was at one instant: a read-only mapping in this process's own memory.

    `ShmMap.snapshot` makes it. It outlives the map: closing or unlinking that, or forking, does
    not change it. Lookups take O(1); keys and values are decoded whenever they are asked for.
    Nothing in it expires: entries whose deadline had passed at that instant are not in it.

    Attributes:
        name: the map's name.
        taken_ns: the instant, in nanoseconds of CLOCK_BOOTTIME.
        held_seconds: for how long all shards were held together, so the longest that a writer
            waited for the snapshot.
    """

    def __init__(
        self, name: str, still: _Still, taken_ns: int, held_ns: int,
        on_unreadable: OnUnreadable = "raise",
    ) -> None:
        self.name = name
        self._on_unreadable = on_unreadable
        self.taken_ns = taken_ns
        self.held_seconds = held_ns / 1e9
        self._view = Takes()
        self._view._bind(still, 0)

    def __getitem__(self, key: Key) -> Value:
        """Return the value of `key`. Raises KeyError if it had no live entry."""
        return self._view[key]

    def get(self, key: Key, default: Value = None) -> Value:
        """Return the value of `key`, or `default` if it had no live entry."""
        return self._view.get(key, default)

    def get_many(self, keys: Iterable[Key], default: Value = MISSING) -> dict[Key, Value]:
        """Return {key: value} of those keys that had live entries. O(keys).

        Args:
            keys: any iterable of keys.
            default: the value of the others, one object for all; not given: they are left out.
        """
        refuse_one_key(keys)
        found: dict[Key, Value] = read_many(
            self._view, keys, default, handler_of(self._on_unreadable)
        )
        return found

    def __contains__(self, key: object) -> bool:
        """Tell whether `key` had a live entry."""
        return key in self._view

    def __len__(self) -> int:
        """Count the entries."""
        return len(self._view)

    def _keys(self, prefix: Prefix = None) -> Iterator[Key]:
        return in_order(lambda unit: list_entries(self._view, unit, False, prefix))

    def _entries(
        self, prefix: Prefix = None, unreadable: Handler = None
    ) -> Iterator[tuple[Key, Value]]:
        return in_order(lambda unit: list_entries(self._view, unit, True, prefix, unreadable))

    def raw_entries(self) -> Iterator[Raw]:
        """Go through the entries as they are stored: (key type, key bytes, value type, value
        bytes, deadline in ns of CLOCK_BOOTTIME or 0, version), types as in `layout`."""
        return in_order(lambda unit: list_copied(self._view, unit))

    def stamped_entries(self, wall_ns: int = 0) -> Iterator[Stamped]:
        """Go through them, and the tombstones, each with when it was written, by the wall clock:
        see `list_copied`. `wall_ns`: that clock at boot, where the map knows of none."""
        since = self._view.attachment.wall_ns or wall_ns
        return in_order(lambda unit: list_copied(self._view, unit, since))

    def __repr__(self) -> str:
        return f"<Snapshot of {self.name!r}, {len(self)} entries>"


class _Row:
    """The worker's row of a handle on a snapshot: in private memory. An object of its own: a cycle
    would keep the copies until the garbage collector comes by."""

    row = rows = 0

    def row_offset(self, row: int) -> int:
        """Return where reads are counted."""
        return _ROW


class _Still:
    """What the handle on a snapshot's copies needs of an attachment."""

    def __init__(
        self, attached: Attachment, copies: list[ShardCopy], clock: Clock, coder: object
    ) -> None:
        self.name = attached.name
        self.geometry = attached.geometry
        self.seed = attached.seed
        self.safe = attached.safe
        self.coder = coder
        self.ttl_ns = self.tombstones_ns = 0
        self.wall_ns = attached.wall_ns
        self.clock = clock
        self.worker = _Row()
        self.shards = spread(list(copies))  # no repairers: those would be a cycle, too
        self.held: dict[tuple[int, int], Shard] = {}
        self.control_memory = bytearray(_ROW + K["R_BYTES_TOTAL"])
        with ControlWords(self.control_memory) as control:
            control.STATE = K["STATE_READY"]
        self.fork_memory = bytearray(b"".join(  # a token, and "go on"
            word.to_bytes(8, sys.byteorder) for word in (1 << K["TOKEN_INCARNATION_SHIFT"], 1)
        ))

    def error_for(self, status: int, shard: Shard, data_bytes: int) -> Exception:
        """Return the exception for a status of a shard."""
        return error_for(self, status, shard, data_bytes)

    def look_for_files(self, due: int, version: int) -> int:
        """Look for none: it outlives the map."""
        return NEVER


def take(
    handle: Takes, attached: Attachment, timeout_s: float, on_unreadable: OnUnreadable = "raise"
) -> Snapshot:
    """Take a snapshot through a handle.

    Raises:
        LockTimeout: a shard, or the turn to take a snapshot, could not be had in time.
        MapCorrupted: the copy holds what no operation leaves.
    """
    handler_of(on_unreadable)  # to refuse what is none
    for whole in (False, True):  # again, if a damaged header may have had us miss slots
        copies, clock, instant = _copy_all(handle, attached, timeout_s, whole)
        clock.frozen_ns = instant[0]
        settled = [settle_copy(copy) for copy in copies]
        if set(settled) == {WHOLE}:
            return Snapshot(
                attached.name, _Still(attached, copies, clock, handle._coder), *instant,
                on_unreadable,
            )
    raise MapCorrupted(
        f"map {attached.name!r}, shard {settled.index(DAMAGED)}: an entry's lengths, types or "
        "chain are what no operation leaves. m.check() lists what is wrong, m.repair() keeps what "
        "is whole; then take the snapshot again"
    )


def take_held(attached: Attachment) -> Snapshot:
    """Take a snapshot of a map all of whose shards this thread holds."""
    clock = Clock(0)
    copies = _make_copies(attached, attached.distinct(), clock, True)
    for copy in copies:
        copy_held(copy)
    clock.frozen_ns = attached.clock.now_ns()
    if DAMAGED in [settle_copy(copy) for copy in copies]:
        raise MapCorrupted(f"map {attached.name!r} is damaged: m.repair() keeps what is whole")
    return Snapshot(attached.name, _Still(attached, copies, clock, None), clock.frozen_ns,
                    0)


def _copy_all(
    handle: Takes, attached: Attachment, timeout_s: float, whole: bool
) -> tuple[list[ShardCopy], Clock, tuple[int, int]]:
    """Copy all shards at one instant: (copies, their clock, (when, for how long they were held)).
    `whole`: copy every slot, whatever the headers say of how many were used."""
    until_ns = monotonic_ns() + int(timeout_s * 1e9)
    with turn(attached, until_ns, timeout_s):
        while True:
            clock = Clock(0)  # of the copies: it stands still
            copies = _make_copies(attached, handle._settled(), clock, whole)
            try:
                instant = _copy(handle, attached, copies, until_ns, timeout_s)
            except ShardMoved:
                instant = None
            finally:
                with suppress(ShmMapError):  # unlinked meanwhile: nobody marks anything there
                    forget_tracking(handle, copies)
            if instant is not None:
                return copies, clock, instant
            if monotonic_ns() > until_ns:
                raise LockTimeout(
                    f"map {attached.name!r}: snapshots of it got in each other's way for "
                    f"{timeout_s:g} s. Try again, or raise lock_timeout="
                )


def _make_copies(
    attached: Attachment, shards: list[Shard], clock: Clock, whole: bool
) -> list[ShardCopy]:
    """Make a copy of each of these shards, empty. Pages that nothing is copied to cost nothing."""
    each = [copy_bytes_needed(shard.slots.count, shard.slots.size) for shard in shards]
    room = private_room(attached.name, sum(each), "for a snapshot")
    copies = []
    start = 0
    for shard, size in zip(shards, each, strict=True):
        copies.append(ShardCopy(shard, room[start : start + size], clock, Quiet(), whole))
        start += size
    return copies


def _copy(
    handle: Takes, attached: Attachment, copies: list[ShardCopy], until_ns: int,
    timeout_s: float,
) -> tuple[int, int] | None:
    """Copy every shard; return when, and for how long all were held. None: begin again."""
    track(handle, copies)
    for copy in copies:
        copy_whole(handle, copy)
    while _catch_up(handle, copies):
        busy, taken_ns, held_ns = cut(handle, copies, PATIENCE_NS)
        if busy < 0:
            events.took(attached, "snapshot", held_ns)
            return taken_ns, held_ns
        if busy >= len(copies):
            return None
        if monotonic_ns() > until_ns:
            raise LockTimeout(attached.describe_wait(copies[busy].source, int(timeout_s * 1e9)))
        # wait for that one alone, as a writer does; a dead owner's change is repaired
        copy_changed(handle, [copies[busy]], MOST)
    return None


def _catch_up(handle: Takes, copies: list[ShardCopy]) -> bool:
    """Copy again what changed, until little is left or it no longer gets less; False: somebody
    else tracks changes now."""
    before = 0
    for _ in range(ROUNDS):
        changed = copy_changed(handle, copies, MOST)
        if changed < 0:
            return False
        if changed <= FEW or (changed < MOST and 0 < before * 3 < changed * 4):
            break
        before = changed
    return True


@block
def turn(attached: Attachment, until_ns: int, timeout_s: float) -> Iterator[None]:
    """Be the only one that takes a snapshot of this map: while others wait.

    Raises:
        LockTimeout: another one has been taking it all the while.
    """
    lock, worker = attached.snapshots, attached.worker
    if lock._is_owned():
        if _is_taking(sys._getframe(3)):  # behind this function, `_begin` and `_copy_all`
            raise Reentered(
                f"map {attached.name!r}: a signal handler or a finalizer asked for a snapshot "
                "while its own thread was taking one. Defer it"
            )
        lock._release_save()  # a handler raised as it was about to be released
    try:
        if not lock.acquire(timeout=max(0.0, (until_ns - monotonic_ns()) / 1e9)):
            raise LockTimeout(
                f"map {attached.name!r}: another thread of this process has been taking a "
                f"snapshot for {timeout_s:g} s. Try again, or raise lock_timeout="
            )
        try:
            pause_s = 0.0005
            while not worker.try_snapshot():
                if monotonic_ns() > until_ns:
                    raise LockTimeout(
                        f"map {attached.name!r}: process {worker.snapshot_pid()} has been taking "
                        f"a snapshot for {timeout_s:g} s; if it is stopped, continue or end it. "
                        "Else try again, or raise lock_timeout="
                    )
                sleep(pause_s)
                pause_s = min(2 * pause_s, 0.02)
            yield
        finally:
            try:
                worker.end_snapshot()
            except BaseException:  # a signal handler raised in it: finish all the same
                worker.end_snapshot()
                raise
    finally:
        try:  # noqa: SIM105  # `suppress` is a call, and this is one into C: no handler comes first
            lock.release()
        except RuntimeError:  # it was not to be had
            pass


def _is_taking(frame: FrameType | None) -> bool:
    """Tell whether somebody further up the stack is inside `_copy_all`."""
    while frame is not None:
        if frame.f_code is _copy_all.__code__:
            return True
        frame = frame.f_back
    return False

