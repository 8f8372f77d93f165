# mypy: ignore-errors
"""Copies of what a store has, as bytes in a map, and the fast way to one that is fresh.

    offset  0      8    12       24    25
            asked  tag  version  kind  the value, as a map has it: see `values`

`asked`: nanoseconds since boot; `tag`: tells the tier from others of the same map; `version`: the
store's; little-endian. What the store has not ends before the version. CODED in place of the kind:
the value is what a codec has made of it.

**Locks**: none. **Crash**: nothing here is written.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import i64, key_t, new_key, new_probe, probe_t, u64
    from shmmap.memory._clock_cy import Clock
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        META_VALUE_TYPE_SHIFT,
        TYPE_MASK,
        VALUE_BYTES,
        VALUE_PICKLE,
        VALUE_TYPE_MAX,
    )
    from shmmap.values._codecs_cy import decode as decode_value
    from shmmap.values._codecs_cy import decode_at
    from shmmap.values._keys_cy import encode as encode_key
    from shmmap.values._octets import word32

from shmmap.errors import ShmMapError
from shmmap.operations._reads_cy import MISSING

COMPILED = cython.compiled
HEAD = 25  # bytes before a value
ASKED, TAG = 8, 4  # bytes
CODED = 255
CLOSER: Any = type("Closer", (), {"__repr__": lambda self: "<look more closely>"})()


class Copies:
    """Reads a map's copies as long as they are fresh, by what was known when somebody last looked:
    see `freshness`."""

    def _read_from(
        self, m: Any, tag: Any, most_ns: Any, look_ns: Any, wants_told: Any
    ) -> None:
        """Begin: with the age that a copy may have, for how long to go by what is known, and
        whether a copy of before `since` is to be looked at more closely."""
        self._from = m
        self._tag = tag
        self._clock = Clock()
        self._most_ns = most_ns
        self._look_ns = look_ns
        self._wants_told = wants_told
        self._know(1 << 62, 0, 1 << 62, 0)

    def _know(self, since: Any, proven: Any, floor: Any, looked: Any) -> None:
        """Go by this from now on, as it was looked up at that time. In this order: `find` reads
        them the other way round, and in the pure engine another thread may come in between."""
        self._floor = floor
        self._since = since
        self._proven = proven
        self._looked = looked

    def find(self, key, default):
        """Return the value of a fresh copy, `default` where there is one that says that the store
        has none; CLOSER: look more closely."""
        asked: i64
        now: i64
        looked: i64 = self._looked
        length: u64
        kind: u64
        proven: i64 = self._proven  # before the copy is looked up: see `Known`
        since: i64 = self._since
        floor: i64 = self._floor
        found: probe_t = new_probe()
        packed: key_t = new_key()
        kept: Any = encode_key(key, self._from.seed, packed)
        raw: Any = self._from.fetch(packed, found, True)
        if raw is MISSING or (found.meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK != VALUE_BYTES:
            return CLOSER
        data: bytes = raw
        length = len(data)
        if length < 12:
            return CLOSER
        if cython.compiled:
            if word32(octets_from(data, 0), 8) != self._tag:
                return CLOSER
        elif word32(data, 8) != self._tag:
            return CLOSER
        asked = int.from_bytes(data[:8], "little") if not cython.compiled else word_of(data)
        if asked < floor or (asked < since and self._wants_told):
            return CLOSER
        now = self._clock.now()
        if now - looked > self._look_ns:
            return CLOSER
        if now - (proven if since <= asked and asked < proven else asked) > self._most_ns:
            return CLOSER
        if length == 12:
            return default
        if length < 25:
            return CLOSER
        kind = data[24]
        if kind > VALUE_TYPE_MAX:
            return CLOSER
        if kind == VALUE_PICKLE:  # that runs anybody's code; what it raises is to be named
            return self._decode(key, kind, data[25:])
        if not cython.compiled:
            return decode_value(kind, data[25:], True)
        return decode_at(kind, octets_from(data, 25), length - 25)

    def get(
        self, key: Any, default: Any = None, *, consistency: Any = None, max_staleness: Any = None
    ) -> Any:
        """Return the value of a key; `default` if the store has none.

        A copy that is fresh enough costs a look into the map; else the store is asked.
        `consistency` and `max_staleness` (seconds): for this call, in place of the tier's. Raises
        StoreUnavailable if no copy may be given and the store cannot be asked; StoreRefused,
        ValueUnreadable.
        """
        value: Any = CLOSER
        if consistency is None and max_staleness is None:
            try:
                value = self.find(key, default)
            except ShmMapError:  # the slow way asks the store, or says what is wrong
                value = CLOSER
            if value is not CLOSER:
                return value
        return self._get_slowly(key, default, consistency, max_staleness)
