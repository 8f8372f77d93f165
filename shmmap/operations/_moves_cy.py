# mypy: ignore-errors
"""The steps of a move of shards that touch shared memory: see `shard/_moving_cy`.

`moving.py` puts them in order. Nobody's Python code runs while a shard is held.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import i64
    from shmmap.shard._moving_cy import ShardMove
    from shmmap.shard._shard_cy import Shard

COMPILED = cython.compiled
LOST = 1 << 20  # somebody else tracks the changes: begin again


def carry_copied(handle, move: Any, first: Any, limit: Any) -> int:
    """Carry what a copy has, of `limit` slots from `first` on, into the new shards. No lock. Return
    the slot to go on from, 0: done; or a status below 0, of the slot `move.failed`."""
    moved: ShardMove = move
    handle.enter()
    try:
        return moved.carry_all(first, limit)
    finally:
        handle.leave()


def follow_shard(handle, move: Any, limit: Any, settles: Any = False) -> int:
    """Carry again what has changed in a shard, about `limit` slots at most, under its lock; return
    how many; LOST, or a status below 0, of the slot `move.failed`.

    `settles`: all of it, and have the shard no longer tracked: from here on the new shards have
    what it had at this instant.
    """
    moved: ShardMove = move
    shard: Shard = moved.source
    is_last: cython.bint = settles
    most: i64 = 1 << 62 if is_last else limit
    changed: i64 = LOST
    handle.enter()
    try:
        handle.refuse_reentry(shard)
        try:
            handle.hold(shard)
            if moved.is_tracked(handle.token()):
                changed = moved.follow(most)
                if is_last and changed >= 0:
                    moved.settle_stamps()
                    moved.stop()
        finally:
            handle.drop(shard)
        return changed
    finally:
        handle.leave()
