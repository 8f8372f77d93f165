# mypy: ignore-errors
"""Reading keys: without a lock, as long as that can be validated."""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        add_one,
        clock_ns,
        exactly,
        i64,
        key_t,
        load,
        new_key,
        new_probe,
        new_room,
        probe_t,
        target_of,
        u64,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        C_SWEEP_EPOCH,
        DEADLINE_TICK_NS,
        EVENT_LOCK_TIMEOUT,
        META_LENGTH_SHIFT,
        META_VALUE_TYPE_SHIFT,
        R_HITS,
        R_LOCKED_READS,
        R_MISSES,
        R_NEAR_HITS,
        R_RETRIES,
        S_DIRTY,
        S_MOVED,
        SAMPLE_MASK,
        TIMED_READ,
        TYPE_MASK,
        UNIT_SHIFT,
        VALUE_ARRAY,
        VALUE_CODED,
        VALUE_ITEMS,
        VALUE_PICKLE,
    )
    from shmmap.operations._decoding_cy import decoded_value, raw_of, value_of
    from shmmap.operations._holding_cy import Holding
    from shmmap.operations._near_cy import (
        AS_OPENED,
        LINEARIZABLE,
        SESSION,
        NearEntry,
        NearStore,
        is_plain,
        plain_form,
        shared,
    )
    from shmmap.shard._shard_cy import Shard
    from shmmap.shard._slots_cy import value_position
    from shmmap.shard._status import (
        CORRUPT,
        FIRST_SLICE_NS,
        FOUND,
        LOOK_EVERY,
        MISS,
        READ_TRIES,
        TIMED_OUT,
        VALUE_UNLOCKED,
    )
    from shmmap.values._keys_cy import encode as encode_key

from shmmap.errors import MapUnlinked, ShardBusy
from shmmap.operations._near_cy import read_consistency
from shmmap.operations.routing import ShardMoved

COMPILED = cython.compiled

# "no entry", where None could be a value
MISSING: Any = type("Missing", (), {"__repr__": lambda self: "<no entry>"})()


class Reads(Holding):
    """The reading operations of a map."""

    if not cython.compiled:
        copying = None

    def try_fetch(self, shard, key, found, wants_value):
        """Read once without the lock: the raw value, MISSING, or None: start again."""
        status: i64 = shard.look(key.hash, key.type, key.data, key.length, found)
        if status == MISS:
            return MISSING
        if status != FOUND:
            return None
        raw: Any = b""
        if shard.is_expired(found):
            raw = MISSING
        elif wants_value:
            raw = shard.copy_value(found)
        return raw if shard.confirm(found) else None

    def fetch(self, key, found, wants_value):
        """Read a key: the raw value, or MISSING. Without the lock, unless that keeps failing; where
        `wants_value` is VALUE_UNLOCKED, return None then. On the way without the lock no other
        thread can close the handle: compiled, the GIL is kept; pure, it is counted in and out.
        """
        raw: Any = None
        attempt: u64
        count: u64
        self.ticks += 1
        if self.ticks & SAMPLE_MASK == 0:
            return self.fetch_timed(key, found, wants_value)
        if cython.compiled:
            self.follow()
        else:
            self.come_in()
        try:
            shard = self.shard_for(key)
            for attempt in range(READ_TRIES):
                raw = self.try_fetch(shard, key, found, wants_value)
                if load(shard.mem, S_MOVED):
                    raw = None
                    shard = self.shard_instead(shard, key)
                    continue
                if raw is not None:
                    break
                add_one(self.control, self.row + R_RETRIES)
            if raw is None:
                if wants_value == VALUE_UNLOCKED:
                    return None
                raw = self.fetch_guarded(shard, key, found, wants_value)
            if raw is MISSING:
                count = add_one(self.control, self.row + R_MISSES)
            else:
                if shard.evicts and not load(shard.mem, S_MOVED):  # else `found` may be in another
                    shard.eviction.hit(found.slot)
                count = add_one(self.control, self.row + R_HITS)
            if count % LOOK_EVERY == 0:  # to look at the clock each time takes too long
                self.look_now()
            return raw
        finally:
            if not cython.compiled:
                self.leave()

    def fetch_timed(self, key, found, wants_value):
        """Read a key, and count how long that took."""
        start: i64 = clock_ns(1)
        raw: Any = self.fetch(key, found, wants_value)
        self.count_time(TIMED_READ, start)
        return raw

    def shard_instead(self, shard, key):
        """Return the shard that has a key now, where this one has moved."""
        try:
            self.reroute(shard, key.hash >> UNIT_SHIFT)
        except MapUnlinked as error:  # replaced meanwhile; pure: no counted operation can follow
            if not cython.compiled or not self._may_follow(error):
                raise
        if cython.compiled:
            self.follow()  # others may have closed this handle meanwhile, or had it follow
        return self.shard_for(key)

    def fetch_guarded(self, shard, key, found, wants_value):
        """Read with the lock, while `close` waits for us."""
        while True:
            self.enter()
            try:
                return self.fetch_locked(shard, key, found, wants_value)
            except ShardMoved:
                shard = self.shard_for(key)
            finally:
                self.leave()

    def fetch_locked(self, shard, key, found, wants_value):
        """Read a key under the lock; while it cannot be had, try without it after each slice."""
        left: i64 = self.lock_timeout_ns
        slice_ns: i64 = FIRST_SLICE_NS
        status: i64
        raw: Any
        room: Any = b""
        capacity: u64 = 0
        length: u64
        self.refuse_reentry(shard)
        while True:
            try:
                status = self.try_hold(shard, slice_ns)
                if status != TIMED_OUT:
                    if capacity == 0:  # not again for a value that there was no room for
                        self.count(R_LOCKED_READS)
                    if load(shard.mem, S_MOVED):
                        self.leave_moved(shard, key.hash >> UNIT_SHIFT)
                    if load(shard.mem, S_DIRTY):
                        self.mend(shard)
                    status = self.find_locked(shard, key, found)
                    if not shard.is_live(status, found):
                        return MISSING
                    length = found.meta >> META_LENGTH_SHIFT if wants_value else 0
                    if length and length <= capacity and not shard.slots.read(
                        found.slot, value_position(found.meta), target_of(room), length
                    ):
                        self.raise_for(CORRUPT, shard, 0)
            finally:
                self.drop(shard)
            if status != TIMED_OUT:
                if length <= capacity:
                    return exactly(room, 0, length)
                capacity = length if capacity == 0 else 2 * length
                room = new_room(capacity)  # not under the lock: and once more
                continue
            raw = self.try_fetch(shard, key, found, wants_value)
            if load(shard.mem, S_MOVED):
                self.leave_moved(shard, key.hash >> UNIT_SHIFT)
            if raw is not None:
                return raw
            left -= slice_ns
            if left <= 0:
                self.note(EVENT_LOCK_TIMEOUT, shard, self.lock_timeout_ns)
                raise ShardBusy(self.attachment.describe_wait(shard, self.lock_timeout_ns))
            if slice_ns < 50000000:
                slice_ns *= 2

    def read(self, key, default, consistency):
        """Return the value of a key, or `default`; `consistency`: see `_near_cy`."""
        if self.near is not None:
            return self.near_value(key, default, consistency)
        found: probe_t = new_probe()
        packed: key_t = new_key()
        kept: Any = encode_key(key, self.seed, packed)
        raw: Any = self.fetch(packed, found, True)
        return default if raw is MISSING else value_of(self, raw, found, key)

    # -- through the near cache: see _near_cy ------------------------------------------

    def near_read(self, key, consistency):
        """Read a key through the near cache: an entry, or None: the map has none."""
        near: NearStore
        held: NearEntry
        now_ns: i64 = 0
        if not is_plain(key, 0):
            key = plain_form(key)
        if consistency == AS_OPENED:
            consistency = self.near.bound_ns
        if consistency >= 0:
            self.go_on()
            near = self.near
            held = near.find(key)
            now_ns = self.clock.now()
            if held is not None and now_ns - held.read_ns <= consistency and (
                not held.expired(now_ns)
            ):
                held.hit = True
                near.answered += 1
                return held
        if cython.compiled:
            self.follow()
        else:
            self.come_in()
        try:
            near = self.near  # a new one in a forked child, and of another map
            held = near.find(key)
            if held is not None and self.is_current(near, held, now_ns):
                return held
            pruned: cython.bint = load(self.control, C_SWEEP_EPOCH) != near.epoch
        finally:
            if not cython.compiled:
                self.leave()
        if pruned:
            self.prune(near)
        return self.near_fetch(near, key, consistency)

    def prune(self, near):
        """Drop what a sweep has ended from the near cache. Whatever it held may have finalizers,
        and they may close this handle."""
        self.enter()
        try:
            near.epoch = load(self.control, C_SWEEP_EPOCH)
            near.prune(self.clock.now())
        finally:
            self.leave()
        return 0

    def near_value(self, key, default, consistency):
        """Return the value of a key, or `default`, through the near cache."""
        entry: NearEntry = self.near_read(key, consistency)
        return default if entry is None else self.value_in(entry, key)

    def is_current(self, near, held, now_ns):
        """Compare an entry with shared memory: tell whether it is what the key has now."""
        shard = held.shard
        seal: u64 = near.seal
        if held.deadline and not now_ns:
            now_ns = self.clock.now()  # before the load: what follows holds at this reading
        if load(shard.mem, held.at) != held.version or load(shard.mem, S_MOVED) or (
            held.expired(now_ns)
        ):
            return False
        held.seal = seal
        if now_ns:
            held.read_ns = now_ns
        held.hit = True
        if shard.evicts:
            shard.eviction.hit(held.slot)
        self.count_near(near)
        return True

    def count_near(self, near):
        """Count a hit that decoded nothing, and those that were not counted yet."""
        add_one(self.control, self.row + R_HITS)
        if add_one(self.control, self.row + R_NEAR_HITS) % LOOK_EVERY == 0:
            self.look_now()
        if near.answered:
            self.tally()

    def near_fetch(self, near, key, consistency):
        """Read a key that the near cache does not answer, and keep what is read."""
        found: probe_t = new_probe()
        packed: key_t = new_key()
        kept: Any = encode_key(key, self.seed, packed)
        raw: Any = None
        now_ns: i64 = self.clock.now()
        fresh: NearEntry = near.begin(key)
        held: NearEntry = fresh.previous
        former: Shard = self.shard_for(packed)
        if consistency == SESSION and near.may_stand(held, now_ns):
            raw = self.fetch(packed, found, VALUE_UNLOCKED)
            if raw is None and near.may_stand(held, now_ns):
                self.count_near(near)
                return held
        if raw is None:
            raw = self.fetch(packed, found, True)
        if raw is MISSING:
            near.drop(key)
            return None
        shard = self.shard_for(packed)
        fresh.shard = shard
        fresh.slot = found.slot
        fresh.at = shard.slots.at(found.slot) if shard is former else 0  # moved: there is MAGIC
        fresh.version = found.version
        fresh.deadline = found.deadline
        fresh.read_ns = now_ns
        fresh.kind = (found.meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK
        if near.copies and (fresh.kind == VALUE_PICKLE or fresh.kind == VALUE_ARRAY
                            or fresh.kind == VALUE_CODED or fresh.kind == VALUE_ITEMS):
            fresh.raw = raw_of(raw, found)
        else:
            try:
                fresh.value = value_of(self, raw, found, key)
                if fresh.kind == VALUE_PICKLE or fresh.kind == VALUE_ARRAY:
                    shared(fresh.value)
            except BaseException:
                near.drop(key)  # that there is something newer was seen all the same
                raise
        near.finish(key, fresh)
        return fresh

    def value_in(self, entry, key):
        """Return the value of an entry: itself, or a new object made from its bytes."""
        return entry.value if entry.raw is None else decoded_value(self, entry.kind, entry.raw, key)

    # -- operations --------------------------------------------------------------------

    def get(
        self, key: Any, default: Any = None, *, consistency: Any = None, max_staleness: Any = None
    ) -> Any:
        """Return the value of `key`, or `default` if there is no live entry.

        `consistency` and `max_staleness` (seconds): for this call, in place of the handle's.
        Takes no lock; O(value bytes), O(1) where the near cache has it. Raises ShardBusy if a
        writer of this shard has been stopped in the middle of publishing for `lock_timeout`
        seconds; ValueError for "bounded" without near=N.
        """
        if consistency is None and max_staleness is None:
            return self.read(key, default, AS_OPENED)
        near: NearStore = self.near
        chosen: i64 = read_consistency(
            consistency, max_staleness, LINEARIZABLE if near is None else near.bound_ns,
            0 if near is None else near.size,
        )
        return self.read(key, default, chosen)

    def __getitem__(self, key: Any) -> Any:
        """Return the value of `key`. Raises KeyError if there is no live entry."""
        value: Any = self.read(key, MISSING, AS_OPENED)
        if self.copying is not None:
            value = self.copying.answer(self, key, value, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    def _copy_by(self, copying: Any) -> None:
        """Have each `m[key]` go by this object, or by none: see `copying`."""
        self.copying = copying

    def __contains__(self, key: object) -> bool:
        """Tell whether `key` has a live entry. Copies no value."""
        found: probe_t = new_probe()
        packed: key_t = new_key()
        kept: Any = encode_key(key, self.seed, packed)
        raw: Any = self.fetch(packed, found, False)
        if self.near is not None:
            self.near.saw(key, 0 if raw is MISSING else found.version)
        return raw is not MISSING

    def get_versioned(self, key: Any, default: Any = None) -> Any:
        """Return (value, version) of `key`; (default, 0) if there is no live entry.

        The version is what `cas` takes; it is unique and rises within a shard.
        """
        entry: NearEntry
        if self.near is not None:
            entry = self.near_read(key, AS_OPENED)
            return (default, 0) if entry is None else (self.value_in(entry, key), entry.version)
        found: probe_t = new_probe()
        packed: key_t = new_key()
        kept: Any = encode_key(key, self.seed, packed)
        raw: Any = self.fetch(packed, found, True)
        if raw is MISSING:
            return default, 0
        return value_of(self, raw, found, key), found.version

    def ttl(self, key: Any) -> Any:
        """Return the seconds that `key` has left, in whole 64ths; None: it does not expire.

        Deadlines are rounded up to such 64ths, this is rounded down: a ttl of whole seconds is
        never said to be longer. Takes no lock. Raises KeyError if there is no live entry.
        """
        now_ns: i64
        left: u64
        found: probe_t = new_probe()
        packed: key_t = new_key()
        kept: Any = encode_key(key, self.seed, packed)
        raw: Any = self.fetch(packed, found, False)
        if self.near is not None:
            self.near.saw(key, 0 if raw is MISSING else found.version)
        if raw is MISSING:
            raise KeyError(key)
        if found.deadline == 0:
            return None
        now_ns = self.clock.now()
        if found.deadline <= now_ns:  # since it was found
            return 0.0
        left = found.deadline - now_ns
        if left > DEADLINE_TICK_NS:  # of a last, broken one, all of it: it is not 0 yet
            left -= left % DEADLINE_TICK_NS
        return left / 1e9
