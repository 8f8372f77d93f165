"""Does a system call that fails harm an open map, or anybody who uses it?

In reads, writes, locks, deaths of holders, sweeps, copies.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any, ClassVar

import shmmap

from ...support.children import die_with_parent
from ...support.shard0 import lock_of, set_word, token
from .companion import killed_in
from .scenario import Scenario


def hold_the_shard(m: Any) -> None:
    """Be in the middle of a change of shard 0."""
    lock_of(m).lock(token(m), 10**9)
    set_word(m, "DIRTY", 1)


class Use(Scenario):
    """Operations on an open map."""

    name = "set, get, incr"

    def operation(self) -> Any:
        self.map["new"] = {"a": 1}
        self.map.incr("count")
        return self.map["new"], self.map.get("none"), self.map.get("count") >= 1

    def check(self, result: Any) -> str:
        return "" if result == ({"a": 1}, None, True) else f"gave {result!r}"


class FirstTtl(Scenario):
    """The first entry with a ttl: its deadlines are reserved, the sweeper's thread starts."""

    name = "first ttl"
    options: ClassVar = {"sweep_interval": 3600.0}

    def before(self) -> None:
        self.open().close()
        self.map = shmmap.ShmMap.attach(self.map_name, lock_timeout=2.0)  # it has not written yet

    def operation(self) -> Any:
        self.map.set("brief", 1, ttl=60)
        return self.map.get("brief"), 59 < self.map.ttl("brief") <= 60

    def check(self, result: Any) -> str:
        return "" if result == (1, True) else f"gave {result!r}"


class Sweep(Scenario):
    """A sweep that finds an expired entry, a dead worker and a dead holder of a lock."""

    name = "sweep"

    def before(self) -> None:
        super().before()
        killed_in(self.map, lambda m: m.lock("gone").acquire())
        self.map.set("brief", 1, ttl=5)
        clock = self.map.attachment.clock
        clock.frozen_ns = clock.now_ns() + 10 * 10**9

    def operation(self) -> Any:
        return self.map.sweep()

    def again(self) -> str:
        self.map.sweep()
        swept = self.map.get("brief") is None and self.map.stats().expired == 1
        return "" if swept else "not swept"


class SweepThread(Scenario):
    """The sweeper's thread, which finds a dead worker: what fails there must not end it."""

    name = "sweep, by its thread"
    options: ClassVar = {"sweep_interval": 0.1}

    def before(self) -> None:
        super().before()
        killed_in(self.map, lambda m: m.get("mine"))

    def operation(self) -> Any:
        self.map.set("brief", 1, ttl=0.01)
        time.sleep(0.6)  # some sweeps, in which calls fail

    def again(self) -> str:
        """See that it sweeps on."""
        before = self.map.stats().expired
        self.map.set("another", 1, ttl=0.01)
        until = time.monotonic() + 5.0
        while self.map.stats().expired == before:
            if time.monotonic() > until:
                return "nothing is swept any more"
            time.sleep(0.02)
        return ""


class Takeover(Use):
    """A write where the holder of the shard's lock is dead: it is judged, the shard repaired."""

    name = "write after a holder's death"

    def before(self) -> None:
        super().before()
        killed_in(self.map, hold_the_shard)


class TakeoverRead(Takeover):
    """A read that misses there."""

    name = "read after a holder's death"

    def operation(self) -> Any:
        return self.map.get("none"), len(self.map), self.map.get("kept 3")

    def check(self, result: Any) -> str:
        return "" if result == (None, len(self.map), {"number": 3}) else f"gave {result!r}"


class Wait(Use):
    """A write that waits for another process to leave the shard."""

    name = "write, waiting"
    most = 12  # it looks at the holder again and again, each time alike
    holds_s = 0.4

    def before(self) -> None:
        super().before()
        told, tell = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            die_with_parent()
            lock = lock_of(self.map)
            lock.lock(token(self.map), 10**9)
            os.write(tell, b"x")
            time.sleep(self.holds_s)
            lock.unlock()
            os.kill(os.getpid(), signal.SIGKILL)
        os.read(told, 1)
        os.close(told)
        os.close(tell)

    def finish(self) -> None:
        if self.pid:
            os.waitpid(self.pid, 0)
        super().finish()


class Held(Wait):
    """A write while another process keeps the shard: its error says which."""

    name = "write, the holder stays"
    holds_s = 60.0

    def before(self) -> None:
        super().before()
        self.map.close()
        self.map = shmmap.ShmMap.attach(self.map_name, lock_timeout=0.1)

    def operation(self) -> Any:
        try:
            self.map["new"] = 1
        except shmmap.LockTimeout as error:
            return str(error)

    def check(self, result: Any) -> str:
        fine = bool(result) and f"process {self.pid}" in result
        self.let_go()
        return "" if fine else f"gave {result!r}"

    def after_failure(self) -> str:
        self.let_go()
        return super().after_failure()

    def let_go(self) -> None:
        """End the holder."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def again(self) -> str:
        self.map["new"] = 1
        return ""


class Repair(Scenario):
    """A repair that was asked for, and a check."""

    name = "check, repair"

    def operation(self) -> Any:
        self.map.repair()
        return self.map.check()

    def check(self, result: Any) -> str:
        return "" if result == [] else f"gave {result!r}"


class Stats(Scenario):
    """Reading the figures."""

    name = "stats"

    def operation(self) -> Any:
        return self.map.stats().entries, repr(self.map)[:7]

    def check(self, result: Any) -> str:
        return "" if result[0] >= 21 and result[1] == "<ShmMap" else f"gave {result!r}"


class TakeSnapshot(Scenario):
    """A snapshot."""

    name = "snapshot"

    def operation(self) -> Any:
        return dict(self.map.snapshot())

    def check(self, result: Any) -> str:
        return "" if result["kept 0"] == {"number": 0} and result["mine"] else f"gave {result!r}"


class Dump(Scenario):
    """A dump over an older one."""

    name = "dump"

    def before(self) -> None:
        super().before()
        self.path = os.path.join(self.directory, "map.dump")
        self.map.dump(self.path)
        self.map["mine"] = self.mine["mine"] = "written since"

    def operation(self) -> Any:
        return self.map.dump(self.path).entries

    def check(self, result: Any) -> str:
        return "" if result >= 21 and self.read() == "written since" else f"wrote {result} entries"

    def read(self) -> Any:
        """Read from the dump what it says."""
        with shmmap.ShmMap.load(self.path, f"{self.map_name}-read") as loaded:
            found = loaded["mine"]
            loaded.unlink()
        return found

    def after_failure(self) -> str:
        left = os.listdir(self.directory)
        if left != ["map.dump"]:
            return f"in the dump's directory there are {left}"
        if self.read() not in ("written before", "written since"):
            return "the dump is neither the old one nor the new one"
        return super().after_failure()


class Merge(Scenario):
    """Merging a dump into an open map."""

    name = "merge"

    def before(self) -> None:
        super().before()
        self.path = os.path.join(self.directory, "map.dump")
        self.map.dump(self.path)
        del self.map["mine"]
        self.mine.clear()

    def operation(self) -> Any:
        self.map.merge(self.path)
        return self.map.get("mine")

    def check(self, result: Any) -> str:
        return "" if result == "written before" else f"gave {result!r}"


class NamedLock(Scenario):
    """Taking and leaving a named lock."""

    name = "lock"

    def operation(self) -> Any:
        with self.map.lock("mine", timeout=2.0) as lock:
            return lock.held, lock.token > 0

    def check(self, result: Any) -> str:
        return "" if result == (True, True) else f"gave {result!r}"

    def after_failure(self) -> str:
        with self.map.lock("mine", timeout=2.0):
            return super().after_failure()


class NamedLockTakeover(NamedLock):
    """Taking a named lock whose holder is dead."""

    name = "lock after its holder's death"

    def before(self) -> None:
        super().before()
        killed_in(self.map, lambda m: m.lock("mine").acquire())


class SingleFlight(Scenario):
    """Computing a value for all."""

    name = "get_or_set"

    def operation(self) -> Any:
        return self.map.get_or_set("drawn", lambda: "a picture")

    def check(self, result: Any) -> str:
        kept = self.map.get("drawn", result)  # its caller has it, be it stored or not
        return "" if result == "a picture" == kept else f"gave {result!r}"
