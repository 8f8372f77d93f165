"""The care of a map: sweeping it, its figures, checks and repairs, copies in files."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeVar

from .copies import dumps, merging
from .copies.dumps import DumpReport
from .copies.merging import MergeReport
from .errors import MapUnlinked
from .lifecycle import checking
from .lifecycle import stats as statistics
from .lifecycle.event_ring import Event, events_of
from .lifecycle.gates import Gates
from .lifecycle.hooks import hooks_of
from .lifecycle.stats import Stats
from .lifecycle.sweeper import SweepReport
from .memory.events import check_kind
from .moving import watch
from .system.presences import alive

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .lifecycle.attachment import Attachment
    from .lifecycle.parameters import MapOptions, Options
    from .moving.mover import Progress
    from .moving.resizing import Resize
    from .shard._shard_cy import Shard

Done = TypeVar("Done")
Self = TypeVar("Self", bound="Care")


class Care:
    """What is done to a map as a whole; part of ShmMap."""

    if TYPE_CHECKING:
        _follows: bool
        attachment: Attachment

        def __len__(self) -> int: ...
        def _inside(self) -> AbstractContextManager[Attachment]: ...
        def _may_follow(self, error: MapUnlinked) -> bool: ...
        def _go_over(self) -> None: ...

    def _in_one_map(self, act: Callable[[Attachment], Done]) -> Done:
        """Do what consists of several operations with the attachment, while `close` waits; begin
        again where the map was unlinked in the middle of it, and this handle goes over to another
        one."""
        while True:
            former = self.attachment
            try:
                with self._inside() as attached:
                    return act(attached)
            except MapUnlinked as error:
                gone_over = self._follows and self.attachment is not former  # by another thread
                if not gone_over and not self._may_follow(error):
                    raise
                self._go_over()

    def _look_after(self, attached: Attachment) -> None:
        """See that a map that is on its way to another shape gets there."""
        watch.look_after(attached)

    @property
    def gates(self) -> Gates:
        """The map's feature gates: see Gates."""
        return Gates(self._in_one_map)

    def sweep(self) -> SweepReport:
        """Remove expired and too old entries of all shards now, and the rows of dead workers. Locks
        one shard at a time, each for a bounded number of removals."""
        def sweep(attached: Attachment) -> SweepReport:
            attached.notice_removal()
            return attached.sweeper.sweep(self)  # type: ignore[no-any-return]

        return self._in_one_map(sweep)

    def resize(
        self, *, shards: int | None = None, size: int | str | None = None,
        capacity: float | None = None, value_size: int | None = None, key_size: int | None = None,
        on_full: str | None = None, wait: bool = True, rate: float | None = None,
        progress: Callable[[Progress], object] | None = None,
    ) -> Resize:
        """Change the map's shape while everybody goes on: what is not said stays as it is.

        Entries move a group of shards at a time. Reads never wait; a write waits for the last few
        entries of its group. With nothing said: go on with a change that is under way.

        Args:
            shards: as for the class.
            size: as for the class; takes the place of capacity.
            capacity: as for the class; takes the place of size.
            value_size: as for the class.
            key_size: as for the class.
            on_full: as for the class.
            wait: False: return at once, or as soon as another change is done; this process moves in
                the background. Where it ends, or is stopped, another one that uses the map goes on.
            rate: entries a second, at most; None: as fast as can be.
            progress: is called now and then with a Progress; what it raises ends the move here.

        Raises:
            MapFull, EntryTooLarge: the entries do not fit; the map has the shape it had.
            SharedMemoryFull: there is no room for the map and one group more.
            ConfigMismatch: it is another user's.
            LockTimeout: a shard's lock could not be had; call again.
            MapUnlinked: the map was unlinked meanwhile.
            TypeError: an argument is of another type.
            ValueError: no map can have that shape.
        """
        from .moving import resizing

        said = {"shards": shards, "size": size, "capacity": capacity, "value_size": value_size,
                "key_size": key_size, "on_full": on_full}
        given = {name: value for name, value in said.items() if value is not None}

        def change(attached: Attachment) -> None:
            attached.notice_removal()
            resizing.resize(self, attached, given, rate, progress, wait)  # type: ignore[arg-type]

        self._in_one_map(change)
        return resizing.Resize(self._in_one_map)

    def reap(self) -> int:
        """Free the named locks, the permits and the rows of workers that have died, as a sweep
        does, and do no more: for whoever learns of a death first. Count the workers that died."""
        def reap(attached: Attachment) -> int:
            attached.notice_removal()
            return attached.sweeper.reap(self)  # type: ignore[no-any-return]

        return self._in_one_map(reap)

    def sweep_if_due(self) -> SweepReport | None:
        """Sweep if an interval has passed and no other process is sweeping: for a scheduler
        of your own. Returns None if there was nothing to do."""
        def sweep(attached: Attachment) -> SweepReport | None:
            attached.notice_removal()
            return attached.sweeper.sweep_if_due(self)  # type: ignore[no-any-return]

        return self._in_one_map(sweep)

    def stats(self) -> Stats:
        """Return the map's figures: see Stats. Takes no lock; O(shards)."""
        def gather(attached: Attachment) -> Stats:
            for handle in alive(attached.handles):
                handle._tally()
            return statistics.gather(attached, len(self))

        return self._in_one_map(gather)

    def events(self, kind: str | None = None) -> list[Event]:
        """Return what has happened to the map, the oldest first: of its last 256 events those that
        are whole, of one kind if one is said. Takes no lock; O(256). See Event."""
        check_kind(kind)
        found = self._in_one_map(events_of)
        return [one for one in found if kind in (None, one.kind)]

    def on(self, kind: str | None, callback: Callable[[Event], object]) -> Callable[[], None]:
        """Have a callback called with each Event of a kind (None: of any) that comes from now on,
        whichever process has met it; return a function that ends that.

        It is called by a thread of this process, within half a second or so; what it raises is
        logged. A forked child calls `on` for itself.

        >>> end = m.on("takeover", lambda event: print(event.text))     # doctest: +SKIP
        """
        return hooks_of(self).add(self, kind, callback)  # type: ignore[arg-type]

    def check(self) -> list[str]:
        """List what is wrong in the map: nothing, unless memory was damaged.

        Copies each shard under its lock and checks the copy: O(size). The shard of the named
        locks is one of them.
        """
        def check(attached: Attachment) -> list[str]:
            attached.notice_removal()
            found: list[str] = []

            def look(shard: Shard | None) -> None:
                problems = checking.check_shard(self, attached, shard)  # type: ignore[arg-type]
                found.extend([f"{checking.label(attached, shard)}: {one}" for one in problems])

            checking.in_turn(attached, look)
            return found

        return self._in_one_map(check)

    def repair(self) -> None:
        """Rebuild every shard's index, free list and counts from its slots, and drop entries
        that cannot be read. Deaths are repaired on their own; this is for memory that was
        damaged."""
        def repair(attached: Attachment) -> None:
            attached.notice_removal()
            checking.in_turn(attached, lambda shard: checking.repair_shard(
                self, attached, shard))  # type: ignore[arg-type]

        self._in_one_map(repair)

    # -- copies -------------------------------------------------------------------------

    def dump(self, path: str | bytes | os.PathLike[str]) -> DumpReport:
        """Write every entry to a file, from which `load` or `merge` brings them back.

        The file takes its place by a rename, whole and synced to the disk, with the map's
        permission bits, or not at all; a link that another user put into a folder like /tmp is
        refused. Deadlines go on while it lies there. All entries are of one instant, copied as
        they are. O(bytes) of time and memory: `snapshot`. OSError, MapCorrupted, LockTimeout.
        """
        return dumps.dump(self, path)  # type: ignore[arg-type]

    @classmethod
    def load(
        cls: type[Self], path: str | bytes | os.PathLike[str], name: str,
        size: int | str | None = None, **parameters: Unpack[MapOptions],
    ) -> Self:
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
        return merging.load(cls, path, name, said)[0]  # type: ignore[arg-type, no-any-return]

    def merge(self, other: Care | str | bytes | os.PathLike[str]) -> MergeReport:
        """Write the entries of another map, or of a dump (its path), where they are newer.

        For each key the last write wins: an entry is written only if its key has no live entry
        here, or one that was written before it. It keeps its deadline and counts as written now, so
        of several copies merge the newest first. A deleted or expired key leaves no trace: an older
        copy brings it back. One step for each entry, not for all; may be run again.

        In a map with `tombstones=` an entry keeps when it was written, a delete is a write, too,
        and maps that merge each other, in any order, come to the same content.

        Raises DumpCorrupted, ConfigMismatch (a dump of another format or byte order; with
        tombstones, what a clock more than a day ahead has written), OSError;
        TypeError for pickles where codec="safe"; MapFull, EntryTooLarge, LockTimeout, whose
        `report` says what was written before. With on_full="evict" what was merged may be evicted.
        """
        return merging.merge(self, other)  # type: ignore[arg-type]
