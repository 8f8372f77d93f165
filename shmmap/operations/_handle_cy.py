# mypy: ignore-errors
"""A handle on a map: the way into and out of every operation.

Each operation: `come_in` or `enter` (closed? forked? unlinked?), the work, `leave`. For what is
around a change of a shard see `_holding_cy`. Everything is encoded before a shard is held and
decoded after, so that no Python code of anyone's runs meanwhile.
"""

from __future__ import annotations

import threading
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
        memory,
        store,
        thread_number,
        u64,
    )
    from shmmap.memory._figures_cy import note_event, time_it
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        C_BYTES_TOTAL,
        C_GEN0_NUMBER,
        C_GEN1_NUMBER,
        C_STATE,
        INCARNATION_MASK,
        R_BYTES_TOTAL,
        R_HITS,
        R_INCARNATION,
        R_NEAR_HITS,
        R_PID,
        STATE_READY,
        TABLE_CURSOR_MASK,
        TABLE_ROWS_MASK,
        TOKEN_INCARNATION_SHIFT,
        TOKEN_ROW_SHIFT,
    )
    from shmmap.operations import reentry
    from shmmap.operations._near_cy import NearStore
    from shmmap.values._keys_cy import rehash

from shmmap.errors import MapClosed, MapUnlinked
from shmmap.memory.geometry import SHARD_LIMIT
from shmmap.operations.reporting import report
from shmmap.operations.routing import ShardMoved

COMPILED = cython.compiled
_NONE: Any = None


class Handle:
    """A handle's view of the shards."""

    if not cython.compiled:
        name = None
        closed = True
        near = None
        attachment = _NONE  # also of one that was never opened
        _follows = False
        _turning = False

    def __cinit__(self, *_, **__):
        """Count as closed until bound (compiled): a debugger may ask for the repr of a handle
        whose `__init__` raised."""
        self.closed = True

    def _bind(self, attachment, lock_timeout_ns):
        """Point this handle at an attachment's memory, and open it."""
        self.name = attachment.name
        self.lock_timeout_ns = lock_timeout_ns
        self.gate = []
        self.marks = {}
        self.inflight = 0
        self.ticks = self.write_ticks = 0  # apart: a regular program would time one kind only
        self.near = None
        self._at_last = None
        self._turning = False
        self.attachment = attachment
        self.shards = attachment.shards
        self.clock = attachment.clock
        self._point_at(attachment, attachment.ttl_ns, None)
        self.closed = False

    def _point_at(self, attachment: Any, ttl_ns: Any, own_coder: Any) -> None:
        """Point this handle at an attachment's memory. Nothing of it may be under way, but what
        comes in between (a handler, pure engine) is refused or goes on: the attachment comes
        last, and until then the map is the one that was unlinked."""
        control: mem_t = memory(attachment.control_memory)
        fork_page: mem_t = memory(attachment.fork_memory)
        row: u64 = attachment.worker.row_offset(attachment.worker.row)
        shards: list = attachment.shards
        seed: u64 = attachment.seed
        own_ttl_ns: i64 = ttl_ns
        coder: Any = attachment.coder if own_coder is None else own_coder
        former: Any = self.attachment, self.shards, self.clock
        self._route(shards)
        self.seed = seed
        self.safe = attachment.safe
        self._coder = coder
        self.ttl_ns = own_ttl_ns
        self.tombstones_ns, self.wall_ns = attachment.tombstones_ns, attachment.wall_ns
        self.clock = attachment.clock
        self.row = row
        self.rows = attachment.worker.rows
        self._sweeping = False
        self.look_at = 0
        # in one step: of two maps' words it could not tell whether it was unlinked
        self.control, self.fork_page, self.attachment = control, fork_page, attachment
        del former  # only now: with what goes, finalizers may come

    def _route(self, shards: Any) -> None:
        """Go by these shards from here on: a power of two of them, by the top bits of the hash. One
        that is there for longer, or that has moved, is met several times."""
        former: Any = self.shards
        bits: u64 = len(shards).bit_length() - 1
        if not cython.compiled:
            self.shards = shards  # in one step
            return
        self.shards = shards
        self.shift = 64 - bits if bits else 63
        self.mask = (cython.cast(u64, 1) << bits) - 1
        del former  # only now: with what goes, finalizers may come

    def _routes(self) -> list:
        """Return the shards that this handle goes by."""
        return self.shards

    def _after_fork(self):
        """Start anew in a child: the parent's other threads are not here; what this thread is in
        the middle of goes on."""
        self.row = self.attachment.worker.row_offset(self.attachment.worker.row)
        if cython.compiled:
            self.inflight = own_operations(self)
        else:
            self.gate = reentry.own_operations(self)
        me = threading.get_ident()
        self.marks = {mark: thread for mark, thread in self.marks.copy().items() if thread == me}
        self._sweeping = False
        self.look_at = 0
        self._at_last = None
        self._turning = False
        if self.near is not None:  # what the parent holds may be half-way through a thread
            self.near = self.near.emptied()

    def _use_near(self, size: Any, copies: Any, bound_ns: Any) -> None:
        """Keep up to `size` entries in this process (0: none); see `_near_cy`."""
        self.near = NearStore(size, copies, bound_ns) if size else None

    def tally(self):
        """Count the answers that were given without touching shared memory. Allocates nothing: a
        collection of garbage in the middle of a read could close the handle."""
        answered: u64
        offset: u64
        if self.near is not None and not self.closed:
            answered = self.near.answered
            self.near.answered = 0
            offset = self.row + R_HITS
            store(self.control, offset, load(self.control, offset) + answered)
            offset = self.row + R_NEAR_HITS
            store(self.control, offset, load(self.control, offset) + answered)

    def _tally(self) -> None:
        """Do that for Python callers."""
        try:
            self.tally()
        except ValueError:  # pure: another thread closed us meanwhile
            if not self.closed:
                raise

    # -- closing ------------------------------------------------------------------------

    def _seal(self) -> bool:
        """Refuse new operations; tell whether it was this call that did it."""
        if self.closed:
            return False
        self.tally()
        self.closed = True
        return True

    def _under_way(self) -> tuple:
        """Count the operations that have not ended: (those of other threads, this thread's)."""
        me = threading.get_ident()
        own: Any = 0
        others: Any = 0
        for mark, thread in self.marks.copy().items():
            if mark.locked():
                if thread == me:
                    own += 1
                else:
                    others += 1
        if cython.compiled:
            mine = own_operations(self)
            return others + self.inflight - mine, own + mine
        mine = len(reentry.own_operations(self))
        return others + reentry.count_operations(self) - mine, own + mine

    def end_of_all(self):
        """Call what waits for the last operation, if that has ended. Where there is no memory for
        that it is done later: see `closing`."""
        finish: Any = self._at_last
        try:
            if finish is None or self._under_way() != (0, 0):
                return
            self._at_last = None
            finish()
        except MemoryError:
            return
        except BaseException:  # the operation that ends is not to blame, nor what it gives
            report()

    # -- the way in and out ---------------------------------------------------------------

    def ready(self):
        """Refuse a closed handle and a map that was unlinked or cut off; in a forked child,
        become a worker."""
        if self.closed:
            raise MapClosed(f"map {self.name!r}: this handle is closed; open the map again")
        # 8: see ForkPage
        if load(self.fork_page, 8) != 1 or load(self.control, C_STATE) != STATE_READY:
            self.attachment.reenter()
            self.refuse_closed()
        return 0

    def refuse_closed(self):
        """Refuse a handle that another thread has closed meanwhile."""
        if self.closed:
            raise MapClosed(f"map {self.name!r}: this handle is closed; open the map again")
        return 0

    def follow(self):
        """Do what `ready` does; where the map was unlinked, and this handle is one that reopens by
        name, have it use the map that has the name now. A key that was hashed before may have been
        hashed for another seed."""
        former: Any
        while self.closed or load(self.fork_page, 8) != 1 or (
            load(self.control, C_STATE) != STATE_READY
        ):
            former = self.attachment
            try:
                self.ready()
            except MapUnlinked as error:
                if not self._follows:
                    raise
                self._reopen(former, error)
                self.refuse_closed()
            except (MapClosed, ValueError):  # ValueError: of the words of a map that is left
                if self.closed or self.attachment is former:
                    raise
                continue  # another thread had this handle go over as this one looked at the former
            break
        return 0

    def _may_follow(self, error: Any) -> bool:
        """Tell whether what was broken off by a MapUnlinked may begin again: it found its shard
        moved, or this map unlinked, and may go on with another one. Else it is another map's, of a
        value's unpickling."""
        return type(error) is ShardMoved or (
            self._follows and load(self.control, C_STATE) != STATE_READY
        )

    def _go_over(self) -> None:
        """Go over to the map that has the name now, where this one was unlinked; else do nothing,
        or raise why that cannot be."""
        self.come_in()
        self.leave()

    def go_on(self):
        """Do what `follow` does, without a look at shared memory: whether the map was unlinked is
        not noticed."""
        if self.closed or load(self.fork_page, 8) != 1:
            self.follow()
        return 0

    def enter(self):
        """Begin an operation, or a part of one, that `close` must wait for. A shard that was picked
        before is what it works on: a map that was unlinked is refused."""
        try:
            self.ready()  # before counting: in a forked child this starts the count anew
        except ValueError:  # pure: another thread closed us between two lines of `ready`
            if not self.closed:
                raise
            raise MapClosed(
                f"map {self.name!r}: this handle is closed; open the map again"
            ) from None
        if cython.compiled:
            begin_operation(self)
            self.inflight += 1
        else:
            reentry.begin(self)
        return 0

    def come_in(self):
        """Begin an operation that has not picked a shard yet; see `follow`. Until `leave` the
        handle stays with the map that it has now."""
        if cython.compiled:
            self.follow()
            begin_operation(self)
            self.inflight += 1
        else:
            while True:
                former = self.attachment
                try:
                    self.follow()
                except ValueError:  # as in `enter`
                    if not self.closed:
                        raise
                    self.refuse_closed()
                reentry.begin(self)
                if self.attachment is former and (
                    not self._turning or self._turn.is_entered()  # this very task has
                ):
                    break
                reentry.end(self)  # another thread has us follow, or just had
        return 0

    def _begin(self, mark: Any) -> None:
        """Begin an operation written in Python; it is under way until its mark, a lock, is
        released, which no signal handler can prevent. `_end` only tidies up."""
        while True:
            self.come_in()  # before the mark: in the middle of an operation nothing is followed
            self.leave()
            self.marks[mark] = threading.get_ident()
            try:
                self.enter()
                self.leave()
                return
            except MapUnlinked:
                self.marks.pop(mark, None)
                if not self._follows:
                    raise

    def _mark(self, mark: Any) -> bool:
        """Have `close` wait until a mark, a lock, is released, and do nothing else: this does not
        join, as `_begin` may, nor raise. Tell whether the handle is open."""
        self.marks[mark] = threading.get_ident()
        return not self.closed

    def _end(self, mark: Any) -> None:
        """Forget the mark of an operation that `_begin` began, or was to begin. Idempotent."""
        self.marks.pop(mark, None)
        if self.closed and self._at_last is not None:
            self.end_of_all()

    def token(self):
        """Return this thread's lock token, as it is now: a fork changes it."""
        return load(self.fork_page, 0) | thread_number()

    def leave(self):
        """End an operation."""
        if cython.compiled:
            self.inflight -= 1
            end_operation(self)
        else:
            reentry.end(self)
        if self.closed and self._at_last is not None:
            self.end_of_all()

    def look_now(self):
        """Look for the files if it is time to, in an operation that knows no version."""
        now: u64 = self.clock.now()
        self.look_if_due(2 * now)  # as versions count
        return 0

    def look_if_due(self, version):
        """Look for the files if it is time to; `version`: of what is written now. What was just
        written or read is of no map if they are not there, as all before it."""
        if version >= self.look_at:
            try:
                self.look_at = self.attachment.look_for_files(self.look_at, version)
            except MemoryError:  # the operation is done all the same; the next one asks again
                self.look_at = version
        return 0

    def pid_of(self, token):
        """Return the pid in a token's row; 0: the row has changed hands, or it is a handle that
        sees no rows. As `Judge.pid_of`, but for probes: a shard is held."""
        row: u64 = C_BYTES_TOTAL + (token >> TOKEN_ROW_SHIFT) * R_BYTES_TOTAL
        taken: u64 = (token >> TOKEN_INCARNATION_SHIFT) & INCARNATION_MASK
        if token >> TOKEN_ROW_SHIFT >= self.rows:
            return 0
        if load(self.control, row + R_INCARNATION) != taken:
            return 0
        return load(self.control, row + R_PID)

    def note(self, kind, shard, detail):
        """Write down an event of a shard: see `_figures_cy`."""
        note_event(self.control, self.row, self.clock.now(), kind, shard.number, detail)

    def count_time(self, which, start_ns):
        """Count how long something took until now."""
        try:
            if not self.closed:
                time_it(self.control, which, clock_ns(1) - start_ns)
        except ValueError:  # pure: another thread closed us meanwhile
            if not self.closed:
                raise

    def count(self, counter):
        """Add one to a counter of this worker's row."""
        add_one(self.control, self.row + counter)

    def shard_for(self, key):
        """Pick a key's shard, by the top bits of its hash. A key that was hashed for a map which
        has been replaced meanwhile is hashed anew."""
        if key.seed != self.seed:
            rehash(key, self.seed)
        if cython.compiled:
            number: u64 = (key.hash >> self.shift) & self.mask
            return self.shards[number]
        shards = self.shards  # once: another thread may renew it
        return shards[key.hash * len(shards) >> 64]

    def shard_at(self, unit):
        """Pick the shard of a unit of the hash: see `memory.table`."""
        shards: list = self.shards
        return shards[unit * len(shards) // SHARD_LIMIT]


def generation_before(control, word, unit):
    """Return the number of the generation that has a unit of the hash until it moves to the newest
    one of a table word."""
    at: u64 = 1 if word & TABLE_ROWS_MASK == 2 and unit < (word >> 21) & TABLE_CURSOR_MASK else 0
    return load(control, row_in_use(word, at))


def row_in_use(word, at):
    """Return where in the control segment the row is of the `at`-th generation in use."""
    return C_GEN0_NUMBER + ((word >> (2 + 2 * at)) & 3) * (C_GEN1_NUMBER - C_GEN0_NUMBER)
