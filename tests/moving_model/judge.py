"""Is there an order of all calls that explains what each gave back?

What is known of it is part of the state: the calls that have begun and not ended, and each way in
which those before, and perhaps some of these, may have taken effect. A call that ends keeps the
ways in which it has, with this result. No way left: no order explains it.

A call begins with its first access and ends with its last, which asks for more than to begin it
earlier and end it later. A call of a process that died stays open: it may have taken effect, or may
yet.

Source: just-in-time linearization: Lowe, 'Testing for linearizability', CCPE 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

Values = tuple[int, ...]  # of each key; 0: it is not there
Done = frozenset[tuple[int, int]]  # calls that took effect, not ended yet: process, result
Call = tuple[str, int, int]  # name, key, argument


class Known(NamedTuple):
    """See the module."""

    open: frozenset[tuple[int, Call]]
    ways: frozenset[tuple[Values, Done]]


def effects(values: Values, call: Call) -> Iterator[tuple[Values, int]]:
    """List what a call may come to: the values after it, and its result."""
    name, key, argument = call
    had = values[key]

    def after(value: int) -> Values:
        return (*values[:key], value, *values[key + 1:])

    if name in ("get", "near", "copy"):
        yield values, had
    elif name == "quit":
        yield values, 0
    elif name == "set":
        yield after(argument), argument
    elif name == "incr":
        yield after(had + 1 if had else argument), had + 1 if had else argument
    elif name == "delete":
        yield after(0), int(had != 0)
    elif name == "pop":  # any entry; none only if this shard's own is not there
        for other, value in enumerate(values):
            if value:
                yield (*values[:other], 0, *values[other + 1:]), value
        if not had:
            yield values, 0
    else:
        raise AssertionError(name)


class Judge:
    """Gives each different knowledge a number, and remembers what follows what."""

    def __init__(self, values: Values) -> None:
        self.known = [Known(frozenset(), frozenset({(values, frozenset())}))]
        self.numbers = {self.known[0]: 0}
        self.begun: dict[tuple[int, int, Call], int] = {}
        self.ended: dict[tuple[int, int, int], int] = {}

    def number(self, known: Known) -> int:
        """Return the number of what is known."""
        if known not in self.numbers:
            self.numbers[known] = len(self.known)
            self.known.append(known)
        return self.numbers[known]

    def begin(self, number: int, process: int, call: Call) -> int:
        """Return what is known once a call has begun."""
        what = number, process, call
        if what not in self.begun:
            known = self.known[number]
            self.begun[what] = self.number(Known(known.open | {(process, call)}, known.ways))
        return self.begun[what]

    def end(self, number: int, process: int, result: int) -> int:
        """Return what is known once a process's call has ended; -1: no order explains it."""
        what = number, process, result
        if what not in self.ended:
            self.ended[what] = self._end(self.known[number], process, result)
        return self.ended[what]

    def _end(self, known: Known, process: int, result: int) -> int:
        calls = dict(known.open)
        waiting, seen, kept = list(known.ways), set(known.ways), set()
        while waiting:
            values, done = waiting.pop()
            if (process, result) in done:
                kept.add((values, done - {(process, result)}))
                continue
            ended = {other for other, _ in done}
            if process in ended:
                continue
            for other, call in calls.items():
                if other not in ended:
                    for after, gave in effects(values, call):
                        way = after, done | {(other, gave)}
                        if way not in seen:
                            seen.add(way)
                            waiting.append(way)
        if not kept:
            return -1
        left = known.open - {(process, calls[process])}
        return self.number(Known(left, frozenset(kept)))
