# mypy: ignore-errors
"""The shard lock: the owner word decides, the semaphore only queues.

    acquire  cas(owner, 0 -> me): hold. Otherwise spin a little, then in slices:
             raise the waiters flag, try the cas once more, sleep on the
             semaphore with the GIL released, and at the end of a slice in which
             the owner has not changed ask whether it is alive.
             dead: cas(owner, dead -> me), which exactly one waiter wins.
    release  owner = 0; if the waiters flag is up: clear it, post one token.
    leave to nobody   owner = one that is dead for all: it is taken over, never free.

A waiter that wakes raises the flag again, so that the next release wakes the next. How long it
slept and looked is in `waited_ns`, which belongs to who holds the lock; 0: it only spun. So does
`behind`: whose lock it was, as far as it was seen; 0: it was free again.

**Invariants**
 K1  who holds is who the owner word names; nothing else is asked
 K2  a surplus token costs a waiter one more look, a lost one costs it a slice
**Crash**: a dead owner's word stays until a waiter or a sweep takes it over.
DIRTY (the shard's) tells whether that shard needs a repair.
**Locks**: never held while waiting; interruptible by signals between slices.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        clock_ns,
        compare_exchange,
        i64,
        load,
        memory,
        pause,
        publish,
        sem_close,
        sem_open,
        sem_wait,
        sem_wake,
        store,
        u64,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        S_OWNER,
        S_WAITERS,
        TOKEN_INCARNATION_SHIFT,
    )
    from shmmap.shard._status import (
        FIRST_SLICE_NS,
        FORKED,
        FREE,
        LONGEST_SLICE_NS,
        NOBODY,
        QUICK_SPINS,
        REENTERED,
        SPINS,
        TAKEN_OVER,
        TIMED_OUT,
        WAITED,
    )

COMPILED = cython.compiled

# what acquire returns


class ShardLock:
    """The lock words of one shard and its semaphore.

    `liveness.is_dead(token) -> bool` judges owners; `semaphore` is the Region that has it mapped,
    which is this lock's from now on; pure: its name (None: there is none, waiters then poll).
    `fork_page` has this process's token (None: it never forks).
    """

    def __init__(self, mem, semaphore, liveness, fork_page=None):
        self.owner_buffer = mem
        self.mem = memory(mem)
        self.page_buffer = fork_page
        self.forks = fork_page is not None
        if self.forks:
            self.fork_page = memory(fork_page)
        self.liveness = liveness
        self.holder = 0
        self.taken_over = False  # from a dead owner, and not freed since: set before, cleared after
        self.waited_ns = self.behind = 0
        self.region = semaphore
        if cython.compiled:
            self.semaphore = semaphore.address if semaphore is not None else 0
        else:
            self.semaphore = sem_open(semaphore.encode()) if semaphore else 0

    def held_by(self, me):
        """Tell whether `me` holds the lock."""
        return load(self.mem, S_OWNER) == me

    def holds(self, me):
        """Tell whether this thread took the lock, and not only the owner word says so."""
        return self.holder == me

    def acquire(self, me, timeout_ns):
        """Take the lock, waiting for `timeout_ns` at most; see the module for the results."""
        if compare_exchange(self.mem, S_OWNER, 0, me):
            self.holder = me
            return FREE
        status: int = self.wait_for(me, timeout_ns)
        if status != TIMED_OUT and status != FORKED:
            self.holder = me
        return status

    def is_other(self, me):
        """Tell whether this process is no longer the one that `me` names: it is the child of a
        fork in a signal handler that ran while we waited."""
        return self.forks and (
            load(self.fork_page, 0) >> TOKEN_INCARNATION_SHIFT != me >> TOKEN_INCARNATION_SHIFT
        )

    def try_quickly(self, me, until_ns):
        """Take the lock without sleeping, without signals and without judging its owner, so that
        other locks may be held meanwhile; give up at `until_ns` of the monotonic clock."""
        spin: u64
        if not compare_exchange(self.mem, S_OWNER, 0, me):
            for spin in range(QUICK_SPINS):
                pause()
                if load(self.mem, S_OWNER) == 0 and compare_exchange(self.mem, S_OWNER, 0, me):
                    break
                if (spin & 15 == 15 or not cython.compiled) and clock_ns(1) >= until_ns:
                    return False
            else:
                return False
        self.holder = me
        return True

    def is_dead(self, owner, me):
        """Judge an owner. Of this process's own threads each knows whether it is inside: a word
        that names one that is not was damaged."""
        if cython.compiled and owner >> TOKEN_INCARNATION_SHIFT == me >> TOKEN_INCARNATION_SHIFT:
            return self.holder != owner
        return self.liveness.is_dead(owner)

    def wait_for(self, me, timeout_ns):
        """Take a lock that was not free: see `acquire`."""
        spin: u64
        owner: u64 = load(self.mem, S_OWNER)
        seen: u64
        if owner == me:
            return REENTERED
        for spin in range(SPINS):
            pause()
            if load(self.mem, S_OWNER) == 0 and compare_exchange(self.mem, S_OWNER, 0, me):
                self.waited_ns, self.behind = 0, owner
                return WAITED
        slice_ns: i64 = FIRST_SLICE_NS
        start: i64 = clock_ns(1)
        left: i64 = timeout_ns
        while True:
            seen = load(self.mem, S_OWNER)
            if self.wait_slice(me, slice_ns if slice_ns < left or left < 0 else left):
                self.waited_ns, self.behind = clock_ns(1) - start, owner
                return WAITED
            owner = load(self.mem, S_OWNER)
            if owner == seen and owner != 0 and not self.is_other(me):
                if self.is_dead(owner, me):  # runs Python code, and so perhaps a handler
                    self.taken_over = True
                    if not self.is_other(me) and compare_exchange(self.mem, S_OWNER, owner, me):
                        self.waited_ns, self.behind = clock_ns(1) - start, owner
                        return TAKEN_OVER
                elif slice_ns < LONGEST_SLICE_NS:
                    slice_ns *= 2
            if self.is_other(me):
                return FORKED
            left = timeout_ns - (clock_ns(1) - start)
            if left <= 0:
                return TIMED_OUT

    def wait_slice(self, me, slice_ns):
        """Raise the flag, try, sleep once, try; tell whether the lock is ours."""
        publish(self.mem, S_WAITERS, 1)  # seen by whoever frees the lock after the next line fails
        if compare_exchange(self.mem, S_OWNER, 0, me):
            return True
        with cython.nogil:
            sem_wait(self.semaphore, slice_ns)
        # The flag was cleared with the token that we may have taken: raise it for the others, also
        # if we give up now.
        publish(self.mem, S_WAITERS, 1)
        if cython.compiled:
            PyErr_CheckSignals()
        return not self.is_other(me) and compare_exchange(self.mem, S_OWNER, 0, me)

    def release(self):
        """Free the lock and wake one waiter, if any."""
        self.holder = 0
        self.taken_over = False
        publish(self.mem, S_OWNER, 0)
        if load(self.mem, S_WAITERS):
            store(self.mem, S_WAITERS, 0)
            sem_wake(self.semaphore)

    def leave_to_nobody(self):
        """Stop holding the lock without freeing it: whoever comes takes it over, as a dead owner's,
        and so has to look whether the map is still there."""
        self.holder = 0
        publish(self.mem, S_OWNER, NOBODY)

    def owner(self) -> int:
        """Return the token of the holder; 0: free."""
        return load(self.mem, S_OWNER)

    def lock(self, me, timeout_ns):
        """Call `acquire` from Python."""
        return self.acquire(me, timeout_ns)

    def unlock(self):
        """Call `release` from Python."""
        self.release()

    def close(self):
        """Close the semaphore. Nobody may be waiting. Idempotent."""
        if not cython.compiled:
            sem_close(self.semaphore)  # first: it may be broken off, and done once more
        elif self.region is not None:
            self.region.forget()
        self.semaphore = 0
