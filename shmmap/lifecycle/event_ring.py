"""What has happened to a map, read and told: the ring of its last events, and counts.

`_figures_cy` says how they are written down. Whoever meets one writes it down, also under a
shard's lock, where nothing can be logged; the process that has written it logs it when it looks the
next time (see `tell_own`), in its sweeper or in an operation, and as it leaves the map.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from .._public import public
from ..errors import ShmMapError
from ..locks.keeping import REASONS
from ..memory import _figures_cy
from ..memory.events import KINDS, NO_SHARD, NUMBERS, note, resized_in_words
from ..memory.geometry import LOCK_NUMBER
from ..memory.layout import constants
from ..memory.words import ControlWords, ShardWords
from ..system.mutex import Mark
from .timings import grown, in_units

if TYPE_CHECKING:
    from ..locks.lock_table import LockShard
    from .attachment import Attachment

K = constants()
LOGGER = "shmmap.events"
_PLACES, _WORDS = K["EVENT_PLACES"], K["EVENT_BYTES"] >> 3
EVICTING_LEAST, EVICTING_SHARE = 100, 0.01  # a second, and of the entries a second
_LOOK_NS = 1_000_000_000
_QUIET = frozenset(("uncached", "mismatch"))  # logged with more to say where they are met


@public
class Event(NamedTuple):
    """Something that has happened to a map.

    Attributes:
        number: it rises by one from event to event.
        time: when, in seconds since the epoch.
        kind: "takeover" of a dead process's lock, "repair" of what such a one has left, "evicting"
            (more live entries a second than 100, and than one in a hundred), "full", "corrupt",
            "lock_timeout", "uncached" (get_or_set could not use the map), "mismatch" (a Mirror's
            two sides differ), "resize".
        pid: the process that has met it, as its own pid namespace counts.
        shard: which, None where it is of the map, 4096 where it is of its named locks.
        detail: a number whose meaning is the kind's: see `text`.
    """

    number: int
    time: float
    kind: str
    pid: int
    shard: int | None
    detail: int

    @property
    def text(self) -> str:
        """Say what it was."""
        took = in_units(self.detail / 1e9)
        where = "" if self.shard is None else (
            "the locks: " if self.shard == LOCK_NUMBER else f"shard {self.shard}: ")
        said = {
            "takeover": f"its lock was taken over from a dead process, after {took}",
            "repair": f"repaired in {took}",
            "evicting": f"{self.detail:,} live entries evicted a second",
            "full": f"no room for {self.detail:,} bytes",
            "corrupt": "memory holds what no operation leaves",
            "lock_timeout": f"its lock was not free within {took}",
            "uncached": f"a result could not be kept or read: {_reason(self.detail)}",
            "mismatch": "the two sides of a Mirror differ",
            "resize": resized_in_words(self.detail),
        }
        return where + said[self.kind]


def _reason(number: int) -> str:
    return REASONS[number] if number < len(REASONS) else "?"


def read_events(control: ControlWords, after: int = 0) -> list[Event]:
    """Return the events of a map that are in its ring, the oldest first: of those numbers after
    one. What is half written is left out."""
    newest = control.EVENT_NEXT
    words, first = control.words, control.first + (K["C_EVENTS"] >> 3)
    found = []
    for number in range(max(after, newest - _PLACES, 0) + 1, newest + 1):
        at = first + number % _PLACES * _WORDS
        when, what, detail, check = words[at:at + _WORDS]
        if check != _figures_cy.check_of(number, when, what, detail):
            continue
        kind = KINDS.get(what >> 56)
        if kind is not None:
            shard = what >> 32 & NO_SHARD
            found.append(Event(number, when / 1e9, kind, what & 0xFFFF_FFFF,
                               None if shard == NO_SHARD else shard, detail))
    return found


def events_of(attached: Attachment) -> list[Event]:
    """Return a map's events, with those that this process has met and not yet written down."""
    take_from_locks(attached)
    return read_events(attached.control)


def read_counts(control: ControlWords) -> dict[str, int]:
    """Return how often each kind has happened."""
    first = control.first + (K["C_EVENT_COUNTS"] >> 3)
    return {name: control.words[first + number] for number, name in KINDS.items()}


def look(attached: Attachment) -> None:
    """Do what is done now and then by all who use a map."""
    look_at_evictions(attached)
    take_from_locks(attached)
    tell_own(attached)


def take_from_locks(attached: Attachment) -> None:
    """Write down in the map what this process has met in the shard of its named locks, whose
    operations are counted elsewhere: see `LockShard`. One thread at a time: others leave it to
    that one."""
    part = attached.locks
    if part is None:
        return
    mark = Mark()
    try:
        if not part.events_taking.is_entered() and part.events_taking.acquire(mark, 0):
            with ControlWords(part.control_memory) as own:
                _take_from(part, own, attached)
    finally:
        mark.clear()


def _take_from(part: LockShard, own: ControlWords, attached: Attachment) -> None:
    figures, worker = _figures_cy.Figures(attached.control_memory), attached.worker
    for kind, count in read_counts(own).items():
        before, part.events_counted[kind] = part.events_counted.get(kind, 0), count
        if count != before:
            figures.counted(NUMBERS[kind], count - before)
    part.events_seen = max(part.events_seen, own.EVENT_NEXT - _PLACES)
    for one in read_events(own, part.events_seen):
        missing = part.events_seen + 1
        if one.number != missing and part.events_gap != missing:
            part.events_gap = missing  # another thread is just writing it down, or broke off there
            return
        part.events_seen = one.number
        figures.told(worker.row_offset(worker.row), attached.clock.now_ns(), NUMBERS[one.kind],
                     LOCK_NUMBER, one.detail)


def look_at_evictions(attached: Attachment) -> None:
    """Note that many live entries are evicted. One process looks a second."""
    control, now_ns = attached.control, attached.clock.now_ns()
    if not attached.geometry.evicts:
        return
    seen_ns = control.EVICTED_SEEN_NS
    passed_ns = now_ns - seen_ns
    if 0 <= passed_ns < _LOOK_NS:
        return
    if not _figures_cy.Figures(attached.control_memory).claim(
        K["C_EVICTED_SEEN_NS"], seen_ns, now_ns
    ):
        return
    evicted = entries = 0
    for mapping in attached.mappings:
        with ShardWords(mapping.buffer) as header:
            evicted += header.EVICTED
            entries += header.ENTRIES
    more, control.EVICTED_SEEN = grown(evicted, control.EVICTED_SEEN), evicted
    rate = int(more * 1e9 / passed_ns) if seen_ns and passed_ns > 0 else 0
    if rate > max(EVICTING_LEAST, EVICTING_SHARE * entries):
        note(attached, "evicting", rate)


def tell_own(attached: Attachment) -> None:
    """Log the events that this process has written down since it did so the last time. A handler of
    the program's may do anything with the map: no lock of ours is held."""
    if not attached.worker.fork_page.word:  # the row is a parent's
        return
    control = attached.control
    newest = control.EVENT_NEXT
    before, attached.events_told = attached.events_told, newest
    if before < 0 or newest == before:
        return
    me = control.words[(attached.worker.row_offset(attached.worker.row) + K["R_PID"]) >> 3]
    own = [one for one in read_events(control, before)
           if one.pid == me and one.number <= newest and one.kind not in _QUIET]
    if not own:
        return
    try:
        import logging  # not at the top: most programs never get here
    except Exception:  # as an interpreter goes down, of any kind
        return
    logger = logging.getLogger(LOGGER)
    for one in own:
        with suppress(Exception):  # a handler's, which is the program's
            logger.log(logging.INFO if one.kind == "resize" else logging.WARNING,
                       "map %r: %s: %s", attached.name, one.kind, one.text,
                       extra={"shmmap_event": one._asdict(), "shmmap_map": attached.name})


def tell_last(attached: Attachment) -> None:
    """Tell what there is to tell, as this process is about to leave the map: it still has it, for
    handlers that open it again, and holds no lock."""
    with suppress(ShmMapError, ValueError):
        if not attached.is_down:
            take_from_locks(attached)
            tell_own(attached)


def told_so_far(attached: Attachment) -> None:
    """Begin to tell from here on: as a process becomes a worker."""
    attached.events_told = attached.control.EVENT_NEXT
