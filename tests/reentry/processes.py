"""Processes of trials: forked into a group of their own, watched, ended, and their end judged."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import select
import signal
import sys
from collections.abc import Callable

from ..support.children import die_with_parent
from .deeds import EXITED
from .world import Report

LIMIT_S = 12.0
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def adopt() -> None:
    """Have the orphans among this process's descendants become its children."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def fork(work: Callable[[], None], said: int) -> int:
    """Start a process that does some work; what it prints goes to a file. Give its pid."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        die_with_parent()
        if os.getppid() != parent:
            os._exit(1)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout = sys.stderr = open(os.dup(2), "w", buffering=1)  # noqa: SIM115
        faulthandler.enable(sys.stderr)
        faulthandler.dump_traceback_later(LIMIT_S - 1, file=sys.stderr)
        gc.freeze()
        work()
    except BaseException as error:
        print(f"the trial itself: {type(error).__name__}: {error}", file=sys.stderr)
        os._exit(2)
    os._exit(0)


def end_of(who: str, pid: int, report: Report) -> list[str]:
    """Wait for a process; end its group; say what is wrong with its end."""
    watched = os.pidfd_open(pid)
    try:
        in_time = bool(select.select([watched], [], [], LIMIT_S)[0])
    finally:
        os.close(watched)
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not in_time:
        return [f"{who} did not end within {LIMIT_S:g} s"]
    code = os.waitstatus_to_exitcode(status)
    ended = (report.read("itself") or {}).get("outcome") == "ended"
    if code == 0 or (ended and code == EXITED):
        return []
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return [f"{who} ended with {how}"]


def daemon_end(report: Report) -> list[str]:
    """End a daemon that did not end by itself; say so."""
    found = report.read("daemon")
    if found is None or found["outcome"] != "did not end":
        return []
    try:
        os.kill(found["pid"], signal.SIGKILL)
    except ProcessLookupError:
        return ["the daemon died"]
    return [f"the daemon did not end: {found['problems']}"]
