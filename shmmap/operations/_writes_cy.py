# mypy: ignore-errors
"""Writing keys: each operation is one step under its shard's lock.
"""

from __future__ import annotations

from collections.abc import ItemsView
from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        clock_ns,
        i64,
        key_t,
        load,
        new_key,
        new_probe,
        new_value,
        probe_t,
        u64,
        value_t,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        META_VALUE_TYPE_SHIFT,
        R_WRITES,
        SAMPLE_MASK,
        TIMED_LOCK_HOLD,
        TIMED_WRITE,
        TYPE_MASK,
        UNIT_SHIFT,
        VALUE_INT,
    )
    from shmmap.operations._near_cy import LINEARIZABLE
    from shmmap.operations._reads_cy import Reads
    from shmmap.shard._slots_cy import value_position
    from shmmap.shard._status import (
        ALWAYS,
        CONDITION,
        CORRUPT,
        FOUND,
        IF_MISSING,
        IF_NEWER,
        IF_THERE,
        IF_VERSION,
        KEEP_OTHERS,
        MISS,
        NO_INT,
        OVERFLOWS,
    )
    from shmmap.values._codecs_cy import encode as encode_value
    from shmmap.values._keys_cy import encode as encode_key
    from shmmap.values._keys_cy import refuse_long

from shmmap.checks import number, seconds, shown, whole
from shmmap.errors import MapUnlinked
from shmmap.operations._reads_cy import MISSING

COMPILED = cython.compiled

DEFAULT: Any = type("Default", (), {"__repr__": lambda self: "<the map's ttl>"})()


class Writes(Reads):
    """The writing operations of a map."""

    def deadline_ns(self, ttl):
        """Turn a ttl into a deadline: 0 none, -1 passed already."""
        now_ns: i64
        if ttl is DEFAULT:
            return self.clock.now() + self.ttl_ns if self.ttl_ns else 0
        if ttl is None:
            return 0
        if type(ttl) is not float and type(ttl) is not int:
            ttl = seconds(ttl, "ttl", " or None")
        if ttl != ttl:
            raise ValueError("ttl is NaN: give seconds, or None for no expiry")
        if ttl <= 0:
            return -1
        now_ns = self.clock.now()
        return now_ns + int(ttl * 1e9) if ttl < 3e9 else 0

    def prepare_deadlines(self, shard, deadline):
        """Reserve the pages for deadlines before the first is set, be it a tombstone's; start the
        sweeper."""
        if deadline > 0 or (deadline < 0 and self.tombstones_ns):
            if not shard.expiry.ready():
                self.attachment.reserve_deadlines(shard)
            if not self._sweeping:
                self._sweeping = self.attachment.start_sweeper()
        return 0

    def wrote(self, found):
        """Count a write. Its version is the time."""
        self.count(R_WRITES)
        self.look_if_due(found.version)
        return 0

    def write(self, key, value, mode, ttl, version):
        """Write an entry if `mode` allows; return whether it did.

        Modes: 0 always, 1 if there is no live one, 2 if there is, 3 if its version is `version`,
        4 if it is older; 8 more: the same, and evict nothing for it.
        """
        packed: key_t = new_key()
        encoded: value_t = new_value()
        kept: Any = encode_key(key, self.seed, packed)
        held: Any = encode_value(value, self._coder, encoded)
        return self.commit(key, packed, encoded, mode, self.deadline_ns(ttl), version)

    def commit(self, key, packed, encoded, mode, deadline, version):
        """Write an encoded entry: see `write`."""
        found: probe_t = new_probe()
        status: i64
        start: i64 = 0
        held: i64 = 0
        self.write_ticks += 1
        if self.write_ticks & SAMPLE_MASK == 0:  # how long this one takes is counted
            start = clock_ns(1)
        while True:
            self.come_in()
            try:
                shard = self.shard_for(packed)
                self.prepare_deadlines(shard, deadline)
                self.refuse_reentry(shard)
                try:
                    self.hold(shard, packed.hash >> UNIT_SHIFT)
                    if start:
                        held = clock_ns(1)
                    status = self.write_locked(shard, packed, encoded,
                                               mode, deadline, version, found)
                finally:
                    self.drop(shard)
                if start:
                    self.count_time(TIMED_LOCK_HOLD, held)
                    self.count_time(TIMED_WRITE, start)
                if self.near is not None:
                    self.near.drop(key)
                if status < 0:
                    refuse_long(packed.length)
                    self.raise_for(status, shard, packed.length + encoded.length)
                if status:
                    self.wrote(found)
                else:
                    self.look_now()
                return status == FOUND
            except MapUnlinked as error:  # it was replaced as we waited for the shard
                if not self._may_follow(error):
                    raise
            finally:
                self.leave()

    def write_locked(self, shard, key, value, mode, deadline, version, found):
        """Write an entry if `mode` allows: 1 done, 0 not allowed, or the status of `put`."""
        status: i64 = self.find_locked(shard, key, found)
        live: cython.bint = shard.is_live(status, found)
        if mode & CONDITION and (
            (mode & CONDITION == IF_MISSING and live)
            or (mode & CONDITION == IF_THERE and not live)
            or (mode & CONDITION == IF_VERSION and (found.version if live else 0) != version)
            or (mode & CONDITION == IF_NEWER and live and found.version >= version)
        ):
            return 0
        if deadline < 0:  # expired at once: the same as not being there
            if status == FOUND:
                self.end_entry(shard, key.hash, found, live)
            found.version = 0
            return 1
        status = shard.put(key.hash, key.type, key.data, key.length, value.type, value.data,
                           value.length, deadline, (mode & KEEP_OTHERS) == 0, found)
        if status == CORRUPT:  # the free list was broken: rebuild it, and once more
            self.mend(shard)
            self.find_locked(shard, key, found)
            status = shard.put(key.hash, key.type, key.data, key.length, value.type, value.data,
                               value.length, deadline, (mode & KEEP_OTHERS) == 0, found)
        return status

    def set(self, key: Any, value: Any, ttl: Any = DEFAULT, *, evict: Any = True) -> None:
        """Write `key`, whether or not it is there.

        `ttl` in seconds (float): the map's default if not given, None: the entry does not
        expire; 0 or less: it is expired at once. An overwrite never keeps the old ttl.
        `evict=False`: in a map that evicts, raise MapFull rather than evict others for it; every
        operation that may write a new entry takes it.
        Locks one shard. Raises MapFull, EntryTooLarge, LockTimeout, TypeError.
        """
        self.write(key, value, ALWAYS if evict else KEEP_OTHERS, ttl, 0)

    def add(self, key: Any, value: Any, ttl: Any = DEFAULT, *, evict: Any = True) -> bool:
        """Write `key` only if it has no live entry; tell whether it was written."""
        return self.write(key, value, IF_MISSING if evict else IF_MISSING | KEEP_OTHERS, ttl, 0)

    def replace(self, key: Any, value: Any, ttl: Any = DEFAULT, *, evict: Any = True) -> bool:
        """Write `key` only if it has a live entry; tell whether it was written."""
        return self.write(key, value, IF_THERE if evict else IF_THERE | KEEP_OTHERS, ttl, 0)

    def cas(
        self, key: Any, value: Any, version: Any, ttl: Any = DEFAULT, *, evict: Any = True
    ) -> bool:
        """Write `key` only if its version still is `version` (0: only if it has no live
        entry); tell whether it was written. See `get_versioned`."""
        if type(version) is not int:
            version = whole(version, "version")
        # no entry ever has an odd version: it stands for all that are out of range
        mode: Any = IF_VERSION if evict else IF_VERSION | KEEP_OTHERS
        return self.write(key, value, mode, ttl, version if 0 <= version < 1 << 63 else 1)

    def setdefault(
        self, key: Any, default: Any = None, ttl: Any = DEFAULT, *, evict: Any = True
    ) -> Any:
        """Return the value of `key`, writing `default` first if there is none: one step."""
        value: Any = self.read(key, MISSING, LINEARIZABLE)  # one step, whatever the handle's
        while value is MISSING:
            if self.write(key, default, IF_MISSING if evict else IF_MISSING | KEEP_OTHERS, ttl, 0):
                return default
            value = self.read(key, MISSING, LINEARIZABLE)
        return value

    def incr(
        self, key: Any, delta: Any = 1, initial: Any = 0, ttl: Any = DEFAULT, *, evict: Any = True,
        create: Any = True,
    ) -> Any:
        """Add `delta`, which may be negative, to the number at `key`; return the sum: one step.

        A missing key starts from `initial`, with `ttl`; with `create=False` it is a KeyError. A
        counter that is there keeps its deadline. Integers are signed 64-bit; with a float on
        either side the sum is a float, as in Python. numpy's numbers count as Python's, also where
        one is stored. An integer never fails for want of room if the key is there. Raises
        TypeError if the value is not a number, OverflowError; EditConflict if others change the
        entry all the time (not of integers).
        """
        if type(delta) is not int or type(initial) is not int:
            delta = number(delta, "incr: delta")
            initial = number(initial, "incr: initial")
            if type(delta) is float or type(initial) is float:
                return self._add_number(key, delta, initial, ttl, evict, create)
        found: probe_t = new_probe()
        packed: key_t = new_key()
        encoded: value_t = new_value()
        mode: i64 = ALWAYS if evict else KEEP_OTHERS  # here: no __bool__ of anyone's under the lock
        makes: i64 = 1 if create else 0
        by: i64 = _as_word(delta, "delta")
        start: i64 = _as_word(initial, "initial")
        too_far: cython.bint = is_too_far(start, by)
        kept: Any = encode_key(key, self.seed, packed)
        if cython.compiled:
            encoded.type = VALUE_INT
            encoded.small = 0 if too_far else start + by
            encoded.data = bytes_of_word(cython.address(encoded.small))
            encoded.length = 8
        else:
            encode_value(0 if too_far else start + by, self._coder, encoded)
        deadline: i64 = self.deadline_ns(ttl)
        status: i64
        offset: u64
        value: i64 = 0
        word: u64
        while True:
            self.come_in()
            try:
                shard = self.shard_for(packed)
                self.prepare_deadlines(shard, deadline)
                self.refuse_reentry(shard)
                try:
                    self.hold(shard, packed.hash >> UNIT_SHIFT)
                    status = self.find_locked(shard, packed, found)
                    if shard.is_live(status, found):
                        if (found.meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK != VALUE_INT:
                            status = NO_INT
                        else:
                            offset = shard.slots.value_offset(
                                found.slot, value_position(found.meta)
                            )
                            word = load(shard.mem, offset) if offset else 0
                            value = _signed(word)
                            if is_too_far(value, by):
                                status = OVERFLOWS
                            elif offset == 0:
                                status = CORRUPT
                            else:
                                value = value + by
                                shard.set_in_place(offset, _unsigned(value), found)
                                if shard.evicts:
                                    shard.eviction.hit(found.slot)
                                status = FOUND
                    elif makes == 0:
                        status = MISS
                    elif too_far:
                        status = OVERFLOWS
                        value = start
                    else:
                        status = self.write_locked(
                            shard, packed, encoded, mode, deadline, 0,
                            found,
                        )
                        value = start + by
                finally:
                    self.drop(shard)
                if self.near is not None:
                    self.near.drop(key)
                if status == FOUND:
                    self.wrote(found)
                    return value
                if status == OVERFLOWS:
                    raise OverflowError(
                        f"incr: {shown(key)} is at {value}, adding {delta} leaves 64 bits"
                    )
                if status == MISS:
                    raise KeyError(key)
                if status == NO_INT:
                    break
                refuse_long(packed.length)
                self.raise_for(status, shard, packed.length + 8)
            except MapUnlinked as error:  # it was replaced as we waited for the shard
                if not self._may_follow(error):
                    raise
            finally:
                self.leave()
        return self._add_number(key, delta, initial, ttl, evict, create)

    def touch(self, key: Any, ttl: Any = DEFAULT) -> bool:
        """Set a new ttl for `key` (seconds; None: no expiry; 0 or less: it is expired at once; not
        given: the map's, so none where the map has none), and a new version; tell whether it has a
        live entry. Never fails for want of slots."""
        found: probe_t = new_probe()
        packed: key_t = new_key()
        kept: Any = encode_key(key, self.seed, packed)
        deadline: i64 = self.deadline_ns(ttl)
        status: i64
        live: cython.bint
        while True:
            self.come_in()
            try:
                shard = self.shard_for(packed)
                self.prepare_deadlines(shard, deadline)
                self.refuse_reentry(shard)
                try:
                    self.hold(shard, packed.hash >> UNIT_SHIFT)
                    status = self.find_locked(shard, packed, found)
                    live = shard.is_live(status, found)
                    if live and deadline < 0:
                        self.end_entry(shard, packed.hash, found, True)
                    elif live:
                        shard.set_deadline(deadline, found)
                finally:
                    self.drop(shard)
                if self.near is not None:
                    self.near.drop(key)
                if live:
                    self.wrote(found)
                else:
                    self.look_now()
                return live
            except MapUnlinked as error:  # it was replaced as we waited for the shard
                if not self._may_follow(error):
                    raise
            finally:
                self.leave()


def write_mode(evict: Any) -> Any:
    """Return the mode of `write` that always writes."""
    return ALWAYS if evict else KEEP_OTHERS


def pairs_of(mapping: Any) -> Any:
    """Return the (key, value) pairs of whatever `dict` can be made of. Of a mapping whose items are
    looked up one by one, those that are gone by then are left out: it may be over a map."""
    items: Any = mapping.items() if hasattr(mapping, "items") else None
    if items is None and not hasattr(mapping, "keys"):
        return mapping
    if items is None or type(items) is ItemsView:
        return _pairs_found(mapping)
    return items


_LOOKS = 5  # at a key that is said to be there, and is not


def _pairs_found(mapping: Any) -> Any:
    for key in mapping.keys():  # noqa: SIM118
        tries = _LOOKS
        while tries:
            tries -= 1
            try:
                value = mapping[key]
            except KeyError:
                if key not in mapping:
                    break
                if not tries:  # its own error; once or twice it may have gone and come back
                    raise
                continue
            yield key, value
            break


def _as_word(value, what):
    """Check a 64-bit signed integer, an int."""
    if cython.compiled:
        word: i64 = 0
        if fits_word(value, cython.address(word)):
            return word
    elif -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        return value
    raise OverflowError(f"incr: {what}={shown(value)} is not a signed 64-bit integer")


def is_too_far(value, by):
    """Tell whether a sum leaves 64 bits."""
    if cython.compiled:  # a literal of 64 bits would be a Python object
        total: u64 = _unsigned(value) + _unsigned(by)
        return ((_unsigned(value) ^ total) & (_unsigned(by) ^ total)) >> 63 != 0
    return not -0x8000000000000000 <= value + by <= 0x7FFFFFFFFFFFFFFF


def _signed(word):
    """Read a word as a signed integer."""
    if cython.compiled:
        return cython.cast(i64, word)  # type: ignore[attr-defined]
    return word - (1 << 64) if word >> 63 else word


def _unsigned(value):
    """Return the word of a signed integer."""
    if cython.compiled:
        return cython.cast(u64, value)  # type: ignore[attr-defined]
    return value & 0xFFFFFFFFFFFFFFFF
