"""What a map is doing and what it costs, gathered without stopping anyone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from .._public import public
from ..locks.keeping import added
from ..memory.table import read_table, row_of
from ..memory.words import ControlWords, ShardWords, Word
from ..printable import human
from ..system import segment
from ..system.presences import alive
from . import files
from .event_ring import read_counts, take_from_locks
from .timings import Histogram, grown, read_timings

if TYPE_CHECKING:
    from .attachment import Attachment


@public
class Stats(NamedTuple):
    """A map's figures. Sums over shards are not of one instant.

    Attributes:
        entries: live entries.
        slots: cells in all.
        free_slots: those that are free.
        live_bytes: key and value bytes of the entries (expired ones not yet swept included).
        size_bytes: the most that all objects together can take.
        allocated_bytes: what they take now: every page, semaphores included.
        amplification: allocated_bytes / live_bytes; inf for an empty map.
        hits: reads that found an entry; this and the next eight count all workers, also those
            that have ended.
        misses: reads that found none.
        writes: entries written.
        deletes: entries deleted on request.
        lock_waits: lock acquisitions that had to wait.
        takeovers: locks taken over from dead owners.
        read_retries: lock-free reads that started again.
        locked_reads: reads that queued for the lock.
        near_hits: the hits that near caches answered. Bounded reads that touch no shared memory
            are counted at their handle's next access to it.
        evicted: live entries removed for room.
        expired: entries removed past their deadline.
        aged: entries removed because they were not written for `max_age`.
        repairs: shards repaired.
        sweeps: whole sweeps so far.
        sweep_failures: how often sweeping in the background failed in this process, and was put
            off; what it was says `m.attachment.sweeper.trouble`.
        uncached: how often get_or_set and @cached could not use the map in this process, by reason:
            "full", "too_large", "not_picklable" (a result could not be stored), "busy",
            "corrupted", "unlinked", "closed", "refused", "no_memory" (stored or looked up),
            "unreadable" (what was stored could not be unpickled, and was computed anew), "no_key"
            (an argument makes none). Only reasons that were met; `uncached_total` adds them up.
        workers: pids of the live processes that use the map.
        shard_entries: live entries of each shard.
        tombstones: deletes that are remembered: see `tombstones=`. Each takes a slot, or more.
        tombstones_lost: those that were not left, or gave way before their time, for want of room.
        taken_s: when this was, in seconds of a clock that all processes of the machine share.
        latency: how long operations took, by all workers: "read" and "write" (one in 1,024 of them,
            without encoding and decoding values), "lock_wait" and "lock_hold" of shards (all waits
            that were more than some spins; the holds of those writes), "compute" of get_or_set and
            @cached, "snapshot": for how long one held all shards.
        events: how often each kind of Event has happened.
    """

    entries: int
    slots: int
    free_slots: int
    live_bytes: int
    size_bytes: int
    allocated_bytes: int
    amplification: float
    hits: int
    misses: int
    writes: int
    deletes: int
    lock_waits: int
    takeovers: int
    read_retries: int
    locked_reads: int
    near_hits: int
    evicted: int
    expired: int
    aged: int
    repairs: int
    sweeps: int
    sweep_failures: int
    uncached: dict[str, int]
    workers: tuple[int, ...]
    shard_entries: tuple[int, ...]
    tombstones: int = 0
    tombstones_lost: int = 0
    taken_s: float = 0.0
    latency: dict[str, Histogram] = {}  # noqa: RUF012  # nobody changes it
    events: dict[str, int] = {}  # noqa: RUF012

    def since(self, earlier: Stats) -> StatsSince:
        """Return what has happened since an earlier one of the same map. Raises TypeError.

        >>> before = m.stats()                                          # doctest: +SKIP
        >>> m.stats().since(before).per_s("hits")                       # doctest: +SKIP
        """
        if not isinstance(earlier, Stats):
            raise TypeError("since needs what m.stats() has returned before, not "
                            f"{type(earlier).__name__}")
        counts = {name: grown(getattr(self, name), getattr(earlier, name)) for name in _COUNTED}
        return StatsSince(
            max(0.0, self.taken_s - earlier.taken_s), counts,
            {name: one.since(earlier.latency[name]) if name in earlier.latency else one
             for name, one in self.latency.items()},
            {name: grown(count, earlier.events.get(name, 0))
             for name, count in self.events.items()},
        )

    @property
    def uncached_total(self) -> int:
        """How often get_or_set and @cached could not use the map in this process."""
        return sum(self.uncached.values())

    def __repr__(self) -> str:
        """Say in a line what is asked for most; `_asdict()` has all."""
        reads = self.hits + self.misses
        ratio = f" ({self.hits / reads:.0%} of reads)" if reads else ""
        counted = [
            f"{self.entries:,} entries in {self.slots - self.free_slots:,} of {self.slots:,} slots",
            f"{human(self.allocated_bytes)} of /dev/shm (at most {human(self.size_bytes)})",
            f"{self.hits:,} hits{ratio}", f"{self.writes:,} writes", f"{self.deletes:,} deletes",
            *(f"{count:,} {name}" for name, count in (
                ("expired", self.expired), ("evicted", self.evicted), ("aged", self.aged),
                ("uncached", self.uncached_total), ("repairs", self.repairs)) if count),
            f"{len(self.workers):,} worker{'s' * (len(self.workers) != 1)}",
        ]
        return f"<Stats: {', '.join(counted)}>"


_COUNTED = (
    "hits", "misses", "writes", "deletes", "lock_waits", "takeovers", "read_retries",
    "locked_reads", "near_hits", "evicted", "expired", "aged", "repairs", "sweeps",
    "tombstones_lost",
)


@public
class StatsSince(NamedTuple):
    """What has happened in a map between two Stats.

    Attributes:
        seconds: that lie between them.
        counts: by how much each count has grown, by its name: "hits", "writes", ...
        latency: histograms of what came between them.
        events: how often each kind of Event has happened.
    """

    seconds: float
    counts: dict[str, int]
    latency: dict[str, Histogram]
    events: dict[str, int]

    def per_s(self, name: str) -> float:
        """Return how many a second there were of a count, or of a kind of event; 0.0 of no time.
        Raises KeyError, which says what there is."""
        known = {**self.events, **self.counts}
        if name not in known:
            raise KeyError(f"{name!r} is none of {', '.join(known)}")
        count = known[name]
        return count / self.seconds if self.seconds else 0.0

    @property
    def hit_ratio(self) -> float | None:
        """Of the reads, how many found an entry; None: there were none."""
        reads = self.counts["hits"] + self.counts["misses"]
        return self.counts["hits"] / reads if reads else None


OF_SHARDS = {
    "free_slots": ShardWords.FREE_SLOTS, "live_bytes": ShardWords.LIVE_BYTES,
    "evicted": ShardWords.EVICTED, "expired": ShardWords.EXPIRED, "aged": ShardWords.AGED,
    "repairs": ShardWords.REPAIRS, "tombstones": ShardWords.TOMBSTONES,
    "tombstones_lost": ShardWords.TOMBSTONES_LOST,
}
"""Those fields of Stats that are sums of a word of each shard's header."""


WAITS: tuple[Word, ...] = (
    ShardWords.WAITS0, ShardWords.WAITS1, ShardWords.WAITS2, ShardWords.WAITS3, ShardWords.WAITS4,
    ShardWords.WAITS5,
)
"""Of a shard's header: how many waits for its lock there were, by how long they took."""


def allocated(name: str, control: ControlWords) -> int:
    """Count the bytes of real pages behind all objects of a map. While it moves to another
    geometry, /dev/shm is listed for what movers have."""
    nonce, table = control.NONCE, read_table(control)
    total = segment.allocated_bytes(segment.control_name(name))
    if table.is_moving:
        return total + sum(map(segment.allocated_bytes, files.of_map(name, control)))
    row = row_of(control, table.rows[0])
    total += segment.allocated_bytes(segment.liveness_name(name, nonce))
    for label in files.labels(name, nonce, [(row.NUMBER, row.SHARDS)]):
        total += segment.allocated_bytes(label) + segment.semaphore_bytes(label)
    return total


def summed(mappings: Iterable[segment.Mapping], word: Word) -> int:
    """Add up a word of the headers of shards."""
    total = 0
    for mapping in mappings:
        with ShardWords(mapping.buffer) as header:
            total += header[word]
    return total


def gather(attachment: Attachment, entries: int) -> Stats:
    """Gather an attachment's figures. Counting the `entries` before has repaired what the dead
    left."""
    control = attachment.control
    shape, mappings = attachment.geometry, attachment.mappings
    sums = {name: summed(mappings, word) for name, word in OF_SHARDS.items()}
    live_bytes = sums["live_bytes"]
    shards = attachment.distinct()
    shard_entries = [shard.entries() for shard in shards]
    taken = allocated(attachment.name, control)
    take_from_locks(attachment)
    totals = attachment.worker.totals()
    return Stats(
        entries=entries,
        slots=sum([shard.slots.count for shard in shards]),
        size_bytes=shape.total_bytes,
        allocated_bytes=taken,
        amplification=taken / live_bytes if live_bytes else float("inf"),
        hits=totals["hits"],
        misses=totals["misses"],
        writes=totals["writes"],
        deletes=totals["deletes"],
        lock_waits=totals["waits"],
        takeovers=totals["takeovers"],
        read_retries=totals["retries"],
        locked_reads=totals["locked_reads"],
        near_hits=totals["near_hits"],
        sweeps=control.SWEEP_EPOCH,
        sweep_failures=trouble.times if (trouble := attachment.sweeper.trouble) else 0,
        uncached=added(
            handle.__dict__["_notes"] for handle in alive(attachment.handles)
            if "_notes" in handle.__dict__
        ),
        workers=tuple(pid for _, pid in attachment.worker.rows_in_use()),
        shard_entries=tuple(shard_entries),
        taken_s=attachment.clock.now_ns() / 1e9,
        latency=read_timings(control),
        events=read_counts(control),
        **sums,
    )
