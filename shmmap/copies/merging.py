"""Merging copies of maps: for each key, the last write wins.

An entry is written unless its key has a live one whose version is as new or
newer. That test and the write are one step (`write_raw`); a whole merge is
not. A written entry gets a new version of this map, because the one it comes
with need not be unique here: shards and maps give out versions independently,
and two entries that take turns in one slot under one version would pass for
each other with a reader, a near cache, or `cas`.

So merges without tombstones are for one direction. What was merged counts as
written when it was merged: were it merged back, it would win over what was
written there meanwhile. And a delete, or an entry that has expired, leaves
nothing that could win over an older copy.

A map with tombstones keeps with each entry that it merged when that was
written first, and for some time of each key that was deleted when that was.
It goes by these stamps: see `merge_raw`. Any number of such maps that merge
each other, by whatever ways, come to the same content; a delete is forgotten
when its tombstone's time is over, so they are to meet within that time. An
entry that has expired, or was evicted or swept, leaves nothing there either.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .._public import public
from ..errors import (
    ConfigMismatch,
    DumpCorrupted,
    LockTimeout,
    MapCorrupted,
    MapExists,
    MapFull,
    MapNotFound,
    SharedMemoryFull,
    ShmMapError,
    SystemCallError,
)
from ..memory._clock_cy import monotonic
from ..memory.layout import constants
from ..memory.stamps import AHEAD_NS, stamp_of, version_at
from ..operations._restore_cy import merge_raw, write_raw
from ..operations._takes_cy import Takes
from ..shard._status import DELETED, NOTHING_THERE, TOO_LARGE, WRITTEN
from ..system.unfinished import Undo
from ..values.codecs import BUILT_IN
from .dumps import DumpReader, RawEntry, raw_entries

if TYPE_CHECKING:
    from ..lifecycle.attachment import Attachment
    from ..lifecycle.parameters import Options
    from .hosts import MapClass, OpenMap

K = constants()
Failure = TypeVar("Failure", bound=Exception)


@public
class MergeReport(NamedTuple):
    """What a merge did.

    Attributes:
        written: entries that were written.
        older: entries that were not, their key having one that is as new or newer.
        expired: entries that were not, their deadline having passed, and tombstones whose time is
            over.
        seconds: duration.
        deleted: entries that were deleted, since the source knew of a later delete.
    """

    written: int
    older: int
    expired: int
    seconds: float
    deleted: int = 0


def merge(target: OpenMap, source: object) -> MergeReport:
    """Merge a map or a dump into a map: see `ShmMap.merge`."""
    if isinstance(source, Takes):
        theirs, ours = source._live, target._live  # type: ignore[attr-defined]
        if (theirs.name, theirs.nonce) == (ours.name, ours.nonce):
            return MergeReport(0, 0, 0, 0.0)  # what was deleted since would come back
        what, codec = f"map {theirs.name!r}", theirs.parameters.codec
        entries = _as_wanted(raw_entries(source), theirs, ours)  # type: ignore[arg-type]
        return _write_all(target, what, entries, codec)
    if not isinstance(source, (str, bytes, os.PathLike)):
        raise TypeError(
            f"merge takes a ShmMap, or the path of a dump, not {type(source).__name__}"
        )
    with DumpReader(source) as dump:
        return _merge_dump(target, dump)


def _as_wanted(
    entries: Iterable[RawEntry], theirs: Attachment, ours: Attachment
) -> Iterator[RawEntry]:
    """Turn the versions of a map's entries into what another map of this boot goes by."""
    for entry in entries:
        version = entry.version
        if ours.tombstones_ns and not theirs.tombstones_ns:
            version = stamp_of(version, ours.wall_ns)
        elif theirs.tombstones_ns and not ours.tombstones_ns:
            version = version_at(version, theirs.wall_ns)
        yield entry._replace(version=version)


def load(
    opener: MapClass, path: str | bytes | os.PathLike[str], name: str, said: Options
) -> tuple[Any, MergeReport]:
    """Open or create a map, of the class that is the `opener`, and merge a dump into it: see
    `ShmMap.load`."""
    with DumpReader(path) as dump:
        dump.verify()
        loading = _Loading()
        try:
            report = _merge_dump(_open(opener, dump, name, said, loading), dump, verified=True)
            loading.undo.drop()
            return loading.target, report
        except BaseException as error:
            loading.undo.settle()
            if loading.is_removed and isinstance(error, ShmMapError):
                raise _removed(error, dump, name) from error.__cause__ or error
            raise


class _Loading:
    """A map that is being loaded, and is taken back if that fails."""

    def __init__(self) -> None:
        self.target: OpenMap | None = None
        self.made = self.is_removed = False
        self.undo = Undo(self._take_back, nullcontext)

    def _take_back(self) -> None:
        """Unlink the map if it was made for this, and nobody else uses it; close it."""
        target = self.target
        if target is None or target.closed:
            return
        try:
            if self.made and not self.is_removed:
                self.is_removed = _remove_unshared(target)
        except MemoryError:  # it is done again
            raise
        except BaseException:
            target.close()
            raise
        target.close()


def _remove_unshared(target: OpenMap) -> bool:
    """Remove a map that could not be loaded, unless others use it already; tell whether that was
    done. What the loading failed of says more than what its removal does."""
    with suppress(SystemCallError, LockTimeout):
        if len(target._live.worker.rows_in_use()) == 1 == len(target._live.handles):
            target.unlink()
            return True
    return False


def _open(
    opener: MapClass, dump: DumpReader, name: str, said: Options, loading: _Loading
) -> OpenMap:
    """Attach to a map, or create it with a dump's parameters.

    A new map takes the dump's hash seed over. Of as many shards each then gets the entries that it
    had, so what fitted fits; another seed may put more into a full shard than it can hold.
    """
    options = dump.options()
    seed = options.pop("hash_seed", None)  # none in a dump of an early version
    if any(said.get(field) is not None for field in ("size", "capacity")):
        # the dump's would contradict, and its shards not fit
        for field in ("size", "capacity", "shards"):
            options.pop(field, None)
    while True:
        try:
            loading.target = opener.attach(name, **said)
            return loading.target
        except MapNotFound:
            pass
        if options.get("codec", "auto") not in BUILT_IN and said.get("codec") is None:
            raise ConfigMismatch(
                f"{dump.path} is of a map with the codec {options['codec']!r}: say codec=, the "
                "object of that name, to make such a map"
            )
        try:
            loading.made = True
            loading.target = opener.create(name, **{**options, **said}, _seed=seed)
            return loading.target
        except MapExists:  # another process was faster
            loading.made = False
        except SharedMemoryFull as error:
            raise SharedMemoryFull(
                f"loading {dump.path} into a new map {name!r}: {error}. The dump asks for that: "
                f"say size=; its {dump.totals.records:,} entries are in {dump.totals.bytes:,} bytes"
            ) from None


def _merge_dump(target: OpenMap, dump: DumpReader, verified: bool = False) -> MergeReport:
    """Merge a dump; whatever can be known to fail is refused before anything is written."""
    if not verified:
        dump.verify()
    live = target._live
    if live.safe and dump.totals.pickled:
        raise TypeError(
            f"{dump.path} holds {dump.totals.pickled:,} pickled values, and map {live.name!r} has "
            f'codec="{live.parameters.codec}", which takes none; nothing was written. Load it '
            'into a map with codec="auto" if every process with access, and who wrote the dump, is '
            "trusted"
        )
    largest = dump.totals.largest + (K["ORIGIN_BYTES"] if live.tombstones_ns else 0)
    if largest > live.geometry.max_entry_bytes:
        raise live.error_for(TOO_LARGE, live.shards[0], largest)
    codec = dump.head.parameters.get("codec")
    since = live.wall_ns if live.tombstones_ns else None
    return _write_all(target, dump.path, dump.entries(live.clock.now_ns(), since), codec)


def _write_all(
    target: OpenMap, what: str, entries: Iterable[RawEntry], codec: str | None
) -> MergeReport:
    """Write what is newer, until it is done or fails. `codec`: the name of the entries'."""
    started = monotonic()
    live = target._live
    clock, own = live.clock, live.parameters.codec
    written = older = expired = deleted = 0
    try:
        for key_type, key, value_type, value, deadline_ns, version in entries:
            if deadline_ns and deadline_ns <= clock.now_ns():
                expired += 1
            elif value_type == K["VALUE_CODED"] and codec != own:
                raise TypeError(
                    f"{what} has values of codec {codec!r}, and map {target.name!r} has {own!r}, "
                    "which does not read them: merge into a map of that codec"
                )
            elif live.tombstones_ns or value_type == K["VALUE_TOMBSTONE"]:
                stamp_ns = version if live.tombstones_ns else version >> 1
                if live.tombstones_ns:
                    _refuse_ahead(target, what, stamp_ns)
                done = merge_raw(target, key_type, key, value_type, value, deadline_ns, stamp_ns)
                written += done == WRITTEN
                deleted += done == DELETED
                older += done not in (WRITTEN, DELETED, NOTHING_THERE)
            elif write_raw(target, key_type, key, value_type, value, deadline_ns, version):
                written += 1
            else:
                older += 1
    except (ShmMapError, TypeError) as error:
        report = MergeReport(written, older, expired, monotonic() - started, deleted)
        raise _stopped(error, what, report) from error
    return MergeReport(written, older, expired, monotonic() - started, deleted)


def _refuse_ahead(target: OpenMap, what: str, stamp_ns: int) -> None:
    """Refuse what a clock far ahead has stamped: all that is written later would have to be stamped
    later yet, here and in every map that merges this one."""
    live = target._live
    ahead_ns = stamp_ns - live.wall_ns - live.clock.now_ns()
    if ahead_ns > AHEAD_NS:
        raise ConfigMismatch(
            f"an entry was written {ahead_ns / 3.6e12:,.0f} hours ahead of this map's clock. Set "
            "the clocks of the machines right, and make the map anew whose clock was wrong"
        )


def _removed(error: ShmMapError, dump: DumpReader, name: str) -> Exception:
    """Say that a map which could not be loaded is gone, in an error of the same class."""
    if isinstance(error, MapFull):
        why = (
            f"no room for all of its {dump.totals.records:,} entries. The new map was removed "
            "again: give a larger size= (or capacity=), or leave out size=, capacity=, shards=, "
            "value_size= and on_full= to make it as the dumped map was"
        )
    else:
        why = f"{error.__cause__ or error}. The new map was removed again"
    made = _anew(error, type(error), f"loading {dump.path} into a new map {name!r}: {why}")
    made.report = error.report
    return made


def _anew(error: Exception, kind: type[Failure], text: str) -> Failure:
    """Make an error of a class with another text; a system call's keeps its number."""
    return kind(error.errno, text) if isinstance(error, SystemCallError) else kind(text)


def _stopped(error: Exception, what: str, report: MergeReport) -> Exception:
    """Say how far a merge came, in an error of the same class."""
    kind: type[Exception] = type(error)
    if kind is DumpCorrupted and what.startswith("map "):
        kind = MapCorrupted
    made = _anew(
        error, kind,
        f"merging {what}: {error}. Before that {report.written:,} entries were written and stay "
        f"({report.older:,} older and {report.expired:,} expired ones were not); a merge may be "
        "run again"
    )
    made.report = report  # type: ignore[attr-defined]
    return made
