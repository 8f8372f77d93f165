"""What a finalizer or the handler of a signal does in the middle of an operation.

Each step of a deed succeeds or raises a documented error (`World.attempt`), and what it was told
is done has to be there at the end. Some deeds make a second process out of the one that is in the
middle of the operation: there one side may leave at once, the other goes on.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import shmmap

from .world import Boom, World

GUARD_S = 20  # no process of a trial outlives it
EXITED = 77  # the exit code of a deed that ends the process


class Deed(NamedTuple):
    """One deed. `word`: for tables."""

    name: str
    act: Callable[[World], None]
    word: str
    forks: bool = False
    goes_on: bool = False  # a forked process does
    ends: bool = False
    handlers_only: bool = False  # what a finalizer raises reaches nobody


def close(w: World) -> None:
    w.closed = True
    w.attempt("close", lambda: [m.close() for m in (w.box or [w.m])])


def close_and_open(w: World) -> None:
    close(w)
    opened = w.attempt("open", w.open)
    if opened is not None:
        w.kept.append(opened)
        w.attempt("write", lambda: w.put("d", "deed", opened))


def open_same(w: World) -> None:
    opened = w.attempt("open", w.open)
    if opened is not None:
        w.kept.append(opened)
        w.attempt("write", lambda: w.put("d", "deed", opened))
        w.attempt("read", lambda: opened.get("d"))


def open_and_close(w: World) -> None:
    def act() -> None:
        opened = w.open()
        w.put("d", "deed", opened)
        opened.close()

    w.attempt("open and close", act)


def open_other(w: World) -> None:
    def act() -> None:
        other = shmmap.ShmMap(f"{w.name}-another", size="300KB", shards=1, sweep_interval=None)
        other["k"] = 1
        assert other["k"] == 1
        other.unlink()
        other.close()

    w.attempt("another map", act)


def read(w: World) -> None:
    m = w.m
    w.attempt("read", lambda: m.get(w.near))
    w.attempt("read", lambda: m.get(w.far))


def write_same(w: World) -> None:
    m = w.m
    w.attempt("write", lambda: w.put(w.near, "deed", m))


def write_far(w: World) -> None:
    m = w.m
    w.attempt("write", lambda: w.put("d", "deed", m))
    w.attempt("write", lambda: w.put(w.far, "deed", m))


def take_lock(w: World) -> None:
    m = w.m

    def act() -> None:
        with m.lock("deed", timeout=1):
            pass

    w.attempt("lock", act)


def take_same_lock(w: World) -> None:
    """Where this very thread has the lock already, or is just taking it, the wait would be in vain:
    that is refused, not begun."""
    m = w.m

    def act() -> None:
        with m.lock("report", timeout=1):
            pass

    before, w.reenters = w.reenters, True
    w.attempt("the same lock", act)
    w.reenters = before


def snapshot(w: World) -> None:
    m = w.m
    w.attempt("snapshot", lambda: len(m.snapshot()))


def sweep(w: World) -> None:
    m = w.m
    w.attempt("sweep", m.sweep)


def unlink(w: World) -> None:
    m = w.m
    w.unlinked = True
    w.attempt("unlink", m.unlink)


def fail(w: World) -> None:
    raise Boom


def leave(w: World) -> None:
    raise SystemExit(3)


def end(w: World) -> None:
    w.tell("ended")
    os._exit(EXITED)


def drop(w: World) -> None:
    """Let the operation's handle go; the collector's cycle or the operation has it last."""
    w.closed = True
    w.box.clear()


def become(w: World, side: str) -> None:
    """Be another process of the trial."""
    w.side = side
    w.children = []
    w.deeds, w.problems = {}, []
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(GUARD_S)
    w.tell("did not end")


def use(w: World) -> None:
    """Use the map as a forked child does."""
    m = w.m
    w.attempt("write", lambda: w.put("c", "child", m))
    w.attempt("read", lambda: m.get(w.far))

    def lock() -> None:
        with m.lock("child", timeout=1):
            pass

    w.attempt("lock", lock)


def fork_and_leave(w: World) -> None:
    """The child uses the map and ends; the parent goes on."""
    pid = os.fork()
    if pid:
        w.children.append(pid)
        return
    become(w, "child")
    w.release = lambda: None
    w.allowed = {}
    use(w)
    w.tell(next((word for word in w.deeds.values() if word != "goes on"), "goes on"))
    os._exit(0)


def fork_and_go_on(w: World) -> None:
    """Both go on with the operation."""
    pid = os.fork()
    if pid:
        w.children.append(pid)
        return
    become(w, "child")
    if w.waits:
        time.sleep(0.04)  # the parent comes first, and holds what this one waits for


def fork_and_use_late(w: World) -> None:
    """The child uses the map for the first time when its parent has closed it."""
    pid = os.fork()
    if pid:
        w.children.append(pid)
        return
    become(w, "child")
    w.report.wait_for_flag(5)


def fork_and_use(w: World) -> None:
    """The child uses the map, then goes on with the operation."""
    pid = os.fork()
    if pid:
        w.children.append(pid)
        return
    become(w, "child")
    use(w)


def fork_and_close(w: World) -> None:
    """The child closes the map, then goes on with the operation."""
    pid = os.fork()
    if pid:
        w.children.append(pid)
        return
    become(w, "child")
    close(w)


def fork_and_exec(w: World) -> None:
    """The child takes a lock and becomes another program, which holds nothing."""
    ready, said = os.pipe()
    pid = os.fork()
    if pid:
        w.children.append(pid)
        os.close(said)
        # Not waited for here: who opens the map waits for the one that is in the middle of it.
        w.things.update(executed=pid, ready=ready)
        return
    become(w, "exec")
    w.allowed = {}
    m = w.m
    w.attempt("write", lambda: w.put("e", "child", m))
    w.attempt("lock", lambda: m.lock("exec", timeout=1).__enter__())
    w.tell("goes on")
    os.execv(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(9)"])


def daemonize(w: World) -> None:
    """The child's child goes on with the operation: its own session, no descriptor left, and
    files of the application where there were the map's."""
    ready, said = os.pipe()
    if (pid := os.fork()) != 0:
        os.close(said)
        os.read(ready, 1)
        os.close(ready)
        os.waitpid(pid, 0)
        return
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    become(w, "daemon")
    known = [int(number) for number in os.listdir("/proc/self/fd")]
    os.closerange(3, max(known) + 1)
    for number in range(3, max(known) + 2):
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        w.files.append((number, file, os.fstat(file.fileno()).st_ino))
    w.things["is a daemon"] = True


def import_again(w: World) -> None:
    """A second copy of the package in the process opens the map and closes it."""
    names = [name for name in sys.modules if name.split(".")[0] == "shmmap"]
    saved = {name: sys.modules.pop(name) for name in names}
    try:
        def act() -> None:
            again: Any = importlib.import_module("shmmap")
            m = again.ShmMap(w.name, **w.parameters)
            m["again"] = 1
            m.close()

        w.attempt("import again", act)
        if "holds" in w.things:
            still_held(w)
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "shmmap"]:
            del sys.modules[name]
        sys.modules.update(saved)


def still_held(w: World) -> None:
    """See from another process that a named lock of this one is held."""
    m = w.m
    pid = os.fork()
    if pid == 0:
        os._exit(1 if m.lock("report").acquire(blocking=False) else 0)
    if os.waitpid(pid, 0)[1]:
        w.problems.append("a named lock of this process was taken from it")


DEEDS: tuple[Deed, ...] = (
    Deed("nothing", lambda w: None, "nothing"),
    Deed("close", close, "closes the handle"),
    Deed("close and open", close_and_open, "closes it and opens the map again"),
    Deed("open", open_same, "opens the same map"),
    Deed("open and close", open_and_close, "opens the same map and closes it"),
    Deed("another map", open_other, "makes and unlinks another map"),
    Deed("read", read, "reads"),
    Deed("write", write_same, "writes the same key"),
    Deed("write elsewhere", write_far, "writes to other shards"),
    Deed("lock", take_lock, "takes a named lock"),
    Deed("the same lock", take_same_lock, "takes the named lock \"report\""),
    Deed("snapshot", snapshot, "takes a snapshot"),
    Deed("sweep", sweep, "sweeps"),
    Deed("unlink", unlink, "unlinks the map"),
    Deed("drop", drop, "drops the handle"),
    Deed("raise", fail, "raises", handlers_only=True),
    Deed("sys.exit", leave, "calls sys.exit()", handlers_only=True),
    Deed("fork", fork_and_leave, "forks; the child uses the map and ends", forks=True),
    Deed("fork, both", fork_and_go_on, "forks; both go on", forks=True, goes_on=True),
    Deed("fork, used", fork_and_use, "forks; the child uses the map, both go on", forks=True,
         goes_on=True),
    Deed("fork, closed", fork_and_close, "forks; the child closes it, both go on", forks=True,
         goes_on=True),
    Deed("fork, late", fork_and_use_late, "forks; the child uses it when the parent has closed it",
         forks=True, goes_on=True),
    Deed("import again", import_again, "imports the package anew, opens and closes the map there"),
    Deed("exec", fork_and_exec, "forks; the child locks and executes a program", forks=True),
    Deed("daemon", daemonize, "daemonizes: all descriptors closed", forks=True, goes_on=True),
    Deed("os._exit", end, "calls os._exit()", ends=True),
)
BY_NAME = {deed.name: deed for deed in DEEDS}
