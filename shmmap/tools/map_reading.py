"""A map, read from outside: what `get`, `keys`, `scan` and the like stand on.

As `inspection`: claims no row, maps no memory, takes no lock, and opens every file for reading
only; so it cannot disturb the processes that use the map, works on maps of either engine, and on
those of other users whose files may be read. Reads count nowhere, and are no hits of an eviction.
See `shard_reading` for what is checked.

A map that moves to another geometry is followed: what has moved while it was read is read where
it is now.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

from ..checks import Key
from ..errors import MapCorrupted, MapNotFound, MapUnlinked, ShardBusy, ShmMapError
from ..lifecycle.control import LIVE, is_sound
from ..memory import geometry
from ..memory._clock_cy import Clock
from ..memory._hash_cy import hash_of
from ..memory.layout import constants
from ..memory.table import UNITS
from ..memory.words import ControlWords
from ..system import segment
from ..values._keys_cy import pack
from . import findings, inspection, unlinking
from .judging import read_control
from .seen import SeenMap, SeenShard
from .shard_reading import TRIES, Entry, Picks, Problem, ShardReader

K = constants()
USABLE = ("ready", inspection.LINGERS)
_PAUSE_S = 0.001


def find_usable(name: str, engine: str | None = None, layout: int | None = None) -> SeenMap:
    """Find the map of a name that can be read: this process's own flavour first, or the one that is
    asked for. Raises MapNotFound, ShmMapError."""
    found = seen = inspection.find_maps(name)
    if engine or layout is not None:
        seen = unlinking.chosen(found, engine, layout)
    if not seen:
        raise MapNotFound(findings.no_map(name, found))
    for one in seen:
        if one.state in USABLE:
            return one
    raise unusable(seen[0])


def unusable(seen: SeenMap) -> ShmMapError:
    """Return the error of a map that cannot be read: it says what it is."""
    return ShmMapError(f"map {seen.label!r} is {seen.state}: {seen.problem}")


class MapReader:
    """A map that was found, for reading. Nothing is open between two calls.

    Attributes:
        seen: the map, with its control segment as it was last read.
    """

    def __init__(self, seen: SeenMap) -> None:
        assert seen.control is not None
        self.seen = seen
        self.now_ns = Clock().now_ns

    @property
    def control(self) -> ControlWords:
        """Its control segment, as it was last read."""
        assert self.seen.control is not None
        return self.seen.control

    @property
    def codec(self) -> str:
        """The name of its codec."""
        return inspection.parameters_of(self.control).codec or "auto"

    def find(self, key: Key, wants_value: bool = True) -> Entry | None:
        """Return the live entry of a key; None: there is none. `wants_value=False`: only how long
        its value is. Raises TypeError for what no map takes for a key; MapUnlinked, MapCorrupted,
        ShardBusy, OSError."""
        key_type, data = pack(key)
        if len(data) > K["KEY_LENGTH_MASK"]:
            return None
        unit = hash_of(data, key_type, self.control.HASH_SEED) >> K["UNIT_SHIFT"]
        for _ in range(TRIES):
            reader = self._at(unit)
            try:
                found = reader.find(key_type, data, wants_value)
                if not reader.has_moved():
                    return found if self.is_live(found) else None
            except ShmMapError:  # or what is left of a shard that has moved
                if not reader.has_moved():
                    raise
            finally:
                reader.close()
        raise ShardBusy(f"map {self.seen.label!r}: it moves faster than it can be read: try again")

    def entries(
        self, picks: Picks, wants_values: bool, problem: Problem
    ) -> Generator[Entry, None, None]:
        """Yield the live entries whose keys are wanted, in no order. One that is there throughout
        is yielded once; one that comes or goes meanwhile may be. What cannot be read is given to
        `problem`. Raises MapUnlinked."""
        unit, told, tries = 0, set[bytes](), 0
        told_until = 0  # up to there what was told may be told of once more, where it has moved
        while unit < UNITS:
            following = unit + 1
            try:
                reader = self._at(unit)
            except (MapCorrupted, OSError) as error:
                problem(error if isinstance(error, ShmMapError) else _refused(self.seen, error))
                unit = self._after(unit)
                continue
            try:
                following = reader.units.stop
                told_until = max(told_until, following)
                for entry in reader.entries(picks, wants_values, unit, told, problem):
                    if self.is_live(entry):
                        yield entry
                if reader.has_moved() and tries < TRIES:
                    tries += 1
                    continue  # with what was told of before
            except ShmMapError as error:
                if reader.has_moved() and tries < TRIES:
                    tries += 1
                    continue
                problem(error)
            finally:
                reader.close()
            unit, tries = following, 0
            if unit >= told_until:
                told = set()

    def named_locks(self, problem: Problem) -> Iterator[Entry]:
        """Yield the entries of the lock shard: see `locks.lock_table`."""
        self.refresh()
        label = segment.locks_name(self.seen.name, self.control.NONCE)
        shape = geometry.lock_geometry()
        seen = SeenShard(geometry.LOCK_NUMBER, 0, None, "", 0, shape, label)
        reader = self._open(seen, "the lock shard")
        try:
            for entry in reader.entries(lambda *of: True, True, 0, set(), problem):
                if self.is_live(entry):
                    yield entry
        finally:
            reader.close()

    def shards(self) -> Iterator[ShardReader]:
        """Yield a reader of each shard, and of the lock shard; each is closed after its turn.
        Raises as `find`."""
        unit = 0
        while unit < UNITS:
            reader = self._at(unit)
            try:
                unit = reader.units.stop
                yield reader
            finally:
                reader.close()

    def is_live(self, entry: Entry | None) -> bool:
        """Tell whether there is an entry, whose deadline has not passed."""
        return entry is not None and (
            not entry.deadline_ns or entry.deadline_ns > self.now_ns())

    def left_s(self, entry: Entry) -> float | None:
        """Return the seconds until an entry expires, in whole ticks; None: it does not."""
        if not entry.deadline_ns:
            return None
        tick = K["DEADLINE_TICK_NS"]
        return max(0, entry.deadline_ns - self.now_ns()) // tick * tick / 1e9

    def refresh(self) -> None:
        """Read the control segment again. Raises MapUnlinked, MapCorrupted."""
        control, problem = read_control(segment.control_name(self.seen.name, self.seen.flavour))
        name = self.seen.label
        if control is None and problem != "absent":
            raise MapCorrupted(f"map {name!r}: its control segment cannot be read: {problem}")
        if control is None or control.NONCE != self.control.NONCE or control.STATE not in LIVE:
            raise MapUnlinked(f"map {name!r} was unlinked or replaced while it was read: try again")
        if not is_sound(control):
            raise MapCorrupted(f"map {name!r}: its control segment contradicts itself")
        self.seen = self.seen._replace(control=control)

    def _at(self, unit: int) -> ShardReader:
        """Open the shard that has a unit of the hash now."""
        for number in range(TRIES):
            time.sleep(number * _PAUSE_S)  # a move's own steps take as long
            self.refresh()
            for shard in inspection.shards_of(self.seen, unit):
                width = UNITS // shard.shape.shards
                if unit // width != shard.number:
                    continue
                where = f"shard {shard.number}"
                if shard.header is None:
                    raise MapCorrupted(f"map {self.seen.label!r}, {where}: {shard.problem}")
                try:
                    return self._open(shard, where)
                except FileNotFoundError:  # it has been renamed, or moved, since
                    break
        raise ShardBusy(f"map {self.seen.label!r}: it moves faster than it can be read: try again")

    def _after(self, unit: int) -> int:
        """Return the first unit behind a shard that cannot be opened."""
        width = UNITS // max(shard.shape.shards for shard in inspection.shards_of(self.seen, unit))
        return (unit // width + 1) * width

    def _open(self, shard: SeenShard, where: str) -> ShardReader:
        return ShardReader(shard.label, shard, self.control.NONCE, self.control.HASH_SEED,
                           f"map {self.seen.label!r}, {where}")


def _refused(seen: SeenMap, error: OSError) -> ShmMapError:
    return ShmMapError(f"map {seen.label!r}: a shard may not be read: {error.strerror or error}")
