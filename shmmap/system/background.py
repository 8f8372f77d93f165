"""Work in the background that does not end at its first failure, and fails nobody.

A step is done again and again, in a thread, or, in a program that gevent or eventlet has patched,
in a greenlet. What a step raises is noted, and tried again, later and later; a thread that cannot
be started is tried again by whoever asks for it next, but not at once: see START_AGAIN_NS. One
that was started, and has no memory for a frame, waits for that: see `_life`.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import BuiltinFunctionType
from typing import Any, NamedTuple

from ..memory._clock_cy import monotonic, monotonic_ns
from .process import this_process
from .tasks import current_task, new_lock, others_run, sleep

START_AGAIN_NS = 100_000_000
STOP_PATIENCE_S = 1.0  # then whoever is in the middle of a step ends the rest as it comes out
WITHOUT_MEMORY_S = 0.1
SLOWEST = 8  # after failures a step comes every so many intervals, at the least often ...
SLOWEST_S = 30.0  # ... unless that is more than this
_LOOK_S = 0.25  # a greenlet cannot be woken by a lock that was made before the patches


class Trouble(NamedTuple):
    """What went wrong in the background: of this process, since it opened the map.

    Attributes:
        times: how often anything did.
        error: what it was, the last time.
        at_ns: when that was, in nanoseconds of the monotonic clock.
    """

    times: int
    error: str
    at_ns: int


class Background:
    """A step that is done every `interval_s`, from the first `start` until it gives False."""

    def __init__(
        self, step: Callable[[], bool], interval_s: float, *, at_once: bool = False,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._step = step
        self._interval_s = interval_s
        self._at_once = at_once
        self._ended = ended  # called as it ends, whatever ended it: it can be started anew
        self._runner: dict[str, object] = {}  # "task": who runs it
        self._wanted = False
        self._process = this_process()
        self._is_thread = True
        self._start_again_ns = 0
        self._is_started = False
        # A lock that is held until it is over. Not an Event: a signal handler that raises inside
        # an Event's set() leaves its inner lock taken, and the next set() waits for ever.
        self._bell = new_lock(threading.Lock)
        self._bell.acquire()
        self.stopping = False
        self.busy = False  # a step sets it while `stop` must wait for it
        self._trouble: Trouble | None = None
        self._without_memory: list[None] = []  # as often as that is not in `_trouble` yet

    @property
    def trouble(self) -> Trouble | None:
        """What went wrong, and how often; None: nothing."""
        with suppress(IndexError):  # another thread was quicker
            while self._without_memory:
                self._without_memory.pop()
                self._note(MemoryError("no memory for the frame of a function"))
        return self._trouble

    def start(self) -> bool:
        """Have it run; never raises. False: it could not be started, ask again.

        Not through threading.Thread: if the handler of a signal raises while that starts, half
        a thread is left that can be neither started nor joined.
        """
        self._wanted = True
        if self._runner or self.stopping:
            return True
        now_ns = monotonic_ns()
        if now_ns >= self._start_again_ns:
            self._start_again_ns = now_ns + START_AGAIN_NS  # also if it starts: it takes a moment
            self._is_started = False
            try:
                _thread.start_new_thread(next, (self._life(), None))
                self._is_started = True
            except Exception as error:  # no threads, no memory, or the interpreter goes down
                self._note(error)
        return self._is_started

    def stop(self) -> bool:
        """End it for good; tell whether nothing of it runs any more."""
        self.stopping = True
        with suppress(RuntimeError):  # rung before
            self._bell.release()
        deadline = monotonic() + STOP_PATIENCE_S
        # a greenlet looks at `stopping` before it does anything; nobody needs to wait for that
        while self._runner if self._is_thread else self.busy:
            if self._process != this_process():  # it runs in the parent
                return True
            if self.is_run_here():
                return not self.busy
            if monotonic() > deadline or not others_run():
                return False
            sleep(0.0005)
        return True

    def set_interval(self, interval_s: float) -> None:
        """Have the step done every so many seconds from now on; at once if that is sooner."""
        is_sooner = interval_s < self._interval_s
        self._interval_s = interval_s
        if is_sooner and self._runner:
            with suppress(RuntimeError):  # rung before
                self._bell.release()

    def is_running(self) -> bool:
        """Tell whether it has been started and goes on."""
        return bool(self._runner)

    def is_run_here(self) -> bool:
        """Tell whether it is this very task that runs it."""
        return self._runner.get("task") is current_task()

    def _life(self) -> Iterator[None]:
        """Run in a thread of its own; whatever ends it, it can be started again.

        A generator, since that has its frame before the thread begins. The first function of a
        thread needs memory for its own; where that is not to be had, a thread that began with a
        function would end at once, and nobody would know.
        """
        while True:
            try:
                self._run()
                break
            except MemoryError:  # from here to the next try nothing of Python's is called
                self._without_memory.append(None)
            self._bell.acquire(True, WITHOUT_MEMORY_S)
        yield from ()

    def _run(self) -> None:
        """Run, and say that it has ended. Each part may be done again after a MemoryError."""
        try:
            self._run_while_wanted()
        except Exception as error:  # no memory, before there was anything to try again
            self._note(error)
        finally:
            self._is_started = False
            try:
                self._ended()
            except MemoryError:
                raise
            except Exception as error:
                self._note(error)

    def _run_while_wanted(self) -> None:
        me = current_task()
        while self._wanted and self._runner.setdefault("task", me) is me:
            self._is_thread = isinstance(_thread.start_new_thread, BuiltinFunctionType)
            try:
                self._wanted = False
                self._go_on()
            finally:
                self._is_started = False
                self._runner.pop("task", None)
                if self._at_once:  # a thread was to be had; before the next look at `_wanted`:
                    self._start_again_ns = 0  # who asks as this ends is seen, or starts another

    def _go_on(self) -> None:
        failures = 0
        pause_s = 0.0 if self._at_once else self._interval_s
        while not self._wait(pause_s):
            self._wanted = False  # the step is for all who have asked until now
            try:
                if not self._step():
                    return
                failures = 0
                pause_s = self._interval_s
            except BaseException as error:
                # A greenlet is told by exceptions to end, and handlers of signals raise there.
                if not self._is_thread and not isinstance(error, Exception):
                    raise
                failures = min(failures + 1, 10)
                slowest_s = max(self._interval_s, min(SLOWEST * self._interval_s, SLOWEST_S))
                pause_s = min(self._interval_s * 2 ** (failures - 1), slowest_s)
                self._note(error)
            finally:
                self.busy = False

    def _wait(self, seconds: float) -> bool:
        """Wait for the next step; True: it is over."""
        if self._is_thread or type(self._bell).__module__ != "_thread":
            if not self.stopping:
                self._bell.acquire(timeout=seconds)
        else:
            deadline = monotonic() + seconds
            while not self.stopping and (left := deadline - monotonic()) > 0:
                sleep(min(left, _LOOK_S))
        return self.stopping

    def _note(self, error: BaseException) -> None:
        times = self._trouble.times + 1 if self._trouble else 1
        text: Any = type(error).__name__
        with suppress(Exception):  # no memory, or an error that cannot be written down
            text = f"{text}: {error}"
        with suppress(Exception):
            self._trouble = Trouble(times, text, monotonic_ns())
