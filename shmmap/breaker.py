"""Calls that must not hold up their caller: a thread of their own, a deadline, a circuit breaker.

A call is made by the `Aside` of its process, in order, and its caller waits for a deadline at most.
What takes longer goes on; its caller does without. After `failures` in a row the breaker opens:
nothing is asked any more, for a pause that doubles from 1 s to a minute. Then one call is let
through; if it succeeds, the breaker closes.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from .memory._clock_cy import monotonic
from .system.process import this_process

FAILURES = 5
PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
MOST_WAITING = 1_000


class Late(Exception):
    """The call has taken longer than its deadline, or was not made at all."""


class Call:
    """One call, and what came of it."""

    __slots__ = ("act", "done", "error", "result")

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act
        self.done = threading.Event()
        self.error: BaseException | None = None
        self.result: Any = None

    def make(self) -> None:
        """Make it; what it raises is for its caller."""
        try:
            self.result = self.act()
        except BaseException as error:
            self.error = error
        finally:
            self.done.set()


class Aside:
    """A thread that makes calls, one after the other. A forked child begins one of its own."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._process = this_process()
        self._waiting: deque[Call] = deque()
        self._wakes = threading.Condition()
        self._thread: threading.Thread | None = None
        self._busy_since = 0.0
        self._ends = False

    def submit(self, act: Callable[[], Any]) -> Call:
        """Have a call made in its turn. Raises Late: too many wait already."""
        if self._process != this_process():
            self._begin()
        call = Call(act)
        with self._wakes:
            if len(self._waiting) >= MOST_WAITING:
                raise Late(f"{MOST_WAITING:,} calls wait already")
            self._waiting.append(call)
            if self._thread is None:
                self._ends = False
                self._thread = threading.Thread(target=self._run, name="shmmap aside", daemon=True)
                self._thread.start()
                atexit.unregister(self._end)  # of a former thread
                atexit.register(self._end)
            self._wakes.notify()
        return call

    def run(self, act: Callable[[], Any], deadline_s: float) -> Any:
        """Make a call; wait for it for so long. Raises Late, and what it raises."""
        if self.is_stuck(deadline_s):
            raise Late("the call before it has not come back yet")
        call = self.submit(act)
        if not call.done.wait(deadline_s):
            raise Late(f"it took more than {deadline_s:g} s")
        if call.error is not None:
            raise call.error
        return call.result

    def is_stuck(self, deadline_s: float) -> bool:
        """Tell whether one call has gone on for longer than that."""
        since = self._busy_since
        return (self._process == this_process() and since > 0
                and monotonic() - since > deadline_s)

    def drain(self, patience_s: float) -> bool:
        """Wait until all calls are made, and end the thread; tell whether that came in time."""
        if self._process != this_process() or self._thread is None:
            return True
        thread = self._thread
        with self._wakes:
            self._ends = True
            self._wakes.notify()
        thread.join(patience_s)
        return not thread.is_alive()

    def _end(self) -> None:
        """Make what waits as the process ends, if that takes no longer than a second."""
        self.drain(1.0)

    def _run(self) -> None:
        while True:
            with self._wakes:
                while not self._waiting and not self._ends:
                    self._wakes.wait()
                if not self._waiting:
                    self._thread = None
                    return
                call = self._waiting.popleft()
            self._busy_since = monotonic()
            call.make()
            self._busy_since = 0.0


class Breaker:
    """Whether a side that fails again and again is asked at all."""

    def __init__(self, failures: int = FAILURES) -> None:
        self._failures = failures
        self._in_a_row = 0
        self._pause_s = PAUSE_S
        self._until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether nothing is asked just now."""
        return self._in_a_row >= self._failures and monotonic() < self._until

    def passed(self) -> bool:
        """Note a success; tell whether the breaker was open before."""
        was = self._in_a_row >= self._failures
        self._in_a_row, self._pause_s = 0, PAUSE_S
        return was

    def failed(self) -> bool:
        """Note a failure; tell whether the breaker opens by it."""
        self._in_a_row += 1
        if self._in_a_row < self._failures:
            return False
        if self._in_a_row > self._failures:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._until = monotonic() + self._pause_s
        return True
