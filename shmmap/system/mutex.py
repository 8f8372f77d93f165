"""A lock of this process's tasks that no signal handler can leave behind, and no fork inherits.

    mark = Mark()
    try:
        if not mutex.acquire(mark, timeout_s): ...
        ...
    finally:
        mark.clear()

A task that has it may take it again, with another mark. A mark that is cleared, or gone, holds
nothing; clearing it is one call into C, before which no handler comes. `threading.RLock` was
rejected: gevent's patches replace it (one made before them stops every greenlet of a thread that
waits for it, and takes them for one), and after a handler nobody can tell what was taken.

**Invariants**
 X1  `_chain` holds marks by rising numbers; a number is added only by a task that found every
     lower one free, or its own
 X2  a number up to `_pruned` is never taken again: one that is added there late does not count
Each step on the dict is one call into C, so no other lock is needed.
"""

from __future__ import annotations

import weakref
from typing import Any

from ..memory._clock_cy import monotonic
from .process import this_process
from .tasks import current_task, others_run, sleep

_FIRST_PAUSE_S = 20e-6
_LONGEST_PAUSE_S = 1e-3
_COURTESY_S = 2 * _LONGEST_PAUSE_S  # in which whoever waits has looked at least once


class Mark(list[Any]):
    """Empty, or the task and the process that hold a mutex by it."""

    __slots__ = ("__weakref__",)


class Mutex:
    """See the module."""

    def __init__(self) -> None:
        self._chain: dict[int, weakref.ref[Mark] | None] = {0: None}
        self._pruned = -1
        self._refused_s = -1.0  # when a task last found it taken

    def acquire(self, mark: Mark, timeout_s: float | None = None) -> bool:
        """Take it, by a mark that holds nothing; tell whether it could be had in time.

        None: wait for ever; 0: try once. Nobody waits as the interpreter goes down. A task that
        comes while others wait lets them look first: one that frees it and takes it again at
        once, in a loop, would else keep it.
        """
        task = current_task()
        pause = _FIRST_PAUSE_S
        now = monotonic()
        deadline = None if timeout_s is None else now + timeout_s
        courtesy_s = _COURTESY_S if timeout_s is None else min(_COURTESY_S, timeout_s)
        if courtesy_s > 0 and now - self._refused_s < _COURTESY_S and not self.owned():
            sleep(courtesy_s)
        while not self._try(mark, task):
            self._refused_s = monotonic()
            left = pause if deadline is None else deadline - monotonic()
            if left <= 0 or not others_run():
                return False
            sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        return True

    def owned(self) -> bool:
        """Tell whether this task has it."""
        return current_task() in [holder for _, holder in self._holders()]

    def is_entered(self) -> bool:
        """Tell whether this task is in the middle of what a mark holds it for: also the child of a
        fork there, which has it no more, but goes on."""
        return current_task() in [task for _, task, _ in self._marks()]

    def locked(self) -> bool:
        """Tell whether any task of this process has it."""
        return bool(self._holders())

    def _holders(self) -> list[tuple[int, object]]:
        """List who holds it: more than one entry where its task took it again."""
        here = this_process()
        return [(number, task) for number, task, where in self._marks() if where == here]

    def _marks(self) -> list[tuple[int, object, int]]:
        """List the marks of tasks that have not ended, and the process of each."""
        found = []
        for number in list(self._chain):
            reference = self._chain.get(number)
            mark = reference() if reference is not None else None
            task, where = (list(mark) if mark is not None else []) or (None, 0)  # one step
            ended = isinstance(task, weakref.ref) and task() is None
            if where and not ended:
                found.append((number, task, where))
        return found

    def _try(self, mark: Mark, task: object) -> bool:
        number = max(list(self._chain)) + 1
        holders = self._holders()
        if [holder for _, holder in holders if holder is not task]:
            return False
        mark[:] = (task, this_process())
        reference = weakref.ref(mark)
        if self._chain.setdefault(number, reference) is reference:
            if number > self._pruned:
                if not holders:  # what was below is free for ever
                    self._pruned = number - 1
                    for old in list(self._chain):
                        if old < number:
                            self._chain.pop(old, None)
                return True
            self._chain.pop(number, None)
        mark.clear()
        return False
