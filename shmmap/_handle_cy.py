"""A handle on a map: the way into and out of every operation, and of every shard.

Each operation: `enter` (closed? forked? unlinked?), the work, `leave`. Around a
change of a shard: `refuse_reentry`, `hold`, the change, `drop`. Everything is
encoded before a shard is held and decoded after, so that no Python code of
anyone's runs meanwhile.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap._near_cy import NearStore
    from shmmap._repair_cy import Repairer
    from shmmap._words import add_one, i64, load, memory, store, thread_number, u64
    from shmmap.layout import (  # type: ignore[attr-defined]
        C_STATE,
        R_HITS,
        R_NEAR_HITS,
        R_TAKEOVERS,
        R_WAITS,
        S_DIRTY,
        S_OWNER,
        STATE_READY,
    )

from shmmap.errors import LockTimeout, MapClosed, Reentered

COMPILED = cython.compiled


class Handle:
    """A handle's view of the shards."""

    if not cython.compiled:
        name = None
        closed = True

    def __cinit__(self, *_, **__):
        """Count as closed until bound (compiled): a debugger may ask for the repr of a handle
        whose `__init__` raised."""
        self.closed = True

    def _bind(self, attachment, lock_timeout_ns):
        """Point this handle at an attachment's memory."""
        self.attachment = attachment
        self.name = attachment.name
        self.control = memory(attachment.control_memory)
        self.fork_page = memory(attachment.fork_memory)
        self.shards = attachment.shards
        self.repairers = attachment.repairers
        self.seed = attachment.seed
        bits: u64 = len(attachment.shards).bit_length() - 1
        self.shift = 64 - bits if bits else 63
        self.mask = len(attachment.shards) - 1
        self.safe = attachment.safe
        self.evicts = attachment.evicts
        self.ttl_ns = attachment.ttl_ns
        self.clock = attachment.clock
        self.lock_timeout_ns = lock_timeout_ns
        self.row = attachment.worker.row_offset(attachment.worker.row)
        self.gate = []
        self.marks = []
        self.inflight = 0
        self.sweeping = False
        self.near = None
        self.closed = False

    def _after_fork(self):
        """Start anew in a child: the parent's threads are not here."""
        self.row = self.attachment.worker.row_offset(self.attachment.worker.row)
        self.gate = []
        self.marks = []
        self.inflight = 0
        self.sweeping = False
        if self.near is not None:  # what the parent holds may be half-way through a thread
            self.near = self.near.emptied()

    def _use_near(self, size: Any, copies: Any, bound_ns: Any) -> None:
        """Keep up to `size` entries in this process (0: none); see `_near_cy`."""
        self.near = NearStore(size, copies, bound_ns) if size else None

    def _tally(self) -> None:
        """Count the answers that were given without touching shared memory."""
        if self.near is not None:
            answered: u64 = self.near.answered
            self.near.answered = 0
            for counter in (R_HITS, R_NEAR_HITS):
                offset: u64 = self.row + counter
                store(self.control, offset, load(self.control, offset) + answered)

    def _seal(self):
        """Refuse new operations; give how many are in flight."""
        self.closed = True
        marked = sum(mark.locked() for mark in list(self.marks))
        if cython.compiled:
            return self.inflight + marked
        return _operations_of(self) + marked

    def ready(self):
        """Refuse a closed handle and a map that was unlinked or cut off; in a forked child,
        become a worker."""
        if self.closed:
            raise MapClosed(f"map {self.name!r}: this handle is closed; open the map again")
        # 8: see ForkPage
        if load(self.fork_page, 8) != 1 or load(self.control, C_STATE) != STATE_READY:
            self.attachment.reenter()
            if self.closed:  # by another thread, in there
                raise MapClosed(f"map {self.name!r}: this handle is closed; open the map again")
        return 0

    def go_on(self):
        """Do what `ready` does, without a look at shared memory: whether the map was unlinked is
        not noticed."""
        if self.closed or load(self.fork_page, 8) != 1:
            self.ready()
        return 0

    def enter(self):
        """Begin an operation that `close` must wait for."""
        try:
            self.ready()  # before counting: in a forked child this starts the count anew
        except ValueError:  # pure: another thread closed us between two lines of `ready`
            if not self.closed:
                raise
            raise MapClosed(
                f"map {self.name!r}: this handle is closed; open the map again"
            ) from None
        if cython.compiled:
            self.inflight += 1
        else:
            operation: Any = sys._getframe(1)
            self.gate.append(operation)
            if self.closed:
                self.gate.remove(operation)
                self.ready()
        return 0

    def _begin(self, mark: Any) -> None:
        """Begin an operation written in Python; it is under way until its mark, a lock, is
        released, which no signal handler can prevent. `_end` only tidies up."""
        self.marks.append(mark)
        self.enter()
        self.leave()
        if mark not in self.marks:  # begun anew in a forked child
            self.marks.append(mark)

    def _end(self, mark: Any) -> None:
        """Forget the mark of an operation that `_begin` began, or was to begin. Idempotent."""
        if mark in self.marks:
            self.marks.remove(mark)

    def token(self):
        """Give this thread's lock token."""
        return load(self.fork_page, 0) | thread_number()

    def leave(self):
        """End an operation."""
        if cython.compiled:
            self.inflight -= 1
        else:
            thread = threading.get_ident()
            for at, held in list(self.attachment.held.items()):
                if at[0] == thread and not _holders(sys._getframe(2), *held):
                    # no operation further up has it: a handler raised at `drop`'s first line
                    self.let_go(*held)
            self.gate.remove(sys._getframe(1))

    def count(self, counter):
        """Add one to a counter of this worker's row."""
        add_one(self.control, self.row + counter)

    def shard_of(self, hash):
        """Pick the shard: by the hash's top bits."""
        number: u64 = (hash >> self.shift) & self.mask
        return self.shards[number]

    def refuse_reentry(self, shard, me):
        """Raise if this very thread is inside that shard already."""
        if cython.compiled:
            if load(shard.mem, S_OWNER) != me or not shard.lock.holds(me):
                return 0
        elif me not in self.attachment.inside[shard.number] or not _is_inside(shard, me):
            return 0
        raise Reentered(
            f"map {self.name!r}, shard {shard.number}: called from a signal handler or a "
            "finalizer while its own thread was changing this shard. Defer such calls"
        )

    def hold(self, shard, me):
        """Take a shard's lock, and repair the shard if a change was broken off."""
        status: i64
        if not cython.compiled:
            self.note(shard, me)
        status = shard.lock.acquire(me, self.lock_timeout_ns)
        if status:
            if status == 3:
                raise LockTimeout(self.attachment.describe_wait(shard, self.lock_timeout_ns))
            # 4, our own: a signal handler raised before `drop` could free it
            self.count(R_WAITS)
            if status == 2:
                self.count(R_TAKEOVERS)
        if load(shard.mem, S_DIRTY):
            self.mend(shard)
        return 0

    def note(self, shard: Any, me: Any) -> None:
        """Note that this thread is about to hold a shard, as far as anyone can tell (pure
        engine)."""
        self.attachment.inside[shard.number].add(me)
        self.attachment.held[threading.get_ident(), shard.number] = (shard, me)

    def drop(self, shard, me):
        """Free a shard's lock if it is held."""
        if cython.compiled:
            if shard.lock.held_by(me):
                shard.lock.release()
            return
        try:
            self.let_go(shard, me)
        except BaseException:  # a signal handler raised in it: finish all the same
            self.let_go(shard, me)
            raise

    def let_go(self, shard, me):
        """Free a shard's lock if it is held, and forget that we are inside. Idempotent.

        A change that an exception broke off (a signal handler raised it) is repaired first:
        later it could take effect long after the operation has raised.
        """
        if shard.lock.held_by(me):
            if not cython.compiled and load(shard.mem, S_DIRTY):
                self.mend(shard)
            shard.lock.release()
        if not cython.compiled:
            self.attachment.inside[shard.number].discard(me)
            self.attachment.held.pop((threading.get_ident(), shard.number), None)

    def mend(self, shard):
        """Repair a held shard."""
        repairer: Repairer = self.repairers[shard.number]
        repairer.run()

    def raise_for(self, status, shard, data_bytes):
        """Raise the error for a status."""
        raise self.attachment.error_for(status, shard, data_bytes)

    def find_locked(self, shard, key, found):
        """Find a key under the lock. What the index gets wrong is repaired once."""
        status: i64 = shard.find(key.hash, key.type, key.data, key.length, found)
        if status == -4:
            self.mend(shard)
            status = shard.find(key.hash, key.type, key.data, key.length, found)
            if status == -4:
                self.raise_for(-4, shard, 0)
        return status

    def is_live(self, shard, status, found):
        """Tell whether a lookup found an entry whose deadline has not passed."""
        return status == 1 and not shard.is_expired(found)


# The functions that take a shard's lock; a test compares the list with the sources.
HOLDERS = frozenset((
    "_copy_shard", "_cut", "_end_entries", "_repair_shard", "_sweep_part", "clear_shard", "commit",
    "copy_changed_shard", "fetch_locked", "incr", "popitem", "scan_locked", "take", "touch",
    "track_shard", "whole_index",
))
HOLDERS_OF_ALL = frozenset(("_cut",))  # of them, those that hold every shard at once


def _operations_of(handle):
    """Count the operations of a handle that are under way (pure engine).

    A signal handler that raises between an operation's first line and its `try` leaves its frame
    in the gate for ever. A frame that has ended can be cleared, one that runs, in whatever thread,
    refuses; to walk another thread's stack, as it runs on, has crashed CPython 3.11.
    """
    count = 0
    for frame in list(handle.gate):
        try:
            frame.clear()
        except RuntimeError:
            count += 1
    return count


def _is_inside(shard, me):
    """Tell whether an operation further up this thread's stack holds the shard (pure engine).

    If none does, a signal handler raised so awkwardly that its `drop` did not run to the end.
    """
    return _holders(sys._getframe(1), shard, me) > 1  # the one that asks is the first


def _holders(frame: Any, shard, me):
    """Count the operations from a frame upwards that hold a shard, or are about to."""
    operations = 0
    while frame is not None:
        name = frame.f_code.co_name
        if name in HOLDERS and (
            name in HOLDERS_OF_ALL or frame.f_locals.get("shard") is shard
        ):
            operations += frame.f_locals.get("me") == me
        frame = frame.f_back
    return operations
