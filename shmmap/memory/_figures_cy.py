# mypy: ignore-errors
"""What all workers of a map write down together: how long something took, and what has happened.

Each word of a histogram, and each count, is added to atomically: so nothing is lost with a worker,
and there is nothing to fold. That costs what a cache line costs that several write; so it is done
by one in 1,024 reads and writes only, and where somebody has waited anyway.

**The ring of events** has EVENT_PLACES records. Who writes one

    1  takes the next number: EVENT_NEXT
    2  clears the check of the record at that number's place
    3  stores when, what, and the detail
    4  stores the check, which is made of these, and of the number

A reader believes what its check fits: not what is half written, by one that has died there, or is
stopped and written over; nor what an outsider has written by chance. Of the noisy kinds one a
second is written down, and all are counted.

**Crash**: between two of these a record is lost. **Locks**: none; nothing here waits or allocates.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import (
        add_shared,
        bits_of,
        clock_ns,
        compare_exchange,
        load,
        memory,
        publish,
        store,
        u64,
    )
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        C_EVENT_COUNTS,
        C_EVENT_LASTS,
        C_EVENT_NEXT,
        C_EVENTS,
        C_HISTOGRAMS,
        EVENT_BYTES,
        EVENT_EVICTING,
        EVENT_KINDS,
        EVENT_PAUSE_NS,
        EVENT_PLACES,
        EVENT_REPAIR,
        EVENT_RESIZE,
        EVENT_SALT,
        EVENT_SALT_WHAT,
        EVENT_SALT_WHEN,
        EVENT_SHARD_MASK,
        LOW_HALF,
        R_PID,
        TIMED_BUCKETS,
        TIMED_SHIFT,
        WHOLE_WORD,
    )

COMPILED = cython.compiled


def time_it(control, which, took_ns):
    """Count that one of what is timed took so long."""
    bucket: u64 = bits_of(took_ns >> TIMED_SHIFT) if took_ns > 0 else 0
    if bucket >= TIMED_BUCKETS:
        bucket = TIMED_BUCKETS - 1
    add_shared(control, C_HISTOGRAMS + 8 * (which * TIMED_BUCKETS + bucket), 1)


def note_event(control, row, now_ns, kind, shard, detail):
    """Count an event, and write it down, with the wall clock's time. `row`: of the worker that has
    met it; `now_ns`: of the map's clock; `shard`: which, or EVENT_SHARD_MASK: none."""
    add_shared(control, C_EVENT_COUNTS + 8 * kind, 1)
    write_event(control, row, now_ns, kind, shard, detail)


def write_event(control, row, now_ns, kind, shard, detail):
    """Write one down that has been counted."""
    number: u64
    at: u64
    what: u64
    when: u64 = clock_ns(0)
    if kind > EVENT_REPAIR and kind != EVENT_EVICTING and kind != EVENT_RESIZE:
        at = C_EVENT_LASTS + 8 * kind
        number = load(control, at)
        if number and number <= now_ns and now_ns - number < EVENT_PAUSE_NS:
            return
        if not compare_exchange(control, at, number, now_ns):
            return
    number = add_shared(control, C_EVENT_NEXT, 1)
    if number == 0:  # pure: one that counts has been stopped
        return
    at = C_EVENTS + EVENT_BYTES * (number % EVENT_PLACES)
    what = kind << 56 | (shard & EVENT_SHARD_MASK) << 32 | (load(control, row + R_PID) & LOW_HALF)
    publish(control, at + 24, 0)
    store(control, at, when)
    store(control, at + 8, what)
    store(control, at + 16, detail)
    publish(control, at + 24, check_of(number, when, what, detail))


def check_of(number, when, what, detail):
    """Return what tells a whole record of that number from any other."""
    check: u64 = (number * EVENT_SALT) & WHOLE_WORD
    check = ((check ^ when) * EVENT_SALT_WHEN) & WHOLE_WORD
    check = ((check ^ (check >> 29) ^ what) * EVENT_SALT_WHAT) & WHOLE_WORD
    check = ((check ^ (check >> 32) ^ detail) * EVENT_SALT) & WHOLE_WORD
    return (check ^ (check >> 31)) | 1  # 0: none


class Figures:
    """The same for Python callers: of one map, in one process. `memory` is what is mapped."""

    def __init__(self, control):
        self.buffer = control
        self.mem = memory(control)

    def took(self, which, took_ns):
        """See `time_it`."""
        time_it(self.mem, which, took_ns)

    def claim(self, offset, former, value) -> bool:
        """Store a word that still is what it was; tell whether it was."""
        return bool(compare_exchange(self.mem, offset, former, value))

    def happened(self, row, now_ns, kind, shard, detail):
        """See `note_event`."""
        if 0 < kind < EVENT_KINDS:
            note_event(self.mem, row, now_ns, kind, shard, detail & WHOLE_WORD)

    def told(self, row, now_ns, kind, shard, detail):
        """See `write_event`."""
        if 0 < kind < EVENT_KINDS:
            write_event(self.mem, row, now_ns, kind, shard, detail & WHOLE_WORD)

    def counted(self, kind, count):
        """Count so many events, which are written down elsewhere."""
        if 0 < kind < EVENT_KINDS:
            add_shared(self.mem, C_EVENT_COUNTS + 8 * kind, count)
