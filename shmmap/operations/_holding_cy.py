# mypy: ignore-errors
"""Holding a shard: what every change of one does around it.

`refuse_reentry`, `hold`, the change, `drop`. In `hold` a shard that a dead process left in the
middle of a change is repaired; in `drop`, one whose change an exception broke off. Neither runs
Python code of anyone's.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import clock_ns, i64, load, u64, was_left_behind
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        C_STATE,
        R_TAKEOVERS,
        R_WAITS,
        S_DIRTY,
        S_OWNER,
        STATE_READY,
    )
    from shmmap.operations import reentry
    from shmmap.operations._handle_cy import Handle
    from shmmap.shard._repair_cy import Repairer
    from shmmap.shard._status import CORRUPT, FORKED, LOOK_NS, TAKEN_OVER, TIMED_OUT

from shmmap.errors import LockTimeout, Reentered

COMPILED = cython.compiled


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

    def hold(self, shard):
        """Take a shard's lock, and repair the shard if a change was broken off."""
        if not cython.compiled:
            reentry.note(self.attachment, shard)
            until_ns = clock_ns(1) + self.lock_timeout_ns  # to try once may take long
        first_ns: i64 = self.lock_timeout_ns if self.lock_timeout_ns < LOOK_NS else LOOK_NS
        status: i64 = shard.lock.acquire(self.token(), first_ns)
        if status:
            if cython.compiled:
                self.hold_late(shard, status, clock_ns(1) + self.lock_timeout_ns - first_ns)
            else:
                self.hold_late(shard, status, until_ns)
        if load(shard.mem, S_DIRTY):
            self.mend(shard)
        return 0

    def hold_late(self, shard, status, until_ns):
        """Do the rest of `hold` where the lock was not free. Whoever replaces a map keeps its
        shards for good, so that no writer that comes late writes into it: look for that now and
        then."""
        left_ns: i64
        while True:
            if status == FORKED:
                status = self.hold_as_child(shard, LOOK_NS)
            if load(self.control, C_STATE) != STATE_READY:
                self.ready()  # raises, or it was not replaced after all
            if status != TIMED_OUT:
                break
            left_ns = until_ns - clock_ns(1)
            if left_ns <= 0:
                raise LockTimeout(self.attachment.describe_wait(shard, self.lock_timeout_ns))
            status = shard.lock.acquire(self.token(), left_ns if left_ns < LOOK_NS else LOOK_NS)
        # REENTERED, our own: a signal handler raised before `drop` could free it
        self.count(R_WAITS)
        if status == TAKEN_OVER:
            self.count(R_TAKEOVERS)
        return 0

    def try_hold(self, shard, timeout_ns):
        """Take a shard's lock within a time: see `ShardLock.acquire`."""
        if not cython.compiled:
            reentry.note(self.attachment, shard)
        status: i64 = shard.lock.acquire(self.token(), timeout_ns)
        return status if status != FORKED else self.hold_as_child(shard, timeout_ns)

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
        """Repair a held shard."""
        if cython.compiled:  # no test of the type: nothing in here can raise
            cython.cast(Repairer, PyList_GET_ITEM(self.repairers, shard.number)).run()
        else:
            self.repairers[shard.number].run()

    def raise_for(self, status, shard, data_bytes):
        """Raise the error for a status."""
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
