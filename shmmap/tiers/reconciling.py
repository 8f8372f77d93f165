"""Two sides that were written apart become one again. It knows no store: see `Side`.

    1  list both sides once: digests of ranges of names, see `digests`
    2  the names of the ranges that differ, whose versions differ; each side is listed once more
       that has too many names to have kept them from 1
    3  some of these at a time:
       a  ask both sides for their time, and for the versions of the names
       b  get what one of them has that is to win, or both where a function decides
       c  write it to the other side, or to both: each if it still has the version of a
       d  what was written by others meanwhile goes through a to d again, TRIES times in all

No write of another's is lost: c writes only over what a has seen. Nothing is kept between two
steps, so it may end anywhere, and be run again; two at once do no harm. One that was stopped for
long between a and c writes nothing: the side refuses what comes WITHIN_MS after a. Else it could
bring back what was removed since, and whose tombstone has expired.

Held in memory are the names and versions of NAMES_AT_ONCE names, twice, and some BYTES of values.
Where more names are in ranges that differ, step 2 is made for one group of them after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from .._public import public
from ..errors import ShmMapError, ValueUnreadable
from ..memory._clock_cy import monotonic
from .digests import Digests, groups, range_of

ABSENT, FOREIGN = b"", b"?"
"""The versions of nothing, and of what a side did not write, and cannot tell a version of."""
NAMES_AT_ONCE = 500_000
BYTES = 4 << 20  # of values, about
MOST = 500  # names of step 3 at a time
TRIES = 5
WITHIN_MS = 10_000
DECIDING_S = 5.0  # of functions, in one go; they have the rest of WITHIN_MS for the last one


class Kept(NamedTuple):
    """What a side has under a name.

    Attributes:
        version: tells when it was written: of two, the later one is greater.
        data: bytes, with the version in them: the same on both sides.
        ttl_s: seconds that it has left; None: it does not expire.
        is_deleted: it is a tombstone: the name was removed then.
    """

    version: bytes
    data: bytes
    ttl_s: float | None
    is_deleted: bool


class Write(NamedTuple):
    """What a side is to have under a name, if it still has that version there."""

    name: bytes
    kept: Kept
    version: bytes


class Side(Protocol):
    """One of two. Its names are those that both sides have in common, without any prefix."""

    def versions(self) -> Iterator[list[tuple[bytes, bytes]]]:
        """Yield all names with their versions, some at a time, in any order, some perhaps twice."""

    def versions_of(self, names: Sequence[bytes]) -> list[bytes]:
        """Return the versions of names, ABSENT and FOREIGN among them."""

    def get(self, names: Sequence[bytes]) -> list[Kept | None]:
        """Return what is under each of these; None: nothing."""

    def moment(self) -> Any:
        """Return the side's time."""

    def put_if(self, writes: Sequence[Write], began: Any, within_ms: int) -> list[bool]:
        """Write each of these that still has its version; tell of each whether it was done. None is
        that comes more than `within_ms` after `began` of `moment`."""


Decide = Callable[[bytes, Kept, Kept], Kept]
"""Called with a name and what both sides have; returns one of the two, or something new whose
version is later than both."""


@public
class ReconcileReport(NamedTuple):
    """What a reconcile did.

    Attributes:
        compared: names that one side or both had.
        equal: of these, those that were the same.
        received: written here, since the other side had a later write, or this one nothing.
        sent: written there.
        resolved: written to both, as the policy made of two values.
        deleted: of the received, sent and resolved, those that are removals.
        foreign: names whose bytes no tier has written, on both sides together: left alone.
        unbelieved: names that one side had a stamp of from too far ahead: that lost against the
            other side's. Where the other side had none that is believed, both were left alone.
        changed: names that were left, since others wrote them again and again meanwhile.
        seconds: duration.
    """

    compared: int = 0
    equal: int = 0
    received: int = 0
    sent: int = 0
    resolved: int = 0
    deleted: int = 0
    foreign: int = 0
    unbelieved: int = 0
    changed: int = 0
    seconds: float = 0.0


def digests_of(side: Side, seen: Callable[[bytes, bytes], None] = lambda *pair: None) -> Digests:
    """List a side; `seen` is called with each name and version."""
    made = Digests()
    for piece in side.versions():
        for name, version in piece:
            seen(name, version)
            if version == FOREIGN:
                made.foreign += 1
            else:
                made.add(name, version)
    return made


class _Listed:
    """A side, and what a listing of it has told: its digests; its names and versions, if they are
    no more than half of NAMES_AT_ONCE."""

    def __init__(self, side: Side, digests: Digests | None = None) -> None:
        self._side = side
        self._versions: dict[bytes, bytes] | None = {} if digests is None else None
        self.digests = digests_of(side, self._keep) if digests is None else digests

    def _keep(self, name: bytes, version: bytes) -> None:
        if self._versions is not None:
            self._versions[name] = version
            if len(self._versions) > NAMES_AT_ONCE // 2:
                self._versions = None

    def versions(self) -> Iterator[Iterable[tuple[bytes, bytes]]]:
        """Yield all names with their versions, some at a time."""
        if self._versions is not None:
            yield self._versions.items()
        else:
            yield from self._side.versions()


class Reconciling:
    """One reconcile. `decide`: None: the later write wins. `is_believed`: tells of a version
    whether its time can be."""

    def __init__(
        self, mine: Side, theirs: Side, decide: Decide | None = None,
        is_believed: Callable[[bytes], bool] = lambda version: True,
    ) -> None:
        self._mine = mine
        self._theirs = theirs
        self._decide = decide
        self._is_believed = is_believed
        self._counts = dict.fromkeys(ReconcileReport._fields[:-1], 0)
        self._started = monotonic()
        self._size = 16  # names of step 3 at a time
        self._deferred: list[bytes] = []

    def run(self, digests: Digests | None = None) -> ReconcileReport:
        """Do it. `digests`: of the other side, where they are known.

        Raises:
            ShmMapError: what a side raises. Its `report` says what was done before.
        """
        try:
            listed = _Listed(self._mine), _Listed(self._theirs, digests)
            mine, theirs = listed[0].digests, listed[1].digests
            self._counts["foreign"] = mine.foreign + theirs.foreign
            differing = mine.differing(theirs)
            equal = len(mine) - sum(mine.counts[at] for at in differing)
            self._counts["equal"] = self._counts["compared"] = equal
            for group in groups(differing, mine, theirs, NAMES_AT_ONCE):
                self._settle(self._names_of(group, *listed))
        except ShmMapError as error:
            error.report = self.report()
            raise
        return self.report()

    def report(self) -> ReconcileReport:
        """Return what was done until now."""
        return ReconcileReport(**self._counts, seconds=monotonic() - self._started)

    def _names_of(self, group: set[int], mine: _Listed, theirs: _Listed) -> list[bytes]:
        """Return the names of some ranges that differ."""
        left: dict[bytes, bytes | None] = {}  # of ours, until they are seen there: None
        names = []
        for piece in mine.versions():
            left.update(pair for pair in piece if range_of(pair[0]) in group)
        for piece in theirs.versions():
            for name, version in piece:
                if range_of(name) not in group:
                    continue
                ours = left.get(name, ABSENT)
                left[name] = None
                if ours is None or FOREIGN in (ours, version):
                    continue
                self._counts["compared"] += 1
                if ours == version:
                    self._counts["equal"] += 1
                else:
                    names.append(name)
        only = [name for name, ours in left.items() if ours is not None and ours != FOREIGN]
        self._counts["compared"] += len(only)
        return names + only

    def _settle(self, names: list[bytes]) -> None:
        """Do step 3 with all of these."""
        names = names[::-1]
        while names:
            some = names[-self._size:]
            del names[-self._size:]
            for _ in range(TRIES):
                some = self._once(some)
                names += self._deferred
                if not some:
                    break
            self._counts["changed"] += len(some)

    def _once(self, names: list[bytes]) -> list[bytes]:
        """Do a to c of step 3; return those that were written by others meanwhile. `_deferred`:
        those that there was no time for."""
        self._deferred = []
        began = self._mine.moment(), self._theirs.moment()
        pairs = self._look(names)
        asked = monotonic()
        mine = _get(self._mine, [pair.name for pair in pairs if pair.takes_mine])
        theirs = _get(self._theirs, [pair.name for pair in pairs if pair.takes_theirs])
        read = sum(len(kept.data) for kept in (*mine.values(), *theirs.values()) if kept)
        self._size = min(MOST, max(1, BYTES * len(names) // max(1, read)))
        tasks, again = [], []
        for pair in pairs:
            ours, other = mine.get(pair.name), theirs.get(pair.name)
            is_late = self._decide is not None and monotonic() - asked > DECIDING_S
            if is_late and pair is not pairs[0]:
                self._deferred.append(pair.name)
            elif not pair.is_still(ours, other):
                again.append(pair.name)
            elif (wins := self._winner(pair.name, ours, other)) is not None:
                tasks.append(_Task(pair, wins, wins is not ours, wins is not other))
        return again + self._write(tasks, began, monotonic() - asked)

    def _look(self, names: list[bytes]) -> list[_Pair]:
        """Ask for versions; return what is to be settled."""
        mine, theirs = self._mine.versions_of(names), self._theirs.versions_of(names)
        pairs = []
        for name, ours, other in zip(names, mine, theirs, strict=True):
            if FOREIGN in (ours, other):
                self._counts["foreign"] += 1
            elif ours == other:
                self._counts["equal"] += 1
            else:
                pair = self._pair(name, ours, other)
                pairs.append(pair)
                if not (pair.takes_mine or pair.takes_theirs):
                    self._counts["unbelieved"] += 1
        return [pair for pair in pairs if pair.takes_mine or pair.takes_theirs]

    def _pair(self, name: bytes, ours: bytes, other: bytes) -> _Pair:
        mine, theirs = (bool(one) and self._is_believed(one) for one in (ours, other))
        is_odd = bool(ours) > mine or bool(other) > theirs
        if mine and theirs and self._decide is None:
            mine, theirs = ours > other, other > ours
        return _Pair(name, ours, other, mine, theirs, is_odd)

    def _winner(self, name: bytes, ours: Kept | None, other: Kept | None) -> Kept | None:
        """Return what both sides are to have; None: what one has cannot be read, though it has a
        head like ours."""
        if ours is None or other is None or self._decide is None:
            return ours or other
        try:
            return self._decide(name, ours, other)
        except ValueUnreadable:
            self._counts["foreign"] += 1
            return None

    def _write(
        self, tasks: list[_Task], began: tuple[Any, Any], since_s: float
    ) -> list[bytes]:
        """Write; return the names of what was not written. What is for both sides goes here only
        if it came there: else a function would be given its own result again."""
        sent = self._put(self._theirs, began[1], [
            Write(task.pair.name, _later(task.wins, since_s), task.pair.theirs)
            for task in tasks if task.for_theirs
        ])
        received = self._put(self._mine, began[0], [
            Write(task.pair.name, _later(task.wins, since_s), task.pair.mine)
            for task in tasks
            if task.for_mine and (not task.for_theirs or task.pair.name in sent)
        ])
        again = []
        for pair, wins, for_mine, for_theirs in tasks:
            name = pair.name
            if (for_theirs and name not in sent) or (for_mine and name not in received):
                again.append(name)
                continue
            what = "received" if not for_theirs else "sent" if not for_mine else "resolved"
            self._counts[what] += 1
            self._counts["deleted"] += wins.is_deleted
            self._counts["unbelieved"] += pair.is_odd
        return again

    def _put(self, side: Side, began: Any, writes: list[Write]) -> set[bytes]:
        """Write to a side, but what has expired meanwhile; return the names of what was done."""
        writes = [write for write in writes if write.kept.ttl_s is None or write.kept.ttl_s > 0]
        if not writes:
            return set()
        done = side.put_if(writes, began, WITHIN_MS)
        return {write.name for write, is_done in zip(writes, done, strict=True) if is_done}


class _Pair(NamedTuple):
    """A name whose versions differ; whether what a side has is needed; whether one of them is from
    too far ahead."""

    name: bytes
    mine: bytes
    theirs: bytes
    takes_mine: bool
    takes_theirs: bool
    is_odd: bool

    def is_still(self, ours: Kept | None, other: Kept | None) -> bool:
        """Tell whether what was got is what was compared."""
        return _version(ours) == (self.mine if self.takes_mine else ABSENT) and (
            _version(other) == (self.theirs if self.takes_theirs else ABSENT)
        )


class _Task(NamedTuple):
    """What a name is to hold, and on which side it does not yet."""

    pair: _Pair
    wins: Kept
    for_mine: bool
    for_theirs: bool


def _get(side: Side, names: list[bytes]) -> dict[bytes, Kept | None]:
    return dict(zip(names, side.get(names), strict=True)) if names else {}


def _version(kept: Kept | None) -> bytes:
    return ABSENT if kept is None else kept.version


def _later(kept: Kept, since_s: float) -> Kept:
    """Return what it is by now."""
    return kept if kept.ttl_s is None else kept._replace(ttl_s=kept.ttl_s - since_s)
