"""Is there an order of calls, each at one instant between its start and its end, that explains
every result?

All calls of a history are on one key. The states that are possible after each return are kept
as a set of configurations (state, calls that took effect but have not returned); a call takes
effect as late as it can: when it, or another one that needs it, returns. So the work grows
with the number of calls that overlap, not with the length of the history.

An entry expires by the clock that each call reads. A call knows the first and the last
reading it may have used, and a deadline is an interval likewise; what these leave open
(expired or not) is allowed both ways. Both ends are rounded up, as a map's deadlines are.

Source: G. Lowe, 'Testing for linearizability', 2017 (just-in-time linearization).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ..memory.layout import constants

_TICK_NS = constants()["DEADLINE_TICK_NS"]


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


ABSENT: Any = _Absent()  # "no entry", where None could be a value
UNKNOWN: Any = _Unknown()  # the result of a call that raised: it took effect by then, or never
Deadline = tuple[int, int] | None  # between these two readings of the clock; None: never
GONE = (-1, -1)  # the deadline of what is expired at once


def rounded_up(time_ns: int) -> int:
    """Return the deadline that a map stores for a time: the next tick's. (Of a map that is older
    than two years, and has not been resized, it may be later.)"""
    return -(-time_ns // _TICK_NS) * _TICK_NS


class Call(NamedTuple):
    """One call: `start` and `end` by any clock that all workers share.

    `end` None: it never returned (its worker died): it may have taken effect at any time
    after its start, or not at all. `arguments`, without the key:
    get, contains, delete, pop (); set, add, replace (value, deadline);
    cas (value, deadline, version); merge (value, deadline, limit), written over an older version
    than `limit` only; incr (delta, initial, deadline); touch, get_and_touch (deadline,);
    get_versioned (), its result (value, version), absent (ABSENT, 0); evict (), which may remove
    the entry or not; renew (), which gives it a new version, as a map does that replaces another;
    the result of get, pop and get_and_touch is the value, or ABSENT.
    """

    start: int
    end: int | None
    name: str
    arguments: tuple[Any, ...] = ()
    result: Any = None
    worker: int = 0
    clock: tuple[int, int] = (0, 0)


class State(NamedTuple):
    """A key's entry (`value` ABSENT: none); version 0: nobody has seen it yet.

    Versions rise, so one that is seen now is above `floor`, the last one seen before.
    """

    value: Any = ABSENT
    deadline: Deadline = None
    version: int = 0
    floor: int = 0

    def written(self, value: object, deadline: Deadline) -> State:
        """Return the state after a write."""
        floor = max(self.floor, self.version)
        return State(floor=floor) if deadline == GONE else State(value, deadline, 0, floor)

    def removed(self) -> State:
        """Return the state after a removal."""
        return State(floor=max(self.floor, self.version))

    def may_have(self, version: int) -> bool:
        """Tell whether the entry's version can be this one."""
        return version == self.version or (self.version == 0 and version > self.floor)


class Violation(NamedTuple):
    """A call whose result nothing explains, the states it could have met, and the history."""

    call: Call
    states: list[State]
    history: list[Call]

    def __str__(self) -> str:
        lines = [f"no order explains the result of {_line(self.call)}; possible states:"]
        lines += [f"    {state.value!r} deadline {state.deadline} version {state.version}"
                  for state in self.states[:8]]
        near = [c for c in self.history
                if c is self.call or c.end is None or c.end >= self.call.start]
        before = [c for c in self.history if c.end is not None and c.end < self.call.start]
        lines += ["the calls up to it:", *(f"    {_line(call)}" for call in before[-6:] + near)]
        return "\n".join(lines)


def _line(call: Call) -> str:
    arguments = ", ".join(map(repr, call.arguments))
    return (f"worker {call.worker} [{call.start}, {call.end}] {call.name}({arguments}) -> "
            f"{call.result!r} clock {call.clock}")


_EMPTY = State()


def find_violation(calls: Iterable[Call], initial: State = _EMPTY) -> Violation | None:
    """Return the first call that no order explains; None: the history is linearizable.

    O(calls x configurations); configurations grow exponentially with the calls that overlap,
    those that never returned included.
    """
    history = sorted(calls, key=lambda call: call.start)
    events = [(call.start, 0, i) for i, call in enumerate(history)]
    events += [(call.end, 1, i) for i, call in enumerate(history) if call.end is not None]
    configurations = {(initial, frozenset[int]())}
    running: set[int] = set()
    for at, ends, i in sorted(events):
        if not ends:
            running.add(i)
            continue
        after = _effects(configurations, running, i, history)
        if history[i].result is UNKNOWN:
            after |= {(state, done) for state, done in configurations if i not in done}
        if not after:
            states = list({state for state, _ in configurations})
            seen = [call for call in history if call.start <= at]
            return Violation(history[i], states, seen)
        configurations = after
        running.discard(i)
    return None


_Configuration = tuple[State, frozenset[int]]


def _effects(
    configurations: set[_Configuration], running: set[int], returning: int, history: list[Call]
) -> set[_Configuration]:
    """Let running calls take effect, in every order, until the returning one has."""
    reached: set[_Configuration] = set()
    seen = set(configurations)
    waiting = list(configurations)
    while waiting:
        state, done = waiting.pop()
        if returning in done:
            reached.add((state, done - {returning}))
            continue
        for i in running - done:
            for after in _steps(state, history[i]):
                fresh = (after, done | {i})
                if fresh not in seen:
                    seen.add(fresh)
                    waiting.append(fresh)
    return reached


def _steps(state: State, call: Call) -> Iterator[State]:
    """Return the states that a call can lead to from this one, its result being what it is."""
    if call.name in ("evict", "clear"):
        yield state.removed()
        if call.name == "evict":
            yield state
        return
    if call.name == "renew":
        yield state if state.value is ABSENT else state.written(state.value, state.deadline)
        return
    if state.value is ABSENT:
        yield from _absent(state, call)
        return
    if state.deadline is None or state.deadline[1] > call.clock[0]:
        yield from _present(state, call)
    if state.deadline is not None and state.deadline[0] <= call.clock[1]:
        yield from _absent(state, call)


def _may_give(call: Call, result: object) -> bool:
    """Tell whether a call can have had this result."""
    return call.end is None or call.result is UNKNOWN or bool(call.result == result)


def _absent(state: State, call: Call) -> Iterator[State]:
    """Return what a call leads to if it finds no live entry."""
    match call.name, *call.arguments:
        case "set", value, deadline:
            result, after = call.result, state.written(value, deadline)
        case ("add", value, deadline) | ("cas", value, deadline, 0) | ("merge", value, deadline, _):
            result, after = True, state.written(value, deadline)
        case "incr", delta, initial, deadline:
            result, after = initial + delta, state.written(initial + delta, deadline)
        case "get" | "pop" | "get_and_touch", *_:
            result, after = ABSENT, state
        case "get_versioned", *_:
            result, after = (ABSENT, 0), state
        case _:  # contains, delete, replace, touch, cas
            result, after = False, state
    if _may_give(call, result):
        yield after


def _present(state: State, call: Call) -> Iterator[State]:
    """Return what a call leads to if it finds the entry live."""
    match call.name, *call.arguments:
        case "set", value, deadline:
            result, after = call.result, state.written(value, deadline)
        case "replace", value, deadline:
            result, after = True, state.written(value, deadline)
        case "incr", delta, _, _:
            result, after = state.value + delta, state.written(state.value + delta, state.deadline)
        case "touch", deadline:
            result, after = True, state.written(state.value, deadline)
        case "get_and_touch", deadline:
            result, after = state.value, state.written(state.value, deadline)
        case "delete", *_:
            result, after = True, state.removed()
        case "pop", *_:
            result, after = state.value, state.removed()
        case "get", *_:
            result, after = state.value, state
        case "contains", *_:
            result, after = True, state
        case "get_versioned", *_:
            known = call.end is not None and call.result is not UNKNOWN
            version = call.result[1] if known else state.version
            if version and not state.may_have(version):
                return
            result, after = (state.value, version), state._replace(version=version)
        case "cas", value, deadline, version:
            if version and state.may_have(version) and _may_give(call, True):
                yield state._replace(version=version).written(value, deadline)
            # a version that nobody has seen yet may be another one
            result, after = False, state
            if version and state.version == version:
                return
        case "merge", value, deadline, limit:
            # a version that nobody has seen yet is any above the floor
            older = (state.version or state.floor + 1) < limit
            if older and _may_give(call, True):
                yield state.written(value, deadline)
            result, after = False, state
            if state.version and older:
                return
        case _:  # add
            result, after = False, state
    if call.end is None and call.name in ("incr", "touch", "get_and_touch"):
        # broken off before the change itself: a repair gives the entry a new version
        yield state.written(state.value, state.deadline)
    if _may_give(call, result):
        yield after
