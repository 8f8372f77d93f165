"""What a process of a trial sees itself, after the operation: what is left, and whose it is."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from shmmap.errors import Reentered

from .deeds import Deed
from .places import Place, holds_shard
from .points import Collections
from .processes import LIMIT_S
from .world import INCARNATION, World


class Aftermath:
    """The looks of one process. `before`: the descriptors that it had."""

    def __init__(self, w: World, place: Place, deed: Deed, before: set[str]) -> None:
        self.w, self.place, self.deed, self.before = w, place, deed, before

    def look(self, point: Any) -> None:
        """Look at what is left in this process."""
        w = self.w
        w.release()
        w.waits = False
        if "executed" in w.things:
            self.look_at_executed()
        if self.place.in_the_way is holds_shard and self.deed.goes_on and w.side == "itself":
            w.attempt("hold a shard", self.hold_a_shard)
        self.use(point)
        for m in list(w.handles()):
            w.attempt("look at the locks", lambda m=m: self.look_at_locks(m))
        for m in list(w.handles()):
            w.attempt("close at the end", m.close)
        w.box.clear()
        w.kept.clear()
        w.things.clear()
        if isinstance(point, Collections):
            point.live.clear()
            point.owned.clear()
            point.watched.clear()
        gc.collect()
        w.report.set_flag()
        self.reap()
        self.leftovers()

    def look_at_locks(self, m: Any) -> None:
        """See that this process is inside nothing: its sweeping thread may be, but not for long."""
        w = self.w
        if inflight := self.once_the_other_thread_is_out(lambda: getattr(m, "inflight", 0)):
            w.problems.append(f"{w.side}: {inflight} operations are counted as under way")
        own = m.attachment.worker.fork_page.word >> INCARNATION
        for shard in (*m.attachment.shards, *m.attachment.locks.shards):
            def owner_here(lock: Any = shard.lock) -> int:
                owner = int(lock.owner())
                return owner if own and owner >> INCARNATION == own else 0

            if owner := self.once_the_other_thread_is_out(owner_here):
                w.problems.append(f"{w.side}: the lock of a shard is held by {owner:#x}")

    def once_the_other_thread_is_out(self, left: Callable[[], int]) -> int:
        """Return what is left. What another thread that goes on is inside now is no fault: where
        there is one, look again for a second."""
        until = time.monotonic() + (1.0 if self.place.other_thread else 0.0)
        while (found := left()) and time.monotonic() < until:
            time.sleep(0.001)
        return found

    def hold_a_shard(self) -> None:
        """Hold the shard that a forked child may still be waiting for: nobody may rob this."""
        lock = self.w.m.attachment.shards[0].lock
        token = self.w.m.attachment.worker.fork_page.word | 0x3000
        assert lock.lock(token, 10**9) in (0, 1)
        time.sleep(0.15)
        if lock.owner() == token:
            lock.unlock()
        else:
            self.w.problems.append("the lock of a shard was taken from a live process")

    def look_at_executed(self) -> None:
        """See that a process that executed another program holds nothing any more."""
        w = self.w
        os.read(w.things["ready"], 1)  # it has executed it, or ended
        os.close(w.things["ready"])
        other = w.attempt("open", w.open)
        if other is not None and not w.unlinked:
            w.attempt("the lock of what executed another program",
                      lambda: other.lock("exec", timeout=0.5).__enter__())
            w.attempt("close", other.close)

    def use(self, point: Any) -> None:
        """See that handles still open work, and mean one map."""
        w = self.w
        handles = [m for m in w.handles() if m.name == w.name]
        if w.unlinked:
            return
        for number, m in enumerate(handles):
            w.attempt("write afterwards", lambda m=m, n=number: w.put(f"a{n}", w.side, m))
        if handles and w.side == "itself":
            for key in ("report", "leased"):
                w.attempt("lock afterwards", lambda k=key: self.lock(handles[0], k))
        for number in range(len(handles)):
            seen = w.attempt("read afterwards", lambda n=number: handles[0].get(f"a{n}"))
            if w.side == "itself" and seen != w.side and not self.deed.goes_on:
                w.problems.append("two handles of one name are not of one map")

    def lock(self, m: Any, key: str) -> None:
        """See that a named lock is free, or soon is."""
        try:
            with m.lock(key, timeout=1):
                pass
        except Reentered:
            self.w.problems.append(f"{self.w.side}: this thread has not left lock {key!r}")

    def reap(self) -> None:
        """Wait for the children of the deed."""
        w = self.w
        until = time.monotonic() + LIMIT_S / 2
        executed = (w.report.read("exec") or {}).get("pid")
        while w.children or (w.report.read("daemon") and w.side == "itself"):
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                if executed in w.children or time.monotonic() > until:
                    for child in w.children:
                        os.kill(child, signal.SIGKILL)
                    if executed not in w.children:
                        w.problems.append("a child did not end")
                        return
                time.sleep(0.001)
                continue
            if pid in w.children:
                w.children.remove(pid)
            code = os.waitstatus_to_exitcode(status)
            if code and pid != executed and pid not in w.helpers:
                w.problems.append(f"a child ended with {code}")

    def leftovers(self) -> None:
        """See that closing gave everything back, and took nothing that is another's.

        A handler that raises while the map is opened may leave this process some memory.
        """
        w = self.w
        if w.opens and self.deed.handlers_only:
            return
        if mapped := self.once_the_other_thread_is_out(lambda: mappings_of(w.name)):
            w.problems.append(f"{w.side}: {mapped} mappings of the map are left")
        if w.files:
            for number, _, inode in w.files:
                self.look_at_file(number, inode)
            return
        for link in descriptors() - self.before:
            if "creators" not in link and w.name in link:
                w.problems.append(f"{w.side}: a descriptor is left: {link}")

    def look_at_file(self, number: int, inode: int) -> None:
        """See that a file of the application is open, and as locked as it was."""
        w = self.w
        try:
            same = os.fstat(number).st_ino == inode
        except OSError:
            same = False
        if not same:
            w.problems.append(f"{w.side}: the application's descriptor {number} was closed")
            return
        pid = os.fork()
        if pid == 0:
            try:
                fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os._exit(0)
            os._exit(1)
        if os.waitpid(pid, 0)[1]:
            w.problems.append(f"{w.side}: the application's lock on descriptor {number} is gone")


def mappings_of(name: str) -> int:
    """Count the mappings of a map in this process."""
    with open("/proc/self/maps") as file:
        return sum(f"shmmap.{name}." in line or f"shmmap.{name}\n" in line for line in file)


def descriptors() -> set[str]:
    """List what is open in this process."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
        except OSError:
            continue
    return found
