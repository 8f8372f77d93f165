"""One entry of a side, whatever the cache is: to look at it, to compare it, to write it."""

from __future__ import annotations

import math
import pickle
import time
from typing import Any, NamedTuple

import xxhash

from ..checks import Value
from ..errors import ShmMapError, ValueUnreadable
from ..map import ShmMap
from .operations import Place

NEVER = math.inf
ANSWERS = (KeyError, ValueError, TypeError)
"""What a side raises that refuses: it has written nothing."""
_NUMBERS = (bool, int, complex, str, bytes, type(None))


class Outcome(NamedTuple):
    """What a call returned, or raised; then `value` is the error's text."""

    value: Value
    error: type[BaseException] | None


def outcome(side: Any, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> Outcome:
    """Call a side's method; an error is an outcome, too."""
    try:
        return Outcome(getattr(side, name)(*given, **named), None)
    except BaseException as error:
        return Outcome(str(error), type(error))


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


def equal(old: Outcome, new: Outcome) -> bool:
    """Tell whether two sides say the same: equal values of the same types, or errors of one type.
    What is only equal to itself, as NaN, is compared by its pickle."""
    if old.error is not None or new.error is not None:
        return old.error == new.error
    try:
        if _alike(old.value, new.value):
            return True
    except Exception:  # an array, say, of which == gives no bool
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
    if kind in (list, tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    if kind is dict:
        kinds = {key: type(key) for key in one}
        return len(one) == len(other) and all(
            kinds.get(key) is type(key) and _alike(one[key], value)
            for key, value in other.items()
        )
    if kind in (set, frozenset):
        return {(type(item), item) for item in one} == {(type(item), item) for item in other}
    return bool(one == other)


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


def copy(place: Place, value: Value, old: Any, new: Any) -> None:
    """Write on the new side what the old one has, to end when it ends there. Where the old side
    does not tell when that is, nothing is left on the new one: nothing may outlive what it is a
    copy of."""
    left = _left(old, place)
    if left is NEVER:
        _put(new, place, value)
    elif left is not None and isinstance(new, ShmMap):
        new.set(place.key, value, ttl=left)
    elif left is not None and left >= 1.0 and hasattr(new, "set"):
        new.set(place.key, value, int(left), **_version(place))
    else:
        remove(new, place)


def _put(side: Any, place: Place, value: Value) -> None:
    """Write an entry that does not end; or ends as the side's default says, where it has one."""
    if isinstance(side, ShmMap):
        side.set(place.key, value, ttl=None)
    elif hasattr(side, "set"):
        side.set(place.key, value, **_version(place))
    else:
        side[place.key] = value


def remove(side: Any, place: Place) -> None:
    """Remove an entry, if it is there."""
    if hasattr(side, "delete"):
        side.delete(place.key, **_version(place))
    else:
        side.pop(place.key, None)


def _left(side: Any, place: Place) -> float | None:
    """Return the seconds that an entry has left; NEVER: it does not end; None: the side does not
    tell."""
    if not hasattr(side, "set"):  # a mapping
        return NEVER
    if hasattr(side, "ttl"):  # a ShmMap, redis
        found = outcome(side, "ttl", (place.key,), {})
        left = NEVER if found.value is None or found.value == -1 else found.value
    else:  # diskcache; others take no such argument
        found = outcome(side, "get", (place.key,), {"expire_time": True})
        if not (isinstance(found.value, tuple) and len(found.value) == 2):
            return None
        value, until = found.value
        left = NEVER if until is None and value is not None else until and until - time.time()
    return left if found.error is None and isinstance(left, (int, float)) and left > 0 else None
