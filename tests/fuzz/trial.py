"""One damaged state: what may be answered, and whether it is.

**Demanded before a repair.** A value that comes back for an undamaged entry is the right one. It
comes back, unless the damage lies in the index (then a miss will do), another live head claims
its key or one of its slots (then nothing tells which of the two is true), or it was evicted.
Whatever is damaged gives some value, a miss, or a documented error.

**Demanded of a repair.** check() is clean, every undamaged and undisputed entry is there, nothing
raises MapCorrupted any more, and the map can be used as if nothing had been.

**Demanded of named locks.** While nothing that tells of a lock is damaged, and of an undamaged and
undisputed one after a repair: what a living process holds is not given to another, all else is to
be had at once. Damage to the lock shard is not seen by operations on entries.
"""

from __future__ import annotations

import random
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import shmmap
from shmmap.locks.lock_table import LOCK, name_of

from ..support.damage import K
from . import damages
from .subject import GONE, LOCKS, NEVER, OURS, THEIRS, Subject
from .watch import WATCH

MISS: Any = type("Miss", (), {"__repr__": lambda self: "<a miss>"})()


class Wrong(Exception):
    """An answer that must not be."""


class Problem(NamedTuple):
    """What went wrong, in which state, and what it is the same as (for counting)."""

    seed: int
    variant: str
    kinds: list[str]
    operation: str
    text: str
    same_as: str


def same(one: Any, other: Any) -> bool:
    """Compare values as strictly as a user would."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return type(one) is type(other) and bool(one == other)


class Trial:
    """A subject, damaged; `right` has what may be answered, `sure` which keys must be there."""

    tells = False  # print what is done, for a replay

    def __init__(self, subjects: list[Subject], seed: int) -> None:
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.subject = s = rng.choice(subjects)
        self.m = s.patient if rng.random() < 0.03 else s.quick
        s.gaps.allow()
        s.restore()
        self.kinds = damages.damage(rng, s)
        self.changed = s.changed()
        s.gaps.forbid()
        self.damaged = s.truth.damaged(self.changed)
        disputed, self.snatches = s.truth.disputed(self.changed)
        self.lost = self.damaged | disputed
        whole = {*s.right, *s.late} - self.lost
        self.right = {key: value for key, value in s.right.items() if key in whole}
        self.sure = set() if self._changed_in(s.areas.index, s.areas.ghosts) else set(self.right)
        self.right.update((key, value) for key, value in s.late.items() if key in whole)
        self.right.update(dict.fromkeys(NEVER, MISS))
        self.slots_damaged = self._changed_in(s.areas.next, s.areas.deadlines)
        if self.slots_damaged:
            self.lost.update(GONE)  # a slot may have come to life again
        else:
            self.right.update(dict.fromkeys(GONE, MISS))
        self.hidden = {*s.right, *s.late} - self.sure  # there, but perhaps not found
        self.locks_damaged = bool(self.changed[-2].size)
        self.lost_locks = s.lock_truth.damaged(self.changed[-2:-1])
        self.lost_locks |= s.lock_truth.disputed(self.changed[-2:-1])[0]
        self.keys = [*s.right, *s.late, *GONE, *NEVER]
        self.fresh = 0
        self.repaired = self.may_be_gone = False
        self.files_damaged = False
        self.problems: list[Problem] = []
        self.outcomes: Counter[str] = Counter()
        if self.tells:
            self._tell_damage()

    def _changed_in(self, start: int, end: int) -> bool:
        return any(
            bool(((halves >= start // 4) & (halves < end // 4)).any())
            for halves in self.changed[:-2]
        )

    def control_damaged(self) -> bool:
        """Tell whether words are damaged that attaching relies on."""
        return bool((self.changed[-1] < K["C_LEASE"] // 4).any())

    def _tell_damage(self) -> None:
        print(f"seed {self.seed}, map {self.subject.variant.name}, damage {self.kinds}")
        for line in self.subject.differences():
            print(f"  {line}")
        print(f"damaged entries: {sorted(map(repr, self.damaged))}")
        print(f"damaged locks: {sorted(self.lost_locks)}", flush=True)

    # -- what operations tell ---------------------------------------------------------------

    def key(self) -> Any:
        """Pick a key: one that was there, was deleted, was never there, or is new."""
        if self.rng.random() < 0.1:
            self.fresh += 1
            return ("fresh", self.fresh)
        return self.rng.choice(self.keys)

    def saw(self, key: Any, value: Any) -> str:
        """Judge what a key gave (MISS: nothing)."""
        if value is MISS:
            if key in self.sure:
                raise Wrong(f"{key!r} is missing")
            return "miss"
        if key not in self.right:
            return "some value"
        if not same(value, self.right[key]):
            raise Wrong(f"{key!r} gave {value!r:.80}, not {self.right[key]!r:.80}")
        return "right value"

    def wrote(self, key: Any, value: Any) -> None:
        """Note a write that was acknowledged."""
        if self.snatches or key in self.lost or key in self.hidden:
            self.sure.discard(key)
            self.right.pop(key, None)  # its old entry may be there, too, until a repair chooses
        else:
            self.right[key] = value
            self.sure.add(key)
        self.wrote_nothing_but_room()

    def removed(self, key: Any) -> None:
        """Note that a key was removed, or was not found."""
        self.sure.discard(key)
        if key in self.lost or key in self.hidden:  # a repair may find its old entry
            self.right.pop(key, None)
        else:
            self.right[key] = MISS

    def cleared(self) -> None:
        """Note that every entry was removed, found or not."""
        self.right.update(dict.fromkeys(self.keys, MISS))
        self.sure, self.lost, self.hidden = set(), set(), set()
        self.snatches = self.may_be_gone = False

    def wrote_nothing_but_room(self) -> None:
        """Note that a write made room, and perhaps nothing else."""
        if self.subject.evicts:
            self.forget_all()

    def forget_all(self) -> None:
        """Note that any entry may be gone."""
        self.sure.clear()
        self.may_be_gone = True

    def tried_lock(self, key: Any, taken: bool) -> str:
        """Judge whether a named lock was to be had."""
        lost = name_of(LOCK, key) in self.lost_locks
        whole = not self.locks_damaged or (self.repaired and not lost)
        if whole and not self.files_damaged and not self.changed[-1].size:
            if taken and key in (OURS, THEIRS):
                raise Wrong(f"lock {key!r} was taken from a living holder")
            if not taken and key not in (OURS, THEIRS):
                raise Wrong(f"lock {key!r} was not to be had")
        return "taken" if taken else "held"

    def unsure(self, key: Any) -> None:
        """Note that a write may have happened or not."""
        self.right.pop(key, None)
        self.sure.discard(key)
        self.wrote_nothing_but_room()

    def allowed(self) -> tuple[type[Exception], ...]:
        """Return the errors that any operation may raise in the state as it is now: what allows
        them is damage that no operation gets past, so it is still there afterwards."""
        if self.files_damaged:  # our own memory may be cut off
            return (shmmap.MapCorrupted,)
        s = self.subject
        found: list[type[Exception]] = []
        if self.slots_damaged and not self.repaired:  # all else can be mended on the way
            found.append(shmmap.MapCorrupted)
        for shard in (*s.shards, s.locks):
            token = shard.header("OWNER")
            if token == s.token | 1:
                found.append(shmmap.Reentered)
            if token >> 22 in (s.token >> 22, s.neighbour_token >> 22) or self._revived(token):
                found.append(shmmap.LockTimeout)
        if s.attachment.control.STATE != K["STATE_READY"]:
            found.append(shmmap.MapUnlinked)
        return tuple(found)

    def _revived(self, token: int) -> bool:
        """Tell whether damage to a dead owner's row gave it the pid of a process that lives, and
        began in the same hundredth of a second."""
        rows, row = K["C_BYTES_TOTAL"], K["R_BYTES_TOTAL"]
        start = rows + (token >> K["TOKEN_ROW_SHIFT"]) * row
        halves = self.changed[-1]
        damaged = bool(((halves >= start // 4) & (halves < (start + row) // 4)).any())
        return damaged and not self.subject.attachment.worker.is_dead(token)

    # -- running them -------------------------------------------------------------------------

    def run(self, name: str, act: Any, errors: tuple[type[Exception], ...] = ()) -> bool:
        """Run one operation; note what came of it; tell whether it returned."""
        WATCH.begin(name)
        try:
            outcome = act(self) or "done"
        except Wrong as wrong:
            self.blame(name, str(wrong), "wrong answer")
            outcome = "WRONG"
        except Exception as error:
            outcome = type(error).__name__
            if not isinstance(error, (*self.allowed(), *errors)):
                self.blame(name, f"{outcome}: {error}", _where(error))
                outcome = "UNDOCUMENTED"
        WATCH.end()
        if self.tells:
            print(f"  {name}: {outcome}", flush=True)
        self.outcomes[f"{name}: {outcome}"] += 1
        return outcome[0].islower()

    def blame(self, operation: str, text: str, where: str) -> None:
        """Note a problem."""
        if self.tells:
            print(f"  {operation}: {text} ({where})", flush=True)
        self.problems.append(Problem(
            self.seed, self.subject.variant.name, self.kinds, operation, text,
            f"{operation}: {where}",
        ))

    # -- the repair ---------------------------------------------------------------------------

    def free(self) -> None:
        """Let go what only the living could: the lock of a live owner, the mark of an unlink."""
        for shard in (*self.subject.shards, self.subject.locks):
            if not self.subject.attachment.worker.is_dead(shard.header("OWNER")):
                shard.set_header("OWNER", 0)
        self.subject.attachment.control.STATE = K["STATE_READY"]

    def finish(self) -> None:
        """Read everything, check, repair, check, read everything again, and use the map."""
        self.run("get all", Trial.get_all)
        self.run("check", lambda t: None if isinstance(t.m.check(), list) else "not a list")
        if not self.run("repair", lambda t: t.m.repair()):
            self.free()
            if not self.run("repair of a freed shard", lambda t: t.m.repair()):
                self.blame("repair", "it was not repaired", "not repaired")
                return
        self.repaired = True
        self._check_clean("check after repair")
        if not self.may_be_gone:  # found or not, what is whole must be there now
            whole = self.subject.right.keys() & self.right.keys()
            self.sure.update(key for key in whole if self.right[key] is not MISS)
        self.run("get all after repair", Trial.get_all)
        self.run("items after repair", Trial.list_all)
        for key in (*LOCKS, ("never held", self.seed)):
            self.run("lock after repair", lambda t, key=key: t.try_lock(key))
        self._use()

    def get_all(self) -> str:
        """Read every key."""
        for key in self.keys:
            WATCH.begin("get")  # each may take its time
            try:
                self.saw(key, self.m.get(key, MISS))
            except self.allowed() as error:
                if key in self.sure and not isinstance(error, shmmap.MapUnlinked):
                    raise Wrong(f"{key!r} is whole, and raised {error!r}") from None
                if isinstance(error, shmmap.LockTimeout):
                    break  # and so would all others
        return "answer"

    def try_lock(self, key: Any) -> str:
        """Take a named lock, if it is to be had at once, and leave it."""
        lock = self.m.lock(key, timeout=0)
        if not lock.acquire():
            return self.tried_lock(key, taken=False)
        outcome = self.tried_lock(key, taken=True)
        if not lock.held:
            raise Wrong(f"lock {key!r} was taken, and is not held")
        lock.release()
        return outcome

    def list_all(self) -> str:
        """List every entry: as often as it is there."""
        found = list(self.m.items())
        for key, value in found:
            self.saw(key, value)
        if len(found) != len(dict(found)) or self.sure - dict(found).keys():
            raise Wrong(f"{len(found)} entries are listed, {len(self.sure)} are sure to be there")
        return "answer"

    def _check_clean(self, name: str) -> None:
        def check(t: Trial) -> None:
            if found := t.m.check():
                raise Wrong(f"{len(found)} problems: {found[:3]}")

        self.run(name, check)

    def _use(self) -> None:
        """The map must work as a new one does."""
        if self.rng.random() < 0.5:
            self.run("clear after repair", lambda t: t.m.clear())
            self.run("len of a cleared map", lambda t: _demand(len(t.m) == 0, "it is not empty"))
            self.cleared()
        for number in range(3):
            key, value = ("use", number), b"used" * (1 if number else 12)
            if self.run("set after repair", lambda t, k=key, v=value: t.m.set(k, v),
                        (shmmap.MapFull,)):
                self.run("get what was set", lambda t, k=key, v=value: _demand(
                    same(t.m.get(k), v) or t.subject.evicts, "what was set is not there"))
                self.run("delete after repair", lambda t, k=key: _demand(
                    t.m.delete(k) or t.subject.evicts, "what was set cannot be deleted"))
        self._check_clean("check at the end")


def _demand(holds: bool, text: str) -> None:
    if not holds:
        raise Wrong(text)


def _where(error: BaseException) -> str:
    """Say where an exception came from: its class, and the deepest line that is the package's."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "shmmap" in f.filename]
    last = frames[-1] if frames else None
    place = f"{Path(last.filename).name}:{last.lineno}" if last else "?"
    return f"{type(error).__name__} at {place}"
