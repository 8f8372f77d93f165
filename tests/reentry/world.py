"""What one trial works on: a map, its handles, and what the map was told and has to show.

A trial is one operation of the map in a process of its own, and a deed done in the middle of it:
see `deeds`. Everything is kept in memory that a fork shares (`Report`), or is rebuilt from it,
since a deed may fork, end the process, or close all its descriptors.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import time
import traceback
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import shmmap
from shmmap.errors import (
    LockLost,
    LockTimeout,
    MapClosed,
    MapExists,
    MapNotFound,
    MapUnlinked,
    Reentered,
    ShmMapError,
)
from shmmap.memory.layout import constants

INCARNATION = constants()["TOKEN_INCARNATION_SHIFT"]
PURE = shmmap.ENGINE == "pure"
ABSENT = "<absent>"
DONE = "goes on"
SLOW_S = 1.5  # for what waits for nobody; the machine may have much else to do
_HEAD = struct.Struct("<II")  # length, checksum
SIDES = ("itself", "child", "daemon", "exec")


class Boom(Exception):
    """What a handler raises that raises."""


def word_of(error: BaseException) -> str:
    """Name an error as users know it."""
    for kind in type(error).__mro__:
        if kind.__module__ in ("builtins", "shmmap", __name__):
            return kind.__name__
    return type(error).__name__


class Report:
    """What the processes of a trial say, in memory that they share: descriptors may be closed."""

    _ROOM = 16384

    def __init__(self, file: int = -1) -> None:
        self.file = file if file >= 0 else os.memfd_create("report")
        if file < 0:
            os.truncate(self.file, self._ROOM * len(SIDES))
        self._memory = mmap.mmap(self.file, self._ROOM * len(SIDES))

    def write(self, side: str, said: dict[str, Any]) -> None:
        """Say something, in place of what this side had said."""
        text = json.dumps(said).encode()[: self._ROOM - 16]
        start = SIDES.index(side) * self._ROOM
        self._memory[start : start + 8] = bytes(8)
        self._memory[start + 8 : start + 8 + len(text)] = text
        self._memory[start : start + 8] = _HEAD.pack(len(text), zlib.crc32(text))

    def read(self, side: str) -> dict[str, Any] | None:
        """Return what a side said last; None: nothing."""
        start = SIDES.index(side) * self._ROOM
        while True:
            length, check = _HEAD.unpack(self._memory[start : start + 8])
            if not length:
                return None
            text = self._memory[start + 8 : start + 8 + length]
            if zlib.crc32(text) == check:  # else it is just being written
                return json.loads(text)  # type: ignore[no-any-return]

    def set_flag(self) -> None:
        """Say that the process has closed everything."""
        self._memory[self._ROOM - 1] = 1

    def wait_for_flag(self, patience_s: float) -> None:
        """Wait for that."""
        until = time.monotonic() + patience_s
        while not self._memory[self._ROOM - 1] and time.monotonic() < until:
            time.sleep(0.001)

    def close(self) -> None:
        """Return the memory back."""
        self._memory.close()
        os.close(self.file)


class World:
    """The map of one trial, as one of its processes sees it."""

    def __init__(self, name: str, report: Report) -> None:
        self.name = name
        self.report = report
        self.side = "itself"
        self.box: list[Any] = []  # the handle that the operation works on, unless it opens one
        self.kept: list[Any] = []  # handles that deeds opened, or operations gave
        self.things: dict[str, Any] = {}  # what an operation prepared
        self.parameters: dict[str, Any] = {}
        self.allowed: dict[str, list[Any]] = {}  # by key: what the map may show at the end
        self.may: dict[str, list[Any]] = {}  # by key: what the operation leaves
        self.deeds: dict[str, str] = {}  # by step: how it went
        self.problems: list[str] = []
        self.rewritten: set[str] = set()
        self.removes_any = False
        self.fired = 0
        self.under_lock = False
        self.closed = self.unlinked = self.running = False
        self.reenters = self.opens = self.forked = False  # see Operation, Deed
        self.shares_files = False  # with a forked process that goes on: a place in a file
        self.waits = False  # another process is in the way on purpose
        self.release: Callable[[], None] = lambda: None  # has it get out of the way
        self.children: list[int] = []
        self.helpers: list[int] = []  # processes that are in the way
        self.near = self.same = self.far = "k"  # replaced: keys of two shards
        self.files: list[Any] = []

    # -- what the map shows -----------------------------------------------------------

    @property
    def m(self) -> Any:
        """The operation's handle; where there is none, one that is opened now and kept."""
        if not self.box:
            self.kept.append(shmmap.ShmMap(self.name, **self.parameters))
            return self.kept[-1]
        return self.box[0]

    def open(self, **more: Any) -> Any:
        """Open the map, as the trial's processes do."""
        return shmmap.ShmMap(self.name, **{**self.parameters, **more})

    def put(self, key: str, value: Any, m: Any = None) -> None:
        """Write a key; from now on it has to be there."""
        (self.m if m is None else m)[key] = value
        after = self.may.get(key, [ABSENT] if self.removes_any else []) if self.running else []
        self.allowed[key] = [value, *after]
        if self.running:
            self.rewritten.add(key)

    def begin(self, may: dict[str, list[Any]], removes_any: bool) -> None:
        """The operation begins: what was there may stay, or what it leaves come."""
        self.may, self.removes_any, self.running = may, removes_any, True
        for key, values in may.items():
            self.allowed[key] = [*self.allowed.get(key, [ABSENT]), *values]

    def finish(self, succeeded: bool) -> None:
        """The operation is over: what it leaves is there, unless a deed wrote that key too."""
        self.running = False
        for key, values in self.may.items() if succeeded else ():
            if key not in self.rewritten:
                self.allowed[key] = values

    def choose_keys(self) -> None:
        """Find keys of both shards: `k` and `same` in the first, `far` in the second."""
        m = self.box[0]
        m.set_many({f"key{number}": 0 for number in range(32)})
        first = [key for key, _ in m.scan(0)[1]]
        second = [f"key{n}" for n in range(32) if f"key{n}" not in first]
        self.near, self.same, self.far = first[0], first[1], second[0]
        m.delete_many([*first[2:], *second[1:]])
        for key in (self.near, self.same, self.far):
            self.put(key, f"old {key}")

    # -- what happened ----------------------------------------------------------------

    def attempt(self, step: str, act: Callable[[], Any]) -> Any:
        """Do a step of a deed: it succeeds, or raises a documented error that fits."""
        began = time.monotonic()
        result = None
        try:
            result = act()
            word = DONE
        except Exception as error:
            word = word_of(error)
            problem = self.refusal(error)
            if problem:
                self.problems.append(f"{self.side}, {step}: {problem}")
        if word != DONE or self.deeds.get(step, DONE) == DONE:
            self.deeds[step] = word
        took = time.monotonic() - began
        if took > SLOW_S and not self.waits:
            self.problems.append(f"{self.side}, {step}: took {took:.1f} s")
        return result

    def refusal(self, error: BaseException) -> str:
        """Say what is wrong with an error; "" if it is one that this trial may get."""
        text = f"{type(error).__name__}: {str(error)[:160]}"
        if self.shares_files and isinstance(error, FileNotFoundError):
            return ""  # the other one has removed it
        if isinstance(error, (Boom, SystemExit)):
            return ""
        if not isinstance(error, ShmMapError):
            calls = traceback.extract_tb(error.__traceback__)[-3:]
            where = ", ".join(f"{os.path.basename(c.filename)}:{c.lineno}" for c in calls)
            return f"not an error of the map: {text} ({where})"
        made = {"open and close", "import again"} & set(self.deeds)
        fits = (
            (isinstance(error, Reentered), self.may_reenter()),
            (isinstance(error, MapClosed), self.closed),
            (isinstance(error, LockLost), self.closed or self.unlinked),
            (isinstance(error, (MapUnlinked, MapNotFound)), self.unlinked or self.lost_proof()),
            (isinstance(error, MapExists), bool(self.kept) or self.forked or bool(made)),
            (isinstance(error, LockTimeout), self.waits),
        )
        return "" if any(kind and right for kind, right in fits) else f"out of place: {text}"

    def lost_proof(self) -> bool:
        """Tell whether others cannot know that this process lives: it has closed what says so."""
        return self.side == "daemon" and bool(self.parameters.get("ephemeral"))

    def may_reenter(self) -> bool:
        """Tell whether this trial may get Reentered: see the module `points`."""
        begins_anew = (self.opens or self.shares_files) and self.side != "itself"
        return PURE or self.reenters or begins_anew

    def fire(self, deed: Callable[[World], None]) -> None:
        """Do the deed, once."""
        if self.fired:
            return
        self.fired = 1
        self.under_lock = self.holds()
        if self.under_lock and not PURE:
            self.problems.append("Python code ran under a shard's lock")
        deed(self)

    def holds(self) -> bool:
        """Tell whether this process is inside a shard."""
        for m in self.box:
            try:
                own = 0 if m.closed else m.attachment.worker.fork_page.word >> INCARNATION
                words = [shard.lock.owner() for shard in m.attachment.shards] if own else []
            except (AttributeError, ValueError, TypeError):  # half open, or taken down
                continue
            return any(word and word >> INCARNATION == own for word in words)
        return False

    def handles(self) -> Iterable[Any]:
        """List the handles that are still open."""
        for m in (*self.box, *self.kept):
            if not m.closed:
                yield m

    def tell(self, outcome: str = "") -> None:
        """Report how this process sees the trial."""
        self.report.write(self.side, {
            "outcome": outcome, "deeds": self.deeds, "problems": self.problems,
            "fired": self.fired, "under_lock": self.under_lock, "unlinked": self.unlinked,
            "allowed": self.allowed, "pid": os.getpid(),
        })
