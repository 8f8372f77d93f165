"""Is there a moment in the life of a process at which a deed does harm? The rows of the matrix.

Most are an operation at any of its lines. Where an operation waits for another process, that one
is made here: it holds a shard, a named lock, or a computing, until it is told to get out of the
way, by a byte of memory that all share, since a deed may close every descriptor.
"""

from __future__ import annotations

import mmap
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from . import operations
from .operations import BY_NAME, Operation, drawn
from .world import PURE, World

WAITED_S = 0.05  # by then an operation waits, and not much of its patience is gone


class Place(NamedTuple):
    """A row of the matrix. `hows`: how a deed can be done there."""

    name: str
    operation: Operation
    hows: tuple[str, ...]
    run_at: Callable[[World], Any] | None = None
    in_the_way: Callable[[World], None] | None = None
    other_thread: bool = False  # than the main one: a fork has no other
    extra: tuple[tuple[str, Any], ...] = ()

    @property
    def parameters(self) -> dict[str, Any]:
        """What the map is opened with."""
        return dict(self.extra)

    def run(self, w: World) -> Any:
        """Do what is interrupted."""
        return (self.run_at or self.operation.run)(w)


def helper(w: World, hold: Callable[[Any, Callable[[], None]], None]) -> None:
    """Start a process that is in the way until `w.release`: `hold(m, until_told)`."""
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    pid = os.fork()
    if pid == 0:
        signal.alarm(15)

        def until_told() -> None:
            memory[0] = 1
            while not memory[1]:
                time.sleep(0.0005)

        w.box.clear()
        hold(w.open(lock_timeout=5.0), until_told)
        os._exit(0)
    w.helpers.append(pid)
    w.waits = True

    def release() -> None:
        memory[1] = 1

    w.release = release
    while not memory[0]:
        time.sleep(0.0005)


def holds_shard(w: World) -> None:
    """Another process is inside the shard of the operation's key."""
    key = w.near

    def hold(m: Any, until_told: Callable[[], None]) -> None:
        m.get(key)  # has a row
        lock = m.attachment.shards[0].lock
        assert lock.lock(m.attachment.worker.fork_page.word | 0x3000, 10**9) in (0, 1)
        until_told()
        lock.unlock()

    helper(w, hold)


def holds_lock(w: World) -> None:
    """Another process holds the named lock."""
    def hold(m: Any, until_told: Callable[[], None]) -> None:
        with m.lock("report"):
            until_told()

    helper(w, hold)


def computes(w: World) -> None:
    """Another process computes the value."""
    def hold(m: Any, until_told: Callable[[], None]) -> None:
        def draw() -> str:
            until_told()
            return "drawn"

        m.get_or_set("page", draw)

    helper(w, hold)


def write_again(w: World) -> None:
    w.m.set(w.near, "new")


def in_a_thread(w: World) -> None:
    """A thread writes and waits; this one does the deed meanwhile."""
    left: list[BaseException] = []

    def work() -> None:
        try:
            write_again(w)
        except BaseException as error:
            left.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    me = os.getpid()
    time.sleep(WAITED_S)
    try:
        w.things["act"]()
    finally:
        if os.getpid() == me:  # a forked child has no such thread
            thread.join()
    if left:
        raise left[0]


def compute_here(w: World) -> None:
    """The factory does the deed."""
    def draw() -> str:
        w.things["act"]()
        return "drawn"

    drawn(w, w.m.get_or_set("page", draw, timeout=1))


class Acts:
    """A value that does the deed as it is unpickled."""

    world: World | None = None

    def __reduce__(self) -> Any:
        return _unpickled, ()


def _unpickled() -> str:
    world = Acts.world
    if world is not None and "act" in world.things:
        world.things["act"]()
    return "read"


def object_that_acts(w: World) -> None:
    w.m[w.near] = Acts()
    w.allowed[w.near] = ["read"]
    Acts.world = w


def swept_by_its_thread(w: World) -> None:
    """The sweeper's thread works; this one sleeps."""
    time.sleep(0.2)


def with_lock(w: World) -> None:
    """A named lock is held; nothing else is under way."""
    with w.m.lock("report", timeout=1):
        w.things["holds"] = True
        w.things["act"]()
        w.things.pop("holds", None)


def at_rest(w: World) -> None:
    w.things["act"]()


_SET = BY_NAME["set"]
_READ = Operation("reading", lambda w: w.m.get(w.near), object_that_acts)
_POP = Operation("popping", lambda w: w.m.pop(w.near, None), object_that_acts,
                 may=operations.near_is(operations.ABSENT))
_SLEEP = Operation("sweeping", swept_by_its_thread, operations.with_ttl)
_REST = Operation("at rest", at_rest)
_HELD = Operation("with a named lock", with_lock)

ALL: tuple[Place, ...] = (
    Place("at rest", _REST, ("inline",)),
    Place("at rest, ephemeral", _REST._replace(ephemeral=True), ("inline",)),
    Place("reading (a value is unpickled)", _READ, ("inline",)),
    Place("popping (a value is unpickled)", _POP, ("inline",)),
    Place("a write, not waiting", _SET, ("line",)),
    Place("a write, under the shard's lock", _SET, ("line under a lock",)),
    Place("a write that waits for a shard", _SET, ("moment",), None, holds_shard),
    Place("another thread waits for a shard", _SET, ("inline",), in_a_thread, holds_shard),
    Place("making the map", BY_NAME["making"], ("line",)),
    Place("opening the map", BY_NAME["open"], ("line",)),
    Place("closing the handle", BY_NAME["close"], ("line",)),
    Place("unlinking the map", BY_NAME["unlink"], ("line",)),
    Place("taking a snapshot", BY_NAME["snapshot"], ("line",)),
    Place("waiting for a named lock", BY_NAME["lock"], ("moment",), None, holds_lock),
    Place("taking a named lock", BY_NAME["lock"], ("line",)),
    Place("holding a named lock", _HELD, ("inline",)),
    Place("get_or_set, waiting", BY_NAME["get_or_set"], ("moment",), None, computes),
    Place("get_or_set, computing", BY_NAME["get_or_set"], ("inline",), compute_here),
    Place("sweeping", BY_NAME["sweep"], ("line",)),
    Place("the sweeping thread (a finalizer)", _SLEEP, ("del", "weakref"),
          other_thread=True, extra=(("sweep_interval", 0.02),)),
    Place("at exit, before the map's own callback", _REST, ("exit, early",)),
    Place("at exit, after it", _REST, ("exit, late",)),
    Place("at exit, as modules are cleared", _REST, ("exit, global",)),
)
PLACES = {place.name: place for place in ALL}
ENGINE_FREE = ("a write, not waiting", "a write, under the shard's lock")
"""Where the compiled engine runs no Python code: nothing can happen there."""


def places() -> list[Place]:
    """List the places of this engine."""
    return [place for place in ALL if PURE or place.name not in ENGINE_FREE]


