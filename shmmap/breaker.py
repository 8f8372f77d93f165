"""A circuit breaker: what fails again and again is left alone for a while.

After some failures in a row it opens: nothing is asked any more, for a pause. Then one caller may
ask. If that succeeds, the breaker closes; else the next pause is twice as long, up to the longest.
The pattern is that of M. Nygard, Release It! (2007).
"""

from __future__ import annotations

import threading

from .memory._clock_cy import monotonic

FAILURES = 5
PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


class Breaker:
    """Whether a side that fails again and again is asked at all. Threads may share one; so may a
    handler of a signal, which finds the lock its own thread's."""

    def __init__(
        self, failures: int = FAILURES, pause_s: float | None = None,
        longest_pause_s: float | None = None,
    ) -> None:
        self._lock = threading.RLock()
        self._failures = failures
        self._pauses_s = pause_s or PAUSE_S, longest_pause_s or LONGEST_PAUSE_S
        self._in_a_row = 0
        self._pause_s = self._pauses_s[0]
        self._until = 0.0
        self._is_tried = False  # one caller asks, to see whether it answers again

    @property
    def is_open(self) -> bool:
        """Whether nothing is asked just now."""
        return self._in_a_row >= self._failures and monotonic() < self._until

    def may_ask(self) -> bool:
        """Tell whether the side may be asked. After a pause one caller may. If nothing is heard of
        it, the next one may after as long a pause."""
        if self._in_a_row < self._failures:
            return True
        with self._lock:
            now = monotonic()
            if now < self._until:
                return False
            self._until, self._is_tried = now + self._pause_s, True
            return True

    def passed(self) -> None:
        """Note a success."""
        if self._in_a_row:
            with self._lock:
                self._in_a_row, self._pause_s, self._is_tried = 0, self._pauses_s[0], False

    def failed(self) -> bool:
        """Note a failure; tell whether the breaker opens by it. Calls that were under way as it
        opened fail as well, and say nothing new."""
        with self._lock:
            self._in_a_row += 1
            if self._in_a_row > self._failures and self._is_tried:
                self._pause_s = min(2 * self._pause_s, self._pauses_s[1])
            elif self._in_a_row != self._failures:
                return False
            self._until, self._is_tried = monotonic() + self._pause_s, False
            return True
