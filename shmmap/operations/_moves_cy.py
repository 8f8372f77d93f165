# mypy: ignore-errors
"""The steps of a move of shards that touch shared memory: see `shard/_moving_cy`, and
docs/design/moving.md, whose numbers they have.

`moving/group.py` puts them in order. Nobody's Python code runs while a shard is held.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import clock_ns, compare_exchange, i64, load, publish, u64
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        ALL_UNITS,
        C_STATE,
        C_TABLE,
        S_MOVED,
        STATE_READY,
        TABLE_ROWS_MASK,
        TOKEN_INCARNATION_SHIFT,
    )
    from shmmap.operations._cut_cy import drop_all, hold_each
    from shmmap.operations._handle_cy import row_in_use
    from shmmap.shard._moving_cy import ShardMove
    from shmmap.shard._shard_cy import Shard
    from shmmap.shard._status import FOUND, TIMED_OUT

from shmmap.errors import LockTimeout, Reentered

COMPILED = cython.compiled
# What the steps give for what is no status of an entry.
LOST = 1 << 20  # somebody else tracks the changes: begin again
BUSY = LOST + 1  # a lock was not free in time, or its shard needs a repair, or has moved
ENDED = LOST + 2  # the map was unlinked, or replaced


def track_moved(handle, moves: Any, token: Any) -> None:
    """4: have the changes of each of these shards marked for `token`. Raises ShardMoved."""
    move: ShardMove
    shard: Shard
    handle.enter()
    try:
        for move in moves:
            shard = move.source
            handle.refuse_reentry(shard)
            try:
                handle.hold(shard, ALL_UNITS)
                refuse_forked(handle, token)
                move.start(token)
            finally:
                handle.drop(shard)
    finally:
        handle.leave()


def refuse_forked(handle, token):
    """Refuse to go on in a child with what its parent has begun, and goes on with: what both would
    write to is shared. Called where no handler can come, and fork, before what follows; in the pure
    engine, in which one can, the memory is left behind (see `left_behind`)."""
    if load(handle.fork_page, 0) >> TOKEN_INCARNATION_SHIFT != token >> TOKEN_INCARNATION_SHIFT:
        raise forked(handle.name)
    return 0


def forked(name: Any) -> Reentered:
    """Make the error of such a child."""
    return Reentered(
        f"map {name!r}: this process was forked in the middle of a change of the map's shape. The "
        "parent goes on with it; here, in the child, it was broken off. The map can be used as ever"
    )


def copy_moved(handle, move: Any, token: Any) -> None:
    """5: copy a shard, without its lock: what changes meanwhile is marked."""
    moved: ShardMove = move
    handle.enter()
    try:
        refuse_forked(handle, token)
        moved.copy_all()
    finally:
        handle.leave()


def carry_copied(handle, move: Any, token: Any, first: Any, limit: Any) -> int:
    """5: carry what a copy has, of `limit` slots from `first` on, into the new shards. No lock.
    Return the slot to go on from, 0: done; or a status below 0, of the slot `move.failed`."""
    moved: ShardMove = move
    handle.enter()
    try:
        refuse_forked(handle, token)
        return moved.carry_all(first, limit)
    finally:
        handle.leave()


def follow_shard(handle, move: Any, token: Any, limit: Any) -> int:
    """6: carry again what has changed in a shard, about `limit` slots at most, under its lock;
    return how many; LOST, or a status below 0, of the slot `move.failed`. Raises ShardMoved."""
    moved: ShardMove = move
    shard: Shard = moved.source
    most: i64 = limit
    changed: i64 = LOST
    handle.enter()
    try:
        handle.refuse_reentry(shard)
        try:
            handle.hold(shard, ALL_UNITS)
            refuse_forked(handle, token)
            if moved.is_tracked(token):
                changed = moved.follow(most)
        finally:
            handle.drop(shard)
        return changed
    finally:
        handle.leave()


def cut_group(handle, moves: Any, token: Any, patience_ns: Any) -> tuple:
    """7 to 9: hold all of a group, carry what changed last, store MOVED in each, let all go.

    Returns (FOUND, 0, for how many ns they were held): the publication. Else nothing was published:
    (BUSY, which of the moves, 0), (LOST, -1, 0), (ENDED, -1, 0), or a status below 0 and which of
    the moves it is of: its `failed` is the slot.
    """
    move: ShardMove
    shard: Shard
    all_moves: list = moves
    me: u64 = token
    status: i64 = FOUND
    changed: i64
    at: i64
    began: i64
    until: i64
    held: i64 = 0
    handle.enter()
    try:
        shards: list = [move.source for move in all_moves]
        for shard in shards:
            handle.refuse_reentry(shard)
        began = clock_ns(1)
        until = began + patience_ns
        try:
            at = hold_each(handle, shards, until)
            refuse_forked(handle, me)
            if at >= 0:
                status = BUSY
            else:
                for move in all_moves:
                    if not move.is_tracked(me):
                        status = LOST
            if status == FOUND and load(handle.control, C_STATE) != STATE_READY:
                status = ENDED
            if status == FOUND:
                for move in all_moves:
                    at += 1
                    changed = move.follow(1 << 62)
                    if changed < 0:
                        status = changed
                        break
            if status == FOUND:
                at = 0
                for move in all_moves:
                    move.settle_stamps()
                    move.stop()
                store_moved(shards, me)
        finally:
            drop_all(handle, shards)
            held = clock_ns(1) - began
        return status, at, held if status == FOUND else 0
    finally:
        handle.leave()


def store_moved(shards, token):
    """8: the publication: whoever looks into one of these shards from here on goes to the new."""
    shard: Shard
    number: u64
    if cython.compiled:  # no test of the type: nothing in here can raise
        for number in range(PyList_GET_SIZE(shards)):
            publish(cython.cast(Shard, PyList_GET_ITEM(shards, number)).mem, S_MOVED, token)
        return
    try:
        for shard in shards:
            publish(shard.mem, S_MOVED, token)
    except BaseException:  # a signal handler raised in it: none is freed before all are moved
        for shard in shards:
            publish(shard.mem, S_MOVED, token)
        raise


def forget_moves(handle, moves: Any, token: Any) -> None:
    """Stop what `track_moved` began, wherever that is still ours."""
    move: ShardMove
    handle.enter()
    try:
        refuse_forked(handle, token)
        for move in moves:
            move.forget_tracking(token)
    finally:
        handle.leave()


def unsay_moved(handle, held: Any) -> None:
    """Take MOVED back in a shard of the newest generation, under its lock: no mover can have stored
    it, so memory was damaged. Raises LockTimeout."""
    shard: Shard = held
    word: u64
    handle.enter()
    try:
        handle.refuse_reentry(shard)
        try:
            if handle.try_hold(shard, handle.lock_timeout_ns) == TIMED_OUT:
                raise LockTimeout(handle.attachment.describe_wait(shard, handle.lock_timeout_ns))
            word = load(handle.control, C_TABLE)
            if load(handle.control, row_in_use(word, word & TABLE_ROWS_MASK)) == shard.generation:
                publish(shard.mem, S_MOVED, 0)
        finally:
            handle.drop(shard)
    finally:
        handle.leave()


def exchange_word(handle, offset: Any, expected: Any, wanted: Any) -> bool:
    """Exchange a word of the control segment, if it is as expected; tell whether it was."""
    handle.enter()
    try:
        return compare_exchange(handle.control, offset, expected, wanted) != 0
    finally:
        handle.leave()
