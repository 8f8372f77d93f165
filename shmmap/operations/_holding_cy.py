# mypy: ignore-errors
"""Holding a shard: what every change of one does around it.

`refuse_reentry`, `hold`, the change, `drop`. In `hold` a shard that a dead process left in the
middle of a change is repaired; in `drop`, one whose change an exception broke off. Neither runs
Python code of anyone's.
"""

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
        i64,
        load,
        mem_t,
        publish,
        u64,
        was_left_behind,
    )
    from shmmap.memory._figures_cy import time_it
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        ALL_UNITS,
        C_GEN0_NUMBER,
        C_GEN0_SHARDS,
        C_STATE,
        C_TABLE,
        EVENT_CORRUPT,
        EVENT_FULL,
        EVENT_LOCK_TIMEOUT,
        EVENT_REPAIR,
        EVENT_TAKEOVER,
        R_TAKEOVERS,
        R_WAITS,
        S_DIRTY,
        S_MOVED,
        S_OWNER,
        S_WAITS0,
        S_WAITS5,
        STATE_READY,
        TABLE_ROWS_MASK,
        TIMED_LOCK_WAIT,
        UNIT_BITS,
        WAIT_FIRST_NS,
        WAIT_SHIFT,
    )
    from shmmap.operations import reentry
    from shmmap.operations._handle_cy import Handle, generation_before, row_in_use
    from shmmap.shard._repair_cy import Repairer
    from shmmap.shard._shard_cy import Shard
    from shmmap.shard._slots_cy import is_tombstone
    from shmmap.shard._status import (
        CORRUPT,
        FORKED,
        FOUND,
        FULL,
        LOOK_NS,
        REENTERED,
        TAKEN_OVER,
        TIMED_OUT,
        WAITED,
    )

from shmmap.errors import LockTimeout, Reentered
from shmmap.operations.routing import ShardMoved, distinct

COMPILED = cython.compiled
_NONE: Any = None


class Holding(Handle):
    """A handle that takes and frees the locks of its shards."""

    def refuse_reentry(self, shard):
        """Raise if this very thread is inside that shard already."""
        if cython.compiled:
            return 0 if load(shard.mem, S_OWNER) == 0 else self.refuse_own(shard)
        if reentry.is_noted(self.attachment, shard) and reentry.is_inside(shard):
            self.refuse_own(shard)

    def refuse_own(self, shard):
        """Raise if it is this very thread that holds a shard."""
        if cython.compiled:
            me: u64 = self.token()
            if load(shard.mem, S_OWNER) != me or not shard.lock.holds(me):
                return 0
        raise Reentered(
            f"map {self.name!r}, shard {shard.number}: called from a signal handler or a "
            "finalizer while its own thread was changing this shard. Defer such calls"
        )

    def hold(self, shard, unit):
        """Take a shard's lock, and repair the shard if a change was broken off. Raises ShardMoved
        where it has moved: then what has that unit of the hash, or ALL_UNITS of it, is known."""
        until_ns: i64 = 0
        if not cython.compiled:
            reentry.note(self.attachment, shard)
            until_ns = clock_ns(1) + self.lock_timeout_ns  # to try once may take long
        first_ns: i64 = self.lock_timeout_ns if self.lock_timeout_ns < LOOK_NS else LOOK_NS
        shard.clock.look()
        status: i64 = shard.lock.acquire(self.token(), first_ns)
        if status:
            self.hold_late(shard, status, first_ns, until_ns)
        if load(shard.mem, S_MOVED):
            self.leave_moved(shard, unit)
        if load(shard.mem, S_DIRTY):
            self.mend(shard)
        return 0

    def leave_moved(self, shard, unit):
        """Free a shard whose entries have moved, and have the operation begin again."""
        self.drop(shard)
        self.reroute(shard, unit)
        raise ShardMoved("a shard has moved")

    def reroute(self, shard, unit):
        """Go by the shards that have the entries of this one now, of a unit of the hash or of
        ALL_UNITS. Nothing is held."""
        self.enter()
        try:
            self.attachment.renew(self, shard, unit)
        finally:
            self.leave()
        return 0

    def see_group(self, shard):
        """Where several shards become one, their mover may have died when it had said so in some of
        them only: say it in this one, whose lock was just taken over from it. False: this handle
        goes by shards of old, of which nobody can tell: see `look_at_group`."""
        control: mem_t = self.control
        routes: list = self.shards  # once: another thread may renew them
        word: u64 = load(control, C_TABLE)
        last: u64 = word & TABLE_ROWS_MASK
        row: u64 = row_in_use(word, last)
        shards: u64 = load(control, row + C_GEN0_SHARDS - C_GEN0_NUMBER)
        own: u64 = 1
        count: u64 = PyList_GET_SIZE(routes) if cython.compiled else len(routes)
        sure: cython.bint = True
        first: u64
        at: u64
        other: Shard
        own = own << shard.shard_bits
        if last == 0 or last > 2 or shards == 0 or shards >= own or own > count:
            return True
        if load(shard.mem, S_MOVED):
            return True
        first = (shard.number // (own // shards)) * (count // shards)
        for at in range(first, first + count // shards):
            if cython.compiled:  # no test of the type or the bound: nothing in here can raise
                other = cython.cast(Shard, PyList_GET_ITEM(routes, at))
            else:
                other = routes[at]
            if other.generation == load(control, row):  # as this process knows already
                publish(shard.mem, S_MOVED, other.mover)
                return True
            if other.generation != generation_before(control, word, (at << UNIT_BITS) // count):
                sure = False  # it has moved before, and says nothing of this group
            elif load(other.mem, S_MOVED):
                publish(shard.mem, S_MOVED, load(other.mem, S_MOVED))
                return True
        return sure

    def look_at_group(self, shard):
        """Leave a shard to whoever takes it over, and renew what this handle goes by: then it can
        tell what has become of the shard's group."""
        other: Shard
        shard.lock.leave_to_nobody()
        for other in distinct(self.shards):
            if load(other.mem, S_MOVED):
                self.reroute(other, ALL_UNITS)
        return 0

    def is_whole(self, shard):
        """Tell whether all that a shard has is looked up in it. Else it is one that several become,
        and others have still to be found moved."""
        count: u64 = PyList_GET_SIZE(self.shards) if cython.compiled else len(self.shards)
        each: u64 = count >> shard.shard_bits
        at: u64
        if each <= 1:
            return True
        for at in range(shard.number * each, (shard.number + 1) * each):
            if cython.compiled:  # as above
                if cython.cast(Shard, PyList_GET_ITEM(self.shards, at)) is not shard:
                    return False
            elif self.shards[at] is not shard:
                return False
        return True

    def make_whole(self, shard):
        """Wait until all that a shard has is looked up in it, which takes microseconds, or a dead
        mover's work is finished; then raise ShardMoved, since the routes have changed."""
        other: Shard
        each: u64 = len(self.shards) >> shard.shard_bits
        at: u64
        if load(shard.mem, S_MOVED):  # it has moved on: what has the rest never comes to it
            self.reroute(shard, ALL_UNITS)
            raise ShardMoved("a shard has moved")
        for at in range(shard.number * each, (shard.number + 1) * each):
            other = self.shards[at]
            if other is not shard:
                self.wait_for_move(other)
        raise ShardMoved("a shard has moved")

    def wait_for_move(self, shard):
        """Take a shard's lock as a writer does: raises ShardMoved where it has moved."""
        self.refuse_reentry(shard)
        try:
            self.hold(shard, ALL_UNITS)
        finally:
            self.drop(shard)
        return 0

    def is_settled(self):
        """Tell whether no shard has moved that this handle goes by, and each is whole: then what
        was just looked up in all of them was looked up once. Else renew what has moved."""
        shard: Shard
        former: Shard = _NONE
        parted: Shard = _NONE
        shards: list = self.shards
        for shard in shards:
            if shard is former:
                continue
            former = shard
            if load(shard.mem, S_MOVED):
                self.reroute(shard, ALL_UNITS)
                return False
            if parted is None and not self.is_whole(shard):
                parted = shard
        if parted is not None:
            try:
                self.make_whole(parted)
            except ShardMoved:
                return False
        return True

    def _settled(self) -> list:
        """List the map's shards, each once, in the order of the hash: none has moved, and each is
        whole. They may move at any time."""
        self.enter()
        try:
            while True:
                shards: list = self.shards
                if self.is_settled() and self.shards is shards:
                    return distinct(shards)
        finally:
            self.leave()

    def hold_late(self, shard, status, tried_ns, until_ns):
        """Do the rest of `hold` where the lock was not free, and was tried for so long. `until_ns`:
        of the monotonic clock; 0: to be found out, which takes time, by who did not get it. Whoever
        replaces a map keeps its shards for good, so that no writer that comes late writes into it:
        look for that now and then."""
        left_ns: i64
        slept_ns: i64 = 0  # in looks that were in vain
        while True:
            if status == FORKED:
                status = self.hold_as_child(shard, LOOK_NS)
            if status == TAKEN_OVER:
                self.note_takeover(shard, slept_ns + shard.lock.waited_ns)
                if not self.see_group(shard):
                    self.look_at_group(shard)
                    raise ShardMoved("its group may have moved")
            if load(self.control, C_STATE) != STATE_READY:
                self.ready()  # raises, or it was not replaced after all
            if status != TIMED_OUT:
                break
            if until_ns == 0:
                until_ns = clock_ns(1) + self.lock_timeout_ns - tried_ns
            left_ns = until_ns - clock_ns(1)
            if left_ns <= 0:
                self.note(EVENT_LOCK_TIMEOUT, shard, self.lock_timeout_ns)
                if cython.compiled:
                    pid: u64 = self.pid_of(load(shard.mem, S_OWNER))
                    probe_lock_timeout(shard.mem, self.lock_timeout_ns, pid)
                raise LockTimeout(self.attachment.describe_wait(shard, self.lock_timeout_ns))
            slept_ns += LOOK_NS
            status = shard.lock.acquire(self.token(), left_ns if left_ns < LOOK_NS else LOOK_NS)
        if slept_ns or status != WAITED or shard.lock.waited_ns:  # more than some spins
            shard.clock.look()
        # REENTERED, our own: a signal handler raised before `drop` could free it
        self.count(R_WAITS)
        if status != REENTERED:
            self.count_wait(shard, slept_ns + shard.lock.waited_ns)
            if cython.compiled:
                probe_lock_wait(shard.mem, slept_ns + shard.lock.waited_ns,
                                self.pid_of(shard.lock.behind))
        return 0

    def count_wait(self, shard, waited_ns):
        """Count a wait for the lock of a shard, which we have now, by how long it took."""
        time_it(self.control, TIMED_LOCK_WAIT, waited_ns)
        offset: u64 = S_WAITS0
        limit_ns: i64 = WAIT_FIRST_NS
        while waited_ns >= limit_ns and offset < S_WAITS5:
            offset += 8
            limit_ns <<= WAIT_SHIFT
        add_one(shard.mem, offset)

    def try_hold(self, shard, timeout_ns):
        """Take a shard's lock within a time, not to write: see `ShardLock.acquire`."""
        if not cython.compiled:
            reentry.note(self.attachment, shard)
        status: i64 = shard.lock.acquire(self.token(), timeout_ns)
        if status == FORKED:
            status = self.hold_as_child(shard, timeout_ns)
        if status == TAKEN_OVER:
            self.note_takeover(shard, shard.lock.waited_ns)
            if not self.see_group(shard):
                self.look_at_group(shard)
                return TIMED_OUT
        return status

    def note_takeover(self, shard, waited_ns):
        """Count that the lock of a shard was taken over from a dead process."""
        self.count(R_TAKEOVERS)
        self.note(EVENT_TAKEOVER, shard, waited_ns)
        if cython.compiled:
            probe_takeover(shard.mem, self.pid_of(shard.lock.behind), waited_ns)

    def hold_as_child(self, shard, timeout_ns):
        """Begin again to take a shard's lock, in the child of a fork that a signal handler made
        as we waited."""
        status: i64 = FORKED
        while status == FORKED:
            self.attachment.reenter()
            status = shard.lock.acquire(self.token(), timeout_ns)
        return status

    def drop(self, shard):
        """Free a shard's lock if it is held."""
        if cython.compiled:
            if load(shard.mem, S_OWNER) == self.token():
                self.free(shard)
            return
        try:
            self.let_go(shard)
        except BaseException as error:  # a signal handler raised in it: finish all the same
            self.let_go(shard)
            if not (isinstance(error, ValueError) and was_left_behind(shard.mem)):
                raise
        if was_left_behind(shard.mem):
            raise Reentered(
                f"map {self.name!r}, shard {shard.number}: a signal handler or a finalizer has "
                "forked this process in the middle of an operation. The parent goes on with it; "
                "here, in the child, it was broken off, and changed nothing"
            )

    def let_go(self, shard):
        """Free a shard's lock if it is held, and forget that we are inside. Idempotent.

        A change that an exception broke off (a signal handler raised it) is repaired first:
        later it could take effect long after the operation has raised.
        """
        if not cython.compiled and was_left_behind(shard.mem):
            reentry.forget(self.attachment, shard)
            return
        if shard.lock.held_by(self.token()):
            if not cython.compiled and load(shard.mem, S_DIRTY):
                self.mend(shard)
            if not cython.compiled and shard.lock.taken_over and not self.see_group(shard):
                shard.lock.leave_to_nobody()  # a handler may have raised as it was taken over
            else:
                self.free(shard)
        if not cython.compiled:
            reentry.forget(self.attachment, shard)

    def free(self, shard):
        """Free the lock of a held shard. A map that was replaced keeps its shards held for good:
        one that was taken over from its replacer stays so for the next one that comes late."""
        if load(self.control, C_STATE) == STATE_READY:
            shard.lock.release()
        else:
            shard.lock.leave_to_nobody()

    def mend(self, shard):
        """Repair a held shard, and note it. One that was unmapped meanwhile, or is a snapshot's,
        has nothing that repairs it."""
        start: i64 = clock_ns(1)
        if shard.repairer is not None:
            self.rebuild(shard)
            self.note(EVENT_REPAIR, shard, clock_ns(1) - start)

    def rebuild(self, shard):
        """Repair a held shard that has what does so."""
        if cython.compiled:  # no test of the type: nothing in here can raise
            dirty: u64 = load(shard.mem, S_DIRTY)
            began: i64 = begin_repair()
            cython.cast(Repairer, shard.repairer).run()
            probe_repair(shard.mem, dirty, began)
        else:
            shard.repairer.run()

    def raise_for(self, status, shard, data_bytes):
        """Raise the error for a status."""
        if status == FULL:
            self.note(EVENT_FULL, shard, data_bytes)
        elif status == CORRUPT:
            self.note(EVENT_CORRUPT, shard, 0)
        raise self.attachment.error_for(status, shard, data_bytes)

    def find_locked(self, shard, key, found):
        """Find a key under the lock. What the index gets wrong is repaired once."""
        status: i64 = shard.find(key.hash, key.type, key.data, key.length, found)
        if status == CORRUPT:
            self.mend(shard)
            status = shard.find(key.hash, key.type, key.data, key.length, found)
            if status == CORRUPT:
                self.raise_for(CORRUPT, shard, 0)
        return status

    def end_entry(self, shard, hash, found, live):
        """Remove a found entry on request, under the lock; `live`: it has not expired. In a map
        with tombstones it leaves one, as far as there is room; one that is there stays."""
        status: i64
        if self.tombstones_ns == 0 or not live:
            if not is_tombstone(found.meta):
                shard.erase(hash, found)
            return 0
        status = shard.bury(hash, found, shard.clock.seen_ns + self.tombstones_ns)
        if status == CORRUPT:  # as in `write_locked`: rebuild the free list, and once more
            self.mend(shard)
            found.position = shard.index_word_of(found.slot, hash)
            if found.position < 0 or shard.slots.version(found.slot) != found.version:
                return 0
            status = shard.bury(hash, found, shard.clock.seen_ns + self.tombstones_ns)
        if status != FOUND:
            shard.lose_tombstone()
            shard.erase(hash, found)
        return 0
