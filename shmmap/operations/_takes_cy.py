# mypy: ignore-errors
"""Removing entries, one, any or all of them, and counting them. And `m[key] = value`: it and `del`
are one slot of a type.

What gives a value decodes it first, with nothing held, and removes the entry only if it still
has the version that was read: so what this process cannot decode stays for one that can. Where
others change the entry again and again, one whose decoding runs nobody's code is taken at once.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        clock_ns,
        exactly,
        i64,
        key_t,
        load,
        new_key,
        new_probe,
        new_room,
        pause,
        probe_t,
        target_of,
        u64,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        ALL_UNITS,
        META_LENGTH_SHIFT,
        R_DELETES,
        S_DIRTY,
        S_MOVED,
        S_OWNER,
        UNIT_SHIFT,
    )
    from shmmap.operations import reentry
    from shmmap.operations._decoding_cy import value_of
    from shmmap.operations._pop_any_cy import give_up_at, is_sure, take_any
    from shmmap.operations._writes_cy import Writes
    from shmmap.shard._shard_cy import Shard
    from shmmap.shard._slots_cy import value_position
    from shmmap.shard._status import (
        AGAIN,
        ALWAYS,
        CORRUPT,
        FOUND,
        MISS,
        NO_ROOM,
        READ_TRIES,
        TIMED_OUT,
        UNSURE,
    )
    from shmmap.values._keys_cy import encode as encode_key

from shmmap.checks import refuse_one_key
from shmmap.errors import MapUnlinked
from shmmap.memory.geometry import SHARD_LIMIT
from shmmap.operations._pop_any_cy import ROUNDS
from shmmap.operations._reads_cy import MISSING
from shmmap.operations._writes_cy import DEFAULT
from shmmap.operations.routing import ShardMoved

COMPILED = cython.compiled
_NONE: Any = None


class Takes(Writes):
    """The removing operations of a map, and its length."""
    if not cython.compiled:
        pop_turn = 0

    def take(self, key):
        """Remove `key` in one step; tell whether it had a live entry."""
        found: probe_t = new_probe()
        packed: key_t = new_key()
        kept: Any = encode_key(key, self.seed, packed)
        live: cython.bint = False
        status: i64
        while True:
            self.come_in()
            try:
                shard = self.shard_for(packed)
                if self.tombstones_ns:
                    self.prepare_deadlines(shard, -1)
                self.refuse_reentry(shard)
                try:
                    self.hold(shard, packed.hash >> UNIT_SHIFT)
                    status = self.find_locked(shard, packed, found)
                    if status == FOUND:
                        live = not shard.is_expired(found)
                        if self.tombstones_ns:
                            self.end_entry(shard, packed.hash, found, live)
                        else:
                            shard.erase(packed.hash, found)
                finally:
                    self.drop(shard)
                if self.near is not None:
                    self.near.drop(key)
                if live:
                    self.count(R_DELETES)
                self.look_now()
                return live
            except MapUnlinked as error:  # it was replaced as we waited for the shard
                if not self._may_follow(error):
                    raise
            finally:
                self.leave()

    def delete(self, key: Any) -> bool:
        """Remove `key`; tell whether it had a live entry. Locks one shard."""
        return self.take(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write `key`; the entry's ttl starts anew with the map's default."""
        self.write(key, value, ALWAYS, DEFAULT, 0)

    def __delitem__(self, key: Any) -> None:
        """Remove `key`. Raises KeyError if there is no live entry."""
        if not self.take(key):
            raise KeyError(key)

    def delete_many(self, keys: Any) -> int:
        """Remove every key given; count those that had a live entry."""
        gone: u64 = 0
        refuse_one_key(keys)
        for key in keys:
            if self.take(key):
                gone += 1
        return gone

    def pop(self, key: Any, default: Any = MISSING) -> Any:
        """Remove `key` and return its value, in one step; default, or KeyError, if there is none.

        A value that cannot be decoded here stays, and its error is raised. Raises LockTimeout too
        if others have changed the entry all the time, for `lock_timeout` seconds.
        """
        found: probe_t = new_probe()
        packed: key_t = new_key()
        kept: Any = encode_key(key, self.seed, packed)
        value: Any = MISSING
        while True:
            self.come_in()  # for all its steps: one shard is picked for them
            try:
                value = self.take_value(key, packed, found)
                self.look_now()
                break
            except MapUnlinked as error:
                if not self._may_follow(error):
                    raise
            finally:
                self.leave()
                if self.near is not None:
                    self.near.drop(key)
        if value is not MISSING:
            return value
        if default is MISSING:
            raise KeyError(key)
        return default

    def take_value(self, key, packed, found):
        """Remove a key and return its value, or MISSING."""
        shard = self.shard_for(packed)
        raw: Any
        value: Any
        status: i64
        until_ns: i64 = 0
        tries: u64 = 0
        me: u64
        while True:
            raw = self.peek(shard, packed, found)
            if raw is MISSING:
                return MISSING
            if tries >= ROUNDS and is_sure(found.meta):
                raw = self.take_at_once(shard, packed, found)
                if raw is MISSING:
                    return MISSING
                if raw is not None:
                    return value_of(self, raw, found, key)
                continue
            me = self.token()
            value = value_of(self, raw, found, key)  # what this raises leaves the entry where it is
            if self.token() != me and not self.closed:  # a forked child: the parent removes it
                return value
            status = self.take_version(shard, packed, found.version, found)
            if status == FOUND:
                return value
            if status == MISS:
                return MISSING
            tries += 1
            if tries >= ROUNDS:
                if until_ns == 0:
                    until_ns = clock_ns(1) + self.lock_timeout_ns
                give_up_at(self, until_ns, shard)

    def peek(self, shard, key, found):
        """Read a key without counting it: the raw value, or MISSING."""
        raw: Any
        attempt: u64
        self.enter()
        try:
            for attempt in range(READ_TRIES):
                raw = self.try_fetch(shard, key, found, True)
                if load(shard.mem, S_MOVED):
                    self.leave_moved(shard, key.hash >> UNIT_SHIFT)
                if raw is not None:
                    return raw
            return self.fetch_locked(shard, key, found, True)
        finally:
            self.leave()

    def take_version(self, shard, key, version, found):
        """Remove a key if it has this version: FOUND; MISS: it has none, AGAIN: another one."""
        status: i64
        self.enter()
        try:
            self.prepare_deadlines(shard, -1)
            self.refuse_reentry(shard)
            try:
                self.hold(shard, key.hash >> UNIT_SHIFT)
                status = self.find_locked(shard, key, found)
                if not shard.is_live(status, found):
                    status = MISS
                elif found.version != version:
                    status = AGAIN
                else:
                    self.end_entry(shard, key.hash, found, True)
            finally:
                self.drop(shard)
            if status == FOUND:
                self.count(R_DELETES)
            return status
        finally:
            self.leave()

    def take_at_once(self, shard, key, found):
        """Remove a key whatever version it has; return its bytes, MISSING: it has no live entry,
        None: its value is not of a kind that is sure to be decoded."""
        capacity: u64 = 2 * (found.meta >> META_LENGTH_SHIFT) + 64
        room: Any
        status: i64
        while True:
            room = new_room(capacity)
            status = self.take_copied(shard, key, room, capacity, found)
            if status == FOUND:
                return exactly(room, 0, found.meta >> META_LENGTH_SHIFT)
            if status != NO_ROOM:
                return MISSING if status == MISS else None
            capacity = 2 * (found.meta >> META_LENGTH_SHIFT)

    def take_copied(self, shard, key, room, capacity, found):
        """Copy a key's value and remove it: FOUND; MISS: it has no live entry, UNSURE, NO_ROOM."""
        status: i64
        self.enter()
        try:
            self.prepare_deadlines(shard, -1)
            self.refuse_reentry(shard)
            try:
                self.hold(shard, key.hash >> UNIT_SHIFT)
                status = self.find_locked(shard, key, found)
                if not shard.is_live(status, found):
                    status = MISS
                elif not is_sure(found.meta):
                    status = UNSURE
                elif found.meta >> META_LENGTH_SHIFT > capacity:
                    status = NO_ROOM
                elif not shard.slots.read(found.slot, value_position(found.meta), target_of(room),
                                          found.meta >> META_LENGTH_SHIFT):
                    self.raise_for(CORRUPT, shard, 0)
                else:
                    self.end_entry(shard, key.hash, found, True)
            finally:
                self.drop(shard)
            if status == FOUND:
                self.count(R_DELETES)
            return status
        finally:
            self.leave()

    # -- any, and all --------------------------------------------------------------------

    def popitem(self) -> Any:
        """Remove some entry and return it as (key, value), in one step. KeyError: the map is empty.

        Which one is arbitrary. Locks one shard at a time. What cannot be decoded here stays, and
        its error is raised; the next call looks at another entry. O(1) in a map that is well
        filled; in one that is nearly empty it goes over the index of a shard: O(size / shards).
        """
        found: probe_t = new_probe()
        item: Any
        shard: Shard
        shards: list
        turn: u64
        first: u64 = 0
        while True:
            self.come_in()
            try:
                self.look_now()
                first = (self.token() >> 22) + self.pop_turn
                shards = self.shards
                for turn in range(len(shards)):
                    shard = shards[(first + turn) & (len(shards) - 1)]
                    if not self.is_whole(shard):
                        self.make_whole(shard)
                    self.prepare_deadlines(shard, -1)
                    try:
                        item = take_any(self, shard, found)
                    except BaseException:
                        self.pop_turn += 1  # the next call begins with another shard
                        raise
                    if item is not None:
                        return item
                if self.is_settled() and self.shards is shards:
                    break
            except MapUnlinked as error:
                if not self._may_follow(error):
                    raise
            finally:
                self.leave()
        if self.near is not None:
            self.near.clear()
        raise KeyError(f"popitem: map {self.name!r} is empty")

    def __len__(self) -> int:
        """Count the live entries: O(shards), and a scan of the deadlines where some passed."""
        return self.count_all(False)

    def __bool__(self) -> bool:
        """Tell whether there is a live entry: O(shards), and, where a deadline has passed, as far
        as to the first live entry."""
        if type(self).__len__ is not Takes.__len__:  # a subclass counts in its own way
            return len(self) != 0
        return self.count_all(True) != 0

    def count_all(self, is_enough):
        """Count the live entries of the map; `is_enough`: or tell whether there is one."""
        now_ns: i64
        total: u64
        while True:
            self.come_in()
            try:
                now_ns = self.clock.now()
                total = self.count_up_to(now_ns, is_enough)
                if self.near is not None:
                    self.near.reseal()
                self.look_if_due(2 * now_ns)
                return total
            except MapUnlinked as error:  # it was replaced as its shards moved
                if not self._may_follow(error):
                    raise
            finally:
                self.leave()

    def count_up_to(self, now_ns, is_enough):
        """Count the live entries; `is_enough`: or tell whether there is one. Again, where a shard
        has moved meanwhile: its entries would be counted twice, or not."""
        shard: Shard
        former: Shard
        shards: list
        total: u64
        while True:
            total = 0
            former = _NONE
            shards = self.shards
            for shard in shards:
                if shard is former:
                    continue
                former = shard
                if load(shard.mem, S_DIRTY):
                    self.heal(shard)
                if is_enough:
                    if shard.has_live(now_ns) and load(shard.mem, S_MOVED) == 0:
                        return 1
                else:
                    total += shard.count_live(now_ns)
            if self.is_settled() and self.shards is shards:
                return total

    def heal(self, shard):
        """Repair a shard whose writer has died in mid-change: counts are read without the lock.

        A writer that lives, stopped or not, is left alone, and soon: see `count_live`. Nor is
        anything done in a signal handler or finalizer of an operation on this very shard.
        """
        status: i64
        spin: u64
        for spin in range(100):  # most changes take a microsecond
            if load(shard.mem, S_DIRTY) == 0:
                return 0
            pause()
        owner: u64 = load(shard.mem, S_OWNER)
        if owner and not shard.lock.is_dead(owner, self.token()):
            return 0
        if not cython.compiled and reentry.is_noted(self.attachment, shard):
            return 0
        try:
            status = self.try_hold(shard, 50000000)  # who has it now repairs it
            if status != TIMED_OUT and load(shard.mem, S_DIRTY) and load(shard.mem, S_MOVED) == 0:
                self.mend(shard)
        finally:
            self.drop(shard)
        return 0

    def clear(self) -> None:
        """Remove every entry (each may leave a tombstone), shard by shard: not one step."""
        shard: Shard
        unit: u64 = 0
        while True:
            self.come_in()
            try:
                self.look_now()
                while unit < SHARD_LIMIT:
                    shard = self.shard_at(unit)
                    if not self.is_whole(shard):
                        self.make_whole(shard)
                    self.prepare_deadlines(shard, -1)
                    clear_shard(self, shard)
                    unit = shard.unit_after()
                return
            except MapUnlinked as error:
                if not self._may_follow(error):
                    raise
                if type(error) is not ShardMoved:
                    unit = 0
            finally:
                self.leave()
                if self.near is not None:
                    self.near.clear()


def clear_shard(handle, shard):
    """Clear a shard under its lock."""
    handle.refuse_reentry(shard)
    try:
        handle.hold(shard, ALL_UNITS)
        if handle.tombstones_ns:
            shard.bury_all(shard.clock.seen_ns + handle.tombstones_ns)
        else:
            shard.clear()
    finally:
        handle.drop(shard)
