"""The maps that are damaged: how they are made, and how they are put back.

Everything random about a subject comes from its name: the same bytes are in the same places in
every run, so that the seed of a state is all that it takes to see it again.
"""

from __future__ import annotations

import contextlib
import mmap
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import shmmap
from shmmap.lifecycle import checking, making
from shmmap.locks import lock_table
from shmmap.memory import layout
from shmmap.system import segment

from ..support.damage import Damage, K
from .guards import Gaps
from .truth import Truth

START_NS = 10**15  # the frozen clock at the first write
QUICK_S, PATIENT_S = 0.01, 0.5  # lock_timeout of the two handles


class Variant(NamedTuple):
    """A kind of map, and which of the entries below it gets."""

    name: str
    parameters: dict[str, Any]
    fill: str  # "mixed", "safe" (nothing pickled) or "full" (small ones, the index overflows)


VARIANTS = (
    Variant("mixed", {"capacity": 64, "value_size": 40, "shards": 1}, "mixed"),
    Variant("evict", {"capacity": 24, "value_size": 40, "shards": 2, "on_full": "evict",
                      "ttl": 1000.0}, "mixed"),
    Variant("full", {"capacity": 60, "value_size": 0, "key_size": 8, "shards": 1}, "full"),
    Variant("aged", {"capacity": 56, "value_size": 24, "shards": 2, "codec": "safe",
                     "max_age": 5000.0}, "safe"),
)  # fmt: skip


def entries(fill: str) -> dict[Any, Any]:
    """Return what a subject holds: every kind of key and value, in one slot and in several."""
    if fill == "full":
        return {number: number * 3 for number in range(52)}
    found: dict[Any, Any] = {
        "text": "värde", b"bytes": b"\0\xff" * 9, 7: 7, -1: 1 << 62, "empty": b"", "none": None,
        None: "key none", 2.5: 1.25, ("pair", 1): True, ("nested", (None, b"x")): False,
        "big": 1 << 100, "array": np.arange(12, dtype="<i4").reshape(3, 4),
        "long": bytes(range(200)), "longer": "abcdefgh" * 40, "k" * 70: b"long key" * 4,
        1 << 80: -5, "count": 100, "short": "x", b"\x00": b"y" * 56, "z" * 100: 42,
    }  # fmt: skip
    if fill == "mixed":
        found |= {"list": [1, 2, {"three": 3.5}], "set": {1, 2, 3}, "deep": {"a": list(range(30))}}
    return found


GONE = [f"gone {number}" for number in range(4)]  # were written once, and deleted
EXPIRED = [f"late {number}" for number in range(3)]  # are past their deadline, and not reclaimed
NEVER = ["never", b"never", 99999, ("never",), -0.5]  # were never written
OURS, THEIRS, DEAD, LATE, FREE = LOCKS = (  # who holds a named lock; a late one's lease is over
    "ours", "theirs", "a dead worker's", "late", "free",
)  # fmt: skip
DEADLINES = {"text": 50.0, "long": 60.0, 7: 70.0, "array": 3000.0}  # their ttl, seconds


def _has(shard: Damage, key: bytes) -> bool:
    with contextlib.suppress(KeyError):
        return bool(shard.head(key))
    return False


def _map_semaphore(label: str) -> mmap.mmap:
    with open(segment.SHM_DIRECTORY + segment.semaphore_file(label), "r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def _field(record: layout.Record, at: int) -> str:
    return next((n for n, o in layout.offsets(record).items() if o == at), f"byte {at}")


class Watched(shmmap.ShmMap):
    """A handle that may copy whole shards, padding and all, as check() and repair() do."""

    gaps: Gaps


def _copy_shard(handle: Any, number: int, length: int) -> Any:
    with handle.gaps.open() if isinstance(handle, Watched) else contextlib.nullcontext():
        return copy_shard(handle, number, length)


copy_shard, checking.copy_shard = checking.copy_shard, _copy_shard  # type: ignore[attr-defined]


class Subject:
    """One map, ready to be damaged again and again."""

    def __init__(self, variant: Variant, prefix: str) -> None:
        rng = random.Random(variant.name)
        making.random_word = lambda: rng.getrandbits(64)  # the same nonce and seed
        self.variant = variant
        self.evicts = variant.parameters.get("on_full") == "evict"
        self.name = f"{prefix}-{variant.name}"
        self.quick = Watched.create(
            self.name, **variant.parameters, sweep_interval=None, lock_timeout=QUICK_S,
            on_unlinked="raise",  # a damaged STATE is found, and not got past
        )
        self.patient = Watched.attach(self.name, lock_timeout=PATIENT_S)
        self.attachment = self.quick.attachment
        self.gaps = self.quick.gaps = self.patient.gaps = Gaps(self.attachment)
        self.clock = self.attachment.clock
        self.right: dict[Any, Any] = {}  # what the undamaged map answers
        self.late: dict[Any, Any] = {}  # the values of the expired entries
        self.shape = self.attachment.geometry
        self.areas = self.shape.areas
        self.neighbour_token = self.dead_token = 0  # a live worker, and one that died: see child.py
        self._fill()
        every = [Damage(self.quick, number) for number in range(self.shape.shards + 1)]
        *self.shards, self.locks = self._with_locks = every
        self.control = self.attachment.control.words
        self._semaphores = [_map_semaphore(name) for name in self._labels()]
        live = {key for d in self.shards for key in self.late if _has(d, key.encode())}
        self.late = {key: self.late[key] for key in self.late if key in live}  # not evicted
        self.token = self.attachment.worker.fork_page.word  # | 1: this thread's

    def _fill(self) -> None:
        m, clock = self.quick, self.clock
        clock.frozen_ns = START_NS
        for key in EXPIRED if self.variant.fill != "full" else ():  # that one has no deadlines
            self.late[key] = f"value of {key}"
            m.set(key, self.late[key], ttl=1.0)
        for key in GONE:
            m[key] = b"old" if self.variant.fill == "full" else b"old " * 20
        for key, value in entries(self.variant.fill).items():
            m[key] = b"an older value" if self.variant.fill != "full" else 0
            clock.frozen_ns += 1000
            m[key] = value
            self.right[key] = value
        mappings = [*self.attachment.mappings, *self.attachment.lock_mappings]
        self._older = [bytes(mapping.buffer) for mapping in mappings]
        self.hold(OURS)
        for key in GONE:
            m.delete(key)
        clock.frozen_ns += 2 * 10**9
        if self.variant.fill != "full":
            for key, ttl in DEADLINES.items():
                m.touch(key, ttl)
        for key in [*list(self.right)[::3], *EXPIRED]:
            m.get(key)
        clock.frozen_ns += 10**9
        self.right = {key: value for key, value in self.right.items() if key in m}  # not evicted
        assert m.check() == []

    def _labels(self) -> list[str]:
        a = self.attachment
        shards = [segment.shard_name(a.name, a.nonce, 0, n) for n in range(self.shape.shards)]
        return [*shards, segment.locks_name(a.name, a.nonce)]

    def hold(self, key: str) -> None:
        """Take a named lock for this process."""
        self.patient.lock(key, timeout=0, lease=1.0 if key == LATE else None).acquire()

    # -- taking a picture, and putting it back --------------------------------------------

    def remember(self) -> None:
        """Take the bytes as they are now for the undamaged ones."""
        self.clock.frozen_ns += 2 * 10**9  # a lease runs out
        a = self.attachment
        mappings = [*a.mappings, *a.lock_mappings, a.control.mapping]
        self._now = [np.frombuffer(mapping.buffer, np.uint32) for mapping in mappings]
        self._then = [array.copy() for array in self._now]
        self._semaphores_then = [bytes(semaphore) for semaphore in self._semaphores]
        self.truth = Truth(self.shards, [*self.right, *self.late])
        names = [lock_table.name_of(lock_table.LOCK, key) for key in LOCKS if key != FREE]
        self.lock_truth = Truth([self.locks], names)
        self._epoch_ns = self.clock.frozen_ns
        self._holds = dict(self.attachment.locks.holds)

    def restore(self) -> None:
        """Undo every damage and every operation."""
        self.clock.frozen_ns = self._epoch_ns
        part = self.attachment.locks
        part.holds = dict(self._holds)
        part.by_task = {(hold.name, hold.task): hold for hold in self._holds.values()}
        for now, then in zip(self._now, self._then, strict=True):
            np.copyto(now, then)
        for semaphore, octets in zip(self._semaphores, self._semaphores_then, strict=True):
            semaphore[:] = octets

    def older(self, shard: Damage) -> bytes:
        """Return a shard's bytes as they were before the last writes."""
        return self._older[self._with_locks.index(shard)]

    def semaphore(self, shard: Damage) -> mmap.mmap:
        """Return the file of a shard's semaphore."""
        return self._semaphores[self._with_locks.index(shard)]

    def changed(self) -> list[np.ndarray[Any, Any]]:
        """List the half words that are damaged: of each shard, of the lock shard, of the control
        segment."""
        return [
            np.flatnonzero(now != then)
            for now, then in zip(self._now, self._then, strict=True)
        ]

    def differences(self, most: int = 12) -> Iterator[str]:
        """Describe the damaged words, for a replay."""
        names = [*(f"shard {number}" for number in range(len(self.shards))), "locks", "control"]
        for name, now, then in zip(names, self._now, self._then, strict=True):
            now, then = now.view(np.uint64), then.view(np.uint64)
            words = np.flatnonzero(now != then).tolist()
            for word in words[:most]:
                yield (f"{name}, {self.place(name, word * 8)}: "
                       f"{int(then[word]):#x} -> {int(now[word]):#x}")
            if len(words) > most:
                yield f"{name}: {len(words) - most} words more"

    def place(self, segment: str, at: int) -> str:
        """Say what a byte of a segment means."""
        if segment == "control":
            return f"byte {at}" if at >= K["C_BYTES_TOTAL"] else _field(layout.CONTROL, at)
        shape = self.locks.shape if segment == "locks" else self.shape
        areas = shape.areas
        if at < areas.index:
            return _field(layout.SHARD, at)
        area, start = [(a, s) for a, s in areas._asdict().items() if s <= at][-1]
        if area == "slots":
            slot, offset = divmod(at - start, shape.slot_size)
            return f"slot {slot + 1} + {offset}"
        return f"{area} + {at - start}"
