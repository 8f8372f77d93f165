"""Reading keys: without a lock, as long as that can be validated.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap._codecs_cy import decode as decode_value
    from shmmap._handle_cy import Handle
    from shmmap._keys_cy import decode as decode_key
    from shmmap._keys_cy import encode as encode_key
    from shmmap._words import (
        i64,
        key_ref,
        load,
        probe_ref,
        u64,
        Key,
        Probe,
    )
    from shmmap.layout import (  # type: ignore[attr-defined]
        KEY_LENGTH_MASK,
        KEY_TYPE_MASK,
        META_KEY_TYPE_SHIFT,
        META_LENGTH_SHIFT,
        META_VALUE_TYPE_SHIFT,
        R_HITS,
        R_LOCKED_READS,
        R_MISSES,
        R_RETRIES,
        R_TAKEOVERS,
        S_DIRTY,
        TYPE_MASK,
    )

from shmmap.errors import MapCorrupted, ShardBusy

COMPILED = cython.compiled

MISSING: Any = object()  # "no entry", where None could be a value


class Reads(Handle):
    """The reading operations of a map."""

    def raw_value(self, shard, found):
        """Copy a found value's bytes out; None: its chain was cut meanwhile."""
        room = new_room(found.meta >> META_LENGTH_SHIFT)
        if not shard.read_value(found, target_of(room)):
            return None
        return room

    def raw_key(self, shard, found):
        """Copy a found key's bytes out; None: its chain was cut meanwhile."""
        room = new_room(found.meta & KEY_LENGTH_MASK)
        if not shard.read_key(found, target_of(room)):
            return None
        return room

    def value_of(self, raw, found):
        """Decode a value that was confirmed."""
        try:
            if cython.compiled:
                return decode_value((found.meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK, raw, self.safe)
            return decode_value(
                (found.meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK, bytes(raw), self.safe
            )
        except MapCorrupted as error:
            raise MapCorrupted(f"map {self.name!r}: {error}") from None

    def key_of(self, raw, found):
        """Decode a key that was confirmed."""
        return decode_key((found.meta >> META_KEY_TYPE_SHIFT) & KEY_TYPE_MASK, bytes(raw))

    def try_fetch(self, shard, key, found, wants_value):
        """Read once without the lock: the raw value, MISSING, or None: start again."""
        status: i64 = shard.look(key.hash, key.type, key.data, key.length, found)
        if status == 0:
            return MISSING
        if status != 1:
            return None
        expired: cython.bint = shard.is_expired(found)
        raw: Any = MISSING if expired else b""
        if wants_value and not expired:
            raw = self.raw_value(shard, found)
        return raw if shard.confirm(found) else None

    def fetch(self, key, found, wants_value):
        """Read a key: the raw value, or MISSING. Without the lock, unless that keeps failing."""
        shard = self.shard_of(key.hash)
        raw: Any
        me: u64 = self.enter()
        attempt: u64
        try:
            for attempt in range(16):
                raw = self.try_fetch(shard, key, found, wants_value)
                if raw is not None:
                    break
                self.count(R_RETRIES)
            else:
                raw = self.fetch_locked(shard, key, found, wants_value, me)
            if raw is MISSING:
                self.count(R_MISSES)
            else:
                if self.evicts:
                    shard.eviction.hit(found.slot)
                self.count(R_HITS)
            return raw
        finally:
            self.leave()

    def fetch_locked(self, shard, key, found, wants_value, me):
        """Read a key under the lock; while it cannot be had, try without it after each slice."""
        left: i64 = self.lock_timeout_ns
        slice_ns: i64 = 1000000
        status: i64
        raw: Any
        self.refuse_reentry(shard, me)
        while True:
            try:
                if not cython.compiled:
                    self.attachment.inside[shard.number].add(me)
                status = shard.lock.acquire(me, slice_ns)
                if status != 3:
                    if status == 2:
                        self.count(R_TAKEOVERS)
                    self.count(R_LOCKED_READS)
                    if load(shard.mem, S_DIRTY):
                        self.mend(shard)
                    status = self.find_locked(shard, key, found)
                    if not self.is_live(shard, status, found):
                        return MISSING
                    raw = self.raw_value(shard, found) if wants_value else b""
                    if raw is None:
                        self.raise_for(-4, shard, 0)
                    return raw
            finally:
                self.drop(shard, me)
            raw = self.try_fetch(shard, key, found, wants_value)
            if raw is not None:
                return raw
            left -= slice_ns
            if left <= 0:
                raise ShardBusy(self.attachment.describe_wait(shard, self.lock_timeout_ns))
            if slice_ns < 50000000:
                slice_ns *= 2

    def get(self, key: Any, default: Any = None) -> Any:
        """Give the value of `key`, or `default` if there is no live entry.

        Takes no lock; O(value bytes). Raises ShardBusy if a writer of this shard has been
        stopped in the middle of publishing for `lock_timeout` seconds.
        """
        if not cython.compiled:
            found, packed = Probe(), Key()
        else:
            found: Probe  # type: ignore[no-redef]
            packed: Key  # type: ignore[no-redef]
        kept: Any = encode_key(key, self.seed, key_ref(packed))
        raw: Any = self.fetch(key_ref(packed), probe_ref(found), True)
        if raw is MISSING:
            return default
        return self.value_of(raw, probe_ref(found))

    def __getitem__(self, key: Any) -> Any:
        """Give the value of `key`. Raises KeyError if there is no live entry."""
        value: Any = self.get(key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        """Tell whether `key` has a live entry. Copies no value."""
        if not cython.compiled:
            found, packed = Probe(), Key()
        else:
            found: Probe  # type: ignore[no-redef]
            packed: Key  # type: ignore[no-redef]
        kept: Any = encode_key(key, self.seed, key_ref(packed))
        return self.fetch(key_ref(packed), probe_ref(found), False) is not MISSING

    def get_versioned(self, key: Any, default: Any = None) -> Any:
        """Give (value, version) of `key`; (default, 0) if there is no live entry.

        The version is what `cas` takes; it is unique and rises within a shard.
        """
        if not cython.compiled:
            found, packed = Probe(), Key()
        else:
            found: Probe  # type: ignore[no-redef]
            packed: Key  # type: ignore[no-redef]
        kept: Any = encode_key(key, self.seed, key_ref(packed))
        raw: Any = self.fetch(key_ref(packed), probe_ref(found), True)
        if raw is MISSING:
            return default, 0
        return self.value_of(raw, probe_ref(found)), found.version

    def get_many(self, keys: Any) -> Any:
        """Give {key: value} of those keys that have live entries; each read is one step."""
        gathered: dict = {}
        for key in keys:
            value: Any = self.get(key, MISSING)
            if value is not MISSING:
                gathered[key] = value
        return gathered

    def ttl(self, key: Any) -> Any:
        """Give the seconds that `key` has left; None: it does not expire. KeyError: no entry."""
        if not cython.compiled:
            found, packed = Probe(), Key()
        else:
            found: Probe  # type: ignore[no-redef]
            packed: Key  # type: ignore[no-redef]
        kept: Any = encode_key(key, self.seed, key_ref(packed))
        shard = self.shard_of(packed.hash)
        me: u64 = self.enter()
        status: i64
        deadline: i64 = 0
        self.refuse_reentry(shard, me)
        try:
            self.hold(shard, me)
            status = self.find_locked(shard, key_ref(packed), probe_ref(found))
            if not self.is_live(shard, status, probe_ref(found)):
                deadline = -1
            elif (found.meta >> META_KEY_TYPE_SHIFT) & 0x80 and shard.expiry.ready():
                deadline = shard.expiry.deadline(found.slot)
        finally:
            self.drop(shard, me)
            self.leave()
        if deadline < 0:
            raise KeyError(key)
        return max(0.0, (deadline - self.clock.now()) / 1e9) if deadline else None


def new_room(length):
    """Make a bytes object to be filled (pure: a bytearray)."""
    if cython.compiled:
        return PyBytes_FromStringAndSize(cython.NULL, length)  # noqa: F821
    return bytearray(length)


def target_of(room):
    """Give where `new_room` is filled."""
    if cython.compiled:
        return PyBytes_AS_STRING(room)  # noqa: F821
    return room
