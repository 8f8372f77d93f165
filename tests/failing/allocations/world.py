"""A small map in a state, a model of what is in it, and what must hold after every operation."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import shmmap
from shmmap.locks.lock_table import OPEN
from shmmap.memory.layout import constants
from shmmap.operations import reentry
from shmmap.operations._listing_cy import list_entries
from shmmap.system import background

K = constants()
ABSENT = object()
ANY = object()  # some value: not compared
STATES = ("clean", "dead", "expired")
SHM = Path("/dev/shm")
CONTENTS: dict[Any, Any] = {
    "a": "value a", b"b": b"x" * 40, "n": 41, "long": b"l" * 900, "pickle": {"of": [1, 2.5]},
    ("t", 1): 2.5, "k" * 300: "of a long key", 7: None, "yes": True, "m" * 200: {"long": "key"},
}
SHORT_LIVED = [f"gone {i}" for i in range(6)] + ["g" * 300]


class Operation(NamedTuple):
    """A public operation: what runs while allocations fail, and what it may change.

    `effects`: by key, what the operation makes of it where it returns; where it raises, the
    key may also be as it was. `arrange` runs before, with memory; `finish` after, with its result,
    also where it raised if `always`.
    """

    name: str
    run: Callable[[World], Any]
    effects: dict[Any, Any] = {}  # noqa: RUF012
    arrange: Callable[[World], Any] | None = None
    finish: Callable[[World, Any], Any] | None = None
    is_life: bool = False  # it opens, closes or removes: the map is made anew for every run
    always: bool = False
    is_wish: bool = False  # what it returns is promised, that the map keeps it is not


class World:
    """The map, its model, and its second handle with a near cache."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.model: dict[Any, Any] = {}
        self.kept: Any = None  # what `arrange` made
        self.m: Any = None
        self.near: Any = None

    def open(self) -> None:
        """Make the map."""
        background.START_AGAIN_NS = 10**6  # a thread that memory failed is tried again at once
        self.m = shmmap.ShmMap.create(
            self.name, capacity=60, shards=2, value_size=60, key_size=20, sweep_interval=None,
            lock_timeout=5.0,
        )
        self.near = shmmap.ShmMap(self.name, near=30)

    def close(self) -> None:
        """Remove the map, whatever became of it."""
        for handle in (self.near, self.m):
            if handle is not None and not handle.closed:
                with contextlib.suppress(shmmap.ShmMapError):
                    handle.unlink()
                handle.close()
        self.m = self.near = self.kept = None
        for path in self.objects():
            path.unlink(missing_ok=True)

    def objects(self) -> list[Path]:
        """List what lies in /dev/shm under the map's name, and under those made from it."""
        return [path for path in SHM.iterdir() if self.name in path.name]

    # -- states ----------------------------------------------------------------------------

    def fill(self) -> None:
        """Put the contents into the map, and the model."""
        self.m.clear()
        self.m.attachment.clock.frozen_ns = 10**15
        for key, value in CONTENTS.items():
            self.m[key] = value
        for key in SHORT_LIVED:
            self.m.set(key, "short-lived", ttl=5)
        self.model = {**CONTENTS, **dict.fromkeys(SHORT_LIVED, "short-lived")}
        dict(self.near)
        for key in CONTENTS:
            self.near.get(key)

    def enter(self, state: str) -> None:
        """Put the filled map into a state."""
        if state == "expired":
            self.m.attachment.clock.frozen_ns += 6 * 10**9
            self.model = dict(CONTENTS)
        if state == "dead":
            for mapping in (*self.m.attachment.mappings, *self.m.attachment.lock_mappings):
                self.leave_half_done(memoryview(mapping.buffer).cast("B").cast("Q"), mapping)

    def dead_token(self) -> int:
        """Return the token of an earlier incarnation of this worker's row."""
        worker = self.m.attachment.worker
        earlier = (worker.incarnation - 1) & K["INCARNATION_MASK"]
        return worker.row << K["TOKEN_ROW_SHIFT"] | earlier << K["TOKEN_INCARNATION_SHIFT"] | 1

    def leave_half_done(self, words: Any, mapping: Any) -> None:
        """Leave a shard as a writer does that dies in the middle of a repair: what is derived from
        the slots is half there."""
        attached = self.m.attachment
        is_locks = mapping in attached.lock_mappings
        shape = attached.locks.geometry if is_locks else attached.geometry
        words[K["S_DIRTY"] >> 3] = 1
        words[K["S_SEQUENCE"] >> 3] |= 1
        words[K["S_REBUILDS"] >> 3] |= 1
        words[K["S_ENTRIES"] >> 3] = words[K["S_FREE_HEAD"] >> 3] = 0
        first = shape.areas.index >> 3
        for at in range(first, first + shape.buckets * 8, 2):
            words[at] &= K["OVERFLOW_MASK"]
        words[K["S_OWNER"] >> 3] = self.dead_token()

    # -- what must hold ----------------------------------------------------------------------

    def problems(self, operation: Operation, returned: bool) -> Iterator[str]:
        """Say what is wrong after an operation."""
        attached = self.m.attachment
        if shmmap.ENGINE == "pure":  # to free a lock took memory: the next operation does it
            self.m.get("probe")
        ours = attached.worker.row << 32 | attached.worker.incarnation
        for shard in attached.shards:
            token = shard.lock.owner()
            row_and_life = token >> K["TOKEN_ROW_SHIFT"] << 32 | (
                token >> K["TOKEN_INCARNATION_SHIFT"] & K["INCARNATION_MASK"]
            )
            if token and row_and_life == ours:
                yield f"shard {shard.number}: the lock is still held"
        for handle in (self.m, self.near):
            if handle.inflight or (
                shmmap.ENGINE == "pure" and reentry.count_operations(handle)
            ):
                yield "an operation counts as in flight"
        yield from self.held_names()
        yield from self.differences(operation, returned)
        try:
            self.m["probe"] = "next"
            if self.m.pop("probe") != "next":
                yield "the next operation read something else"
        except Exception as error:
            yield f"the next operation raised {error!r}"
        yield from self.m.check()

    def held_names(self) -> Iterator[str]:
        """Name what is left of named locks, once an operation has had memory to free them."""
        part = self.m.attachment.locks
        until = time.monotonic() + 5
        while True:
            self.m.stats()
            table = self.m._lock_table()
            held = [raw for _, raw in list_entries(table, 0, True)[1] if raw != OPEN]
            left = [repr(one) for one in (held, part.holds, part.by_task) if one]
            if not left and not part.is_owing:
                table.drop_abandoned()  # what stands open
                return
            if time.monotonic() > until:
                yield f"a named lock is held: {left}, {part.is_owing=}"
                return
            time.sleep(0.001)

    def differences(self, operation: Operation, returned: bool) -> Iterator[str]:
        """Compare the map with the model."""
        there = dict(self.m.items())
        if len(self.m) != len(there):
            yield f"len is {len(self.m)}, {len(there)} are listed"
        taken = 0
        for key in {*self.model, *there, *operation.effects}:
            before, now = self.model.get(key, ABSENT), there.get(key, ABSENT)
            after = operation.effects.get(key, before)
            allowed = [after] if returned and not operation.is_wish else [before, after]
            if ANY in allowed or now in allowed:
                continue
            if operation.name == "popitem" and now is ABSENT and not taken:
                taken += 1
                continue
            yield f"{key!r:.40}: {now!r:.40} is there, not {' or '.join(map(repr, allowed)):.80}"

    def settle(self) -> None:
        """Open and close a map, which undoes what could not be undone for want of memory."""
        shmmap.ShmMap(self.name).close()

    def resources(self) -> dict[str, int]:
        """Count what an operation may leak."""
        maps = Path("/proc/self/maps").read_text()
        return {
            "descriptors": len(os.listdir("/proc/self/fd")),
            "mapped segments": maps.count("/dev/shm/"), "objects": len(self.objects()),
            "temporary files": len(list(self.folder.glob(".shmmap*"))),
        }
