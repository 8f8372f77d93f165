"""What does the command line say, and leave, if a system call of it fails?"""

from __future__ import annotations

import contextlib
import io
import os
import re
from typing import Any, ClassVar

import shmmap
from shmmap.tools import cli

from .companion import OPTIONS, Beside, killed_in
from .scenario import Scenario

NOBODY = 65534


class Command(Scenario):
    """A command of the command line, on a map that others use."""

    command: ClassVar[tuple[str, ...]] = ()
    wanted: ClassVar[str] = ""  # what its output says

    def before(self) -> None:
        self.prefix = ""

    def arguments(self) -> list[str]:
        """Return the command with the map's name in it."""
        words = (("NAME", self.map_name), ("DIRECTORY", self.directory))
        found = list(self.command)
        for word, value in words:
            found = [part.replace(word, value) for part in found]
        return found

    def operation(self) -> Any:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(self.arguments())
        return code, out.getvalue(), err.getvalue()

    def check(self, result: Any) -> str:
        code, out, _ = result
        if code == 0 and not re.search(self.wanted.replace("NAME", self.map_name), out):
            return f"exit code 0, and says {out!r}"
        if "leftover" in out and self.map_name in out.partition("leftover")[2]:
            return f"calls a live map a leftover: {out!r}"
        return ""


class Ls(Command):
    """ls."""

    name = "ls"
    command = ("ls",)
    wanted = r"(?m)^NAME +ready +\w+ +\d+ +2\d "


class Info(Command):
    """info."""

    name = "info"
    command = ("info", "NAME")
    wanted = r"(?s)entries +2\d.*row 0 +pid"


class Fsck(Command):
    """fsck."""

    name = "fsck"
    command = ("fsck", "NAME")
    wanted = "."


class Doctor(Command):
    """doctor: a check that breaks is a finding."""

    name = "doctor"
    most = 2
    command = ("doctor",)
    wanted = "."


class DumpCommand(Command):
    """dump."""

    name = "dump, the command"
    command = ("dump", "NAME", "DIRECTORY/map.dump")
    wanted = r"^2\d entries"

    def after_failure(self) -> str:
        left = set(os.listdir(self.directory)) - {"map.dump"}
        return f"in the dump's directory there are {left}" if left else ""


class LoadCommand(Command):
    """load, into a map that others use."""

    name = "load, the command"
    command = ("load", "DIRECTORY/map.dump", "NAME")
    wanted = "entries written to NAME"

    def before(self) -> None:
        with shmmap.ShmMap.attach(self.map_name) as m:
            m.dump(os.path.join(self.directory, "map.dump"))


class UnlinkCommand(Command):
    """unlink, as a command."""

    name = "unlink, the command"
    command = ("unlink", "--yes", "NAME")
    wanted = "removed NAME"
    shared = False

    @classmethod
    def prepare(cls, beside: Beside) -> None:
        shmmap.ShmMap.create(beside.name, **OPTIONS).close()

    def again(self) -> str:
        self.operation()
        left = [entry for entry in os.listdir("/dev/shm") if self.map_name in entry]
        return f"unlinked, and left {left}" if left else ""


class UnlinkOthers(UnlinkCommand):
    """unlink, by root, of what another user made."""

    name = "unlink of another user's, the command"

    @classmethod
    def prepare(cls, beside: Beside) -> None:
        def make(m: Any) -> None:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            shmmap.ShmMap.create(beside.name, **OPTIONS)
        killed_in(None, make)
