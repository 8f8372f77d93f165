"""Kinds of damage: blind ones, and ones that know what each word means.

Each takes a random generator and a subject, and changes some of its bytes.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from shmmap.memory import layout
from shmmap.memory.table import checksum_of, row_of
from shmmap.memory.words import ControlWords
from shmmap.shard._expiry_cy import base_of, last_due, word_of_base

from ..support.damage import K
from ..support.table_words import copy_row, sum_up
from .places import (
    EDGES,
    WORD,
    any_slot,
    following,
    long_head,
    odd_value,
    some_area,
    some_head,
    some_index_word,
    some_octets,
    some_shard,
)
from .subject import Subject
from .truth import NEXT_MASK

Kind = Callable[[random.Random, Subject], None]
KINDS: dict[str, Kind] = {}


def kind(function: Kind) -> Kind:
    """Add a kind of damage to the list."""
    KINDS[function.__name__] = function
    return function


# -- blind ------------------------------------------------------------------------------


@kind
def bits_flipped(rng: random.Random, s: Subject) -> None:
    octets = some_octets(rng, s)
    for _ in range(rng.choice((1, 1, 2, 8))):
        octets[rng.randrange(len(octets))] ^= 1 << rng.randrange(8)


@kind
def bit_flipped_in_an_area(rng: random.Random, s: Subject) -> None:
    d = some_shard(rng, s)
    start, length = some_area(rng, d)
    d.octets[start + rng.randrange(length)] ^= 1 << rng.randrange(8)


@kind
def noise(rng: random.Random, s: Subject) -> None:
    octets = some_octets(rng, s)
    length = rng.choice((1, 4, 8, 64, 500))
    at = rng.randrange(len(octets) - length)
    octets[at : at + length] = rng.randbytes(length)


@kind
def noise_in_an_area(rng: random.Random, s: Subject) -> None:
    d = some_shard(rng, s)
    start, whole = some_area(rng, d)
    length = min(whole, rng.choice((8, 64, 4096)))
    at = start + rng.randrange(whole - length + 1)
    d.octets[at : at + length] = rng.randbytes(length)


@kind
def filled(rng: random.Random, s: Subject) -> None:
    octets = some_octets(rng, s)
    length = rng.choice((8, 64, 512, 4096))
    at = rng.randrange(0, len(octets) - length, 8)
    octets[at : at + length] = rng.choice((b"\0", b"\xff")) * length


@kind
def words_swapped(rng: random.Random, s: Subject) -> None:
    d = some_shard(rng, s)
    start, length = some_area(rng, d)
    one, other = (start // 8 + rng.randrange(max(1, length // 8)) for _ in range(2))
    d.words[one], d.words[other] = d.words[other], d.words[one]


@kind
def torn_back(rng: random.Random, s: Subject) -> None:
    """Some lines of a shard are as they were before the last writes."""
    shard = some_shard(rng, s)
    older = s.older(shard)
    length = rng.choice((64, 512, 4096))
    at = rng.randrange(0, len(older) - length + 1, 64)
    shard.octets[at : at + length] = older[at : at + length]


# -- index --------------------------------------------------------------------------------


@kind
def index_words_swapped(rng: random.Random, s: Subject) -> None:
    d = some_shard(rng, s)
    one, other = rng.choice(d.index_words()), rng.choice(d.index_words())
    d.words[one], d.words[other] = d.words[other], d.words[one]


@kind
def index_word_renamed(rng: random.Random, s: Subject) -> None:
    d = some_shard(rng, s)
    at = some_index_word(rng, d)
    d.words[at] = d.words[at] & ~K["SLOT_MASK"] | any_slot(rng, d)


@kind
def index_word_retagged(rng: random.Random, s: Subject) -> None:
    d = some_shard(rng, s)
    one, other = some_index_word(rng, d), some_index_word(rng, d)
    d.words[one] = d.words[one] & 0xFFFF_FFFF | d.words[other] & ~0xFFFF_FFFF


@kind
def overflow_counts(rng: random.Random, s: Subject) -> None:
    d = some_shard(rng, s)
    value = rng.choice((0, 1, 0xFE, 0xFF)) << K["OVERFLOW_SHIFT"]
    for at in d.index_words()[:: K["BUCKET_WORDS"]]:
        if rng.random() < 0.5:
            d.words[at] = d.words[at] & ~K["OVERFLOW_MASK"] | value


# -- slots, chains, free list ---------------------------------------------------------------


@kind
def slots_swapped(rng: random.Random, s: Subject) -> None:
    one, other = some_shard(rng, s), some_shard(rng, s)
    size = one.shape.slot_size >> 3
    a, b = one.slot_word(some_head(rng, one)), other.slot_word(rng.randint(1, other.shape.slots))
    kept = one.words[a : a + size].tolist()
    one.words[a : a + size] = other.words[b : b + size]
    for place, word in enumerate(kept):
        other.words[b + place] = word


@kind
def slot_copied(rng: random.Random, s: Subject) -> None:
    """An entry lives twice, perhaps in the wrong shard."""
    one, other = some_shard(rng, s), some_shard(rng, s)
    size = one.shape.slot_size >> 3
    a, b = one.slot_word(some_head(rng, one)), other.slot_word(rng.randint(1, other.shape.slots))
    other.words[b : b + size] = one.words[a : a + size]
    if rng.random() < 0.5:
        other.words[b] = (other.words[b] + rng.choice((2, -2, 1 << 40, -(1 << 40)))) & WORD


@kind
def version(rng: random.Random, s: Subject) -> None:
    d = some_shard(rng, s)
    slot = some_head(rng, d) if rng.random() < 0.6 else rng.randint(1, d.shape.slots)
    at = d.slot_word(slot)
    near = rng.choice((d.words[at], d.header("STAMP"), K["VERSION_LIMIT"]))
    d.words[at] = odd_value(rng, near)


@kind
def meta(rng: random.Random, s: Subject) -> None:
    d = some_shard(rng, s)
    at = d.slot_word(some_head(rng, d), 8)
    shift, bits = rng.choice(((0, 16), (16, 8), (24, 8), (32, 32), (23, 1)))
    mask = (1 << bits) - 1
    value = rng.choice((0, 1, mask, mask >> 1, 8, 10, 11, rng.getrandbits(bits))) & mask
    d.words[at] = d.words[at] & ~(mask << shift) | value << shift


@kind
def lengths_absurd(rng: random.Random, s: Subject) -> None:
    d = some_shard(rng, s)
    at = d.slot_word(some_head(rng, d), 8)
    most = (d.shape.slots - 1) * (d.shape.slot_size - 8) - 8
    length = rng.choice((most, most + 1, most - 1, most * 2, WORD >> 32, 1 << 31))
    d.words[at] = d.words[at] & 0xFFFF_FFFF | length << 32


@kind
def value_bytes(rng: random.Random, s: Subject) -> None:
    """The first bytes of a value: a pickle's checksum, an array's head, text."""
    d = some_shard(rng, s)
    at = d.slot_word(some_head(rng, d)) * 8
    key_length = min(struct.unpack_from("=H", d.octets, at + 8)[0], d.shape.slot_size - 17)
    end = at + d.shape.slot_size
    start = at + 16 + key_length
    for place in range(start, min(end, start + rng.choice((1, 3, 12)))):
        d.octets[place] = rng.randrange(256)


@kind
def array_type(rng: random.Random, s: Subject) -> None:
    """What an array says it is made of."""
    for d in s.shards:
        found = bytes(d.octets).find(b"<i4")
        if found >= 0:
            text = rng.choice((b"|O8", b"(2,", b"i,i", b"<U9", b"|V0", b"<M8", b"a5\0", b"{}\0",
                               b"|b1", b"((1", b"9i4", b"<i9", b"<f2", b"\xff\xfe\xfd"))
            d.octets[found : found + 3] = text


@kind
def key_nested_too_deep(rng: random.Random, s: Subject) -> None:
    d = some_shard(rng, s)
    slot = long_head(rng, d)
    at = d.slot_word(slot) * 8
    room = d.shape.slot_size - 16
    d.octets[at + 16 : at + 16 + room] = (b"\x06\xff\xff\0\0" * room)[:room]
    d.octets[at + 10] = K["KEY_TUPLE"]


@kind
def chain(rng: random.Random, s: Subject) -> None:
    """Chains in a loop, cut, crossed, into the free, out of bounds."""
    d = some_shard(rng, s)
    slot = long_head(rng, d)
    for _ in range(rng.randrange(3)):
        slot = following(d, slot) if 0 < following(d, slot) <= d.shape.slots else slot
    there = following(d, long_head(rng, d))
    to = rng.choice((slot, 0, there, some_head(rng, d), any_slot(rng, d), WORD >> 32, 1 << 31))
    flags = rng.choice((0, d.halves[d.next_half(slot)] & ~NEXT_MASK))
    d.halves[d.next_half(slot)] = to | flags


@kind
def free_list(rng: random.Random, s: Subject) -> None:
    d = some_shard(rng, s)
    live = set(d.live())
    free = [slot for slot in range(1, d.shape.slots + 1) if slot not in live] or [1]
    one, other = rng.choice(free), rng.choice(free)
    d.halves[d.next_half(one)] = rng.choice((one, other, any_slot(rng, d), some_head(rng, d)))
    if rng.random() < 0.5:
        d.set_header("FREE_HEAD", rng.choice((one, other)))


@kind
def free_header(rng: random.Random, s: Subject) -> None:
    d = some_shard(rng, s)
    field = rng.choice(("FREE_HEAD", "FREE_SLOTS", "FRESH"))
    value = any_slot(rng, d) if rng.random() < 0.5 else odd_value(rng, d.header(field))
    d.set_header(field, value)


# -- header words -----------------------------------------------------------------------


@kind
def header_word(rng: random.Random, s: Subject) -> None:
    d = some_shard(rng, s)
    field = rng.choice([field.name for field in layout.SHARD.fields if field.name])
    if field == "OWNER":
        return owner(rng, s)
    d.set_header(field, odd_value(rng, d.header(field)))


@kind
def stamp(rng: random.Random, s: Subject) -> None:
    d = some_shard(rng, s)
    limit = K["VERSION_LIMIT"]
    d.set_header("STAMP", rng.choice((0, 1, limit, limit - 1, limit - 2, limit - 4, limit + 2,
                                      WORD, WORD - 1, WORD - 2, d.header("STAMP") | 1)))


@kind
def owner(rng: random.Random, s: Subject) -> None:
    """The lock is held by a dead worker, by nobody that ever was, or by this very thread."""
    thread = rng.choice((0, 1, 1, 2, K["TOKEN_THREAD_MASK"]))
    token = rng.choice((s.dead_token | thread, s.dead_token | thread, rng.getrandbits(64),
                        s.token | thread, rng.choice(EDGES)))
    if rng.random() < 0.05:  # alive: whoever needs the lock waits for as long as it may
        token = s.neighbour_token | thread
    some_shard(rng, s).set_header("OWNER", token)


@kind
def mid_change(rng: random.Random, s: Subject) -> None:
    d = some_shard(rng, s)
    for field in ("DIRTY", "SEQUENCE", "REBUILDS", "WAITERS", "TRACKING"):
        if rng.random() < 0.5:
            d.set_header(field, rng.choice((d.header(field) ^ 1, odd_value(rng, d.header(field)))))


@kind
def deadlines(rng: random.Random, s: Subject) -> None:
    d = some_shard(rng, s)
    if rng.random() < 0.3:
        d.set_header("HAS_DEADLINES", rng.choice((0, 1, 2, WORD)))
    now_ns = s.clock.frozen_ns
    values = (0, 1, now_ns - 1, now_ns, now_ns + 1, (1 << 63) - 1, 1 << 63, WORD)
    due = last_due(base_of(d.header("DEADLINE_BASE")), now_ns)
    codes = (0, 1, due - 1, due, due + 1, K["DEADLINE_FINE"], K["DEADLINE_FINE"] + 1,
             K["DEADLINE_MIDDLE"] + 1, K["DEADLINE_NEVER"] - 1, K["DEADLINE_NEVER"])
    for _ in range(rng.choice((0, 1, 1, 9))):
        slot = some_head(rng, d) if rng.random() < 0.6 else rng.randint(1, d.shape.slots)
        d.halves[d.deadline_half(slot)] = max(0, rng.choice(codes))
    if rng.random() < 0.2:
        bases = (0, WORD, word_of_base(0), word_of_base(1 << 60), word_of_base(now_ns * 2))
        d.set_header("DEADLINE_BASE", rng.choice(bases))
    if rng.random() < 0.5:
        d.set_header("EARLIEST_NS", rng.choice(values))


@kind
def eviction(rng: random.Random, s: Subject) -> None:
    if not s.evicts:
        return header_word(rng, s)
    d = rng.choice(s.shards)
    a = d.areas
    start, end = rng.choice(((a.ghosts, a.next), (a.ring, a.state), (a.state, a.flags),
                             (a.flags, a.slots)))
    for _ in range(rng.choice((1, 4, 40))):
        d.octets[rng.randrange(start, end)] = rng.choice((0, 1, 3, 0xFF, rng.randrange(256)))
    if rng.random() < 0.5:
        field = rng.choice(("HAND", "RING_START", "RING_COUNT", "RING_TARGET", "GONE_EARLY",
                            "GONE_LATE", "MISSED_EARLY", "MISSED_LATE"))
        d.set_header(field, odd_value(rng, d.header(field)))


@kind
def semaphore(rng: random.Random, s: Subject) -> None:
    """What the C library keeps in a semaphore's file, and a word that has it used."""
    shard = some_shard(rng, s)
    octets = s.semaphore(shard)
    for _ in range(rng.choice((1, 4, 32))):
        octets[rng.randrange(len(octets))] = rng.choice((0, 1, 0x80, 0xFF, rng.randrange(256)))
    shard.set_header("WAITERS", 1)
    if rng.random() < 0.5:
        shard.set_header("OWNER", s.dead_token | 1)


# -- control segment ------------------------------------------------------------------------


@kind
def control_word(rng: random.Random, s: Subject) -> None:
    field = rng.choice([field.name for field in layout.CONTROL.fields if field.name])
    control, word = s.attachment.control, getattr(ControlWords, field)
    control[word] = odd_value(rng, control[word])


@kind
def lock_record(rng: random.Random, s: Subject) -> None:
    """Who holds a named lock, and until when."""
    d = s.locks
    slot = some_head(rng, d)
    key_length = d.words[d.slot_word(slot, 8)] & K["KEY_LENGTH_MASK"]  # perhaps damaged already
    at = d.slot_word(slot) * 8 + 16 + min(key_length, d.shape.slot_size - 16 - 3 * 8)
    tokens = (s.token, s.dead_token, s.neighbour_token, odd_value(rng, s.token))
    values = (rng.choice(tokens), odd_value(rng, 1), odd_value(rng, s.clock.frozen_ns))
    for number, value in enumerate(values):
        if rng.random() < 0.5:
            d.octets[at + 8 * number : at + 8 * number + 8] = value.to_bytes(8, "little")


@kind
def generation_table(rng: random.Random, s: Subject) -> None:
    """A word of any row, or the table word; perhaps who did it has summed the rows up again."""
    names = [f.name for f in layout.CONTROL.fields if f.name.startswith("GEN")]
    field = "TABLE" if rng.random() < 0.2 else rng.choice(names)
    control, word = s.attachment.control, getattr(ControlWords, field)
    control[word] = odd_value(rng, control[word])
    if rng.random() < 0.5:
        sum_up(control)


@kind
def generations(rng: random.Random, s: Subject) -> None:
    """A table of one to four rows, right or wrong ones, as if the map were moving."""
    control = s.attachment.control
    for row in (1, 2):
        if rng.random() < 0.8:
            copy_row(control, 0, row, rng.choice((row, row, 0, 1 << 40)))
        if rng.random() < 0.3:
            words = row_of(control, row)
            words.SHARDS = rng.choice((0, 1, 2, 3, 64, 4096, 8192, 1 << 60))
            words.BYTES = odd_value(rng, words.BYTES)
            words.CHECK = checksum_of(words)
    rows = [rng.randrange(4) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.5:
        rows = rng.sample(range(3), rng.randint(1, 3))
    word = len(rows) - 1 | rng.choice((0, 1, 2, 3, 9, (1 << 30) - 1)) << K["TABLE_CHANGES_SHIFT"]
    for at, row in enumerate(rows[:3]):
        word |= row << 2 + 2 * at
    for shift in (8, 21):
        word |= rng.choice((0, 1, 2048, 4095, 4096, 4097, 8191)) << shift
    control.TABLE = word


@kind
def lease_and_totals(rng: random.Random, s: Subject) -> None:
    control = s.attachment.control
    names = [f.name for f in layout.CONTROL.fields
             if f.name.startswith(("LEASE", "SWE", "TOTAL", "MAX_AGE"))]
    for field in rng.sample(names, rng.choice((1, 2, 4))):
        setattr(control, field, odd_value(rng, s.clock.frozen_ns))
    if rng.random() < 0.5:
        control.LEASE = rng.choice((s.dead_token, s.neighbour_token, s.token)) | 1


@kind
def worker_row(rng: random.Random, s: Subject) -> None:
    """A row's words: our own, the neighbour's, a dead worker's, or any."""
    row = rng.choice((0, 1, 2, 3, rng.randrange(512), 511))
    at = s.attachment.worker.row_offset(row) >> 3
    fields = layout.offsets(layout.ROW)
    for field in rng.sample(sorted(fields), rng.choice((1, 3, len(fields)))):
        place = at + (fields[field] >> 3)
        s.control[place] = odd_value(rng, s.control[place])


def damage(rng: random.Random, s: Subject) -> list[str]:
    """Damage a subject; give the kinds."""
    count = rng.choices((1, 2, 3, 8), (12, 4, 2, 1))[0]
    names = [rng.choice(_NAMES) for _ in range(count)]
    for name in names:
        KINDS[name](rng, s)
    return names


_NAMES: list[str] = list(KINDS)
