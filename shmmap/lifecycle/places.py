"""The shards that a process has mapped: of each the segment, its name, its layout.

One that has moved stays mapped until nobody in the process can be using it: see `routes`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import MapCorrupted
from ..memory import geometry
from ..memory._clock_cy import Clock
from ..memory.layout import constants
from ..shard._lock_cy import ShardLock
from ..shard._repair_cy import equip, strip
from ..shard._shard_cy import Shard
from ..system import segment
from ..system._sigbus_cy import Region
from ..system.clibrary import NEW_SEMAPHORE
from ..system.unfinished import Undo
from .control import ENGINE, REMOVE
from .headers import wrong_words

if TYPE_CHECKING:
    from .attachment import Attachment

_HEADER_BYTES = constants()["S_BYTES_TOTAL"]
_LOCKS_GUARD = 0x7FFFE  # its number among the pure engine's guards
_GUARDED_GENERATIONS = 64  # of shards whose guards differ: no process has more of them mapped


class Place(NamedTuple):
    """A shard's segment as this process has it."""

    shard: Shard
    label: str
    shape: geometry.Geometry
    mapping: segment.Mapping
    memory: object


class Places:
    """What an attachment has mapped. `known`: by number of the generation, and in that."""

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment
        self._mode = attachment.parameters.mode
        self._by_id: dict[int, Place] = {}
        self._closing: dict[int, list[Any]] = {}  # what is to be closed, before it has a shard
        self.known: dict[tuple[int, int], Shard] = {}
        self.private: dict[int, Any] = {}  # memory of those that a mover fills, pure engine

    def attach_locks(self) -> tuple[Shard, segment.Mapping]:
        """Map the lock shard; in itself it is number 0 of one."""
        attachment = self._attachment
        label = segment.locks_name(attachment.name, attachment.nonce)
        place = self.attach(label, label, geometry.lock_geometry(), 0, 0, geometry.LOCK_NUMBER)
        return place.shard, place.mapping

    def attach(
        self, label: str, public: str, shape: geometry.Geometry, generation: int, number: int,
        in_header: int,
    ) -> Place:
        """Map one shard's segment, verify its header, and see that its semaphore is ours. `public`:
        the label that it has, or will have, for all.

        Raises:
            MapNotFound: there is no such segment.
            MapCorrupted: it is another one.
        """
        attachment = self._attachment
        mode, owner_uid = self._mode, attachment.owner_uid
        header = bytearray(_HEADER_BYTES)
        mapping = segment.attach(label, shape.areas.end, mode, owner_uid, header)
        undo = None
        try:
            undo = Undo(lambda: self._unmap(mapping), nullcontext)
            if wrong := wrong_words(header, shape, attachment.nonce, in_header, generation):
                raise MapCorrupted(
                    f"segment {label} is not that shard of map {attachment.name!r} "
                    f"({', '.join(wrong)}): " + REMOVE.format(attachment.name)
                )
            semaphore = self._open_semaphore(public)
            place = self.add(mapping, public, semaphore, shape, generation, number)
        except BaseException:
            if undo is None:
                mapping.close()
            else:
                undo.settle()
            raise
        undo.drop()
        return place

    def _open_semaphore(self, label: str) -> Region | str | None:
        """Return a shard's semaphore as `ShardLock` takes it, once it is seen to be ours."""
        mode, owner_uid = self._mode, self._attachment.owner_uid
        file, size = segment.semaphore_file(label), len(NEW_SEMAPHORE)
        region = segment.open_ours(file, size, mode, owner_uid, bytearray())
        if region is not None:
            return region
        path = segment.SHM_DIRECTORY + file
        try:
            status = os.lstat(path)  # a link may lead to what is ours
        except FileNotFoundError:
            pass  # who waits looks again by itself
        except OSError as error:
            raise segment.refused(f"looking at semaphore {label}", error) from error
        else:
            segment.verify_owner(status, path, mode, owner_uid)
        return label if ENGINE == "pure" else None

    def add(
        self, mapping: segment.Mapping, label: str, semaphore: Region | str | None,
        shape: geometry.Geometry, generation: int, number: int,
    ) -> Place:
        """Make a shard of a mapped segment, with the semaphore, if there is one."""
        attachment = self._attachment
        guard = _LOCKS_GUARD if label.endswith(".locks") else (
            generation % _GUARDED_GENERATIONS * geometry.SHARD_LIMIT + number
        )
        memory = attachment.memory_of(mapping, guard)
        parts: list[Any] = [None, memory, mapping]  # room for the lock, before it has anything
        self._closing[id(mapping)] = parts
        lock = parts[0] = ShardLock(memory, semaphore, attachment.worker, attachment.fork_memory)
        shard = equip(Shard(
            memory, number, shape.slots, shape.slot_size, shape.buckets, shape.evicts,
            shape.shards.bit_length() - 1, attachment.seed, lock, attachment.clock, generation,
        ))
        place = Place(shard, label, shape, mapping, memory)
        self._by_id[id(shard)] = place
        return place

    def private_shard(
        self, mapping: segment.Mapping, shape: geometry.Geometry, generation: int, number: int,
        judge: object,
    ) -> Shard:
        """Make a shard of a segment that nobody else knows; its clock stands at 0, so that what is
        written keeps its version: see `ShardMove`."""
        memory: object = mapping.buffer
        if ENGINE == "pure":
            from ..memory._atomics import Memory

            memory = Memory(mapping.buffer)
            self.private[id(memory)] = memory
        return Shard(
            memory, number, shape.slots, shape.slot_size, shape.buckets, shape.evicts,
            shape.shards.bit_length() - 1, self._attachment.seed, ShardLock(memory, None, judge),
            Clock(0), generation,
        )

    def forget_private(self, shard: Shard) -> None:
        """Note that a mover has filled such a shard, or given it up."""
        self.private.pop(id(shard.buffer), None)

    def take_place(self, former: Shard, shard: Shard) -> None:
        """Have a new shard over the same mapping count as the former: see `left_behind`."""
        shard.mover = former.mover
        if self.known.get((former.generation, former.number)) is former:
            self.known[former.generation, former.number] = shard

    def find(self, shard: Shard) -> Place | None:
        """Return where a shard is; None: another thread has unmapped it meanwhile."""
        return self._by_id.get(id(shard))

    def mapping_of(self, shard: Shard) -> segment.Mapping:
        """Return what a shard is in."""
        return self._by_id[id(shard)].mapping

    def shape_of(self, shard: Shard) -> geometry.Geometry:
        """Return how a shard is laid out, and how many its generation has."""
        return self._by_id[id(shard)].shape

    def label_of(self, shard: Shard) -> str:
        """Return the name of a shard's segment."""
        return self._by_id[id(shard)].label

    def all(self) -> list[Place]:
        """List what is mapped, also what has moved."""
        return list(self._by_id.values())

    def moved_places(self) -> list[Place]:
        """List what is mapped and has moved, of what all threads of this process find: what one has
        just mapped, and closes again since another was quicker, is not theirs to look at. Nobody
        else in this process may be unmapping: see `routes.let_go`."""
        return [self._by_id[id(shard)] for shard in list(self.known.values()) if shard.moved_to()]

    def close(self, place: Place) -> None:
        """Unmap a shard that nobody uses any more; where that breaks off, it is gone on with later:
        what is not known any more, nobody else would come to unmap."""
        Undo(lambda: self._end(place), nullcontext).settle()

    def _end(self, place: Place) -> None:
        """Once more does no harm. First nobody finds it: what is unmapped cannot be looked at."""
        shard = place.shard
        if self.known.get((shard.generation, shard.number)) is shard:
            self.known.pop((shard.generation, shard.number), None)
        self._by_id.pop(id(shard), None)
        self._unmap(place.mapping)
        strip(shard)

    def _unmap(self, mapping: segment.Mapping) -> None:
        """Give a mapping back, and what was made over it. Once more does no harm."""
        parts = self._closing.get(id(mapping))
        if parts is not None:
            for step in _steps(parts):
                step()
            self._closing.pop(id(mapping), None)
        mapping.close()

    def steps_of_closing(self) -> list[Callable[[], object]]:
        """List the calls that unmap all of it: first what may be waiting, the mappings last."""
        each = [_steps(parts) for parts in list(self._closing.values())]
        return [step for part in zip(*each, strict=True) for step in part] + [self._strip_all]

    def _strip_all(self) -> None:
        for place in self.all():
            strip(place.shard)


def _steps(parts: list[Any]) -> list[Callable[[], object]]:
    """List the calls that give a lock, its memory and the mapping back, in that order."""
    lock, memory, mapping = parts
    return [
        _nothing if lock is None else lock.close,
        getattr(memory, "release", _nothing),  # the pure engine's
        mapping.close,
    ]


def _nothing() -> None:
    """Do nothing."""
