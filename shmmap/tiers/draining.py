"""One process of the machine carries what waits in the journal to the store.

Which one: whoever has the named lock of the journal, which is free as soon as its holder has died,
and after LEASE_S where that is stopped. All others look every LOOK_S. The one that has it

    1  renews its lease if it is due, then asks the store for its time
    2  reads some records, and the machine's offset: see `machine_clock`
    3  has the store write each of them, unless what is there is later, or WITHIN_MS have passed
    4  removes those that the store has answered, each if it is still the one that was read

Whoever is killed between two of these leaves the records to the next one, which writes some of
them twice: the same bytes with the same stamp. One that is stopped, and goes on after another one
has taken its place, writes nothing: what it has sent is refused then, since what is left of its
lease is longer than that. What was sent by one that has died, or has had no answer, may still
be on its way: the next one waits until it would be refused. So each key is written in the order in
which this machine wrote it.

Of a store that has several servers one may be away, and the others answer: then what that one has
waits, and all else is carried. Of what was sent there, and had no answer, nothing else of the same
name is sent until it would be refused: see `held_back`.

Where the store has a later stamp, of another machine, that write is the last one, and ours has been
overwritten by it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ..checks import Key
from ..errors import LockLost, MapClosed, ShmMapError, StoreRefused, StoreUnavailable
from .held_back import HeldBack
from .journal import Journal, Record
from .machine_clock import MachineClock
from .parts import Runs
from .stamps import latest_believed
from .store import TIMEOUT_S, Put, Store
from .store_keys import RESERVED
from .stored import Writing

LEASE_S = 3.0
RENEW_S = 1.0
WITHIN_MS = 1_500
OPEN_NS = int(RENEW_S * 1e9) + WITHIN_MS * 1_000_000  # < LEASE_S; see `_renew`
MOST_MORE_S = 90.0  # for which what is sent may be longer under way
LOOK_S = 0.25
IDLE_S = 0.005  # between two looks at an empty journal's length
LIST_S = 0.1  # between two listings of an empty journal whose length stays
LIST_SHARE = 100  # times as long as a listing takes, at the least
AT_ONCE = 500
AT_ONCE_BYTES = 1_000_000  # less where that is under way for too long
HELD_SHARE = 8  # the same, where all that waits is held back
_NO_PAUSE_S = 0.0005


class Part(Runs):
    """One process's part.

    Attributes:
        is_draining: whether it is this process that carries.
        lease_s: seconds after which another one carries, if this one is stopped.
        sent, overtaken: records that the store took, and that it had something later for.
        trouble: what went wrong last; "": nothing, or another process carries.
    """

    def __init__(
        self, journal: Journal, store: Store, writing: Writing, clock: MachineClock,
        tombstone_s: float | None = None,
    ) -> None:
        self._journal = journal
        self._store = store
        self._writing = writing
        self._clock = clock
        self._tombstone_s = tombstone_s
        super().__init__(LOOK_S)
        # what is sent to a store that is waited for longer may be longer under way
        timeout_s = getattr(store, "timeout_s", TIMEOUT_S)
        more_s = min(MOST_MORE_S, 1.5 * max(0.0, timeout_s - TIMEOUT_S))
        self.lease_s = LEASE_S + more_s
        self._within_ms = WITHIN_MS + int(1_000 * more_s)
        self._open_ns = OPEN_NS + int(1e9 * more_s)
        self._bytes = AT_ONCE_BYTES
        self._lock: Any = None
        self._renewed = self._quiet_until = self._said = 0
        self._is_open = False  # something was sent, and not answered
        self.place: Key = (RESERVED, "drained until", journal.tag)
        self.carried_place: Key = (RESERVED, "carried until", journal.tag)
        self._left: list[bytes] = []  # names of this round that are not sent yet
        self._round = 0  # when they were listed
        self._is_whole = self._is_hot = False
        self._held = HeldBack()
        self._length = -1  # of the journal's map, when it had nothing for us
        self._list_due = 0
        self.sent = self.overtaken = 0
        self.trouble = ""

    @property
    def is_draining(self) -> bool:
        """Whether it is this process that carries what waits."""
        return self._lock is not None

    def _step(self) -> bool:
        pause_s = LOOK_S
        try:
            if self._journal.map.closed:
                raise MapClosed("the journal's map is closed")
            if self._lock is not None or self._begin():
                pause_s = _NO_PAUSE_S if self.turn() else IDLE_S
        except MapClosed:
            self._leave()
            return False
        except Exception as error:
            self.trouble = f"{type(error).__name__}: {error}"
            if isinstance(error, StoreUnavailable):
                self._is_open &= error.was_sent
                if self._is_open:
                    self._bytes = max(1, self._bytes // 4)
            self._leave()
            if isinstance(error, MemoryError):
                raise
        if self._background.stopping:
            self._leave()
        self._background.set_interval(pause_s)
        return True

    def _begin(self) -> bool:
        """Become the one that carries, if nobody is."""
        now = self._journal.now()  # the lease begins later than that, if this one is stopped
        lock = self._journal.map.lock((RESERVED, "drain", self._journal.tag), lease=self.lease_s)
        if not lock.acquire(blocking=False):
            self.trouble = ""  # another one carries
            return False
        self._lock = lock
        most = now + OPEN_NS + int(MOST_MORE_S * 1e9)
        self._quiet_until = min(self._said_at(self.place), most)
        self._is_open = False
        self._left, self._is_whole = [], False
        self._note(now)
        return True

    def _renew(self) -> None:
        """Have the lease last for as long as what is sent now may be on its way."""
        now = self._journal.now()
        if now - self._renewed > RENEW_S * 1e9:
            self._lock.extend()  # raises LockLost: another one carries
            self._note(now)

    def _note(self, renewed: int) -> None:
        """Say until when what this one sends may be done, in case that it dies."""
        self._said = max(renewed + self._open_ns, self._quiet_until)
        self._journal.map.set(self.place, self._said, None)
        self._renewed = renewed

    def turn(self) -> bool:
        """Carry some of what waits; tell whether there was anything that could be."""
        self._renew()
        if not self._left and not self._list():
            self.trouble = "" if not self._held else self.trouble
            return False
        if self._journal.now() < self._quiet_until:
            return False
        asked = self._journal.now()
        began = self._store.moment()
        now = self._journal.now()
        if now - self._renewed > RENEW_S * 1e9:
            if now - asked > RENEW_S * 1e9:
                self.trouble = f"the store took more than {RENEW_S:g} s to tell its time"
            return True  # the answer took long: begin with a lease that is whole
        return self._carry(began)

    def _list(self) -> bool:
        """Begin a round: list what waits. To list a map takes as long as it is large: so all that
        was listed is sent before the next one. An empty one is listed as it grows, and now and
        then, in case that something else has gone at the same time."""
        length, now = len(self._journal.map), self._journal.now()
        if length == self._length and now < self._list_due:
            return False
        names = list(self._journal.names())
        self._held.forget_but(names, now)
        self._left = [name for name in names if not self._held.holds(name, now)]
        self._length = -1 if self._left else length
        took = self._journal.now() - now
        share = HELD_SHARE if names else LIST_SHARE
        self._list_due = now + max(int(LIST_S * 1e9), share * took)
        if not names:
            self._clock.rest(now, self._journal.is_empty)
        self._round, self._is_whole, self._is_hot = now, len(self._left) == len(names), False
        return bool(self._left)

    def _take(self) -> list[tuple[bytes, Record]]:
        """Take what is sent next out of the round."""
        found: list[tuple[bytes, Record]] = []
        size = 0
        now = self._journal.now()
        while self._left and len(found) < AT_ONCE and size < self._bytes:
            name = self._left[-1]
            if self._held.holds(name, now):
                self._is_whole = False
                self._left.pop()
                continue
            record = self._journal.look(name)
            if record is not None:
                if self._held.holds(name, now, record.version):
                    self._is_whole = False
                else:
                    size += len(record.data)
                    if found and size > self._bytes:
                        break
                    found.append((name, record))
            self._left.pop()
        return found

    def _carry(self, began: Any) -> bool:
        open_until = self._journal.now() + self._within_ms * 1_000_000  # it began before
        offset = self._clock.offset()
        found = self._take()
        puts = [self._put(name, record, offset.stamp_of(record.version)) for name, record in found]
        self._is_open = bool(puts)
        answers = self._store.put_latest(
            puts, began, self._within_ms, latest_believed()
        ) if puts else []
        self._is_open = False
        self.trouble = "" if not self._held else self.trouble
        is_late = is_away = was_sent = False
        for (name, record), answer in zip(found, answers, strict=True):
            if isinstance(answer, StoreRefused | StoreUnavailable):
                self._hold(name, record, answer, open_until)
                if isinstance(answer, StoreUnavailable):
                    is_away, was_sent = True, was_sent | answer.was_sent
                continue
            self._held.answered(name)
            if answer or (answer is False and self._clock.offset() == offset):
                self._is_hot |= not self._journal.drop(name, record)
                self.sent += bool(answer)
                self.overtaken += not answer
                continue
            is_late |= answer is None
            self._is_whole = False
        if is_late or was_sent:
            self._bytes = max(1, self._bytes // 4)
        elif puts:
            self._bytes = min(AT_ONCE_BYTES, 2 * self._bytes)
        if is_late:
            self.trouble = (f"what was sent came later than {self._within_ms:,} ms after it was "
                            "begun, and the store took it no more: a longer "
                            "timeout= gives it longer")
        if not self._left and self._is_whole and self._is_hot:
            self._journal.map.set(self.carried_place, self._round, None)
        return bool(found) and not is_late and not is_away

    def _hold(
        self, name: bytes, record: Record, error: StoreRefused | StoreUnavailable, open_until: int
    ) -> None:
        """Send a name for a while no more."""
        self._is_whole = False
        now = self._journal.now()
        if isinstance(error, StoreRefused):
            self._held.refused(name, record.version, now)
        elif error.was_sent:
            self._held.unanswered(name, now, open_until, error.server)
        else:
            self._held.not_sent(name, now, error.server)
        self.trouble = f"{type(error).__name__}: {error}"

    def carried_until(self) -> int:
        """Return a time: all that was written before, the store has, or something later."""
        return self._said_at(self.carried_place)

    def _said_at(self, place: Key) -> int:
        """Return the time that an entry has; 0: none, or another program has written it."""
        said: Any = self._journal.map.get(place, 0)
        return said if isinstance(said, int) else 0

    def _put(self, name: bytes, record: Record, stamp: bytes) -> Put:
        if not self._writing.is_stamped:
            stamp = b""
        if record.kind is None:
            if self._tombstone_s is None:
                return Put(name, None, None, stamp)
            return Put(name, self._writing.tombstone(stamp), self._tombstone_s, stamp)
        ttl_s = None
        if record.deadline:
            ttl_s = max(0.001, (record.deadline - self._journal.now()) / 1e9)
        return Put(name, self._writing.stored(record.kind, record.data, stamp), ttl_s, stamp)

    def _leave(self) -> None:
        """Carry no more, and leave it to another one."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with suppress(LockLost, ShmMapError):
                if not self._is_open:
                    self._unsay()
                lock.release()

    def _unsay(self) -> None:
        """Say that nothing that this one has sent is on its way, unless another one has said what
        it sends meanwhile."""
        m = self._journal.map
        said, version = m.get_versioned(self.place)
        if said == self._said:
            quiet_until = max(self._quiet_until, self._held.open_until)
            m.cas(self.place, quiet_until, version, None)
