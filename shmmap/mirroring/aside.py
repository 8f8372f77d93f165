"""Calls that must not hold up their caller: made by a thread of their own, one after the other.

A caller waits for a deadline at most. What takes longer goes on; its caller does without. The
thread is begun by the first call, and ends when there was nothing to do for a while, so that what
is dropped leaves none behind.

A handler of a signal may raise between any two lines of a caller's. So whatever a caller shares
with the thread is one step of C's: the queue, and the lock on which a caller waits.
"""

from __future__ import annotations

import atexit
import queue
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..memory._clock_cy import monotonic
from ..system.process import this_process

MOST_WAITING = 1_000
IDLE_S = 2.0
_AT_EXIT_S = 1.0


class Late(Exception):
    """The call has taken longer than its deadline, or was not made at all."""


class Call:
    """One call, and what came of it. One thread may wait for it.

    Attributes:
        is_wanted: a call that its caller has given up is not begun any more. What it would have
            written may have been written anew by then.
    """

    __slots__ = ("_under_way", "act", "error", "is_wanted", "result")

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act
        self.is_wanted = True
        self.error: BaseException | None = None
        self.result: Any = None
        self._under_way = threading.Lock()
        self._under_way.acquire()

    def make(self) -> None:
        """Make it; what it raises is for its caller."""
        try:
            if self.is_wanted:
                self.result = self.act()
        except BaseException as error:
            self.error = error
        finally:
            self._under_way.release()

    def wait(self, patience_s: float) -> bool:
        """Wait until it has been made; tell whether that came in time. Once."""
        return self._under_way.acquire(timeout=min(max(patience_s, 0.0), threading.TIMEOUT_MAX))


class _Work:
    """What one process's thread has to do."""

    def __init__(self) -> None:
        self.process = this_process()
        self.waiting: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self.turn = threading.Lock()  # of the thread that makes the calls
        self.busy_since = 0.0

    def go(self) -> None:
        """Make what waits, until nothing has come for a while. A second thread ends at once."""
        while self.turn.acquire(blocking=False):
            try:
                while True:
                    call = self.waiting.get(timeout=IDLE_S)
                    self.busy_since = monotonic()
                    call.make()
                    self.busy_since = 0.0
                    del call  # and what it refers to
            except queue.Empty:
                pass
            finally:
                self.turn.release()
            if self.waiting.empty():  # else: it came while the turn was given back
                return


class Aside:
    """The calls of one process. A forked child begins anew."""

    def __init__(self) -> None:
        self._work = _Work()
        _asides.add(self)

    def submit(self, act: Callable[[], Any]) -> Call:
        """Have a call made in its turn. Raises Late: too many wait already, or no thread can be
        begun."""
        return self._submit(Call(act))

    def _submit(self, call: Call) -> Call:
        work = self._work
        if work.process != this_process() or type(work.waiting) is not queue.SimpleQueue:
            self._work = work = _Work()  # the second: gevent has patched it meanwhile
        if work.waiting.qsize() >= MOST_WAITING:
            raise Late(f"{MOST_WAITING:,} calls wait already")
        work.waiting.put(call)
        if not work.turn.locked():
            try:
                threading.Thread(target=work.go, name="shmmap aside", daemon=True).start()
            except (RuntimeError, MemoryError) as error:
                call.is_wanted = False
                raise Late(f"no thread can be begun: {error}") from None
        return call

    def run(self, act: Callable[[], Any], deadline_s: float) -> Any:
        """Make a call; wait for it for so long. Raises Late, and what it raises."""
        if self.is_stuck(deadline_s):
            raise Late("the call before it has not come back yet")
        call = Call(act)
        try:
            if not self._submit(call).wait(deadline_s):
                raise Late(f"it took more than {deadline_s:g} s")
        except BaseException:  # a handler's of a signal, too
            call.is_wanted = False
            raise
        if call.error is not None:
            raise call.error
        return call.result

    def is_stuck(self, deadline_s: float) -> bool:
        """Tell whether one call has gone on for longer than that."""
        work = self._work
        since = work.busy_since
        return work.process == this_process() and since > 0 and monotonic() - since > deadline_s

    def drain(self, patience_s: float) -> bool:
        """Wait until all calls so far are made; tell whether that came in time."""
        work = self._work
        if work.process != this_process() or (work.waiting.empty() and not work.turn.locked()):
            return True
        until = monotonic() + patience_s
        while True:
            with suppress(Late):  # else: room will come, or a thread
                return self.submit(_nothing).wait(until - monotonic())
            if monotonic() > until:
                return False
            time.sleep(0.01)


def _nothing() -> None:
    """What is made after all that came before it."""


_asides: weakref.WeakSet[Aside] = weakref.WeakSet()


@atexit.register
def _end() -> None:
    """Make what waits as the process ends, if that takes no longer than a second."""
    until = monotonic() + _AT_EXIT_S
    for aside in list(_asides):
        aside.drain(max(0.0, until - monotonic()))
