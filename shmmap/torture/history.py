"""Histories of calls on a few shared keys, to be checked for linearizability.

While a window is open, every lane that comes by works on the window's keys and writes down
each call with its start and end. Two keys a window: one holds integers, one long bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .actor import Actor
from .ledger import (
    CALL,
    HISTORY,
    HISTORY_COUNT,
    HISTORY_WINDOW,
    NUMBER_OF,
    WINDOW,
    Ledger,
    now_ns,
)
from .linearizability import ABSENT, Call, find_violation, rounded_up

if TYPE_CHECKING:
    from ..checks import Value
    from ..map import ShmMap

WINDOW_KEYS = 2
NAMES = ("get", "set", "delete", "add", "replace", "incr", "cas", "get_versioned", "touch", "pop",
         "apply", "get_and_touch")
_TTL_NS = (0, 0, 0, 300_000, 3_000_000)  # 0: no deadline
_LONG = bytes(range(256)) * 40
_NOTHING = (1 << 64) - 1  # for no entry, where a word is a value
_CAS = NAMES.index("cas")
# a call in the lane's memory: key, name, value, ttl, version, start, end, result, its version, and
# which map the handle used before it, and after it


def window_key(window: int, key: int) -> str:
    """Return the name of a window's key."""
    return f"window-{window}-{key}"


def take_part(actor: Actor) -> None:
    """Work on the open window's keys while it is open and there is room to write down."""
    words, lane = actor.ledger.words, actor.lane
    window = words[WINDOW]
    if not window:
        return
    lane.words[CALL] = NUMBER_OF["history"]
    if words[WINDOW] == window:  # it cannot be collected from here on, until CALL is cleared
        if lane.words[HISTORY_WINDOW] != window:
            lane.words[HISTORY_COUNT] = 0
            lane.words[HISTORY_WINDOW] = window
        versions: dict[int, int] = {}
        while words[WINDOW] == window and lane.words[HISTORY_COUNT] < HISTORY:
            _call(actor, window, versions)
    lane.words[CALL] = 0


def _call(actor: Actor, window: int, versions: dict[int, int]) -> None:
    """Make one call and write it down."""
    rng, words = actor.rng, actor.lane.words
    key = int(rng.random() * WINDOW_KEYS)
    name = int(rng.random() * len(NAMES))
    if (NAMES[name] in ("incr", "apply") and key) or (name == _CAS and key not in versions):
        name = NAMES.index("get_versioned")
    value = actor.number() * 1000 + actor.lane.number
    ttl_ns = 0 if NAMES[name] in ("incr", "apply") else rng.choice(_TTL_NS)
    version = versions.pop(key) if name == _CAS else 0
    main = actor.maps.main
    at = actor.lane.log((key, name, value, ttl_ns, version, now_ns(), 0, 0, 0,
                         main.attachment.nonce, 0))
    result = actor.call_in_peace("history", _perform, main, NAMES[name],
                              window_key(window, key), _stored(key, value),
                              ttl_ns / 1e9 if ttl_ns else None, version)
    if NAMES[name] == "get_versioned":
        result, words[at + 8] = result
        versions[key] = words[at + 8]
    words[at + 10] = main.attachment.nonce
    words[at + 7] = _NOTHING if result is None else _number(result)
    words[at + 6] = now_ns()


def _perform(
    main: ShmMap, name: str, key: str, value: Value, ttl: float | None, version: int
) -> Value:
    if name in ("set", "add", "replace"):
        return getattr(main, name)(key, value, ttl)
    if name == "cas":
        return main.cas(key, value, version, ttl)
    if name == "incr":
        return main.incr(key, 3, 0, None)
    if name == "apply":
        return main.apply(key, lambda number: number + 5, 0)
    if name in ("touch", "get_and_touch"):
        return getattr(main, name)(key, ttl)
    if name == "pop":
        return main.pop(key, None)
    return getattr(main, name)(key)


def _stored(key: int, value: int) -> int | bytes:
    """Return the value that stands for a number: of the second key, a long one."""
    return value.to_bytes(8, "little") + _LONG if key else value


def _number(result: int | bytes) -> int:
    if isinstance(result, bytes):
        number = int.from_bytes(result[:8], "little")
        return number if result[8:] == _LONG else _NOTHING - 1  # torn: nobody wrote that
    return int(result)


def read_history(ledger: Ledger, window: int) -> tuple[list[list[Call]], int]:
    """Gather the calls of a window, key by key, from all lanes; tell in how many maps, one after
    the other, they were."""
    calls: list[list[Call]] = [[] for _ in range(WINDOW_KEYS)]
    maps: set[int] = set()
    for lane in ledger.lanes:
        if lane.words[HISTORY_WINDOW] == window:
            for entry in lane.history():
                calls[entry[0]].append(_as_call(entry, lane.number))
                maps.update(entry[9:])
    return calls, len(maps - {0})


def _as_call(entry: list[int], lane: int) -> Call:
    _, name, value, ttl_ns, version, start, end, result, its_version, *_ = entry
    last = end or start + 10**10
    deadline = (rounded_up(start + ttl_ns), rounded_up(last + ttl_ns)) if ttl_ns else None
    arguments: dict[str, tuple[Any, ...]] = {
        "set": (value, deadline), "add": (value, deadline), "replace": (value, deadline),
        "cas": (value, deadline, version), "incr": (3, 0, None), "touch": (deadline,),
        "apply": (5, 0, None), "get_and_touch": (deadline,),
    }
    given: Any = None
    if end:
        what = NAMES[name]
        if what in ("get", "pop", "get_versioned", "incr", "apply", "get_and_touch"):
            given = ABSENT if result == _NOTHING else result
        elif what != "set":
            given = bool(result)
        if what == "get_versioned":
            given = (given, its_version)
    judged = "incr" if NAMES[name] == "apply" else NAMES[name]  # which it does here
    return Call(start, end or None, judged, arguments.get(NAMES[name], ()), given, lane,
                (start, last))


def check_history(ledger: Ledger, window: int) -> tuple[int, list[str]]:
    """Check a closed window; return how many calls it had, and what is wrong with it."""
    histories, maps = read_history(ledger, window)
    problems = []
    for key, calls in enumerate(histories):
        start = min((call.start for call in calls), default=0)
        moves = [Call(start, None, "renew", worker=-1)] * (maps - 1)  # nobody knows when
        violation = find_violation(calls + moves)
        if violation is not None:
            problems.append(f"{window_key(window, key)}: {violation}")
    return sum(map(len, histories)), problems
