# mypy: ignore-errors
"""All shards at one instant: the steps of a snapshot that touch shared memory.

`snapshots.take` puts them in order: track, copy, copy what changed until that is
little, then `cut`, which holds every shard at once, and only while it copies
the last few entries that changed. Nobody's Python code runs in there, no signal
is looked at, and nothing sleeps: a lock that is not free in time has all of
them let go, and is waited for alone.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import clock_ns, i64, load, u64, was_left_behind
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        ALL_UNITS,
        C_STATE,
        S_DIRTY,
        S_MOVED,
        STATE_READY,
    )
    from shmmap.operations import reentry
    from shmmap.shard._shadow_cy import ShardCopy
    from shmmap.shard._shard_cy import Shard

from shmmap.operations.routing import ShardMoved

COMPILED = cython.compiled
# What `cut` gives for what a shard's number cannot be, negative: all were held, and copied.
LOST = 1 << 20  # somebody else tracks changes: begin again


def track(handle, copies: Any) -> None:
    """Have each shard's changes marked from here on."""
    copy: ShardCopy
    handle.enter()
    try:
        for copy in copies:
            track_shard(handle, copy.source, copy)
    finally:
        handle.leave()


def copy_whole(handle, copy: Any) -> None:
    """Copy a shard without its lock: whatever changes meanwhile is marked."""
    copied: ShardCopy = copy
    handle.enter()
    try:
        copied.copy_all()
    finally:
        handle.leave()


def copy_changed(handle, copies: Any, limit: Any) -> int:
    """Copy what changed in these shards, at most about `limit` entries under one hold; return
    how many, -1: somebody else tracks changes now."""
    copy: ShardCopy
    most: u64 = limit
    total: i64 = 0
    changed: i64
    handle.enter()
    try:
        for copy in copies:
            changed = copy_changed_shard(handle, copy.source, copy, most)
            if changed < 0:
                return -1
            total += changed
        return total
    finally:
        handle.leave()


def cut(handle, copies: Any, patience_ns: Any) -> tuple:
    """Hold every shard, copy what changed last, stop tracking, let all go.

    Returns (-1, when, for how many ns they were held); or (which of the copies is of the shard
    that was not free in time, needs a repair, or has moved, 0, 0), or (LOST, 0, 0); then nothing
    was copied.
    """
    copy: ShardCopy
    shard: Shard
    failed: i64
    began: i64
    when: i64 = 0
    until: i64
    all_copies: list = copies
    handle.enter()
    try:
        shards: list = [copy.source for copy in all_copies]
        for shard in shards:
            handle.refuse_reentry(shard)
        began = clock_ns(1)
        until = began + patience_ns
        try:
            failed = hold_each(handle, shards, until)
            if failed < 0:
                for copy in all_copies:
                    if not copy.is_tracked(handle.token()):
                        failed = LOST
            if failed < 0:
                when = handle.clock.now()
                for copy in all_copies:
                    copy.copy_changed(1 << 62)
                    copy.stop()
        finally:
            drop_all(handle, shards)
        if failed >= 0:
            return failed, 0, 0
        if handle.near is not None:  # a snapshot may show more than what is held
            handle.near.reseal()
        return -1, when, clock_ns(1) - began
    finally:
        handle.leave()


def hold_all(handle, every: Any, patience_ns: Any, work: Any) -> int:
    """Hold `every` shard, do the work, and keep them for good; return -1, or which of them was not
    free in time, needs a repair, or has moved: then none is held, and nothing done. What the work
    raises frees them, unless the map is retired by then."""
    shard: Shard
    failed: i64
    until: i64
    done: cython.bint = False
    handle.enter()
    try:
        shards: list = every
        for shard in shards:
            handle.refuse_reentry(shard)
        until = clock_ns(1) + patience_ns
        try:
            failed = hold_each(handle, shards, until)
            if failed < 0:
                work()
                done = True
        finally:
            if not done and load(handle.control, C_STATE) == STATE_READY:
                drop_all(handle, shards)
            elif not cython.compiled:  # else `leave` would free them
                for shard in shards:
                    reentry.forget(handle.attachment, shard)
        return failed
    finally:
        handle.leave()


def hold_each(handle, shards, until):
    """Take the locks of these shards in their order, until a time; return -1, or which of them was
    not free by then, needs a repair, or has moved. The caller frees those that it has."""
    shard: Shard
    at: i64
    for at, shard in enumerate(shards):
        if not cython.compiled:
            reentry.note(handle.attachment, shard)
        # our token is read after the note: a child that is forked before is not `me`
        if not shard.lock.try_quickly(handle.token(), until) or (
            load(shard.mem, S_DIRTY) or load(shard.mem, S_MOVED)
        ):
            return at
    return -1


def hold_one(handle, held: Any, work: Any = None) -> None:
    """Wait for a shard as a writer does, and do the work while it is held; a dead owner's change is
    repaired. Where it has moved, the handle goes by those that have its entries."""
    shard: Shard = held
    handle.enter()
    try:
        handle.refuse_reentry(shard)
        try:
            handle.hold(shard, ALL_UNITS)
            if work is not None:
                work()
        except ShardMoved:
            if work is not None:
                raise
        finally:
            handle.drop(shard)
    finally:
        handle.leave()


def drop_all(handle, shards):
    """Free the lock of each of these shards, all that there are, that is held."""
    shard: Shard
    number: u64
    if cython.compiled:  # no test of the type: nothing in here can raise
        for number in range(PyList_GET_SIZE(shards)):
            handle.drop(cython.cast(Shard, PyList_GET_ITEM(shards, number)))
        return
    try:
        for shard in shards:
            handle.drop(shard)
    except BaseException:  # a signal handler raised in it: finish all the same
        for shard in shards:
            handle.drop(shard)
        raise


def forget_tracking(handle, copies: Any) -> None:
    """Stop what `track` began, wherever that is still ours."""
    copy: ShardCopy
    handle.enter()
    try:
        for copy in copies:
            if not cython.compiled and was_left_behind(copy.source.mem):
                continue  # in a child: they are marked for its parent
            copy.forget_tracking(handle.token())
    finally:
        handle.leave()


def copy_held(copy: Any) -> None:
    """Copy a shard that this thread holds. Whoever tracks its changes begins again."""
    copied: ShardCopy = copy
    copied.copy_all()
    copied.stop()


def settle_copy(copy: Any) -> int:
    """Index a copy: see `ShardCopy.settle`."""
    copied: ShardCopy = copy
    return copied.settle()


def track_shard(handle, shard, copy):
    """Have a shard's changes marked, under its lock."""
    handle.refuse_reentry(shard)
    try:
        handle.hold(shard, ALL_UNITS)
        copy.start(handle.token())
    finally:
        handle.drop(shard)


def copy_changed_shard(handle, shard, copy, limit):
    """Copy what changed in a shard, under its lock; -1: it is not tracked for us."""
    changed: i64 = -1
    handle.refuse_reentry(shard)
    try:
        handle.hold(shard, ALL_UNITS)
        if copy.is_tracked(handle.token()):
            changed = copy.copy_changed(limit)
    finally:
        handle.drop(shard)
    return changed
