# mypy: ignore-errors
"""All shards at one instant: the steps of a snapshot that touch shared memory, and raw listings.

`snapshots.take` puts them in order: track, copy, copy what changed until that is
little, then `_cut`, which holds every shard at once, and only while it copies
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
    from shmmap.memory._atomics import Probe, clock_ns, i64, load, probe_t, u64, was_left_behind
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        KEY_TYPE_MASK,
        META_KEY_TYPE_SHIFT,
        META_VALUE_TYPE_SHIFT,
        S_DIRTY,
        TYPE_MASK,
    )
    from shmmap.operations._scans_cy import Scans
    from shmmap.shard._shadow_cy import ShardCopy
    from shmmap.shard._shard_cy import Shard
    from shmmap.shard._status import CORRUPT

COMPILED = cython.compiled
# What `_cut` gives for what a shard's number cannot be, negative: all were held, and copied.
LOST = 1 << 20  # somebody else tracks changes: begin again


class Snapshots(Scans):
    """The operations on all of a map's shards at once."""

    def _track(self, copies: Any) -> None:
        """Have each shard's changes marked from here on."""
        copy: ShardCopy
        self.enter()
        try:
            for copy in copies:
                track_shard(self, self.shards[copy.number], copy)
        finally:
            self.leave()

    def _copy_whole(self, copy: Any) -> None:
        """Copy a shard without its lock: whatever changes meanwhile is marked."""
        copied: ShardCopy = copy
        self.enter()
        try:
            copied.copy_all()
        finally:
            self.leave()

    def _copy_changed(self, copies: Any, limit: Any) -> int:
        """Copy what changed in these shards, at most about `limit` entries under one hold; give
        how many, -1: somebody else tracks changes now."""
        copy: ShardCopy
        most: u64 = limit
        total: i64 = 0
        changed: i64
        self.enter()
        try:
            for copy in copies:
                changed = copy_changed_shard(self, self.shards[copy.number], copy, most)
                if changed < 0:
                    return -1
                total += changed
            return total
        finally:
            self.leave()

    def _cut(self, copies: Any, patience_ns: Any) -> tuple:
        """Hold every shard, copy what changed last, stop tracking, let all go.

        Gives (-1, when, for how many ns they were held); or (the number of the shard that was
        not free in time or needs a repair, 0, 0), or (LOST, 0, 0); then nothing was copied.
        """
        copy: ShardCopy
        shard: Shard
        failed: i64 = -1
        began: i64
        when: i64 = 0
        until: i64
        all_copies: list = copies
        self.enter()
        try:
            # in a child that a handler forks, ours are replaced: see Attachment.note_fork
            shards: list = self.shards if cython.compiled else list(self.shards)
            for shard in shards:
                self.refuse_reentry(shard)
            began = clock_ns(1)
            until = began + patience_ns
            try:
                for shard in shards:
                    if not cython.compiled:
                        self.note(shard)
                    # our token is read after the note: a child that is forked before is not `me`
                    if not shard.lock.try_quickly(self.token(), until) or load(shard.mem, S_DIRTY):
                        failed = shard.number
                        break
                if failed < 0:
                    for copy in all_copies:
                        if not copy.is_tracked(self.token()):
                            failed = LOST
                if failed < 0:
                    when = self.clock.now()
                    for copy in all_copies:
                        copy.copy_changed(1 << 62)
                        copy.stop()
            finally:
                self.drop_all(shards)
            if failed >= 0:
                return failed, 0, 0
            if self.near is not None:  # a snapshot may show more than what is held
                self.near.reseal()
            return -1, when, clock_ns(1) - began
        finally:
            self.leave()

    def drop_all(self, shards):
        """Free the lock of each of these shards, all that there are, that is held."""
        shard: Shard
        number: u64
        if cython.compiled:  # no test of the type: nothing in here can raise
            for number in range(self.mask + 1):
                self.drop(cython.cast(Shard, PyList_GET_ITEM(shards, number)))
            return
        try:
            for shard in shards:
                self.drop(shard)
        except BaseException:  # a signal handler raised in it: finish all the same
            for shard in shards:
                self.drop(shard)
            raise

    def _forget_tracking(self, copies: Any) -> None:
        """Stop what `_track` began, wherever that is still ours."""
        copy: ShardCopy
        self.enter()
        try:
            for copy in copies:
                if not cython.compiled and was_left_behind(copy.source.mem):
                    continue  # in a child: they are marked for its parent
                copy.forget_tracking(self.token())
        finally:
            self.leave()

    def _list_raw(self, number: Any) -> list:
        """List the live entries of a shard of a snapshot as (key type, key bytes, value type,
        value bytes, deadline in ns or 0, version)."""
        if cython.compiled:
            a_probe: Probe
            found: probe_t = cython.address(a_probe)
        else:
            found = Probe()
        shard: Shard = self.shards[number]
        slot: u64
        raw_key: Any
        raw_value: Any
        listed: list = []
        for slot in range(1, shard.slots.count + 1):
            found.slot = slot
            found.version = shard.slots.version(slot)
            if found.version == 0:
                continue
            found.meta = shard.slots.meta(slot)
            if shard.is_expired(found):
                continue
            raw_key = self.raw_key(shard, found)
            raw_value = self.raw_value(shard, found)
            if raw_key is None or raw_value is None:
                self.raise_for(CORRUPT, shard, 0)
            listed.append((
                (found.meta >> META_KEY_TYPE_SHIFT) & KEY_TYPE_MASK, raw_key,
                (found.meta >> META_VALUE_TYPE_SHIFT) & TYPE_MASK, raw_value,
                found.deadline, found.version,
            ))
        return listed


def settle_copy(copy: Any) -> int:
    """Index a copy: see `ShardCopy.settle`."""
    copied: ShardCopy = copy
    return copied.settle()


def track_shard(core, shard, copy):
    """Have a shard's changes marked, under its lock."""
    core.refuse_reentry(shard)
    try:
        core.hold(shard)
        copy.start(core.token())
    finally:
        core.drop(shard)


def copy_changed_shard(core, shard, copy, limit):
    """Copy what changed in a shard, under its lock; -1: it is not tracked for us."""
    changed: i64 = -1
    core.refuse_reentry(shard)
    try:
        core.hold(shard)
        if copy.is_tracked(core.token()):
            changed = copy.copy_changed(limit)
    finally:
        core.drop(shard)
    return changed
