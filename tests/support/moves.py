"""Moving a map's entries into shards that nobody else knows, in private memory."""

from __future__ import annotations

import mmap
from typing import Any

import shmmap
from shmmap.copies.private import Quiet, private_room
from shmmap.copies.snapshots import _Still
from shmmap.lifecycle.headers import draft_header
from shmmap.memory import geometry
from shmmap.memory._clock_cy import Clock
from shmmap.memory.words import ShardWords
from shmmap.operations._listing_cy import list_copied
from shmmap.operations._moves_cy import (
    LOST,
    carry_copied,
    copy_moved,
    cut_group,
    follow_shard,
    track_moved,
)
from shmmap.operations._takes_cy import Takes
from shmmap.operations.order import in_order
from shmmap.shard._checking_cy import Checker
from shmmap.shard._lock_cy import ShardLock
from shmmap.shard._moving_cy import ShardMove, move_bytes_needed
from shmmap.shard._shard_cy import Shard


def target(m: Any, shape: geometry.Geometry, number: int, *, deadlines: bool = True) -> Shard:
    """Make a shard of a map's seed in private memory, whose clock stands at 0."""
    room = mmap.mmap(-1, shape.areas.end, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    draft = draft_header(shape, m.attachment.nonce, number)
    draft.HAS_DEADLINES = int(deadlines)
    with ShardWords(room) as header:
        header.words[: len(draft.words)] = draft.words
    memory: Any = memoryview(room)
    if shmmap.ENGINE == "pure":
        from shmmap.memory._atomics import Memory

        memory = Memory(memory)
    return Shard(
        memory, number, shape.slots, shape.slot_size, shape.buckets, shape.evicts,
        shape.shards.bit_length() - 1, m.attachment.seed, ShardLock(memory, None, Quiet()),
        Clock(0),
    )


class Moving:
    """A whole map on its way into shards of another shape, as many or more or fewer."""

    def __init__(self, m: Any, shape: geometry.Geometry, *, deadlines: bool = True) -> None:
        self.m = m
        self.token = m.attachment.worker.fork_page.word | 1 << 20 | 7
        self.targets = [target(m, shape, n, deadlines=deadlines) for n in range(shape.shards)]
        self.moves: list[ShardMove] = []
        old = len(m.attachment.shards)
        for number, source in enumerate(m.attachment.shards):
            if shape.shards >= old:
                each = shape.shards // old
                mine = self.targets[number * each : (number + 1) * each]
            else:
                mine = [self.targets[number * shape.shards // old]]
            size = move_bytes_needed(source.slots.count, source.slots.size)
            room = private_room(m.name, size, "to move a shard")
            self.moves.append(ShardMove(source, room, Clock(0), Quiet(), mine))

    def begin(self) -> None:
        """Track, and copy."""
        track_moved(self.m, self.moves, self.token)
        for move in self.moves:
            copy_moved(self.m, move, self.token)

    def carry(self) -> list[int]:
        """Carry what was copied; return what the steps said."""
        said = []
        for move in self.moves:
            first = 1
            while first > 0:
                first = carry_copied(self.m, move, self.token, first, 50)
            said.append(first)
        return said

    def follow(self, limit: int) -> list[int]:
        """Carry what has changed."""
        return [follow_shard(self.m, move, self.token, limit) for move in self.moves]

    def settle(self) -> list[int]:
        """Carry the rest; from here on nothing is tracked."""
        done = []
        for move in self.moves:
            carried = follow_shard(self.m, move, self.token, 1 << 60)
            if 0 <= carried < LOST:
                status, _, _ = cut_group(self.m, [move], self.token, 10**10)
                assert status == 1, status
                with ShardWords(self.m.attachment.places.mapping_of(move.source).buffer) as header:
                    assert header.MOVED in (self.token, 0)  # a writer that met it took it back
                    header.MOVED = 0  # nobody is to look for the new shards
            done.append(carried)
        return done

    def view(self) -> Any:
        """Return a handle on the new shards, as of a map."""
        view = Takes()
        clock = Clock(self.m.attachment.clock.now_ns())
        view._bind(_Still(self.m.attachment, self.targets, clock, None), 0)
        return view

    def problems(self) -> list[str]:
        """List what is wrong in the new shards."""
        return [found for shard in self.targets for found in Checker(shard).problems()]

    def entries(self) -> set[tuple[Any, ...]]:
        """List what they have, with versions and deadlines, but for what has expired."""
        view, now = self.view(), self.m.attachment.clock.now_ns()
        return {entry for entry in in_order(lambda unit: list_copied(view, unit))
                if not 0 < entry[4] <= now}
