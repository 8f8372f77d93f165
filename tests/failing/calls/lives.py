"""What does a system call that fails leave, as a map is made, opened, left, or removed?

And as its user goes on after a fork.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, ClassVar

import shmmap
from shmmap.lifecycle import attachment, opening

from .companion import OPTIONS, Beside, killed_in
from .scenario import Scenario


class Create(Scenario):
    """Making a map."""

    name = "create"
    shared = False
    undoes = True

    def before(self) -> None:
        pass

    def operation(self) -> Any:
        self.map = shmmap.ShmMap.create(
            self.map_name, **{**OPTIONS, "shards": 2, **self.options})
        return self.map

    def check(self, result: Any) -> str:
        result["a"] = 1
        return "" if result["a"] == 1 and result.check() == [] else "it does not work"

    def again(self) -> str:
        if self.map is not None:
            self.map.unlink()
            self.map.close()
        return super().again()

    def finish(self) -> None:
        if self.map is not None:
            self.map.unlink()
            self.map.close()


class CreateEphemeral(Create):
    """Making a map that goes with its last user."""

    name = "create, ephemeral"
    options: ClassVar = {"ephemeral": True}


class CreateOverLeftover(Create):
    """Making a map where a dead process left half of one."""

    name = "create, a dead maker's half there"
    undoes = False

    @classmethod
    def prepare(cls, beside: Beside) -> None:
        def begin(m: Any) -> None:
            made = shmmap.ShmMap.create(beside.name, **OPTIONS)
            made.attachment.control.STATE = attachment.K["STATE_MAKING"]
        killed_in(None, begin)


class OpenAbandoned(Create):
    """Opening an ephemeral map whose users have all died."""

    name = "open, ephemeral, all users dead"
    undoes = False
    options: ClassVar = {"ephemeral": True}

    @classmethod
    def prepare(cls, beside: Beside) -> None:
        killed_in(
            None, lambda m: shmmap.ShmMap.create(beside.name, **OPTIONS, ephemeral=True))

    def operation(self) -> Any:
        self.map = shmmap.ShmMap(self.map_name, **OPTIONS, ephemeral=True)
        return self.map


class Load(Create):
    """Loading a dump into a new map."""

    name = "load into a new map"

    def before(self) -> None:
        self.path = os.path.join(self.directory, "map.dump")
        with shmmap.ShmMap.create(f"{self.map_name}-made", **OPTIONS) as made:
            made.update({"loaded": 1, "too": [2]})
            made.dump(self.path)
            made.unlink()

    def operation(self) -> Any:
        self.map = shmmap.ShmMap.load(self.path, self.map_name, **self.options)
        return self.map

    def check(self, result: Any) -> str:
        return "" if dict(result) == {"loaded": 1, "too": [2]} else f"has {dict(result)!r}"


class Attach(Scenario):
    """Opening a map that another process uses."""

    name = "attach"

    def before(self) -> None:
        pass

    def operation(self) -> Any:
        self.map = shmmap.ShmMap.attach(self.map_name, lock_timeout=2.0)
        return self.map

    def check(self, result: Any) -> str:
        result["also"] = 2
        return "" if result["also"] == 2 and result["kept 0"] == {"number": 0} else "not that map"


class AttachEphemeral(Attach):
    """Opening an ephemeral map that another process uses: it must not be taken for dead."""

    name = "open, ephemeral, others use it"
    options: ClassVar = {"ephemeral": True}

    def operation(self) -> Any:
        self.map = shmmap.ShmMap(self.map_name, **OPTIONS, ephemeral=True)
        return self.map


class OpenAgain(Scenario):
    """Opening a map in a process that has it open."""

    name = "open again in one process"

    def operation(self) -> Any:
        with shmmap.ShmMap(self.map_name, lock_timeout=2.0) as second:
            return second["kept 0"]

    def check(self, result: Any) -> str:
        return "" if result == {"number": 0} else f"gave {result!r}"


class AfterFork(Scenario):
    """The first use in a forked child."""

    name = "first use after a fork"
    forks = True

    def operation(self) -> Any:
        self.map["child"] = 1
        return self.map["kept 0"]

    def check(self, result: Any) -> str:
        return "" if result == {"number": 0} else f"gave {result!r}"


class AfterForkEphemeral(AfterFork):
    """The same, of an ephemeral map."""

    name = "first use after a fork, ephemeral"
    options: ClassVar = {"ephemeral": True}


class Close(Scenario):
    """Closing the last handle of this process."""

    name = "close"
    lets_go = True

    def operation(self) -> Any:
        return self.map.close()

    def again(self) -> str:
        self.map.close()
        self.map = self.open()
        self.map.close()
        return ""


class CloseLast(Create):
    """Closing an ephemeral map as its last user: it goes."""

    name = "close, ephemeral, the last user"
    options: ClassVar = {"ephemeral": True}
    undoes = False
    lets_go = True

    def before(self) -> None:
        Create.operation(self)

    def operation(self) -> Any:
        return self.map.close()

    def check(self, result: Any) -> str:
        return ""

    def after_failure(self) -> str:
        return ""

    def again(self) -> str:
        with contextlib.suppress(shmmap.ShmMapError):
            self.map.close()
        with shmmap.ShmMap(self.map_name, **{**OPTIONS, "shards": 2}, ephemeral=True) as fresh:
            fresh["a"] = 1
        return ""

    def finish(self) -> None:
        pass


class Exit(Close):
    """The end of a process with an open map."""

    name = "exit"

    def operation(self) -> Any:
        return opening.leave_all()


class Unlink(Create):
    """Unlinking a map."""

    name = "unlink"
    undoes = False

    def before(self) -> None:
        Create.operation(self)

    def operation(self) -> Any:
        return self.map.unlink()

    def check(self, result: Any) -> str:
        left = [entry for entry in os.listdir("/dev/shm") if self.map_name in entry]
        return f"unlinked, and left {left}" if left else ""

    def after_failure(self) -> str:
        return ""

    def again(self) -> str:
        """The next to unlink or make it completes it."""
        self.map.unlink()
        if self.check(None):
            with contextlib.suppress(shmmap.MapNotFound):
                shmmap.ShmMap.attach(self.map_name).unlink()
        if self.check(None):
            shmmap.ShmMap.create(self.map_name, **OPTIONS).unlink()
        return self.check(None)
