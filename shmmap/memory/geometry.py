"""From what a user asks for (a size, or a number of entries) to shards and slots."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from ..checks import count, shown, whole
from .layout import CONTROL, PAGE, ROW, Areas, record_bytes, shard_areas

WORKER_ROWS = 512
KEY_SIZE = 16  # bytes of key that a slot makes room for, unless told otherwise
VALUE_SIZE = 100  # bytes of value, likewise
DEFAULT_SLOT = 136  # header 16, key 16, value 100; also near the optimum for mixed sizes
SLOT_LIMIT = (1 << 24) - 1  # an index word has 24 bits for a slot
SHARD_LIMIT = 1 << 12
SIZE_LIMIT = 1 << 62  # bytes, as a word of the control segment says; no /dev/shm has as many
SMALL_SHARD = 256 * 1024  # below this a map gets fewer shards, not smaller ones
LARGE_SHARD = 8 * 1024 * 1024  # above this it gets more: a repair takes time by size
LARGE_SLOTS = LARGE_SHARD // DEFAULT_SLOT  # ... which goes by slots: fewer long ones take no longer
LARGEST_SHARD = 32 * 1024 * 1024  # from here on more shards whatever the slots
LOCK_SLOTS = 511  # of the lock shard: they and their index fill ten pages
LOCK_SLOT_SIZE = 64  # header 16, record 24, key 24; a longer key takes more slots
LOCK_NUMBER = SHARD_LIMIT  # what the lock shard's header has for a number
LONG_VALUE = 4096  # longer values are split into equal slots of at most about this
FAILURE_CHANCE = 1e-6
_UNITS = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}


class Geometry(NamedTuple):
    """How a map is laid out: counts, and bytes."""

    shards: int
    slots: int
    slot_size: int
    buckets: int
    evicts: int

    @property
    def areas(self) -> Areas:
        """Where the areas of each shard lie."""
        return shard_areas(self.slots, self.slot_size, self.buckets, self.evicts)

    @property
    def total_bytes(self) -> int:
        """Bytes of all objects, semaphores' pages and unreserved deadlines included."""
        return control_bytes() + PAGE + lock_bytes() + self.shards * (self.areas.end + PAGE)

    @property
    def max_entry_bytes(self) -> int:
        """The most key and value bytes that an entry can have."""
        return (self.slots - 1) * (self.slot_size - 8) - 8


def control_bytes() -> int:
    """Return the size of a control segment."""
    whole = record_bytes(CONTROL) + WORKER_ROWS * record_bytes(ROW)
    return -(-whole // PAGE) * PAGE


def lock_geometry() -> Geometry:
    """Lay out the lock shard: the same in every map."""
    return Geometry(1, LOCK_SLOTS, LOCK_SLOT_SIZE, buckets_for(LOCK_SLOTS), 0)


def lock_bytes() -> int:
    """Return the bytes of the lock shard and its semaphore."""
    return lock_geometry().areas.end + PAGE


def parse_size(size: float | str) -> int:
    """Read a size in bytes: 67108864, 64e6, "64MB" (10**6), "64MiB" or "64M" (2**20).

    Raises:
        TypeError: it is neither a whole number nor a str.
        ValueError: it is not a positive size.

    >>> parse_size("64MB"), parse_size("1GiB"), parse_size("1G"), parse_size(1e6)
    (64000000, 1073741824, 1073741824, 1000000)
    """
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", size)
        unit = _UNITS.get(match[2].upper()) if match else None
        if match is None or unit is None:
            raise ValueError(
                f'size={size!r} is not a size: write bytes, or "64MB" (units: B kB MB GB TB, or '
                "KiB MiB GiB TiB, for short K M G T)"
            )
        size = int(min(float(match[1]) * unit, 2 * SIZE_LIMIT))  # however many digits it has
    else:
        size = count(size, "size", 'an int or a str like "64MB"')
    if size <= 0:
        raise ValueError(f"size={shown(size)} must be positive")
    if size > SIZE_LIMIT:
        raise ValueError(f"size= is more than any map has: give at most {SIZE_LIMIT:,} (4 EiB)")
    return size


def slot_bytes(value_size: int | None, key_size: int = KEY_SIZE) -> int:
    """Choose the slot size for values of so many bytes.

    >>> slot_bytes(100), slot_bytes(1024), slot_bytes(None)
    (136, 1056, 136)
    """
    if value_size is None:
        return DEFAULT_SLOT
    data = key_size + value_size + 16
    parts = max(1, -(-data // LONG_VALUE))
    return max(32, -(-(data + 8 * (parts - 1)) // (8 * parts)) * 8)


def slots_needed(data_bytes: int, slot_size: int) -> int:
    """Count the slots for so many key and value bytes."""
    return 1 + max(0, -(-(data_bytes - (slot_size - 16)) // (slot_size - 8)))


def shard_load_bound(entries: int, shards: int, chance: float = FAILURE_CHANCE) -> int:
    """Return the least c so that, with so many entries hashed over the shards, any shard gets
    more than c with at most this chance (union bound over the binomial tail).

    >>> shard_load_bound(1000, 1)
    1000
    """
    if shards == 1:
        return entries
    p = 1.0 / shards
    log_p, log_q = math.log(p), math.log1p(-p)

    def tail(c: int) -> float:  # P(X > c): the terms fall faster than geometrically
        k = c + 1
        if k > entries:
            return 0.0
        log_term = (
            math.lgamma(entries + 1) - math.lgamma(k + 1) - math.lgamma(entries - k + 1)
            + k * log_p + (entries - k) * log_q
        )
        term = total = math.exp(log_term)
        while k < entries and term > total * 1e-12:
            term *= (entries - k) / (k + 1) * p / (1 - p)
            total += term
            k += 1
        return total

    low, high = entries // shards, entries
    while low < high:
        middle = (low + high) // 2
        if tail(middle) * shards <= chance:
            high = middle
        else:
            low = middle + 1
    return low


def buckets_for(slots: int) -> int:
    """Buckets of eight words for so many slots, at most 80 % full: a miss then looks at two
    (at 87 % it would be four, for one byte a slot less)."""
    return slots * 5 // 32 + 1


def _power_below(value: float) -> int:
    return 1 << max(0, int(value).bit_length() - 1)


def check_capacity(capacity: float) -> int:
    """Refuse what cannot be a number of entries (1e6 can); return it as a plain int."""
    capacity = count(capacity, "capacity")
    if capacity < 1:
        raise ValueError(f"capacity={shown(capacity)} must be at least 1")
    if capacity > SHARD_LIMIT * SLOT_LIMIT:
        raise ValueError(
            "capacity= is more entries than any map has slots: give at most "
            f"{SHARD_LIMIT * SLOT_LIMIT:,}"
        )
    return capacity


def check_shards(shards: int | None) -> int | None:
    """Refuse what cannot be a number of shards; return it as a plain int."""
    if shards is None:
        return None
    shards = whole(shards, "shards")
    if shards < 1 or shards > SHARD_LIMIT or shards & (shards - 1):
        raise ValueError(f"shards={shown(shards)} must be a power of two from 1 to {SHARD_LIMIT}")
    return shards


def _too_large(slots: float, slot_size: int) -> bool:
    """Tell whether a shard of so many slots should be two. Fewer shards need less headroom for the
    fullest, most where entries are few and long."""
    whole = slots * slot_size
    return whole > LARGEST_SHARD or (whole > LARGE_SHARD and slots > LARGE_SLOTS)


def plan_capacity(
    capacity: int, shards: int | None, value_size: int | None, key_size: int, evicts: bool
) -> Geometry:
    """Lay out a map that holds `capacity` entries with a failure chance of 1e-6 or less."""
    check_capacity(capacity)
    check_shards(shards)
    slot = slot_bytes(value_size, key_size)
    each = slots_needed(key_size + (VALUE_SIZE if value_size is None else value_size), slot)
    if shards is None:
        shards = min(64, _power_below(capacity / 256))
        while _too_large(capacity * each / shards, slot) and shards < SHARD_LIMIT:
            shards *= 2
    slots = shard_load_bound(capacity, shards) * each + each
    return _checked(Geometry(shards, slots, slot, buckets_for(slots), int(evicts)))


def plan_size(
    size: int, shards: int | None, value_size: int | None, key_size: int, evicts: bool
) -> Geometry:
    """Lay out a map whose objects have at most `size` bytes in all."""
    check_shards(shards)
    slot = slot_bytes(value_size, key_size)
    if shards is None:
        shards = min(64, _power_below(size / SMALL_SHARD))
        while size > shards * LARGE_SHARD and shards < SHARD_LIMIT:
            shards *= 2
    room = (size - control_bytes() - PAGE - lock_bytes()) // shards - PAGE

    def geometry(slots: int) -> Geometry:
        return Geometry(shards, slots, slot, buckets_for(slots), int(evicts))

    low, high = 0, min(SLOT_LIMIT, max(0, room) // slot)
    while low < high:
        middle = (low + high + 1) // 2
        if geometry(middle).areas.end <= room:
            low = middle
        else:
            high = middle - 1
    if low < 2:
        least = geometry(2).total_bytes
        raise ValueError(
            f"size={size} is too small for {shards} shard{'s' if shards > 1 else ''} of slots of "
            f"{slot} bytes: give at least size={least}" + (", or fewer shards=" * (shards > 1))
        )
    return _checked(geometry(low))


def _checked(geometry: Geometry) -> Geometry:
    if geometry.slots > SLOT_LIMIT:
        more = _power_below(geometry.shards * geometry.slots / SLOT_LIMIT) * 2
        advice = f"give shards={more}" if more <= SHARD_LIMIT else (
            "give a larger value_size=, or less of it"
        )
        raise ValueError(
            f"{geometry.slots:,} slots a shard are more than {SLOT_LIMIT:,}: {advice}"
        )
    return geometry
