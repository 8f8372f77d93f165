"""Whether what a map holds will fit into another shape, found out before anything moves.

Each entry is looked at once, without a lock: how many slots of the new size it takes, in which of
the new shards. A shard holds its entries if one of its slots stays free: with that an entry can be
overwritten in a full shard. **This is a forecast**: others write meanwhile, and while it moves. A
move that finds no room in spite of it goes back.

For a map that is full, what would do instead is found with the functions that lay a map out, by the
same count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import EntryTooLarge, MapFull
from ..memory.geometry import SHARD_LIMIT, SIZE_LIMIT, Geometry
from ..memory.table import UNITS
from ..operations._needs_cy import NeedCount, count_needed

if TYPE_CHECKING:
    from ..copies.hosts import OpenMap
    from ..lifecycle.parameters import Options, Parameters
    from .wish import Wish

_PIECE = 4096  # slots that are counted at once; in between signals and other threads come
_NEAR = 1000  # what would do is found to within this part of it


class Need(NamedTuple):
    """What the entries of a map take in slots of some size, by units of the hash.

    Attributes:
        slots: by unit, of the entries that a shard can hold.
        entries: how many these are.
        left_out: by unit, the slots of the others.
        too_large: how many those are.
        longest: bytes of key and value of the longest of all.
    """

    slots: list[int]
    entries: list[int]
    left_out: list[int]
    too_large: int
    longest: int

    def by_shard(self, shards: int) -> list[int]:
        """Return the slots for each of so many shards, of all entries."""
        every = [ours + out for ours, out in zip(self.slots, self.left_out, strict=True)]
        return _sums(every, shards)

    def fits(self, shape: Geometry) -> bool:
        """Tell whether shards of this shape hold them all; its slots are of the size counted with.
        """
        return self.longest <= shape.max_entry_bytes and (
            max(self.by_shard(shape.shards)) < shape.slots
        )


class Forecast(NamedTuple):
    """What will become of a map's entries, as it was while they were counted.

    Attributes:
        entries: how many there are; those that have expired do not count.
        fullest: the slots that the fullest of the new shards would need, of `slots`, of which one
            stays in reserve.
        slots: that a new shard has.
        longest: bytes of key and value of the longest entry.
        too_large: entries that no new shard can hold: a map that evicts drops them.
        evicted: about how many entries a map that evicts has no slots for.
    """

    entries: int
    fullest: int
    slots: int
    longest: int
    too_large: int
    evicted: int

    def __str__(self) -> str:
        """Say what is lost."""
        lost = []
        if self.evicted:
            lost.append(f"about {self.evicted:,} will be evicted for want of slots")
        if self.too_large:
            lost.append(
                f"{self.too_large:,} will be dropped, being larger than a shard can hold (the "
                f"longest has {self.longest:,} bytes)"
            )
        return f"of {self.entries:,} entries " + (" and ".join(lost) or "all will fit")


def _sums(by_unit: list[int], shards: int) -> list[int]:
    each = UNITS // shards
    return [sum(by_unit[at : at + each]) for at in range(0, UNITS, each)]


def count_need(m: OpenMap, slot_size: int, max_bytes: int) -> Need:
    """Count what a map's entries take in slots of so many bytes, in shards that hold entries of at
    most `max_bytes`. No lock; a forecast: see the module.

    Raises:
        MapClosed, MapUnlinked: meanwhile, too.
        MapCorrupted: an entry has lengths that none can have.
    """
    counted = NeedCount(slot_size, max_bytes)
    for shard in m._settled():
        first = 1
        while first:
            first = count_needed(m, shard, counted, first, _PIECE)
    slots, entries, left_out = map(list, zip(*counted.by_unit(), strict=True))
    return Need(slots, entries, left_out, counted.too_large, counted.longest)


def foretell(m: OpenMap, wish: Wish) -> Forecast:
    """Foretell what will become of the entries; nothing is refused. Raises as `count_need`."""
    return _forecast(count_need(m, wish.shape.slot_size, wish.shape.max_entry_bytes), wish.shape)


def _forecast(need: Need, shape: Geometry) -> Forecast:
    slots, entries = _sums(need.slots, shape.shards), _sums(need.entries, shape.shards)
    evicted = 0
    for used, held in zip(slots, entries, strict=True):
        over = used - (shape.slots - 1)
        if over > 0:
            evicted += -(-over * held // used)
    return Forecast(
        sum(entries) + need.too_large, max(need.by_shard(shape.shards)), shape.slots,
        need.longest, need.too_large, evicted,
    )


def refuse_what_cannot_fit(m: OpenMap, wish: Wish) -> Forecast:
    """Foretell what will become of the entries, and refuse a wish that has no room for them, before
    anything moves. If the wished map evicts, nothing is refused: the forecast says what is lost.

    Raises:
        EntryTooLarge: a new shard cannot hold the longest entry. Its message says what would do.
        MapFull: a new shard has too few slots for its entries. Likewise.
        MapClosed, MapUnlinked, MapCorrupted: as `count_need`.
    """
    need = count_need(m, wish.shape.slot_size, wish.shape.max_entry_bytes)
    seen = _forecast(need, wish.shape)
    if wish.shape.evicts or need.fits(wish.shape):
        return seen
    shape, where = wish.shape, f"map {m.name!r} cannot be resized so"
    advice = f"Nothing was moved. {_what_would_do(m, wish, need)}"
    if seen.too_large:
        which = (
            f"it has an entry of {seen.longest:,} bytes" if seen.too_large == 1 else
            f"it has {seen.too_large:,} entries that are too large, the longest of "
            f"{seen.longest:,} bytes"
        )
        raise EntryTooLarge(
            f"{where}: {which} (key and value), and each of {_shards(shape)} of {shape.slots:,} "
            f"slots of {shape.slot_size:,} bytes would hold entries of at most "
            f"{shape.max_entry_bytes:,}. {advice}"
        )
    raise MapFull(
        f"{where}: its {seen.entries:,} entries do not fit into {_shards(shape)} of "
        f"{shape.slots:,} slots of {shape.slot_size:,} bytes. The fullest would need "
        f"{seen.fullest:,}, and one in reserve. {advice}. Or remove entries first, or let it "
        'evict some: on_full="evict"'
    )


def refuse_way_back(m: OpenMap, shape: Geometry) -> None:
    """Refuse to go back to a shape that has no room any more for what has come since, before
    anything moves there. If it evicts, nothing is refused.

    Raises:
        MapFull: so it is; nothing was changed.
        MapClosed, MapUnlinked, MapCorrupted: as `count_need`.
    """
    if shape.evicts:
        return
    need = count_need(m, shape.slot_size, shape.max_entry_bytes)
    if need.fits(shape):
        return
    seen = _forecast(need, shape)
    raise MapFull(
        f"map {m.name!r} cannot go back: its {seen.entries:,} entries do not fit any more into the "
        f"shape that it had, {_shards(shape)} of {shape.slots:,} slots of {shape.slot_size:,} "
        "bytes. Nothing was changed, and it goes on to the new one. Remove entries first, then "
        "cancel again; or let it go on, and resize it then"
    )


def _shards(shape: Geometry) -> str:
    return f"{shape.shards:,} shard{'s' * (shape.shards > 1)}"


# -- what would do -----------------------------------------------------------------------------


def _what_would_do(m: OpenMap, wish: Wish, need: Need) -> str:
    """Say which other arguments have room for the entries."""
    wished, actual, ways = wish.parameters, wish.actual, []
    amount = "size" if wished.capacity is None else "capacity"
    shards = wish.shape.shards
    least = _least(wished, need)
    more = shards
    while least is None and more < SHARD_LIMIT:  # as many slots as a shard can have are too few
        more *= 2
        least = _least(wished._replace(shards=more), need)
    if least is not None:
        ways.append(f"{amount}={least}" + (f" with shards={more}" if more > shards else ""))
    fewer = shards
    while fewer > 1:
        fewer //= 2
        if _state(wished._replace(shards=fewer), need) == 0:
            ways.append(f"shards={fewer} at this {amount}")
            break
    lengths = (wished.value_size, wished.key_size) != (actual.value_size, actual.key_size)
    if lengths:
        as_now = wished._replace(value_size=actual.value_size, key_size=actual.key_size)
        try:
            shape = as_now.plan()
        except ValueError:
            shape = wish.shape
        if shape.slot_size != wish.shape.slot_size and (
            count_need(m, shape.slot_size, shape.max_entry_bytes).fits(shape)
        ):
            ways.append("value_size= and key_size= as they are now")
    if not ways:
        return "No size would do with slots as short as these: give a larger value_size="
    return f"{', or '.join(ways)} would do, for what it holds now"


def _state(parameters: Parameters, need: Need) -> int:
    """Tell whether a map of these parameters has room: 0; -1: too little; 1: there is none so
    large."""
    try:
        shape = parameters.plan()
    except ValueError:  # a size is refused for being too small, a capacity for being too large
        return -1 if parameters.capacity is None else 1
    return 0 if need.fits(shape) else -1


def _least(parameters: Parameters, need: Need) -> int | None:
    """Find about the least size, or capacity, that has room, at this number of shards; None: no
    shard can have so many slots."""
    amount = "size" if parameters.capacity is None else "capacity"
    low = parameters.capacity or parameters.size or 1

    def state(value: int) -> int:
        changed: Options = {amount: value}
        return _state(parameters._replace(**changed), need)

    high = low
    while state(high) < 0:
        low, high = high, 2 * high
        if high > SIZE_LIMIT:
            return None
    while high - low > max(1, high // _NEAR):
        middle = (low + high) // 2
        low, high = (middle, high) if state(middle) < 0 else (low, middle)
    unit = int(10 ** max(0, len(str(high)) - 4))
    rounded = -(-high // unit) * unit
    fitting = [value for value in (rounded, high) if state(value) == 0]
    return fitting[0] if fitting else None
