"""The lock shard: who holds which named lock, as entries of one small extra shard.

An entry's key is the lock's name (see `name_of`), its value a record of the holding, its version
the fencing token, its deadline the lease. It is a shard like any other, so its own takeover,
repair and expiry are those of the map; but no operation of the map on keys ever sees it.

**Invariants**
 N1  a lock is held by the record of its live entry, and by nobody else
 N2  an entry changes hands only by `add` where there is none, or by `cas` on the version whose
     holder was judged, dead or to be broken (see `breaking`): of two who judge it, one wins
 N3  a holder removes its entry only by `cas` on a version that has its own record: what it lost
     stays the other's
 N4  a holding's own steps may meet each other, since its lease may be renewed by another thread
     than the one that leaves it: each looks again where the other one was quicker
**Crash**: a dead holder's entry stays until somebody wants that lock, the table is full, or a
sweep comes by.
**Locks**: the lock shard's, for each step. Never waits for a named lock.
"""

from __future__ import annotations

import itertools
import struct
import sys
import weakref
from _blake2 import blake2b  # hashlib's, without OpenSSL
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..errors import LockTimeout, MapClosed, MapFull, Reentered
from ..memory import geometry
from ..memory.layout import constants
from ..memory.words import ControlWords, ShardWords
from ..operations import messages
from ..operations._care_cy import sweep_part
from ..operations._listing_cy import list_entries
from ..operations._moves_cy import unsay_moved
from ..operations._writes_cy import Writes
from ..operations.host import NEVER
from ..shard._status import FULL
from ..system.background import Background
from ..system.mutex import Mutex
from ..system.tasks import current_task
from ..values._keys_cy import pack
from .waiting import Turn

if TYPE_CHECKING:
    from ..checks import Key
    from ..shard._shard_cy import Shard
    from ..system.segment import Mapping
    from .holdings import Hold
    from .hosts import Attached
    from .loop_waiting import LoopPlace, LoopTurn
    from .renewing import Renewing
    from .task_flights import Flights
    from .waiting import Place

K = constants()
Done = TypeVar("Done")
_RECORD = struct.Struct("<QQQ")
OPEN = b"open"
OPEN_S = 10.0
HASTE_NS = 50_000_000
OWN_TRIES = 100  # more steps of one holding never meet
HASTY_LEASE_S = 1e-3  # one that may be over before its taking can be told
# What a name is of: a lock of the user's, the computing of a value, a semaphore's permit.
LOCK, FLIGHT, PERMIT = b"L", b"F", b"P"


def name_of(kind: bytes, key: Key, number: int = 0) -> bytes:
    """Return the name under which a key is locked: 17 bytes, so that each lock takes one slot
    however long its key is, and no lock meets the computing of a value. Equal keys have equal
    names; others have others, since nobody can make two keys with one digest of 128 bits.
    `number`: of the permits of one key."""
    key_type, data = pack(key)
    salt = number.to_bytes(8, "little")
    return kind + blake2b(bytes((key_type,)) + data, digest_size=16, salt=salt).digest()


class Unread(LockTimeout):
    """A lock was taken, and then its version could not be read."""


class Forked(Exception):
    """This is the child of a fork within a step that its parent had begun."""


class LeftOpen(Exception):
    """A computing's result cannot be kept: to wait for another one's would be in vain."""


class Record(NamedTuple):
    """Who holds a lock: `token` as in a shard's owner word, without the thread; `sequence` tells
    this holding from all others of the same process."""

    token: int
    sequence: int
    since_ns: int

    def pack(self) -> bytes:
        """Return the entry's value."""
        return _RECORD.pack(*self)

    @classmethod
    def unpack(cls, raw: object) -> Record | None:
        """Read an entry's value; None: there is none, or it was damaged."""
        if not isinstance(raw, bytes) or len(raw) != _RECORD.size:
            return None
        return cls(*_RECORD.unpack(raw))


class LockShard:
    """The lock shard in one process: what a handle on it takes for its attachment.

    Its operations are counted in memory of its own: polling for locks must not look like hits
    and misses of the map. Of what happens there the map's ring is told: see `event_ring`. `holds`
    are the holdings of this process, by sequence: what is not among them is abandoned.
    """

    label = "the lock shard"
    safe = coder = True
    ttl_ns = tombstones_ns = wall_ns = 0
    row = rows = 0  # it stands for the worker too, whose row says where operations are counted

    def __init__(self, attachment: Attached, shard: Shard, mapping: Mapping) -> None:
        self.whole: Attached | None = attachment
        self.mapping = mapping
        self.name = attachment.name
        self.geometry = geometry.lock_geometry()
        self.seed = attachment.seed
        self.clock = attachment.clock
        self.fork_memory = attachment.fork_memory
        self.liveness = attachment.worker
        self.worker = self
        self.control_memory = bytearray(K["C_BYTES_TOTAL"] + K["R_BYTES_TOTAL"])
        with ControlWords(self.control_memory) as control:
            control.STATE = K["STATE_READY"]  # whoever comes here has looked at the real one
        self.shards = [shard]
        self.acting: list[LockTable] = []  # those with which a step is under way: see `act`
        self.after_fork()

    def after_fork(self) -> None:
        """Forget what threads of the parent hold, and wait for."""
        for table in self.acting:
            table._seal()
        self.acting = []
        self.held: dict[tuple[int, int], Shard] = {}
        self.holds: dict[int, Hold] = {}
        self.by_task: dict[tuple[bytes, object], Hold] = {}
        self.begun: dict[tuple[bytes, object], Hold] = {}  # takings under way, likewise
        self.pruned = 0  # how many holds the last pruning left
        with ControlWords(self.control_memory) as control:
            control.EVENT_NEXT = 0  # of what came before, the parent tells the map
        first, size = K["C_EVENT_COUNTS"], 8 * K["EVENT_KINDS"]
        self.control_memory[first:first + size] = bytes(size)
        self.events_taking = Mutex()
        self.events_seen = self.events_gap = 0
        self.events_counted: dict[str, int] = {}
        self.is_owing = False  # a release that failed is still to be done: see `deferred_release`
        self.freeing: Background | None = None
        self._hasty: LockTable | None = None
        self.sequences = itertools.count(1)
        self.turns: weakref.WeakValueDictionary[Place, Turn] = weakref.WeakValueDictionary()
        self.loop_turns: weakref.WeakValueDictionary[LoopPlace, LoopTurn] = (
            weakref.WeakValueDictionary()
        )
        self.flights: Flights = weakref.WeakKeyDictionary()
        self.renewing: Renewing | None = None

    def hasty_table(self) -> LockTable:
        """Return a way to the lock shard that waits for no process that is stopped in there."""
        table = self._hasty
        if table is None:
            table = LockTable()
            table._bind(self, HASTE_NS)
            self._hasty = table
        return table

    def is_ours(self, hold: Hold) -> bool:
        """Tell whether a holding is this process's, and not its parent's."""
        return hold.token == self.liveness.fork_page.word

    def act(self, hold: Hold, table: LockTable, step: Callable[..., Done], *more: object) -> Done:
        """Take a step with a holding that only its own process may take: `step(name, raw, *more)`.
        A child that is forked within it finds the table sealed as it comes to the lock shard.

        Raises:
            Forked: this is that child. Who has the lock is between its parent and the others.
        """
        self.acting.append(table)
        try:
            if not self.is_ours(hold):
                raise Forked
            result = step(hold.name, hold.raw, *more)
            if not self.is_ours(hold):
                raise Forked
            return result
        except (MapClosed, Reentered, ValueError):  # the last one: pure, memory left behind
            if self.is_ours(hold):
                raise
            raise Forked from None
        finally:
            try:  # noqa: SIM105  # `suppress` takes memory
                self.acting.remove(table)
            except ValueError:  # a child has begun anew
                pass

    def can_be_had(self) -> bool:
        """Tell whether nobody, or somebody dead, has the lock shard's own lock."""
        owner = self.shards[0].lock.owner()
        return not owner or self.is_dead(owner)

    def know(self, hold: Hold) -> None:
        """Have the holding that was just taken found by its name and task."""
        self.by_task[hold.whose] = hold
        if len(self.holds) > 2 * self.pruned + 100:  # leases may lapse with nobody to release
            now_ns = self.clock.now_ns()
            for old in list(self.holds.values()):
                if old.is_over or (old.lapses_ns and old.lapses_ns <= now_ns):
                    self.forget(old)
            self.pruned = len(self.holds)

    def own(self, name: bytes) -> list[Hold]:
        """List the holdings of a name that this thread, or greenlet, has taken or is just taking:
        a signal's handler may ask when the lock is taken, and its taker does not know it yet."""
        whose = name, current_task()
        return [hold for known in (self.by_task, self.begun) if (hold := known.get(whose))]

    def end_taking(self, hold: Hold, interrupted: Hold | None) -> None:
        """Say that a taking is over, which a handler began within another one, or none."""
        if interrupted is not None:
            self.begun[hold.whose] = interrupted
        elif self.begun.get(hold.whose) is hold:
            self.begun.pop(hold.whose, None)

    def forget(self, hold: Hold) -> None:
        """Hold it no longer: what the table says of it is abandoned from now on."""
        self.holds.pop(hold.sequence, None)
        whose = hold.whose
        if self.by_task.get(whose) is hold:
            self.by_task.pop(whose, None)

    def detach(self) -> None:
        """Forget the attachment that this is a part of, which knows this."""
        self.freeing = self._hasty = None
        self.whole = None
        if self.renewing is not None:
            self.renewing.end()
            self.renewing = None

    def row_offset(self, row: int) -> int:
        """Return where a handle counts its operations."""
        return K["C_BYTES_TOTAL"]

    def pid_of(self, token: int) -> tuple[int, bool]:
        """Return the pid of a token: see Worker."""
        return self.liveness.pid_of(token)

    def is_dead(self, token: int) -> bool:
        """Tell whether the worker of a token is dead: see Worker."""
        return self.liveness.is_dead(token)

    def reenter(self) -> None:
        """Go on in a forked child: see Attachment."""
        self.whole.reenter()  # type: ignore[union-attr]  # this is a part of it until its end

    def start_sweeper(self) -> bool:
        """Start no thread for a lease: an expired one is in nobody's way."""
        return True

    def look_for_files(self, due: int, version: int) -> int:
        """Leave that to operations of the map itself."""
        return NEVER

    def reserve_deadlines(self, shard: Shard) -> None:
        """Say that there are deadlines; their pages were reserved when the map was made."""
        with ShardWords(self.mapping.buffer) as header:
            header.HAS_DEADLINES = 1

    restore_deadlines = reserve_deadlines

    def renew(self, handle: LockTable, shard: Shard, unit: int) -> None:
        """Take back that this one has moved: it never does."""
        unsay_moved(handle, shard)

    def describe_wait(self, shard: Shard, waited_ns: int) -> str:
        """Say who holds the lock shard's own lock: see `messages`."""
        return messages.describe_wait(self, shard, waited_ns)

    def error_for(self, status: int, shard: Shard, data_bytes: int) -> Exception:
        """Return the exception for a status of the lock shard."""
        if status == FULL:
            return MapFull(
                f"map {self.name!r} has no room for one more named lock: {self.count():,} are "
                f"held of {geometry.LOCK_SLOTS - 1}. Hold fewer at a time (get_or_set and @cached "
                "hold one for each key that is being computed), or keep the locks in several maps"
            )
        return messages.error_for(self, status, shard, data_bytes)

    def count(self) -> int:
        """Count the locks held, those of dead holders included."""
        return self.shards[0].entries()


class LockTable(Writes):
    """A handle on the lock shard. Each method is one try; none waits for a named lock."""

    def new_record(self) -> Record:
        """Make the record of a holding that is about to begin."""
        part = self.attachment
        word = part.liveness.fork_page.word
        return Record(word, next(part.sequences), part.clock.now_ns())

    def take_lock(self, key: bytes, raw: bytes, lease: float | None) -> int:
        """Take the lock of `key` if it can be had at once: its version, 0 if it is held.

        Raises:
            MapFull: the table is full of the locks of the living.
            Unread: it was taken, and cannot be told; it has to be freed.
        """
        try:
            return self.try_take(key, raw, lease)
        except MapFull:
            if not self.drop_abandoned():
                raise
            return self.try_take(key, raw, lease)

    def try_take(self, key: bytes, raw: bytes, lease: float | None) -> int:
        """Take the lock of `key` if it is free or abandoned: its version, 0 if it is held."""
        found, version = self.get_versioned(key)
        if found == OPEN:
            raise LeftOpen
        if version == 0:
            taken = self.add(key, raw, lease)
        else:
            taken = self.is_abandoned(found) and self.cas(key, raw, version, lease)
        if not taken:
            return 0
        try:
            version = self.version_of(key, raw)
            if not version and lease and lease < HASTY_LEASE_S:
                version = self.lapsed_version(raw)
            return version
        except LockTimeout as error:
            raise Unread(str(error)) from error

    def lapsed_version(self, raw: bytes) -> int:
        """Return the version of the entry of a record whose lease was over before it could be read
        as others are; 0: its slot has been freed since. It was taken all the same, and is said to
        be: a lease shorter than the steps that take it would else be tried for without an end. A
        longer one that was over so soon, since its process was stopped, is tried for again."""
        mapping, areas = self.attachment.mapping, self.attachment.geometry.areas
        slots = bytes(memoryview(mapping.buffer).cast("B")[areas.slots : areas.deadlines])
        size = self.attachment.geometry.slot_size
        at = slots.find(raw)  # no other entry ever has this token and sequence
        first = at - at % size
        version = int.from_bytes(slots[first : first + 8], sys.byteorder) if at >= 0 else 0
        return 0 if version & 1 else version

    def version_of(self, key: bytes, raw: bytes) -> int:
        """Return the version of `key` while this very record holds it, else 0."""
        found, version = self.get_versioned(key)
        return version if found == raw else 0

    def give_back(self, key: bytes, raw: bytes) -> bool:
        """Free the lock of `key` if this record still holds it; tell whether it did."""
        return self.change_own(key, raw, None, 0)

    def leave_open(self, key: bytes, raw: bytes) -> bool:
        """Have a lock that this record still holds stand open for a while, for all: LeftOpen.
        Its entry goes with time, or as an abandoned one where the table is full."""
        return self.change_own(key, raw, OPEN, OPEN_S)

    def renew(self, key: bytes, raw: bytes, lease: float | None) -> bool:
        """Return a lock that this record still holds another lease; tell whether it did."""
        return self.change_own(key, raw, raw, lease)

    def change_own(self, key: bytes, raw: bytes, to: bytes | None, lease: float | None) -> bool:
        """Put something in the place of this very record; tell whether it was still there. While
        it is, only a step of its own holding can have been quicker: those come seldom."""
        for _ in range(OWN_TRIES):
            version = self.version_of(key, raw)
            if not version:
                return False
            if self.cas(key, to, version, lease):
                return True
        return False

    def is_abandoned(self, raw: object) -> bool:
        """Tell whether a record's holder is dead, or is a holding that this process forgot (a
        signal handler, or a lack of memory, broke its taking or release off)."""
        record = Record.unpack(raw)
        part: LockShard = self.attachment
        if record is None:
            return True  # damaged: nobody could ever free it
        if record.token == part.liveness.fork_page.word:
            hold = part.holds.get(record.sequence)
            return hold is None or hold.is_over
        return part.is_dead(record.token)

    def drop_abandoned(self) -> int:
        """Free the locks of dead holders; count them. O(slots of the lock shard)."""
        freed = 0
        for key, raw in list_entries(self, 0, True)[1]:
            if self.is_abandoned(raw):
                freed += self.give_back(key, raw)
        return freed

    def find_holder(self) -> Record | None:
        """Return the record of somebody who lives and has a lock, or a permit; None: nobody. Who
        computes a value does not count."""
        for name, raw in list_entries(self, 0, True)[1]:
            record = Record.unpack(raw)
            if record and not name.startswith(FLIGHT) and not self.is_abandoned(raw):
                return record
        return None

    def sweep(self) -> int:
        """Free the locks of dead holders, and those whose lease is over; count the former."""
        following = 1
        while following:
            following = sweep_part(self, 0, following, 0, geometry.LOCK_SLOTS)
        return self.drop_abandoned()
