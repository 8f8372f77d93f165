"""Where a deed is done: at the k-th allocation, at the k-th line, while a wait lasts.

**Allocations.** CPython collects garbage when an object that the collector tracks is made and a
threshold is passed (from 3.12 on: at the next bytecode's turn, or where the engine asks for
signals). Each collection's finalizer here makes garbage again and sets the threshold to what is
there, so that *every* tracked allocation collects, and the k-th collection does the deed. What
was freed and is kept for the next allocation is used up first: else that would not count.

**Lines.** A trace function does the deed before the k-th line that runs in the package's Python
code: all of the pure engine, what opens, closes, waits and locks of the compiled one. That is
where the handler of a signal can run, between two bytecodes; but for a line that says why not.

**Time.** A real signal while the operation waits for another process, which gets out of the way
once the deed is done, or right before it.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import weakref
from collections.abc import Callable
from linecache import getline
from types import FrameType
from typing import Any

import shmmap

from .world import World

ENGINE = os.path.dirname(os.path.abspath(shmmap.__file__)) + os.sep
NEVER = "before which no signal handler comes"
Act = Callable[[], None]


class Knot:
    """Garbage in a cycle. `last`: what is called when the collector finds it."""

    def __init__(self, last: Act) -> None:
        self.me = self
        self.last = last

    def __del__(self) -> None:
        self.last()


class Bare:
    """Garbage in a cycle, without a finalizer: a weak reference to it has one."""

    def __init__(self) -> None:
        self.me = self


class Owner:
    """What an application has: an object in a cycle, that owns a handle and closes it."""

    def __init__(self, w: World, m: Any) -> None:
        self.me = self
        self.w = w
        self.m = m

    def __del__(self) -> None:
        self.w.attempt("read in __del__", lambda: self.m.get(self.w.near))
        self.w.attempt("write in __del__", lambda: self.w.put("ended", "deed", self.m))
        self.w.attempt("close in __del__", self.m.close)


class Collections:
    """Collects at every tracked allocation while `during` runs; the k-th does the deed.

    `way`: "del" (a cycle with __del__), "weakref" (a callback), "owner" (the cycle owns a handle
    of its own, and is found by a full collection), "drop" (likewise, and nobody closes it).
    """

    def __init__(self, at: int, way: str, w: World, act: Act) -> None:
        self.at, self.way, self.w, self.act = at, way, w, act
        self.count = 0
        self.over = False
        self.live: list[Any] = []  # so that the collector's count does not fall
        self.watched: list[Any] = []
        self.owned: list[Any] = []

    def prepare(self) -> None:
        """Use up what was freed, and open what is to be dropped."""
        gc.collect()
        gc.freeze()
        gc.disable()
        if self.way in ("owner", "drop"):
            m = self.w.open(near=8)
            m.get(self.w.near)
            self.owned.append(Owner(self.w, m) if self.way == "owner" else _holder(m))
        for size in range(1, 20):
            self.live += [tuple([0] * size) for _ in range(200)]
        self.live += [[{}] for _ in range(100)]

    def during(self, run: Act) -> None:
        """Run with collections everywhere."""
        gc.set_threshold(1, 1000, 100_000)
        if self.at == 1:
            self._last_one()
        self._again()
        gc.enable()
        try:
            run()
        finally:
            self.over = True
            gc.disable()
            gc.set_threshold(100_000)

    def _again(self) -> None:
        """Make garbage, and have the next allocation find it."""
        for size in range(1, 8):
            self.live.append(tuple([0] * size))
        self.live.append([{}])
        if self.way == "weakref":
            bare = Bare()
            self.watched = [weakref.ref(bare, lambda _: self._found())]
        else:
            Knot(self._found)

    def _last_one(self) -> None:
        """Have the next collection find what owns a handle."""
        if self.owned:
            gc.set_threshold(1, 0, 0)
            self.owned.clear()

    def _found(self) -> None:
        if self.over:
            return
        self.count += 1
        if self.count == self.at:
            self.over = True
            gc.set_threshold(100_000)
            self.act()
            return
        if self.count == self.at - 1:
            self._last_one()
        self._again()


def _holder(m: Any) -> Any:
    bare: Any = Bare()
    bare.m = m
    return bare


class Lines:
    """Does the deed before the k-th line of the package that runs while `during` does; 0: never,
    only counts. `file`: the only one that counts, ours or Python's; `locked`: only while that is
    so."""

    def __init__(
        self, at: int, act: Act, file: str = "", locked: Callable[[], bool] | None = None
    ) -> None:
        self.at, self.act, self.file, self.locked = at, act, file, locked
        self.count = 0
        self.place = ""

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename
        if not (file.endswith(f"/{self.file}") if self.file else file.startswith(ENGINE)):
            return None
        if event == "line" and (self.locked is None or self.locked()):
            self.count += 1
            if self.count == self.at and NEVER in getline(file, frame.f_lineno):
                self.at += 1
            elif self.count == self.at:
                self.place = f"{os.path.basename(file)}:{frame.f_lineno}, {frame.f_code.co_name}"
                sys.settrace(None)
                step: FrameType | None = frame
                while step is not None:
                    step.f_trace = None
                    step = step.f_back
                self.act()
                return None
        return self

    def prepare(self) -> None:
        """Nothing is needed."""

    def during(self, run: Act) -> None:
        """Run and count."""
        sys.settrace(self)
        try:
            run()
        finally:
            sys.settrace(None)


class Moment:
    """Does the deed in the handler of a signal, so many seconds after the start."""

    def __init__(self, after_s: float, act: Act) -> None:
        self.after_s, self.act = after_s, act
        self.count = 0

    def prepare(self) -> None:
        """Nothing is needed."""

    def during(self, run: Act) -> None:
        """Run, and be interrupted."""
        def handler(*_: Any) -> None:
            self.count += 1
            self.act()

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, self.after_s)
        try:
            run()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


class Inline:
    """The operation itself comes to the deed: `w.things["act"]`, where it wants."""

    def __init__(self, w: World, act: Act) -> None:
        self.w, self.act = w, act
        self.count = 0

    def prepare(self) -> None:
        """Say what is to be done."""
        def once() -> None:
            self.count += 1
            if self.count == 1:
                self.act()

        self.w.things["act"] = once

    def during(self, run: Act) -> None:
        """Run."""
        run()
