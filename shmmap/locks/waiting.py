"""Waiting for what another process must do: one task of a process polls, the others queue.

A holder that leaves a lock wakes those who sleep for it: see `waking`. One that dies does not, and
greenlets cannot sleep like that. So a waiter looks again and again, after sleeps that grow from 50
us to 2 ms. A dead holder is found within about a slice, and a waiting process costs a few percent
of a core, most of it for the sleeps. Longer ones for those who have waited long were rejected: they
would starve behind newcomers.

Locks, not Events or Conditions: a signal handler that raises inside those leaves their inner lock
taken for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from ..checks import seconds
from ..memory._clock_cy import monotonic
from ..system.tasks import (
    can_wait_for,
    current_task,
    current_thread,
    is_cooperative,
    new_lock,
    sleep,
)
from . import waking

if TYPE_CHECKING:
    from .hosts import MapHandle

Place = bytes | tuple[bytes, object]  # the name of a lock, and of a thread's own ones the thread
Found = TypeVar("Found")
FIRST_PAUSE_S = 50e-6
LONGEST_PAUSE_S = 2e-3
TURN_S = 0.25  # who queues looks for itself that often: a turn may have been lost


class Turn:
    """Whose turn it is to poll for one key. `bell` is free once somebody has rung it."""

    def __init__(self) -> None:
        self.lock = new_lock(threading.Lock)
        self.bell = new_lock(threading.Lock)
        self.bell.acquire()
        self.task: object = None

    def ring(self) -> None:
        """Have the one who polls look at once."""
        with suppress(RuntimeError):  # rung before
            self.bell.release()


def place_of(name: bytes) -> Place:
    """Return the place where those queue who wait for a lock: where greenlets take turns, those of
    each thread for themselves, since their locks wake nobody in another one."""
    return (name, current_thread()) if is_cooperative() else name


def pauses() -> Iterator[float]:
    """Return how long to sleep before each look, in seconds."""
    pause = FIRST_PAUSE_S
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE_S)


def deadline_of(timeout: float | None) -> float | None:
    """Turn a timeout in seconds into a time of the monotonic clock; None: never."""
    if timeout is None:
        return None
    timeout = seconds(timeout, "timeout", " or None")
    if not 0 <= timeout < 3e9:
        raise ValueError(f"timeout={timeout} must be 0 seconds or more, and less than 3e9 (95 "
                         "years); None: wait for ever")
    return monotonic() + timeout


def left_until(deadline: float | None) -> float:
    """Return the seconds left, at most TURN_S; 0 or less: it is over."""
    return TURN_S if deadline is None else min(TURN_S, deadline - monotonic())


def wait_for(
    m: MapHandle, name: bytes, look: Callable[[], Found | None], deadline: float | None,
    names: Iterable[bytes] = (),
) -> Found | None:
    """Call `look` until it gives something but None, or until the deadline: then give None.

    `names`: the locks that are waited for, if it is not the one of that name. `turns` holds turns
    by place, weakly: one goes with the last task that waits.
    """
    bits = waking.bits_of(names or (name,))
    turns: MutableMapping[Place, Turn] = m.attachment.locks.turns
    turn = turns.setdefault(place_of(name), Turn())
    me = current_task()
    # a lock that was made before gevent's patches, or that is waited for in its hub, would stop
    # every greenlet of this thread
    alone = not can_wait_for(turn.lock)
    while True:
        if alone or turn.task is me:  # the latter: a signal handler, in the very task that polls
            return _poll(m, turn, look, deadline, bits)
        left = left_until(deadline)
        if turn.lock.acquire(timeout=max(0.0, left)):
            try:
                turn.task = me
                return _poll(m, turn, look, deadline, bits)
            finally:
                turn.task = None
                turn.lock.release()
        found = look()
        if found is not None or left <= 0:
            return found


def _poll(
    m: MapHandle, turn: Turn, look: Callable[[], Found | None], deadline: float | None, bits: int
) -> Found | None:
    for pause in pauses():
        seen = waking.see(m)
        found = look()
        if found is not None:
            return found
        left = left_until(deadline)
        if left <= 0:
            return None
        if seen is not None:
            if not waking.sleep(seen, bits, min(LONGEST_PAUSE_S, left)):  # others come and go
                sleep(min(FIRST_PAUSE_S, left))
        elif can_wait_for(turn.bell):
            turn.bell.acquire(timeout=min(pause, left))
        else:
            sleep(min(pause, left))
    return None
