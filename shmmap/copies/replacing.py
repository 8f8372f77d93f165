"""Replacing a map by one of another shape: the new map takes its name and its entries.

    1  under the creation lock: a new map, under a name of its own (see `making.Successor`)
    2  the entries of a snapshot are written into it; the map goes on meanwhile
    3  when nobody has a named lock, which the new map would not know of, and under the creation
       lock again: the map's shards are held, for good, and until 5 the lock shard
    4  what is gone since 2 is deleted, and what has changed written
    5  the publication: the new control segment takes the name; the old one is retired
    6  the old map's files are removed

Readers go on until 5. Writers wait in 3 to 5, then find the map retired (`Handle.hold_late`), also
one that had begun before: so no write that was acknowledged is lost. Handles that reopen by name
follow. A named lock that is taken as late as that is taken again in the new map (`holdings`).
**Crash**: before 5 the new map is what a dead maker leaves, and the shards a dead holder's; after
it, the old one is. **Cost**: both maps, and a copy of the entries in this process.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ..errors import (
    ConfigMismatch,
    EntryTooLarge,
    LockTimeout,
    MapFull,
    MapUnlinked,
    SystemCallError,
)
from ..lifecycle.making import Successor
from ..lifecycle.stats import summed
from ..memory._clock_cy import monotonic
from ..memory.layout import constants
from ..memory.words import ShardWords
from ..operations._cut_cy import hold_all, hold_one
from ..operations._restore_cy import merge_raw, write_raw
from ..system import segment
from ..system.creation import Turn, creation_lock
from ..system.tasks import sleep
from ..values._keys_cy import unpack
from .snapshots import PATIENCE_NS, take_held

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..lifecycle.parameters import Parameters
    from .hosts import OpenMap
    from .snapshots import Raw, Snapshot, Stamped

K = constants()
_NEWEST = (1 << 63) - 1  # a version that no entry has: what is written wins
_TRIES = 1000
_PAUSE_S = 0.01  # between looks whether somebody has a named lock


class ReplaceReport(NamedTuple):
    """What a replacing did.

    Attributes:
        written: entries that the new map has.
        left_out: entries that did not fit: too large, or the map full; in one that evicts, evicted.
        held_seconds: for how long writers had to wait.
        seconds: duration.
    """

    written: int
    left_out: int
    held_seconds: float
    seconds: float


class Copying:
    """The entries of one map in another."""

    def __init__(self, target: OpenMap) -> None:
        self._target = target
        self._versions: dict[tuple[int, bytes], int] = {}
        self._left_out: set[tuple[int, bytes]] = set()
        self._buried: set[tuple[int, bytes]] = set()
        self._evicted = 0

    @property
    def counts(self) -> tuple[int, int]:
        """How many entries the target has had, and how many it has not, at the last bringing."""
        missing = len(self._left_out) + self._evicted
        return len(self._versions) - len(self._buried) - missing, missing

    def take(self, former: Snapshot) -> list[Raw] | list[Stamped]:
        """List what a snapshot has, as `bring` takes it: with the tombstones, and when each was
        written, where the target has that too."""
        live = self._target._live
        if live.tombstones_ns:
            return list(former.stamped_entries(live.wall_ns))
        return list(former.raw_entries())

    def bring(self, entries: list[Raw] | list[Stamped]) -> None:
        """Make the target like this: delete what is no longer there, write what it has not. What
        finds no room is tried again when all that shrinks has shrunk."""
        gone = set(self._versions).difference([(entry[0], entry[1]) for entry in entries])
        for place in gone:
            self._versions.pop(place)
            self._left_out.discard(place)
            self._delete(place)
        for entry in [entry for entry in entries if not self._write(entry)]:
            self._write(entry)
        self._evicted = summed(self._target._live.mappings, ShardWords.EVICTED)

    def _delete(self, place: tuple[int, bytes]) -> None:
        """Delete a key from the target, and leave no tombstone that would outlive the next sweep:
        what the former map has no entry of need not have been deleted."""
        self._buried.discard(place)
        if self._target._live.tombstones_ns:
            merge_raw(self._target, *place, K["VALUE_TOMBSTONE"], b"", 1, 0, True)
        else:
            self._target.delete(unpack(*place))

    def _write(self, entry: Raw | Stamped) -> bool:
        """Write an entry if the target has not got it; False: it was left out."""
        key_type, key, value_type, value, deadline_ns, version, *stamp = entry
        place = key_type, key
        if self._versions.get(place) == version and place not in self._left_out:
            return True
        self._versions[place] = version
        try:
            if stamp:
                merge_raw(self._target, key_type, key, value_type, value, deadline_ns, stamp[0],
                          True)
            else:
                write_raw(self._target, key_type, key, value_type, value, deadline_ns, _NEWEST)
        except (MapFull, EntryTooLarge):
            self._left_out.add(place)
            self._delete(place)  # an older value of it, perhaps
            return False
        self._left_out.discard(place)
        if value_type == K["VALUE_TOMBSTONE"]:
            self._buried.add(place)
        else:
            self._buried.discard(place)
        return True


def replace(
    former: OpenMap, wanted: Parameters, bind: Callable[[Successor], OpenMap]
) -> tuple[OpenMap, ReplaceReport]:
    """Replace a map that is open; return a handle on the new one, and what was done. `bind` makes
    that handle, under the creation lock.

    Raises:
        MapUnlinked: the map was unlinked, or replaced by another process: look again.
        LockTimeout: a shard could not be had in time, or the creation lock, or there was always
            somebody who had a named lock; nothing has changed.
        SharedMemoryFull: there is no room for both maps; nothing has changed.
        ConfigMismatch: it is another user's.
    """
    started = monotonic()
    name = former.name
    _refuse_others(name)
    successor = Successor(name)
    target: OpenMap | None = None
    try:
        with creation_lock(name) as turn:
            successor.make(wanted, turn)
            target = bind(successor)
        copying = Copying(target)
        copying.bring(copying.take(former.snapshot()))
        held_s = _change_over(former, successor, copying)
    except BaseException:
        if target is not None:
            target.close()
        raise
    finally:
        successor.close()
    target._live.is_apart = False
    written, left_out = copying.counts
    return target, ReplaceReport(written, left_out, held_s, monotonic() - started)


def _change_over(former: OpenMap, successor: Successor, copying: Copying) -> float:
    """Have the new map take the name, once nobody has a named lock; return for how many seconds
    the shards were held."""
    name, attached = former.name, former._live
    table = attached.locks.hasty_table()
    until = monotonic() + former._lock_timeout

    def publish(turn: Turn) -> None:
        turn.check()
        if table.find_holder() is not None:
            raise _LockHeld
        copying.bring(copying.take(take_held(attached)))
        successor.take_over(attached.control, turn)

    while True:
        if (holder := table.find_holder()) is None:
            with creation_lock(name) as turn, suppress(_LockHeld):
                if not attached.has_its_name():
                    raise MapUnlinked(f"map {name!r} was unlinked while it was being replaced")
                began = monotonic()
                locks = table._routes()[0]
                _hold_all(former, partial(hold_one, table, locks, partial(publish, turn)))
                held_s = monotonic() - began
                with suppress(SystemCallError):  # it is done all the same
                    successor.remove_former(attached.control)
                return held_s
        if monotonic() > until:
            who = "its holders are others each time" if holder is None else (
                f"process {attached.worker.pid_of(holder.token)[0]} has one"
            )
            raise LockTimeout(
                f"map {name!r}: within {former._lock_timeout:g} s there was no moment in which "
                f"nobody had a named lock ({who}), which others could take in the new map. Try "
                "again later"
            )
        sleep(_PAUSE_S)


class _LockHeld(Exception):
    """Somebody has a named lock."""


def _refuse_others(name: str) -> None:
    """Refuse to replace another user's map: the new one would not be his."""
    owner = segment.owner_at(segment.control_name(name))
    if owner not in (None, os.geteuid()):  # where there is none that is found out when it is opened
        raise ConfigMismatch(
            f"map {name!r} belongs to uid {owner}: only that user can replace it, since the "
            "new map belongs to who makes it"
        )


def _hold_all(former: OpenMap, work: Callable[[], None]) -> None:
    """Hold every shard of a map, for good, and do the work."""
    for _ in range(_TRIES):
        shards = former._settled()
        busy = hold_all(former, shards, PATIENCE_NS, work)
        if busy < 0:
            return
        hold_one(former, shards[busy])
    raise LockTimeout(f"map {former.name!r}: its shards could not be had all at once. Try again")
