"""Waiting in an event loop, which goes on meanwhile: for what other processes, threads and tasks
hold.

It is polling, as in `waiting`, with sleeps of the loop in between. Of the tasks of one loop that
wait for one name, the first polls, and the others stand in line behind it. A task that is
cancelled leaves the line, wherever it stands; since a look that finds something ends the wait at
once, with no `await` after it, a cancelled task has taken nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any, TypeVar

from ..memory._clock_cy import monotonic
from .waiting import left_until, pauses

LoopPlace = tuple[bytes, int]  # what is waited for, and the id of the loop
Found = TypeVar("Found")


class LoopTurn:
    """The line of those tasks of a loop that wait for one name: futures, of which the first is
    that of the task which polls."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.line: deque[Any] = deque()

    def leave(self, place: Any) -> None:
        """Leave the line; who stands first then polls."""
        self.line.remove(place)
        if self.line and not self.line[0].done():
            with suppress(RuntimeError):  # the loop is closed: nobody in it waits any more
                self.line[0].set_result(None)


async def wait_for(
    turns: MutableMapping[LoopPlace, LoopTurn], name: bytes, look: Callable[[], Found | None],
    deadline: float | None,
) -> Found | None:
    """Call `look` until it gives something but None, or until the deadline: then give None.

    `turns` holds lines by place, weakly: one goes with the last task that waits.
    """
    from asyncio import get_running_loop, sleep, wait  # not at the top: most programs have no loop

    loop = get_running_loop()
    turn = turns.setdefault((name, id(loop)), LoopTurn(loop))
    if turn.loop is not loop:  # it was closed with tasks in it, and this one has its id
        turn = turns[name, id(loop)] = LoopTurn(loop)
    place = loop.create_future()
    turn.line.append(place)
    try:
        while turn.line[0] is not place:
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                return look()
            await wait((place,), timeout=left)
        for pause in pauses():
            found = look()
            if found is not None:
                return found
            left = left_until(deadline)
            if left <= 0:
                return None
            await sleep(min(pause, left))
        return None
    finally:
        turn.leave(place)
