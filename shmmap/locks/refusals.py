"""Waits that would be in vain: for what the thread that waits holds itself, in one way or another.

A thread, a greenlet or a task that waits for its own lock waits for ever. So does a task that
waits, without `await`, for a lock of another task of its event loop: the other one cannot go on.
Both are refused at once, with what to write instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..errors import Reentered
from ..system.tasks import current_holder, running_loop

if TYPE_CHECKING:
    from .holdings import Hold
    from .hosts import MapHandle


class Words(NamedTuple):
    """How a refusal is said. `deed`: what the holder does; `advice`: for one that would wait for
    itself; `instead`: what lets the event loop go on."""

    deed: str
    advice: str
    instead: str


def refuse(m: MapHandle, former: Hold, awaits: bool, words: Callable[[], Words]) -> None:
    """Raise Reentered if whoever runs cannot wait for what this thread holds. `awaits`: the wait
    lets the event loop go on."""
    loop = running_loop()
    is_own = former.holder == current_holder()
    if not is_own and loop is not None and former.loop is loop and awaits:
        return
    deed, advice, instead = words()
    runner = "thread" if loop is None else "task"
    if is_own:
        text = f"this {runner} {deed} already, and would wait for itself{advice}"
    elif loop is not None and former.loop is loop:
        text = (
            f"other code of this event loop {deed}, and could not go on while this call holds up "
            f"the loop: {instead}"
        )
    else:
        text = f"this thread {deed} already, outside of this {runner}, and would wait for itself"
        text += advice
    raise Reentered(f"map {m.name!r}: {text}")
