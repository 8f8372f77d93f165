"""THE memory layout: every byte that processes share, once.

Records are tables of fields; from them come the constants that both engines
use, the C header `_layout.pxd` (generated: `python shmmap/memory/layout.py`), the
classes of `words.py`, and the picture in docs/design/memory-layout.md.

Every field is one 64-bit word in the machine's byte order. `LINE` starts a new
cache line: words that different parties write never share one.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

if __package__:
    from .limits import LIMITS
else:  # run as a program
    from limits import LIMITS  # type: ignore[attr-defined, no-redef]

LAYOUT_VERSION = 9
CACHE_LINE, WORD, PAGE = 64, 8, 4096


class Field(NamedTuple):
    """A word, or several: its name, who may write it, and what it (and its 0) means."""

    name: str
    writer: str
    meaning: str
    words: int = 1


LINE = Field("", "", "")  # a break: the next field starts a cache line


class Record(NamedTuple):
    """A fixed-size record: a prefix for its constants, and its fields in order."""

    name: str
    prefix: str
    fields: tuple[Field, ...]


GENERATION = Record("a row of the generation table", "", (
    Field("NUMBER", "creation lock", "generation number, part of its segments' names"),
    Field("SHARDS", "creation lock", "shards, a power of two"),
    Field("SLOTS", "creation lock", "slots a shard"),
    Field("SLOT_SIZE", "creation lock", "bytes a slot, a multiple of 8"),
    Field("BUCKETS", "creation lock", "index buckets a shard"),
    Field("BYTES", "creation lock", "bytes of a shard's segment"),
    Field("ON_FULL", "creation lock", "0 raise, 1 evict"),
    Field("CHECK", "creation lock", "checksum of this row's other words"),
    LINE,
    Field("SIZE", "creation lock", "parameter size, bytes; 0: given as a capacity"),
    Field("CAPACITY", "creation lock", "parameter capacity, entries; 0: given as a size"),
    Field("VALUE_SIZE", "creation lock", "parameter value_size, bytes + 1; 0: not said"),
    Field("KEY_SIZE", "creation lock", "parameter key_size, bytes + 1; 0: not said"),
))


def _generation(number: int) -> tuple[Field, ...]:
    """Return the words of a row of the generation table, as the control segment has them."""
    start = f"GEN{number}_"
    return tuple(
        field if field is LINE else field._replace(
            name=start + field.name,
            meaning=field.meaning if not number else f"as GEN0_{field.name}, of row {number}",
        )
        for field in GENERATION.fields
    )


CONTROL = Record("control", "C", (
    Field("MAGIC", "creator", "tells a control segment from anything else; 0: being made"),
    Field("LAYOUT", "creator", "LAYOUT_VERSION"),
    Field("ENGINE", "creator", "which engine made the map: 1 compiled, 2 pure"),
    Field("NONCE", "creator", "random name part of this creation's other objects"),
    Field("BOOT_HIGH", "creator", "boot id of the kernel, upper half"),
    Field("BOOT_LOW", "creator", "boot id of the kernel, lower half"),
    Field("BYTES", "creator", "size of this segment"),
    Field("ROWS", "creator", "rows of the worker table"),
    LINE,
    Field("CODEC", "creator", "0 auto, 1 safe, 2 the one that CODEC_NAME names"),
    Field("TTL_NS", "creator", "default ttl; 0: entries do not expire"),
    Field("MAX_AGE_NS", "creator", "entries not written for this long are swept; 0: never"),
    Field("MODE", "creator", "permission bits of every object"),
    Field("HASH_SEED", "creator", "seed of the hash, random: outsiders cannot aim at a bucket"),
    Field("EPHEMERAL", "creator", "1: goes with its last live worker, or LINGER_NS after that"),
    Field("SWEEP_NS", "creator", "parameter sweep_interval; 0: no automatic sweep"),
    Field("LINGER_NS", "creator", "parameter linger; 0: the last worker to leave unlinks the map"),
    Field("CODEC_NAME0", "creator", "name of the codec, 24 bytes of ASCII; 0: none"),
    Field("CODEC_NAME1", "creator", "the second 8 of them; 0: no more"),
    Field("CODEC_NAME2", "creator", "the last 8 of them; 0: no more"),
    Field("TOMBSTONES_NS", "creator", "parameter tombstones; 0: a delete leaves none"),
    Field("WALL_NS", "creator", "wall clock at boot, as its maker saw it: for stamps"),
    Field("CHECK", "creator", "checksum of all words before it but MAGIC"),
    LINE,
    Field("STATE", "creation lock",
          "0 making, 1 ready, 2 retired (unlinked, replaced), 3 just being replaced"),
    LINE,
    Field("LEFT_NS", "leaver", "when a worker last left (ephemeral maps: the last one); 0: never"),
    LINE,
    Field("FEATURES", "creation lock", "feature gates, two bits each: switched, to what"),
    Field("TABLE", "opener, mover (cas)",
          "rows - 1: 2 | which: 3 * 2 | cursors: third 13, second 13 | changes 30"),
    LINE,
    *_generation(0),
    LINE,
    *_generation(1),
    LINE,
    *_generation(2),
    LINE,
    Field("MOVER", "mover (cas)", "token of the elected mover; 0: none"),
    Field("MOVER_BEAT_NS", "mover", "when the mover last made progress"),
    Field("MOVE_RATE", "mover", "entries a second that it is to move at most; 0: no limit"),
    LINE,
    Field("LEASE", "sweeper (cas)", "token of the elected sweeper; 0: none"),
    Field("LEASE_BEAT_NS", "sweeper", "when the sweeper last made progress"),
    Field("SWEPT_NS", "sweeper", "when the last whole sweep ended; 0: never"),
    LINE,
    Field("SWEEP_EPOCH", "sweeper", "rises after every whole sweep: prune local caches"),
    LINE,
    Field("TOTAL_HITS", "row claimer", "counters of workers that are gone: hits"),
    Field("TOTAL_MISSES", "row claimer", "misses"),
    Field("TOTAL_WRITES", "row claimer", "writes"),
    Field("TOTAL_DELETES", "row claimer", "deletes"),
    Field("TOTAL_WAITS", "row claimer", "lock acquisitions that had to wait"),
    Field("TOTAL_TAKEOVERS", "row claimer", "locks taken over from dead owners"),
    Field("TOTAL_RETRIES", "row claimer", "lock-free reads that started again"),
    Field("TOTAL_LOCKED_READS", "row claimer", "reads that queued for the lock"),
    Field("TOTAL_NEAR_HITS", "row claimer", "hits that a near cache answered"),
    LINE,
    # what all workers add to, atomically: each of them only now and then
    Field("HISTOGRAMS", "any (add)", "how often each TIMED_ took how long: 36 words each", 6 * 36),
    LINE,
    Field("EVENT_NEXT", "any (add)", "events so far"),
    LINE,
    Field("EVICTED_SEEN", "looker (cas)", "live entries evicted, when that was last looked at"),
    Field("EVICTED_SEEN_NS", "looker (cas)", "when that was"),
    LINE,
    Field("EVENT_COUNTS", "any (add)", "how many there were of each EVENT_", 16),
    LINE,
    Field("EVENT_LASTS", "any (cas)", "when one of each EVENT_ was last written down", 16),
    LINE,
    Field("EVENTS", "claimer of a number",
          "a ring: wall clock, kind 8 | shard 24 | pid 32, detail, check", 256 * 4),
))

ROW = Record("worker row", "R", (
    Field("STATE", "row owner", "0 free, 1 in use"),
    Field("INCARNATION", "row claimer", "32 bits; rises whenever the row changes hands"),
    Field("PID", "row owner", "process id, as its own pid namespace counts"),
    Field("PID_NAMESPACE", "row owner", "inode of the pid namespace"),
    Field("START_TICKS", "row owner", "kernel start time of the process, clock ticks"),
    Field("JOINED_NS", "row owner", "when the row was claimed"),
    # here, where there is room: a line of its own would take 32 kB from every map
    Field("NEAR_HITS", "row owner", "hits that a near cache answered"),
    LINE,
    Field("HITS", "row owner", "reads that found a live entry"),
    Field("MISSES", "row owner", "reads that did not"),
    Field("WRITES", "row owner", "entries written"),
    Field("DELETES", "row owner", "entries deleted on request"),
    Field("WAITS", "row owner", "lock acquisitions that had to wait"),
    Field("TAKEOVERS", "row owner", "locks taken over from dead owners"),
    Field("RETRIES", "row owner", "lock-free reads that started again"),
    Field("LOCKED_READS", "row owner", "reads that queued for the lock"),
))

SHARD = Record("shard header", "S", (
    Field("MAGIC", "creator", "tells a shard from anything else"),
    Field("NONCE", "creator", "the map's nonce"),
    Field("GENERATION", "creator", "number of the generation it belongs to"),
    Field("NUMBER", "creator", "which shard of that generation"),
    Field("SLOTS", "creator", "slots"),
    Field("SLOT_SIZE", "creator", "bytes a slot"),
    Field("BUCKETS", "creator", "index buckets"),
    Field("MOVED", "mover", "token of the mover whose shards have its entries now; 0: current"),
    LINE,
    Field("SEQUENCE", "lock holder", "odd while the index flips; a miss rests on it"),
    Field("REBUILDS", "lock holder", "rises by two a rebuild, odd in one: iterators start again"),
    Field("TRACKING", "lock holder", "token of who takes a snapshot: mark changes; 0: nobody"),
    LINE,
    Field("OWNER", "contenders (cas)", "token of the lock holder; 0: free. This word IS the lock"),
    Field("WAITERS", "contenders", "1: someone may sleep on the semaphore"),
    # how long others waited for this lock: here, where whoever has waited has the line anyway, and
    # the lock, too, so that a plain store will do
    Field("WAITS0", "contenders", "waits for the lock that took less than 2**14 ns"),
    Field("WAITS1", "contenders", "others that took less than 2**17 ns"),
    Field("WAITS2", "contenders", "others that took less than 2**20 ns"),
    Field("WAITS3", "contenders", "others that took less than 2**23 ns"),
    Field("WAITS4", "contenders", "others that took less than 2**26 ns"),
    Field("WAITS5", "contenders", "those that took longer"),
    LINE,
    Field("DIRTY", "lock holder", "1: a change is under way; a dead holder's needs repair"),
    Field("STAMP", "lock holder", "last version given out; stored before it is used"),
    Field("ENTRIES", "lock holder", "live slots (expired ones that wait for reclaim included)"),
    Field("LIVE_BYTES", "lock holder", "key and value bytes of those"),
    Field("FREE_HEAD", "lock holder", "first slot of the free list; 0: empty"),
    Field("FREE_SLOTS", "lock holder", "slots on the free list and never used"),
    Field("FRESH", "lock holder", "slots from here on were never used"),
    Field("EARLIEST_NS", "lock holder", "no deadline is before this; 0: no deadlines"),
    LINE,
    Field("HAND", "lock holder", "eviction clock: the slot it looked at last"),
    Field("RING_START", "lock holder", "probation queue: position of its oldest"),
    Field("RING_COUNT", "lock holder", "probation queue: how many"),
    Field("RING_TARGET", "lock holder", "probation queue: how many it should hold"),
    Field("GONE_EARLY", "lock holder", "evicted from probation, this epoch"),
    Field("GONE_LATE", "lock holder", "evicted after it, this epoch"),
    Field("MISSED_EARLY", "lock holder", "of those, how many were asked for again"),
    Field("MISSED_LATE", "lock holder", "the same, after probation"),
    LINE,
    Field("EVICTED", "lock holder", "live entries evicted so far"),
    Field("EXPIRED", "lock holder", "expired entries reclaimed so far"),
    Field("AGED", "lock holder", "entries swept so far for their age"),
    Field("REPAIRS", "lock holder", "repairs so far"),
    Field("POP_HAND", "lock holder", "index word where popitem looks next"),
    Field("SCAN_HAND", "lock holder", "slot where a writer looks next for passed deadlines"),
    Field("TOMBSTONES", "lock holder", "tombstones among the ENTRIES"),
    Field("TOMBSTONES_LOST", "lock holder", "those that gave way before their time, for room"),
    LINE,
    Field("HAS_DEADLINES", "any writer", "1: the pages of the deadlines are reserved"),
    LINE,
    Field("EVICTS", "creator", "1: has the eviction areas"),
    Field("DEADLINE_BASE", "creator", "from where deadlines count: of 64 s 32 | complement 32"),
))

ENTRY = Record("entry header", "E", (
    Field("VERSION", "lock holder", "0 free or continuation; even live; odd changing in place"),
    Field("META", "lock holder", "key length 16 | key type 8 | value type 8 | value length 32"),
))

RECORDS = (CONTROL, ROW, SHARD, ENTRY)


def offsets(record: Record) -> dict[str, int]:
    """Return the byte offset of every field of `record`."""
    found: dict[str, int] = {}
    position = 0
    for field in record.fields:
        if field is LINE:
            position = -(-position // CACHE_LINE) * CACHE_LINE
        else:
            found[field.name] = position
            position += WORD * field.words
    return found


@functools.cache
def record_bytes(record: Record) -> int:
    """Return the record's size: whole cache lines (an entry header: its two words)."""
    last = record.fields[-1]
    end = offsets(record)[last.name] + WORD * last.words
    return end if record is ENTRY else -(-end // CACHE_LINE) * CACHE_LINE


@functools.cache
def constants() -> dict[str, int]:
    """Return every constant of the layout by name: limits, offsets, record sizes. It is one dict
    for all, which nobody changes."""
    found = dict(LIMITS)
    for record in RECORDS:
        for name, offset in offsets(record).items():
            found[f"{record.prefix}_{name}"] = offset
        found[f"{record.prefix}_BYTES_TOTAL"] = record_bytes(record)
    return found


globals().update(constants())


class Areas(NamedTuple):
    """Where each area of a shard starts, in address order, and where it ends (bytes)."""

    index: int  # type: ignore[assignment]  # u64 a word, eight a bucket
    ghosts: int  # evicting maps: u64 a bucket of four fingerprints
    next: int  # u32 a slot, and one for slot 0
    ring: int  # evicting maps: u16 a place, u32 from 65,536 slots on
    state: int  # evicting maps: a byte a slot, and one for slot 0
    flags: int  # evicting maps: two bits a slot
    changed: int  # a bit a slot: changed since a snapshot copied it; read while one is taken
    slots: int
    deadlines: int  # u32 a slot: see `_expiry_cy`
    end: int


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def ring_places(slots: int) -> int:
    """Count the places of the probation queue: its largest target, and two."""
    return slots * 7 // 10 + 2


def ghost_buckets(slots: int) -> int:
    """Count the ghost buckets."""
    return slots // 16 + 1


@functools.lru_cache(maxsize=64)
def shard_areas(slots: int, slot_size: int, buckets: int, evicts: int) -> Areas:
    """Place a shard's areas. The deadlines start a page, so that they can stay unreserved."""
    index = record_bytes(SHARD)
    ghosts = index + buckets * 64
    next_ = ghosts + (8 * ghost_buckets(slots) if evicts else 0)
    ring = next_ + 4 * (slots + 1)
    width = 2 if slots < 65536 else 4
    state = ring + (_up(width * ring_places(slots), 4) if evicts else 0)
    flags = state + (slots + 1 if evicts else 0)
    changed = _up(flags + (slots // 4 + 1 if evicts else 0), WORD)
    first = changed + 8 * (slots // 64 + 1)
    deadlines = _up(first + slots * slot_size, PAGE)
    end = _up(deadlines + slots * 4, PAGE)
    return Areas(index, ghosts, next_, ring, state, flags, changed, first, deadlines, end)


def render_pxd() -> str:
    """Write `_layout.pxd`: the same constants for the compiled engine."""
    lines = [
        "# Generated from layout.py by `python shmmap/memory/layout.py`; do not edit.",
        "from libc.stdint cimport uint64_t",
        "cdef extern from *:", '    """', "    #include <stdint.h>",
    ]
    names = {"LAYOUT_VERSION": LAYOUT_VERSION, "CACHE_LINE": CACHE_LINE, **constants()}
    lines += [f"    #define SHM_{name} UINT64_C({value:#x})" for name, value in names.items()]
    lines += ['    """', *[f'    const uint64_t {name} "SHM_{name}"' for name in names], ""]
    return "\n".join(lines)


WORDS_START = "# layout: generated by `python shmmap/memory/layout.py`; do not edit\n"
WORDS_END = "# /layout\n"


def render_words() -> str:
    """Write the classes of `words.py`: the words of each header by name."""
    named = (
        ("Control", "the control segment", CONTROL), ("Generation", GENERATION.name, GENERATION),
        ("Row", "a worker's row", ROW), ("Shard", "a shard's header", SHARD),
    )
    lines = []
    for name, described, record in named:
        meanings = {field.name: field.meaning for field in record.fields}
        lines += ["", "", f"class {name}Words(Words):", f'    """The words of {described}."""', "",
                  "    __slots__ = ()"]
        for field, offset in offsets(record).items():
            lines.append(f"    {field} = Word({offset})  # {meanings[field]}")
    return WORDS_START + "\n".join([*lines, "", "", WORDS_END])


def replace_words(text: str) -> str:
    """Put the current classes into the text of `words.py`, between its marks."""
    before, _, rest = text.partition(WORDS_START)
    return before + render_words() + rest.partition(WORDS_END)[2]


MARK_START = "<!-- layout: generated by `python shmmap/memory/layout.py`; do not edit -->"
MARK_END = "<!-- /layout -->"


def render_picture() -> str:
    """Draw the layout: the areas of a shard, then the words of every record."""
    slots, size = 1000, 136
    areas = shard_areas(slots, size, slots * 5 // 32 + 1, 1)
    lines = [MARK_START, f"Layout version {LAYOUT_VERSION}.", "", "```",
             f"a shard of {slots:,} slots of {size} bytes that evicts", "",
             "    offset   bytes  area"]
    for name, start, following in zip(("header", *Areas._fields), (0, *areas), areas, strict=False):
        lines.append(f"  {start:8d} {following - start:7d}  {name}")
    lines += ["```", ""]
    for record in RECORDS:
        places = offsets(record)
        lines += [f"**{record.name}**, {record_bytes(record)} bytes", ""]
        lines += ["| line | offset | word | written by | meaning |", "|---|---|---|---|---|"]
        for field in record.fields:
            if field is not LINE:
                at = places[field.name]
                lines.append(
                    f"| {at // CACHE_LINE} | {at} | `{field.name}` | {field.writer} "
                    f"| {field.meaning.replace('|', chr(92) + '|')} |"
                )
        lines.append("")
    return "\n".join([*lines, MARK_END])


def replace_picture(text: str) -> str:
    """Put the current picture between the marks of a page."""
    before, _, rest = text.partition(MARK_START)
    return before + render_picture() + rest.partition(MARK_END)[2]


def main() -> None:
    """Write `_layout.pxd`, `words.py`, and the picture where its page is at hand."""
    from pathlib import Path
    here = Path(__file__)
    here.with_name("_layout.pxd").write_text(render_pxd())
    words = here.with_name("words.py")
    words.write_text(replace_words(words.read_text()))
    document = here.parents[2] / "docs" / "design" / "memory-layout.md"
    if document.exists():
        document.write_text(replace_picture(document.read_text()))


if __name__ == "__main__":
    main()
