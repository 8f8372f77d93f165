"""Scenarios of the command line."""

from __future__ import annotations

import contextlib
import io
import os
import re
from typing import Any, ClassVar

import shmmap
from shmmap import cli

from .companion import OPTIONS, Beside
from .scenario import Scenario


class Command(Scenario):
    """A command of the command line, on a map that others use."""

    command: ClassVar[tuple[str, ...]] = ()
    wanted: ClassVar[str] = ""  # what its output says

    def before(self) -> None:
        self.prefix = ""

    def arguments(self) -> list[str]:
        """Give the command with the map's name in it."""
        return [part.replace("NAME", self.map_name) for part in self.command]

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
    wanted = r"(?m)^NAME +ready +\w+ +2\d "


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
