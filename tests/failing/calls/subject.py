"""Run a scenario in a forked process whose system calls may fail, and report what came of it."""

from __future__ import annotations

import faulthandler
import gc
import os
import re
import signal
import socket
import sys
import traceback
from multiprocessing.connection import Connection
from typing import NamedTuple

from shmmap import MapUnlinked, ShmMapError

from ...support.children import die_with_parent
from .commands import Command
from .injector import mark, watch_me
from .scenario import Scenario

BEGIN, END = 1, 2
WHERE = signal.SIGUSR2  # write where each thread is
# One a process, user and name, for good; Python's own, where there is no getrandom.
_KEPT = r"\.creators(-\d)?$|/dev/urandom$"
if sys.version_info < (3, 11):  # subprocess loses a pipe where it cannot make the second one
    _KEPT += "|^pipe:"


class Report(NamedTuple):
    """What an operation came to, told by the subject while it still lives.

    `outcome` is "" for success, else the class of the exception (of a command: "exit 1");
    `documented` whether it is one of ours; `holds` is what the process had open or mapped after
    it and not before; `wrong` what the scenario itself found.
    """

    outcome: str
    documented: bool
    number: int
    text: str
    trace: str
    holds: tuple[str, ...]
    wrong: str


class Start(NamedTuple):
    """What a subject needs: its scenario, where it works, which calls are handed over."""

    scenario: type[Scenario]
    map_name: str
    directory: str
    calls: tuple[str, ...]


def start(
    what: Start, pipe: Connection, channel: socket.socket, errors: int, patch: str = ""
) -> int:
    """Fork the subject; return its pid. `patch` is a fault that is put into its library."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        die_with_parent()
        os.dup2(errors, 2)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        faulthandler.register(WHERE, file=2)
        if os.getppid() == parent:
            if patch:
                exec(patch, {})
            _run(what, pipe, channel)
            code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _run(what: Start, pipe: Connection, channel: socket.socket) -> None:
    scenario = what.scenario(what.map_name, what.directory)
    scenario.before()
    if scenario.forks and (child := os.fork()):
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    listener = watch_me(what.calls)
    socket.send_fds(channel, [b"x"], [listener])
    os.close(listener)
    channel.close()
    before = _holdings()
    mark(BEGIN)
    try:
        result = scenario.operation()
        failure = None
    except BaseException as error:
        failure = error
    mark(END)
    pipe.send(_report(scenario, before, failure, None if failure else result))
    failure = result = None
    pipe.recv()
    pipe.send(_settle(scenario, before))


def _report(
    scenario: Scenario, before: dict[str, int], failure: BaseException | None, result: object
) -> Report:
    if failure is None:
        wrong = _said(scenario.check, result)
        if isinstance(scenario, Command) and isinstance(result, tuple) and result[0]:
            return Report(f"exit {result[0]}", True, 0, result[2] + result[1], "", (), wrong)
        return Report("", True, 0, "", "", (), wrong)
    trace = "".join(traceback.format_exception(failure))
    traceback.clear_frames(failure.__traceback__)
    report = Report(
        type(failure).__name__, isinstance(failure, ShmMapError),
        getattr(failure, "errno", None) or 0, str(failure), trace, (), "",
    )
    failure.__traceback__ = None
    del failure
    gc.collect()
    wrong = _said(scenario.after_failure)
    return report._replace(holds=_more(before), wrong=wrong)


def _settle(scenario: Scenario, before: dict[str, int]) -> tuple[str, tuple[str, ...]]:
    """Try again, let go; say what is wrong, and what is still held."""
    wrong = _said(scenario.again)
    if wrong:
        wrong = f"tried again without a failure: {wrong}"
    wrong = wrong or _said(scenario.finish)
    scenario.map = None
    gc.collect()
    return wrong, _more(before)


def _said(check: object, *arguments: object) -> str:
    """Call a check; what it raises is wrong too."""
    try:
        return str(check(*arguments) or "")  # type: ignore[operator]
    except MapUnlinked as error:
        return f"MapUnlinked: {error}"
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        return f"{type(error).__name__}: {error}"


def _holdings() -> dict[str, int]:
    """Count this process's open files, and its mappings of objects of ours, by name."""
    found: dict[str, int] = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = _name_of(os.readlink(f"/proc/self/fd/{entry}"))
        except OSError:
            continue
        if not re.search(_KEPT, target):
            found["open: " + target] = found.get("open: " + target, 0) + 1
    with open("/proc/self/maps", encoding="ascii", errors="replace") as file:
        for line in file:
            path = line.split(None, 5)[5:]
            if path and "/dev/shm/" in path[0]:
                name = "mapped: " + _name_of(path[0].strip())
                found[name] = found.get(name, 0) + 1
    return found


def _name_of(path: str) -> str:
    """Return the name that a file has, or had: to lose it makes it no new one."""
    return path.removesuffix(" (deleted)")


def _more(before: dict[str, int]) -> tuple[str, ...]:
    """List what this process holds that it did not hold before."""
    now = _holdings()
    return tuple(sorted(name for name, count in now.items() if count > before.get(name, 0)))
