"""One shard, read from outside: no lock, no mapping, no byte written. See `map_reading`.

Its file is opened for reading only, and read with pread: a file that is truncated meanwhile gives
a short answer, where a mapping would give SIGBUS. The rules are those of docs/design/reading.md:

    1  the index word, the version (0 or odd: a change is under way), the lengths
    2  the bytes of key and value, and the deadline
    3  the version and the index word again: the same, or begin anew

What was read is used once 3 has said that it was one entry; before that only to read on, each slot,
length and link checked against its bound, so a shard that is damaged or overwritten meanwhile
costs a bounded number of steps. How often it is begun anew, and how long a change that is under
way is waited for, is bounded too: `Patience`. A word is 8 bytes that lie in one cache line, and the
kernel copies them in one piece.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..errors import MapCorrupted, ShardBusy, ShmMapError
from ..memory._hash_cy import hash_of
from ..memory.layout import SHARD, constants, record_bytes
from ..memory.table import UNITS
from ..memory.words import ShardWords, Word
from ..shard._expiry_cy import base_of, time_of
from .judging import open_file
from .seen import SeenShard

K = constants()
TRIES = 16  # at once, without a wait
PATIENCE_S = 1.0
_PAUSES_S = (0.0005, 0.02)  # the first, the longest
_CHUNK_WORDS = 1 << 13
_HEAD = K["E_BYTES_TOTAL"]
_REST = 8  # bytes of a slot that goes on with an entry before the entry's own

Picks = Callable[[int, bytes], bool]
"""Whether an entry is wanted, by the type and the bytes of its key."""
Problem = Callable[[ShmMapError], None]
"""What is done with the error of an entry that cannot be read, while others still can be."""


class Entry(NamedTuple):
    """An entry as it lies in a shard.

    Attributes:
        key_type, key: the key, encoded.
        kind, value: the value, encoded; b"" where it was not asked for.
        value_bytes: how long that is.
        version: of the entry.
        deadline_ns: nanoseconds since boot; 0: it does not expire.
    """

    key_type: int
    key: bytes
    kind: int
    value: bytes
    value_bytes: int
    version: int
    deadline_ns: int

    @property
    def name(self) -> bytes:
        """What tells its key from all others."""
        return bytes((self.key_type,)) + self.key


class Patience:
    """How long to wait for changes that are under way: a second for the first that does not end,
    and no time at all for those that are met after it, so that a map in which every entry is as
    its writer left it when it died is read to its end."""

    def __init__(self) -> None:
        self._is_over = False

    def tries(self) -> Iterator[None]:
        """Go on until the caller is content, or the patience has come to its end."""
        for _ in range(TRIES):
            yield
        until = time.monotonic() + PATIENCE_S
        pause_s, longest_s = _PAUSES_S
        while not self._is_over and time.monotonic() < until:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, longest_s)
            yield
        self._is_over = True


class Again(Exception):
    """What was read belongs to no one entry: it has changed meanwhile, or is damaged."""


class ShardReader:
    """A shard's file, open for reading. Close it."""

    def __init__(self, label: str, seen: SeenShard, nonce: int, seed: int, where: str) -> None:
        """Open the shard that was seen; `where`: what errors call it. Raises OSError,
        MapCorrupted."""
        self.seen, self.shape, self.where, self._seed = seen, seen.shape, where, seed
        self._bits = seen.shape.shards.bit_length() - 1
        self._patience = Patience()
        self._descriptor = open_file(label)
        try:
            header = self.header()
            known = (header.MAGIC, header.NONCE, header.GENERATION, header.NUMBER)
            if known != (K["SHARD_MAGIC"], nonce, seen.generation, seen.number):
                raise MapCorrupted(f"{where}: its header is damaged")
            self._base_ns = base_of(header.DEADLINE_BASE)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    @property
    def units(self) -> range:
        """The units of the hash that it has: see `memory.table`."""
        width = UNITS // self.shape.shards
        return range(self.seen.number * width, (self.seen.number + 1) * width)

    def header(self) -> ShardWords:
        """Read its header."""
        return ShardWords(self._read(0, record_bytes(SHARD)))

    def has_moved(self) -> bool:
        """Tell whether its entries are in other shards now."""
        return self._header_word(ShardWords.MOVED) != 0

    def image(self, start: int, end: int) -> bytes:
        """Read a part of it, as it is."""
        return self._read(start, end - start)

    # -- entries ------------------------------------------------------------------------------

    def find(self, key_type: int, key: bytes, wants_value: bool = True) -> Entry | None:
        """Return the entry of a key; None: there is none. Raises ShardBusy, MapCorrupted."""
        hashed = hash_of(key, key_type, self._seed)
        last: ShmMapError | None = None
        for _ in self._patience.tries():
            before = self._header_word(ShardWords.SEQUENCE)
            try:
                position = self._probe(hashed, key_type, key)
                if position >= 0:
                    found = self._entry_at(position, lambda *of: of == (key_type, key),
                                           wants_value)
                    if found is not None:
                        return found
                elif before & 1 == 0 and self._header_word(ShardWords.SEQUENCE) == before:
                    return None
                last = None
            except Again as again:
                last = _as_error(again)
        raise self._given_up(last)

    def entries(
        self, picks: Picks, wants_values: bool, first_unit: int, told: set[bytes], problem: Problem
    ) -> Iterator[Entry]:
        """Yield the entries whose keys are wanted and whose hashes begin at `first_unit` or later.

        One that is there throughout is yielded once. `told`: the names of those that were; it is
        added to. What cannot be read is given to `problem`. Ends where the shard has moved. Raises
        ShardBusy where the index is being rebuilt.
        """
        failed: set[int] = set()
        for _ in self._patience.tries():
            rebuilds = self._header_word(ShardWords.REBUILDS)
            if rebuilds & 1:  # it lacks entries
                continue
            for position in self._positions():
                try:
                    entry = self._patient_entry(position, picks, wants_values)
                except ShmMapError as error:
                    if self.has_moved():  # what is left of it says nothing
                        return
                    if position not in failed:
                        failed.add(position)
                        problem(error)
                    continue
                if entry is None or entry.name in told:
                    continue
                if hash_of(entry.key, entry.key_type, self._seed) >> K["UNIT_SHIFT"] >= first_unit:
                    told.add(entry.name)
                    yield entry
            if self._header_word(ShardWords.REBUILDS) == rebuilds:
                return
        raise self._given_up(None)

    def _patient_entry(self, position: int, picks: Picks, wants_value: bool) -> Entry | None:
        """Read the entry that an index word names, as often as it takes; None: there is none, or it
        is not wanted."""
        last: ShmMapError | None = None
        for _ in self._patience.tries():
            try:
                return self._entry_at(position, picks, wants_value)
            except Again as again:
                last = _as_error(again)
        raise self._given_up(last)

    def _given_up(self, last: ShmMapError | None) -> ShmMapError:
        """Return the error of what could not be read: the last one, or that its writer is at it."""
        if self._header_word(ShardWords.DIRTY):
            return ShardBusy(
                f"{self.where}: a change of it is under way and does not end: its writer is "
                "stopped, or has died (the next process that writes there repairs that)")
        return last or ShardBusy(f"{self.where}: it changes faster than it can be read: try again")

    def _positions(self) -> Iterator[int]:
        """Yield the places of the index words that name a slot."""
        import numpy as np

        words = self.shape.buckets * K["BUCKET_WORDS"]
        for first in range(0, words, _CHUNK_WORDS):
            count = min(_CHUNK_WORDS, words - first)
            data = self._read(self.shape.areas.index + 8 * first, 8 * count)
            named = np.frombuffer(data, np.uint64) & np.uint64(K["SLOT_MASK"])
            for place in np.flatnonzero(named).tolist():
                yield first + place

    def _probe(self, hashed: int, key_type: int, key: bytes) -> int:
        """Look for the index word of a key; -1: it has none. Raises Again."""
        tag = hashed & K["LOW_HALF"]
        upper = (hashed << self._bits & K["WHOLE_WORD"]) >> 32
        bucket = upper * self.shape.buckets >> 32
        for _ in range(self.shape.buckets):
            at = self.shape.areas.index + bucket * K["BUCKET_BYTES"]
            words = memoryview(self._read(at, K["BUCKET_BYTES"])).cast("Q")
            for place, word in enumerate(words):
                if word >> K["TAG_SHIFT"] == tag and word & K["SLOT_MASK"]:
                    position = bucket * K["BUCKET_WORDS"] + place
                    if self._entry_at(position, lambda *of: of == (key_type, key), False):
                        return position
            if not words[0] & K["OVERFLOW_MASK"]:
                break
            bucket = (bucket + 1) % self.shape.buckets
        return -1

    def _entry_at(self, position: int, picks: Picks, wants_value: bool) -> Entry | None:
        """Read the entry that an index word names; None: it names none, or none that is wanted.
        Raises Again, with the error that it is if nothing of it has changed."""
        word_at = self.shape.areas.index + 8 * position
        word = self._word(word_at) & K["WORD_MASK"]
        slot = word & K["SLOT_MASK"]
        if not slot:
            return None
        problem = ""
        version, entry = 0, None
        if slot > self.shape.slots:
            problem = f"an index word names slot {slot:,} of {self.shape.slots:,}"
        else:
            head = self._read(self._slot_at(slot), self.shape.slot_size)
            version, meta = memoryview(head)[:_HEAD].cast("Q")
            if version == 0:
                problem = f"an index word names slot {slot:,}, which is free"
            elif version & 1:
                problem = f"the entry of slot {slot:,} is in mid-change"
            else:
                entry, problem = self._read_entry(slot, head, version, meta, picks, wants_value)
        unchanged = self._word(word_at) & K["WORD_MASK"] == word and (
            slot > self.shape.slots or self._word(self._slot_at(slot)) == version)
        if problem or not unchanged:
            raise Again(f"{self.where}: {problem}" if unchanged else "")
        if entry and hash_of(entry.key, entry.key_type, self._seed) & K["LOW_HALF"] != (
            word >> K["TAG_SHIFT"]
        ):
            raise Again(f"{self.where}: an index word names the entry of another key")
        return entry

    def _read_entry(
        self, slot: int, head: bytes, version: int, meta: int, picks: Picks, wants_value: bool
    ) -> tuple[Entry | None, str]:
        """Read what is in an entry, its head being read: the entry, or None if it is not wanted;
        and what is wrong with it."""
        key_length, length = meta & K["KEY_LENGTH_MASK"], meta >> K["META_LENGTH_SHIFT"]
        kind = meta >> K["META_VALUE_TYPE_SHIFT"] & K["TYPE_MASK"]
        start = key_length + 7 & ~7 if kind == K["VALUE_INT"] else key_length
        if start + length > self.shape.max_entry_bytes:
            return None, (f"the entry of slot {slot:,} says that it has {start + length:,} bytes, "
                          f"of {self.shape.max_entry_bytes:,} that are possible")
        data = self._chain(slot, head, key_length)
        key_type = meta >> K["META_KEY_TYPE_SHIFT"] & K["KEY_TYPE_MASK"]
        if data is not None and not picks(key_type, data[:key_length]):
            return None, ""
        if wants_value and data is not None:
            data = self._chain(slot, head, start + length)
        if data is None:
            return None, f"the chain of slot {slot:,} is broken"
        deadline_ns = 0
        if meta >> K["META_KEY_TYPE_SHIFT"] & K["HAS_DEADLINE"] and (
            self._header_word(ShardWords.HAS_DEADLINES)
        ):
            code = self._read(self.shape.areas.deadlines + 4 * (slot - 1), 4)
            number = int.from_bytes(code, "little")
            deadline_ns = time_of(self._base_ns, number) if number else 0
        value = data[start : start + length] if wants_value else b""
        return Entry(key_type, data[:key_length], kind, value, length, version, deadline_ns), ""

    def _chain(self, slot: int, head: bytes, length: int) -> bytes | None:
        """Read at least `length` bytes of an entry, whose first slot is `head`; None: its chain is
        cut, or goes in circles."""
        parts = [head[_HEAD:]]
        missing = length - len(parts[0])
        seen = {slot}
        while missing > 0:
            word = int.from_bytes(self._read(self.shape.areas.next + 4 * slot, 4), "little")
            slot = word & K["NEXT_MASK"]
            if not word & K["IN_USE"] or not 1 <= slot <= self.shape.slots or slot in seen:
                return None
            seen.add(slot)
            parts.append(self._read(self._slot_at(slot) + _REST, self.shape.slot_size - _REST))
            missing -= len(parts[-1])
        return b"".join(parts)

    # -- bytes --------------------------------------------------------------------------------

    def _slot_at(self, slot: int) -> int:
        return self.shape.areas.slots + (slot - 1) * self.shape.slot_size

    def _header_word(self, word: Word) -> int:
        return self._word(8 * word.index)

    def _word(self, at: int) -> int:
        return memoryview(self._read(at, 8)).cast("Q")[0]

    def _read(self, at: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length > 0:  # one call reads 2 GB at most
            part = os.pread(self._descriptor, length, at)
            if not part:
                raise MapCorrupted(f"{self.where}: its file ends before byte {at + length:,}")
            parts.append(part)
            at, length = at + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _as_error(again: Again) -> ShmMapError | None:
    """Return the error of what was the same all the time, and wrong; None: it has changed."""
    text = str(again)
    return MapCorrupted(text) if text else None
