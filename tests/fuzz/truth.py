"""Which entries of a damaged map are whole, and which of those are disputed.

An entry owns the cells of its slots, their next words and, where its meta word tells of one, its
deadline. It is whole if none of that has changed. It is disputed if another live head, which is
not whole, has the same key or claims one of its slots: nothing in the memory tells which of the
two is the true one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from shmmap.values import _keys_cy

from ..support.damage import Damage, K

NEXT_MASK = K.get("NEXT_MASK", 0xFFFF_FFFF)  # of a next word: which slot follows
Halves = list[np.ndarray[Any, Any]]  # for each segment, the numbers of its changed half words


class Truth:
    """Who owns what in the undamaged shards of a map that holds `keys`."""

    def __init__(self, shards: list[Damage], keys: list[Any]) -> None:
        self._shards = shards
        self._keys = keys
        self._owners = [np.full(len(shard.halves), -1, np.int16) for shard in shards]
        self._heads: dict[int, tuple[int, int]] = {}
        self._key_of: dict[tuple[int, bytes], int] = {}
        self._owner_of_slot: list[dict[int, int]] = [{} for _ in shards]
        number_of = {key: number for number, key in enumerate(keys)}
        for number, shard in enumerate(shards):
            for head in shard.live():
                kind, data = _key_at(shard, head)
                owner = number_of[_keys_cy.unpack(kind, data)]
                self._heads[owner] = (number, head)
                self._key_of[kind, data] = owner
                for slot in _chain(shard, head):
                    self._owner_of_slot[number][slot] = owner
                for half in _halves_of(shard, head):
                    self._owners[number][half] = owner
        assert set(self._heads) == set(number_of.values())

    def damaged(self, changed: Halves) -> set[Any]:
        """Name the entries of which a byte has changed."""
        return {
            self._keys[owner]
            for owners, halves in zip(self._owners, changed, strict=False)
            for owner in np.unique(owners[halves]).tolist() if owner >= 0
        }

    def disputed(self, changed: Halves) -> tuple[set[Any], bool]:
        """Name the entries, whole or not, that a head claims that is not whole itself; and tell
        whether such a head claims slots that are not its own, or not said to be in use: they may
        be given to new entries, now or after a delete, and come back with the old one."""
        found: set[int] = set()
        snatches = False
        for number, slot in self._suspects(changed):
            shard = self._shards[number]
            if not shard.words[shard.slot_word(slot)]:
                continue
            mine = self._key_of.get(_key_at(shard, slot))
            if mine is not None:
                found.add(mine)
            owner_of = self._owner_of_slot[number]
            chain = _chain(shard, slot)
            found.update(owner_of[one] for one in chain if one in owner_of)
            snatches = snatches or any(
                owner_of.get(one, -1) != owner_of.get(slot)
                or not shard.halves[shard.next_half(one)] & ~NEXT_MASK
                for one in chain
            )
        return {self._keys[owner] for owner in found}, snatches

    def _suspects(self, changed: Halves) -> set[tuple[int, int]]:
        """List the (shard, slot) where a head may be that is not whole."""
        damaged = self.damaged(changed)
        found = {place for owner, place in self._heads.items() if self._keys[owner] in damaged}
        for number, (shard, halves) in enumerate(zip(self._shards, changed, strict=False)):
            found.update((number, slot) for slot in _touched(shard, halves))
        return found


def _touched(shard: Damage, halves: np.ndarray[Any, Any]) -> Iterator[int]:
    """List the slots of which the cell or the next word has changed."""
    areas, shape = shard.areas, shard.shape
    in_cells = halves[(halves >= areas.slots // 4) & (halves < areas.deadlines // 4)]
    cells = (in_cells * 4 - areas.slots) // shape.slot_size + 1
    nexts = halves[(halves >= areas.next // 4) & (halves <= areas.next // 4 + shape.slots)]
    for slot in {*cells.tolist(), *(nexts - areas.next // 4).tolist()}:
        if 1 <= slot <= shape.slots:
            yield slot


def _needed(shard: Damage, head: int) -> int:
    """Count the slots that an entry says it has."""
    meta = shard.words[shard.slot_word(head, 8)]
    key_length = meta & K["KEY_LENGTH_MASK"]
    if meta >> K["META_VALUE_TYPE_SHIFT"] & K["TYPE_MASK"] == K["VALUE_INT"]:
        key_length = -(-key_length // 8) * 8
    left = key_length + (meta >> K["META_LENGTH_SHIFT"]) - (shard.shape.slot_size - 16)
    return 1 + max(0, -(-left // (shard.shape.slot_size - 8)))


def _chain(shard: Damage, head: int) -> list[int]:
    """Follow a chain as far as its entry says that it goes, and as it does."""
    found = [head]
    need = min(_needed(shard, head), shard.shape.slots)
    while len(found) < need:
        slot = shard.halves[shard.next_half(found[-1])] & NEXT_MASK
        if not 1 <= slot <= shard.shape.slots or slot in found:
            break
        found.append(slot)
    return found


def _key_at(shard: Damage, head: int) -> tuple[int, bytes]:
    """Read the type and the bytes of a key, as far as its chain goes."""
    meta = shard.words[shard.slot_word(head, 8)]
    size = shard.shape.slot_size
    length = meta & K["KEY_LENGTH_MASK"]
    data = b""
    for slot in _chain(shard, head):
        at = shard.slot_word(slot) * 8
        data += bytes(shard.octets[at + (16 if slot == head else 8) : at + size])
        if len(data) >= length:
            break
    return meta >> K["META_KEY_TYPE_SHIFT"] & K["KEY_TYPE_MASK"], data[:length]


def _halves_of(shard: Damage, head: int) -> Iterator[int]:
    """List the half words that an entry owns."""
    for slot in _chain(shard, head):
        at = shard.slot_word(slot) * 2
        yield from range(at, at + shard.shape.slot_size // 4)
        yield shard.next_half(slot)
    if shard.words[shard.slot_word(head, 8)] >> K["META_KEY_TYPE_SHIFT"] & K["HAS_DEADLINE"]:
        yield shard.deadline_half(head)
