"""A hand on a shard's memory: find its words by what they mean, and change them."""

from __future__ import annotations

from typing import Any

from shmmap.memory.layout import constants

K = constants()


class Damage:
    """Shard `number` of a map, word by word; after the map's comes the lock shard. Keys are
    looked up as bytes."""

    def __init__(self, m: Any, number: int = 0) -> None:
        part = m.attachment
        mappings = [*part.mappings, *part.lock_mappings]
        self.shape = part.geometry if number < len(part.mappings) else part.locks.geometry
        self.areas = self.shape.areas
        self.octets = memoryview(mappings[number].buffer).cast("B")
        self.words = self.octets.cast("Q")
        self.halves = self.octets.cast("I")

    def header(self, field: str) -> int:
        return self.words[K[f"S_{field}"] >> 3]

    def set_header(self, field: str, value: int) -> None:
        self.words[K[f"S_{field}"] >> 3] = value

    def slot_word(self, slot: int, offset: int = 0) -> int:
        """Return the index of a slot's word, of its version first of all."""
        return (self.areas.slots + (slot - 1) * self.shape.slot_size + offset) >> 3

    def deadline_half(self, slot: int) -> int:
        return (self.areas.deadlines >> 2) + slot - 1

    def next_half(self, slot: int) -> int:
        return (self.areas.next >> 2) + slot

    def live(self) -> list[int]:
        """List the live slots."""
        slots = range(1, self.shape.slots + 1)
        return [slot for slot in slots if self.words[self.slot_word(slot)]]

    def head(self, key: bytes) -> int:
        """Return the slot of a key's entry."""
        for slot in self.live():
            start = self.slot_word(slot) * 8 + 16
            length = self.words[self.slot_word(slot, 8)] & K["KEY_LENGTH_MASK"]
            if length == len(key) and bytes(self.octets[start : start + length]) == key:
                return slot
        raise KeyError(key)

    def free(self) -> int:
        """Return a free slot that is in no chain: the one that was never used last."""
        assert self.header("FRESH") <= self.shape.slots
        return self.shape.slots

    def next_of(self, slot: int) -> int:
        """Return the slot that follows another in its chain; 0: none."""
        return self.halves[self.next_half(slot)] & K["NEXT_MASK"]

    def tie(self, slot: int, following: int) -> None:
        """Let a slot in use be followed by another."""
        self.halves[self.next_half(slot)] = K["IN_USE"] | following

    def index_words(self) -> range:
        first = self.areas.index >> 3
        return range(first, first + self.shape.buckets * 8)

    def index_word(self, slot: int) -> int:
        """Return the index of the index word that names a slot; 0: that names none."""
        for at in self.index_words():
            if self.words[at] & K["SLOT_MASK"] == slot:
                return at
        raise KeyError(slot)
