"""The operations that a Mirror knows: what entries each is about, and what it returns of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

from ..checks import Key, Value

_MANY_READ = frozenset({"get_many", "get_dict", "mget"})
READS = frozenset({
    "get", "__getitem__", "__contains__", "has", "has_key", "exists", *_MANY_READ,
})
OF_ALL = frozenset({"clear", "flushdb"})
_MANY_WRITTEN = frozenset({"set_many", "mset", "update", "delete_many"})
_SAME_ANSWERS = frozenset({
    "add", "incr", "decr", "inc", "dec", "incrby", "decrby", "pop", "setdefault", "incr_version",
    "decr_version", "setnx",
})
_COPIED = frozenset({  # not done by the new side, too: it is made like the old one afterwards
    "append", "expireat", "get_or_set", "getdel", "getex", "getset", "incrbyfloat", "persist",
    "pexpire", "pexpireat", "psetex", "setrange",
})
WRITES = frozenset({
    "set", "__setitem__", "__delitem__", "delete", "unlink", "touch", "expire", "setex", "replace",
    *OF_ALL, *_MANY_WRITTEN, *_SAME_ANSWERS, *_COPIED,
})
READERS = frozenset({  # not mirrored, and nothing is missed by that
    "check", "close", "copy", "dbsize", "info", "items", "iter", "iterkeys", "keys", "ping", "pttl",
    "scan", "scan_iter", "stats", "strlen", "ttl", "type", "values", "volume",
})
_OF_MANY = _MANY_READ | _MANY_WRITTEN
_ALL_ARE_KEYS = frozenset({"exists", "delete", "unlink", "touch"})  # of redis-py
_KEY_NAMES = ("key", "name")
_MANY_NAMES = ("keys", "mapping", "data")
_ONE_STEP = {"incr_version": 1, "decr_version": -1}


class Place(NamedTuple):
    """Where an entry is: its key, and its version in a cache that has these, as Django's have.

    Caches that make a text of each key, as redis and Django do, have one entry for 1 and "1": so
    its place has the text. So have the versions.
    """

    key: Key
    version: str | None = None


class Operation:
    """One method of the old side's.

    Args:
        side: the old side.
        name: the method's, one of READS and WRITES.

    Attributes:
        clears: whether it is about everything.
        has_same_answer: whether both sides return the same, if they are equal.
        is_of_many: whether it is about several entries: an error may have come after some.
        is_copied: whether the new side is made like the old one afterwards, in place of the call.
    """

    __slots__ = ("_base", "_takes_many", "_text", "_version_at", "clears", "has_same_answer",
                 "is_copied", "is_of_many", "name")

    def __init__(self, side: Any, name: str) -> None:
        self.name = name
        self.clears = name in OF_ALL
        self.has_same_answer = name in _SAME_ANSWERS
        self.is_of_many = name in _OF_MANY
        self.is_copied = name in _COPIED
        try:
            parameters = list(inspect.signature(getattr(side, name)).parameters.values())
        except (AttributeError, TypeError, ValueError):  # of C, without one
            parameters = []
        self._takes_many = any(one.kind is one.VAR_POSITIONAL for one in parameters)
        names = [one.name for one in parameters]
        self._version_at = names.index("version") if "version" in names else None
        self._text: Callable[[Key], Key] | None = None
        if hasattr(side, "make_key"):  # Django
            self._text = str
        elif hasattr(side, "mget"):  # redis
            self._text = _text
        self._base = getattr(side, "version", 1)  # Django's word for the default

    def lasting(
        self, given: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return arguments whose keys can be gone through twice: the old side would use an
        iterator up. Values are left as they are."""
        if self.name not in _OF_MANY:
            return given, named
        if given and hasattr(given[0], "__next__"):
            given = (list(given[0]), *given[1:])
        if self.name != "update":
            for name in _MANY_NAMES:
                if hasattr(named.get(name), "__next__"):
                    named = {**named, name: list(named[name])}
        return given, named

    def places(self, given: tuple[Any, ...], named: dict[str, Any]) -> list[Place] | None:
        """List the entries that it is about; None: that cannot be told. What is no key is for the
        sides to refuse."""
        if self.clears:
            return []
        try:
            keys = list(self._keys(given, named))
            if self._text is not None:
                keys = [self._text(key) for key in keys]
            if not all(map(_is_plain, keys)):
                return None
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):  # not as it is asked
            return None
        if self._version_at is None:
            return [Place(key) for key in keys]
        version = named.get("version")
        if version is None and len(given) > self._version_at:
            version = given[self._version_at]
        if version is None:
            version = self._base
        versions = [version]
        if self.name in _ONE_STEP:
            step = named.get("delta", given[1] if len(given) > 1 else 1)
            versions.append(version + step * _ONE_STEP[self.name])
        return [Place(key, str(version)) for version in versions for key in keys]

    def _keys(self, given: tuple[Any, ...], named: dict[str, Any]) -> Iterable[Key]:
        name = self.name
        if name == "update":
            return [*(_listed(given[0], pairs=True) if given else ()), *named]
        if name in _OF_MANY:
            first = given[0] if given else _one_of(named, _MANY_NAMES, ())
            more = given[1:] if self._takes_many else ()
            return [*_listed(first), *more]
        if name in _ALL_ARE_KEYS and self._takes_many and given:
            return given
        return [given[0] if given else _one_of(named, _KEY_NAMES)]

    def misses(
        self, answer: Value, places: list[Place], given: tuple[Any, ...], named: dict[str, Any]
    ) -> bool:
        """Tell whether a read has not found all that it asked for: None, False, what was given as
        the default, fewer than were asked for."""
        if answer is None or answer is False:
            return True
        if self.name in _MANY_READ:
            if isinstance(answer, dict):
                return len(answer) < len(set(places)) or any(
                    one is None for one in answer.values())
            return isinstance(answer, (list, tuple)) and any(one is None for one in answer)
        if self.name == "exists":  # redis counts; others say True
            return isinstance(answer, int) and answer is not True and answer < len(places)
        return any(answer is default for default in (*given[1:], *named.values()))


def _text(key: Key) -> Key:
    """Return what redis makes of a key."""
    if isinstance(key, bytes):
        try:
            return key.decode()
        except UnicodeDecodeError:
            return key
    return str(key) if isinstance(key, (int, float)) else key


_PLAIN = (str, bytes, int, float, type(None), date, UUID, Decimal, Enum)


def _is_plain(key: Key) -> bool:
    """Tell whether a key is of a kind that maps have: others may compare in ways of their own."""
    if isinstance(key, (tuple, frozenset)):
        return all(map(_is_plain, key))
    return isinstance(key, _PLAIN)


def _one_of(named: dict[str, Any], names: tuple[str, ...], *default: Any) -> Any:
    """Return the first argument that was given by one of these names. KeyError: none was."""
    for name in names:
        if name in named:
            return named[name]
    return default[0] if default else named[names[0]]


def _listed(many: Any, *, pairs: bool = False) -> list[Key]:
    """List the keys of a mapping, of pairs, or of a collection; a scalar is one key."""
    if hasattr(many, "keys"):
        return list(many.keys())
    if isinstance(many, (str, bytes)) or not isinstance(many, Iterable):
        return [many]
    if not pairs:
        return list(many)
    keys: list[Key] = []
    with suppress(TypeError, ValueError):  # it is refused there, and all before is written
        for key, _ in many:
            keys.append(key)
    return keys
