"""Processes that end with the one that started them, and are reaped as whole families."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)
FAILED = 3  # exit code of a process that has said what went wrong


def adopt_orphans(adopt: bool) -> None:
    """Become the parent of a killed worker's children, to reap them; or leave that to others."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)


def fork(work: Callable[[], None], stacks: int, lead: bool) -> int:
    """Run `work` in a child that never returns and dies with its parent; return its pid.

    `stacks` is the file to which SIGUSR2 has it write where it is. A child that `lead`s gets a
    process group of its own, which its children share.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid:
        if lead:
            _lead(pid)
        return pid
    code = 1
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:
            if lead:
                _lead(0)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            faulthandler.register(signal.SIGUSR2, file=stacks, all_threads=True)
            work()
            code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)


def _lead(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it has ended, or has done so itself
        os.setpgid(pid, pid)


def reap_family(leader: int) -> int:
    """Wait for a dying leader, end its children and reap them all; return the leader's status."""
    os.waitid(os.P_PID, leader, os.WEXITED | os.WNOWAIT)  # not reaped, it keeps its number,
    os.killpg(leader, signal.SIGKILL)  # and its children are ours by now
    found = 0
    while True:
        try:
            pid, status = os.waitpid(-leader, 0)
        except ChildProcessError:
            return found
        if pid == leader:
            found = status


def reap_if_ended(pid: int) -> int | None:
    """Return a child's status if it has ended; None: it lives."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return status if ended else None


def kill(pid: int) -> None:
    """Kill a child that was not reaped yet."""
    os.kill(pid, signal.SIGKILL)


def delay_ns(pid: int) -> int:
    """Return for how long the scheduler has kept a process from running though it could, dead ones
    that were not reaped included; 0: the kernel does not say."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            return int(file.read().split()[1])
    except (OSError, IndexError):
        return 0


def describe_stack(pid: int, stacks: int) -> str:
    """Say where a process is: its state for the kernel, and its Python stacks."""
    try:
        with open(f"/proc/{pid}/status") as file:
            state = next((line[6:].strip() for line in file if line.startswith("State:")), "?")
        with open(f"/proc/{pid}/wchan") as file:
            state += f", in {file.read() or '?'}"
    except OSError as error:
        return f"gone ({error})"
    start = os.fstat(stacks).st_size
    os.kill(pid, signal.SIGUSR2)
    for _ in range(20):
        time.sleep(0.02)
        if os.fstat(stacks).st_size > start:
            time.sleep(0.05)
            break
    text = os.pread(stacks, 4000, start).decode(errors="replace")
    return f"{state}; {text or 'it did not answer SIGUSR2'}"
