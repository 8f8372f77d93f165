"""Run a scenario, let one of its calls fail, and gather everything that can be seen of it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, NamedTuple

from .companion import Beside, Companion, Hung
from .injector import MARK, NUMBERS, answer, receive
from .kinds import MODULE, Seen, Site, number_of, raw_names, see
from .scenario import Scenario
from .subject import BEGIN, WHERE, Report, Start, start

LIMIT_S = 20.0  # for one run; waits for locks have 2 s
SHM = "/dev/shm"


class Injection(NamedTuple):
    """Which call fails, how; `lasting`: all of its kind fail from then on."""

    site: Site
    error: str
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.site} {self.error}{', and so for ever' if self.lasting else ''}"


class Run(NamedTuple):
    """Everything that was seen. `left` by the failure, `left_at_end` after all was let go."""

    scenario: type[Scenario]
    injection: Injection | None
    fired: bool
    sites: tuple[tuple[Site, tuple[str, ...]], ...]
    report: Report | None
    beside: str
    settled: tuple[str, tuple[str, ...]] | None
    left: tuple[str, ...]
    left_at_end: tuple[str, ...]
    stderr: str
    died: str


class Watch:
    """One subject being watched: counts the calls of each kind, fails those of the injection."""

    def __init__(self, injection: Injection | None) -> None:
        self.injection = injection
        self.on = False
        self.fired = False
        self.pid = 0  # of the process that is watched; not of programs that it starts
        self.sites: list[tuple[Site, tuple[str, ...]]] = []
        self._counts: dict[tuple[str, str], int] = {}

    def is_about(self, thread: int) -> bool:
        """Tell whether a thread belongs to the process that is watched."""
        return thread == self.pid or os.path.exists(f"/proc/{self.pid}/task/{thread}")

    def error_for(self, seen: Seen) -> int:
        """Count a call; give the errno that it fails with, 0: none."""
        key = seen[:2]
        self._counts[key] = self._counts.get(key, 0) + 1
        site = Site(*key, self._counts[key])
        if seen.thing != MODULE:
            self.sites.append((site, seen.errnos))
        if self.injection is None:
            return 0
        wanted, error, lasting = self.injection
        if site == wanted:
            self.fired = True
        elif not (
            lasting and self.fired and seen.call == wanted.call and error in seen.errnos
        ):
            return 0
        return number_of(error)


class Runner:
    """Runs one after the other, with one companion for as long as it answers."""

    def __init__(self, patch: str = "") -> None:
        self._patch = patch
        self._companion: Companion | None = None
        self._number = 0

    def close(self) -> None:
        """End the companion."""
        if self._companion is not None:
            self._companion.end()
            self._companion = None

    def _ask(self, what: Any, name: str = "") -> Any:
        if self._companion is None:
            self._companion = Companion()
        try:
            return self._companion.ask(what, name)
        except Hung:
            self.close()
            raise

    def run(self, scenario: type[Scenario], injection: Injection | None = None) -> Run:
        """Run a scenario with this failure, or with none."""
        self._number += 1
        name = f"t{os.getpid()}-{self._number}"
        directory = tempfile.mkdtemp(prefix="failing-calls-")
        watch = Watch(injection)
        try:
            self._ask(scenario.prepare, name)
            given = objects_of(name)
            calls = raw_names(injection.site.call) if injection else tuple(NUMBERS)
            return self._watched(Start(scenario, name, directory, calls), watch, given)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            for entry in objects_of(name):
                os.unlink(f"{SHM}/{entry}")

    def _watched(self, what: Start, watch: Watch, given: tuple[str, ...]) -> Run:
        ours, theirs = Pipe()
        channel, far = socket.socketpair()
        with tempfile.TemporaryFile() as errors:
            pid = start(what, theirs, far, errors.fileno(), self._patch)
            theirs.close()
            far.close()
            report = settled = None
            beside, died = "", ""
            left: tuple[str, ...] = ()
            deadline = time.monotonic() + LIMIT_S
            listener = _listener_from(channel)
            try:
                report = _supervise(listener, ours, watch, deadline)
                left = tuple(entry for entry in objects_of(what.map_name) if entry not in given)
                with _answered(listener, watch):
                    beside = self._beside()
                ours.send("go on")
                settled = _supervise(listener, ours, watch, deadline)
            except TimeoutError as error:
                died = str(error)
                with _answered(listener, watch):
                    died += f"; its threads {_stopped_at(pid)}"
                os.kill(pid, signal.SIGKILL)
            except (EOFError, BrokenPipeError, ConnectionResetError):
                died = "it ended"
            finally:
                ours.close()
                channel.close()
                _reap(pid, listener, watch)
                if listener >= 0:
                    os.close(listener)
            beside = beside or self._beside()
            self._end()
            errors.seek(0)
            said = errors.read().decode(errors="replace")
            if "hangs" in died:
                died += f": {said[-2000:]}"
        return Run(
            what.scenario, watch.injection, watch.fired, tuple(watch.sites), report, beside,
            settled, left, objects_of(what.map_name), said, died,
        )

    def _beside(self) -> str:
        """Ask the companion what is wrong for it."""
        try:
            return str(self._ask(Beside.look))
        except Hung as error:
            return f"it hangs: {error}"
        except RuntimeError as error:
            return str(error)

    def _end(self) -> None:
        try:
            self._ask(Beside.unlink)
        except (Hung, RuntimeError):
            self.close()


def objects_of(name: str) -> tuple[str, ...]:
    """List the objects of a map, and of those whose names begin with it."""
    names = (name, f"{name}-read", f"{name}-made")
    return tuple(sorted(
        entry for entry in os.listdir(SHM)
        if entry.removeprefix("sem.").partition(".")[2].partition(".")[0] in names
    ))


def _listener_from(channel: socket.socket) -> int:
    channel.settimeout(LIMIT_S)
    try:
        _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    except OSError:
        return -1
    return descriptors[0] if descriptors else -1


def _supervise(listener: int, pipe: Any, watch: Watch, deadline: float) -> Any:
    """Answer the subject's calls until it reports."""
    poll = select.poll()
    if listener >= 0:
        poll.register(listener, select.POLLIN)
    poll.register(pipe.fileno(), select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"it hangs: no end within {LIMIT_S:.0f} s")
        for descriptor, event in poll.poll(left * 1000):
            if descriptor == pipe.fileno():
                return pipe.recv()
            if event & select.POLLIN:
                _serve(listener, watch)
            else:
                poll.unregister(listener)


def _stopped_at(pid: int) -> str:
    """Have a process that hangs write where each thread is, and say what each waits for."""
    waits = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            call = Path(f"/proc/{pid}/task/{thread}/syscall").read_text().split()[0]
            wait = Path(f"/proc/{pid}/task/{thread}/wchan").read_text()
            waits.append(f"{thread} in system call {call} ({wait})")
        os.kill(pid, WHERE)
        time.sleep(0.5)  # for its signal handler, which cannot say when it is done
    return ", ".join(waits)


def _serve(listener: int, watch: Watch) -> None:
    call = receive(listener)
    if call is None:
        return
    error = 0
    if call.name == "creat" and call.arguments[0] == MARK:
        watch.on, watch.pid = call.arguments[1] == BEGIN, call.pid
    elif watch.on and watch.is_about(call.pid):
        try:
            seen = see(call)
        except OSError:  # it was killed meanwhile
            seen = None
        error = watch.error_for(seen) if seen else 0
    answer(listener, call, error)


@contextmanager
def _answered(listener: int, watch: Watch) -> Iterator[None]:
    """Answer the subject's calls meanwhile: a thread of it may be inside what others wait for."""
    over = threading.Event()

    def answer_all() -> None:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        while not over.is_set():
            if any(event & select.POLLIN for _, event in poll.poll(10)):
                _serve(listener, watch)

    thread = threading.Thread(target=answer_all)
    if listener >= 0:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if listener >= 0:
            thread.join()


def _reap(pid: int, listener: int, watch: Watch) -> None:
    """Wait for the subject, and let it, and what it forked, make their calls meanwhile."""
    poll = select.poll()
    if listener >= 0:
        poll.register(listener, select.POLLIN)
    watch.on = False
    deadline = time.monotonic() + 5.0
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        for _, event in poll.poll(5):
            if event & select.POLLIN:
                _serve(listener, watch)
            else:
                poll.unregister(listener)
