"""One entry of a side, whatever the cache is: to look at it, to compare it, to write it."""

from __future__ import annotations

import math
import pickle
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

import xxhash

from ..checks import Value
from ..errors import EntryTooLarge, MapFull, ShmMapError, ValueUnreadable
from ..map import ShmMap
from .operations import Place

NEVER = math.inf
ANSWERS = (KeyError, ValueError, TypeError)
"""What a side raises that refuses: it has written nothing."""
_NUMBERS = (bool, int, complex, str, bytes, type(None))


_watched = threading.local()


class Outcome(NamedTuple):
    """What a call returned, or raised; then `value` is the error's text."""

    value: Value
    error: type[BaseException] | None


NONE = Outcome(None, None)


def outcome(side: Any, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> Outcome:
    """Call a side's method; an error is an outcome, too. Meanwhile `is_watched`."""
    before, _watched.is_on = is_watched(), True
    try:
        return Outcome(getattr(side, name)(*given, **named), None)
    except BaseException as error:
        return Outcome(_text_of(error), type(error))
    finally:
        _watched.is_on = before


def is_watched() -> bool:
    """Tell whether this thread asks a side for a mirror: then a cache that would pass over an error
    of its map, as if there were nothing, is to raise it."""
    return getattr(_watched, "is_on", False)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # a driver's, that formats badly
        return ""


def look(side: Any, place: Place) -> Outcome:
    """Read an entry; None and KeyError both mean that there is none."""
    found = outcome(side, "get", (place.key,), _version(place))
    missing = found.error is not None and issubclass(found.error, KeyError)
    return Outcome(None, None) if missing else found


def _version(place: Place) -> dict[str, Any]:
    return {} if place.version is None else {"version": place.version}


def is_failure(found: Outcome) -> bool:
    """Tell whether a side could not answer. That there is no such key, or no such method, is an
    answer, and so is that what is there is no number, or cannot be unpickled."""
    error = found.error
    if error is None or issubclass(error, ValueUnreadable):
        return False
    return issubclass(error, ShmMapError) or not issubclass(error, (*ANSWERS, AttributeError))


def is_no_room(found: Outcome) -> bool:
    """Tell whether a side could not take what is too much for it; another write may be none."""
    return found.error is not None and issubclass(found.error, (EntryTooLarge, MapFull))


def equal(old: Outcome, new: Outcome) -> bool:
    """Tell whether two sides say the same: equal values of the same types, or errors of one type.
    What is only equal to itself is compared by its pickle."""
    if old.error is not None or new.error is not None:
        return old.error == new.error
    try:
        if _alike(old.value, new.value):
            return True
    except BaseException:  # an array, say, of which == gives no bool
        pass
    data = _pickled(old.value)
    return data is not None and data == _pickled(new.value)


def _alike(one: Any, other: Any) -> bool:
    """Tell whether two values are equal, and of equal types all the way down."""
    kind = type(one)
    if kind is not type(other):
        return False
    if kind in _NUMBERS:
        return bool(one == other)
    if kind is float:
        return bool(one == other or (one != one and other != other))
    if kind in (set, frozenset):
        return {(type(item), item) for item in one} == {(type(item), item) for item in other}
    if kind not in (list, tuple, dict) and one != other:
        return False
    state = getattr(one, "__dict__", None)  # a class's == may look at a part of it only
    if state and not _alike(state, other.__dict__):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, dict):
        kinds = {key: type(key) for key in one}
        return len(one) == len(other) and all(
            kinds.get(key) is type(key) and _alike(one[key], value)
            for key, value in other.items()
        )
    return True


class Verdict(Enum):
    """What a comparison comes to. CHANGING: the old side's value was another one at each look, so
    nobody can tell. FAILED: a side did not answer."""

    EQUAL = "equal"
    MISSING = "missing"
    DIFFERENT = "different"
    CHANGING = "changing"
    FAILED = "failed"


def judge(
    old: Any, place: Place, look_new: Callable[[], Outcome | None], looks: int, pause_s: float
) -> tuple[Verdict, Outcome, Outcome]:
    """Look at an entry until both sides say the same, so many times: a write may be under way."""
    first: Outcome | None = None
    found = new = NONE
    for again in range(looks):
        if again:
            time.sleep(pause_s)
        found = look(old, place)
        seen = look_new()
        if seen is None or is_failure(found):  # an old side that fails says nothing of the new one
            return Verdict.FAILED, found, NONE
        new = seen
        if equal(found, new):
            return Verdict.EQUAL, found, new
        if first is not None and not equal(first, found):
            return Verdict.CHANGING, found, new
        first = found
        if new == NONE:
            return Verdict.MISSING, found, new
    return Verdict.DIFFERENT, found, new


def digest(found: Outcome) -> str:
    """Return what tells a value from another one, and does not show it."""
    if found.error is not None:
        return found.error.__name__
    if found.value is None:
        return "missing"
    data = _pickled(found.value)
    if data is None:
        try:
            data = repr(found.value).encode("utf-8", "replace")
        except Exception:  # what is nested deeper than Python goes
            data = type(found.value).__qualname__.encode()
    return xxhash.xxh3_64_hexdigest(data)


def _pickled(value: Value) -> bytes | None:
    try:
        return pickle.dumps(value, 5)
    except Exception:
        return None


def put(side: Any, place: Place, value: Value, left: float) -> None:
    """Write an entry that has so many seconds left, whole ones but in a ShmMap; NEVER: it does not
    end, but by the side's default, where it has one. What has less than a second left is removed:
    nothing may outlive what it is a copy of."""
    if isinstance(side, ShmMap):
        side.set(place.key, value, ttl=None if left is NEVER else left)
    elif not hasattr(side, "set"):
        side[place.key] = value
    elif left is NEVER:
        side.set(place.key, value, **_version(place))
    elif left >= 1.0:
        side.set(place.key, value, int(left), **_version(place))
    else:
        remove(side, place)


def remove(side: Any, place: Place) -> None:
    """Remove an entry, if it is there."""
    if hasattr(side, "delete"):
        side.delete(place.key, **_version(place))
    else:
        side.pop(place.key, None)


def left(side: Any, place: Place) -> float | None:
    """Return the seconds that an entry has left; NEVER: it does not end; None: the side does not
    tell."""
    if not hasattr(side, "set"):  # a mapping; cachetools has some whose entries end
        return None if hasattr(side, "expire") else NEVER
    if hasattr(side, "pttl"):  # redis: exactly
        found = outcome(side, "pttl", (place.key,), _version(place))
        is_number = isinstance(found.value, int) and found.error is None
        seconds = NEVER if found.value == -1 else found.value / 1000 if is_number else 0
    elif hasattr(side, "ttl"):  # a ShmMap
        found = outcome(side, "ttl", (place.key,), _version(place))
        seconds = NEVER if found.value is None or found.value == -1 else found.value
    else:  # diskcache; others take no such argument
        found = outcome(side, "get", (place.key,), {"expire_time": True})
        if not (isinstance(found.value, tuple) and len(found.value) == 2):
            return None
        value, until = found.value
        seconds = NEVER if until is None and value is not None else until and until - time.time()
    told = found.error is None and isinstance(seconds, (int, float)) and seconds > 0
    return seconds if told else None
