"""Breaking a named lock: taking it from a holder that lives, because somebody said so.

    1  read the lock's entry, and show whoever decides who holds it
    2  free it as a dead holder's is freed: a `cas` to nothing on the version that has that very
       record (see `LockTable.give_back`); wake one of those who wait

So it is a step of the lock shard like any other (N2 of `lock_table`), in which a person is the
judge. Of a break and a release, or an end of the lease, one is first; who has taken the lock since
the look has another record, and keeps it. The former holder finds its record gone, as one does
whose lease has passed: it can neither free nor extend the lock, its `release` raises LockLost, and
who takes the lock next has a higher fencing token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..checks import Key
from ..operations import messages
from . import waking
from .lock_table import FLIGHT, LOCK, PERMIT, Record, name_of

if TYPE_CHECKING:
    from .hosts import Attached, MapHandle


class Holder(NamedTuple):
    """Who holds a lock.

    Attributes:
        name, raw: the lock's, and the record of this very holding.
        who: the process, as it reads in a message.
        held_s: seconds since it took the lock.
        lease_s: seconds until the lock is free whatever its holder does; None: it has no lease.
        token: its fencing token.
    """

    name: bytes
    raw: bytes
    who: str
    held_s: float
    lease_s: float | None
    token: int


def find_holder(m: MapHandle, key: Key) -> Holder | None:
    """Return who holds a lock and lives, as far as that can be told; None: nobody."""
    name = name_of(LOCK, key)
    with m._inside() as attached:
        table = m._lock_table()
        raw, version = table.get_versioned(name)
        record = Record.unpack(raw)
        if not version or record is None or table.is_abandoned(raw):
            return None
        try:
            lease_s = table.ttl(name)
        except KeyError:  # it was left just now
            return None
        held_s = max(0, attached.clock.now_ns() - record.since_ns) / 1e9
        return Holder(name, raw, _describe(attached, record), held_s, lease_s, version)


def _describe(attached: Attached, record: Record) -> str:
    pid, is_ours = attached.worker.pid_of(record.token)
    if not pid:
        return "a process that is just ending"
    state = messages.state_of(pid) if is_ours else "as its own pid namespace counts"
    return f"process {pid} ({state})"


def is_otherwise_held(m: MapHandle, key: Key, permits: int) -> bool:
    """Tell whether there is a computing of a key's value, or one of its so many permits is held."""
    names = [name_of(FLIGHT, key), *(name_of(PERMIT, key, number) for number in range(permits))]
    with m._inside():
        table = m._lock_table()
        return any(table.get_versioned(name)[1] for name in names)


def break_hold(m: MapHandle, holder: Holder) -> bool:
    """Free a lock if this holding still has it, and wake one that waits; tell whether it had.

    Raises:
        LockTimeout: a process is stopped within the lock shard, and nothing was broken.
    """
    with m._inside() as attached:
        broken = m._lock_table().give_back(holder.name, holder.raw)
        if broken:
            waking.wake(attached.locks, holder.name, 1)
        return broken
