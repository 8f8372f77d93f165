"""The two sides of a Mirror: which operations there are, what keys they are about, how to look at a
key and to write it, whatever the cache is.
"""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

import xxhash

from .checks import Key, Value
from .errors import ShmMapError, ValueUnreadable
from .map import ShmMap

READS = frozenset({
    "get", "__getitem__", "__contains__", "get_many", "get_dict", "has", "has_key", "exists",
    "mget",
})
WRITES = frozenset({
    "set", "__setitem__", "__delitem__", "delete", "pop", "add", "incr", "decr", "inc", "dec",
    "incrby", "decrby", "set_many", "delete_many", "touch", "clear", "setdefault", "update",
    "expire", "setex", "mset", "replace", "incr_version", "decr_version", "flushdb",
})
COMPARED = frozenset({
    "add", "incr", "decr", "inc", "dec", "incrby", "decrby", "pop", "setdefault",
})
"""Writes of which both sides return the same, if they are equal."""
OF_ALL = frozenset({"clear", "flushdb"})
_OF_MANY = frozenset({"set_many", "mset", "update", "delete_many", "get_many", "get_dict", "mget"})
_ANSWERS = (KeyError, ValueError, TypeError)


class Outcome(NamedTuple):
    """What a call returned, or raised; then `value` is the error's text."""

    value: Value
    error: type[BaseException] | None


def call(side: Any, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> Value:
    """Do an operation on a side."""
    return getattr(side, name)(*given, **named)


def outcome(side: Any, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> Outcome:
    """Do it; an error is an outcome, too."""
    try:
        return Outcome(call(side, name, given, named), None)
    except Exception as error:
        return Outcome(str(error), type(error))


def lasting(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments that can be gone through twice: the old side would use an iterator up."""
    return tuple(list(one) if hasattr(one, "__next__") else one for one in given)


def keys_of(name: str, given: tuple[Any, ...], named: dict[str, Any]) -> list[Key]:
    """List the keys that an operation is about, as far as they can be told: what is no key is for
    the sides to refuse."""
    try:
        keys = _keys_of(name, given, named)
        hash(tuple(keys))
        return keys
    except (TypeError, ValueError, IndexError):
        return []


def _keys_of(name: str, given: tuple[Any, ...], named: dict[str, Any]) -> list[Key]:
    if name in OF_ALL:
        return []
    if not given:
        return [named["key"]] if "key" in named else list(named) if name == "update" else []
    first = given[0]
    if name in ("exists", "delete") and len(given) > 1:  # as redis-py has them
        return list(given)
    if name not in _OF_MANY:
        return [first]
    if isinstance(first, dict):
        return list(first)
    many = given if len(given) > 1 or isinstance(first, (str, bytes)) else first
    return [one[0] if name == "update" else one for one in many]


def look(side: Any, key: Key) -> Outcome:
    """Read a key; None and KeyError both mean that there is none."""
    found = outcome(side, "get", (key,), {})
    missing = found.error is not None and issubclass(found.error, KeyError)
    return Outcome(None, None) if missing else found


def is_failure(found: Outcome) -> bool:
    """Tell whether a side could not answer. That there is no such key is an answer, and so is that
    what is there is no number, or cannot be unpickled."""
    error = found.error
    if error is None or issubclass(error, ValueUnreadable):
        return False
    return issubclass(error, ShmMapError) or not issubclass(error, _ANSWERS)


def is_miss(found: Outcome, given: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Tell whether a read found nothing: None, False, what was given as the default, an error."""
    if found.error is not None or found.value is None or found.value is False:
        return True
    return any(found.value is default for default in (*given[1:], *named.values()))


def equal(old: Outcome, new: Outcome) -> bool:
    """Tell whether two sides say the same: equal values of one type, or errors of one type."""
    if old.error is not None or new.error is not None:
        return old.error == new.error
    try:
        return type(old.value) is type(new.value) and bool(old.value == new.value)
    except Exception:  # an array, say, of which == gives no bool
        return digest(old) == digest(new)


def digest(found: Outcome) -> str:
    """Return what tells a value from another one, and does not show it."""
    if found.error is not None:
        return found.error.__name__
    if found.value is None:
        return "missing"
    try:
        data = pickle.dumps(found.value, 5)
    except Exception:
        data = repr(found.value).encode("utf-8", "replace")
    return xxhash.xxh3_64_hexdigest(data)


def put(side: Any, key: Key, value: Value, left: float | None) -> None:
    """Write a key, with so many seconds to live; None: as long as the side's default says."""
    if isinstance(side, ShmMap):
        side.set(key, value, ttl=left)
    elif not hasattr(side, "set"):
        side[key] = value
    elif left is None:
        side.set(key, value)
    else:
        side.set(key, value, max(1, round(left)))


def remove(side: Any, key: Key) -> None:
    """Remove a key, if it is there."""
    if hasattr(side, "delete"):
        side.delete(key)
    else:
        side.pop(key, None)


def left(side: Any, key: Key) -> float | None:
    """Return the seconds that a key has left, if the side tells, and it ends."""
    try:
        found = side.ttl(key)
    except Exception:
        return None
    return found if isinstance(found, (int, float)) and found > 0 else None
