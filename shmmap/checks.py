"""What callers give: numbers in any of Python's forms, and keys to be named in errors."""

from __future__ import annotations

import operator
import os
import sys
from math import inf
from numbers import Real
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    Seconds = float | timedelta  # of a ttl, a timeout, and the like

Key = Any  # of an entry: str, bytes, numbers, None, or tuples of these
Value = Any  # whatever a user stores, or has computed
SHOWN = 200  # characters of a key that an error shows
LONG_S = 3e9  # a ttl of so many seconds, 95 years, is none
_FAR_S = 10**18  # seconds; more is more than any limit, and may have too many digits to print


def whole(value: object, what: str, kind: str = "an int") -> int:
    """Return an int for whatever is one exactly, numpy's integers among them. A bool is none."""
    if not _is_no_number(value):
        try:
            return int(operator.index(value))  # type: ignore[arg-type]
        except TypeError:
            pass
    raise TypeError(f"{what} must be {kind}, not {type(value).__name__}")


def count(value: object, what: str, kind: str = "an int") -> int:
    """Return an int for whatever is one exactly, and for a float like 1e6 that is whole."""
    if not isinstance(value, str) and _is_whole(value):
        return int(value)  # type: ignore[call-overload, no-any-return]
    return whole(value, what, kind)


def _is_whole(value: object) -> bool:
    """Tell a float, numpy's among them, that equals an int."""
    return isinstance(value, float) and value.is_integer()


def number(value: object, what: str) -> int | float:
    """Return an int or a float of Python's own for any whole or real number: numpy's, a Fraction.
    A bool is none, nor is a Decimal, a complex or a timedelta."""
    kind = type(value)
    if kind is int or kind is float:
        return value  # type: ignore[return-value]
    if not _is_no_number(value):
        try:
            return int(operator.index(value))  # type: ignore[arg-type]
        except TypeError:
            pass
        if isinstance(value, Real):
            return float(value)
    raise TypeError(f"{what} must be a number (int or float), not {kind.__name__}")


def flag(value: object, what: str) -> bool:
    """Return a plain bool for a bool, numpy's among them."""
    if isinstance(value, bool):
        return value
    kind = type(value)
    if kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_"):
        return bool(value)
    raise TypeError(f"{what} must be a bool, not {kind.__name__}")


def _is_no_number(value: object) -> bool:
    """Tell a bool, and numpy's spans of time, which count as integers there."""
    return isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "m"


def seconds(value: object, what: str, or_none: str = "") -> int | float:
    """Return a plain number of seconds for a timedelta, and for any real number: numpy's, a
    Fraction. A bool is none, nor is a Decimal."""
    kind = type(value)
    if kind is float:
        return value  # type: ignore[return-value]
    if kind is int or not _is_no_number(value):
        try:
            number = int(operator.index(value))  # type: ignore[arg-type]
            return number if abs(number) <= _FAR_S else inf if number > 0 else -inf
        except TypeError:
            pass
        if isinstance(value, Real):
            try:
                return float(value)
            except OverflowError:  # a Fraction
                return inf if value > 0 else -inf  # type: ignore[operator]
        datetime = sys.modules.get("datetime")  # who has a timedelta has imported it
        if datetime is not None and isinstance(value, datetime.timedelta):
            return float(datetime.timedelta.total_seconds(value))
    raise TypeError(
        f"{what} must be seconds (int, float or timedelta){or_none}, not {kind.__name__}"
    )


# what other packages call a parameter: what it is here
OURS = {
    "max_idle": "max_age=, which counts from an entry's last write",
    "maxsize": "capacity= (entries) or size= (bytes)", "max_size": "capacity= or size=",
    "maxlen": "capacity= (entries)", "max_entries": "capacity= (entries)",
    "max_length": "capacity= (entries)", "maxmemory": "size= (bytes)",
    "max_memory": "size= (bytes)", "size_limit": "size= (bytes)", "map_size": "size= (bytes)",
    "memory_size": "size= (bytes)", "timeout": "ttl= (until an entry expires), or lock_timeout= "
    "(how long to wait for a shard's lock)", "ex": "ttl=", "px": "ttl= (seconds, not milliseconds)",
    "expire": "ttl=", "expires": "ttl=", "expiry": "ttl=", "expiration": "ttl=", "exp": "ttl=",
    "expire_time": "ttl=", "time": "ttl=", "default_timeout": "ttl=", "default_ttl": "ttl=",
    "lifetime": "ttl=", "time_to_live": "ttl=", "ttl_seconds": "ttl=",
    "policy": 'on_full="evict"', "eviction": 'on_full="evict"', "evict": 'on_full="evict"',
    "eviction_policy": 'on_full="evict"', "lru": 'on_full="evict"', "serializer": "codec=",
    "serialiser": "codec=", "pickler": "codec=", "disk": "codec=", "num_shards": "shards=",
    "nshards": "shards=", "permissions": "mode=", "perm": "mode=", "create": "ShmMap.create(name)",
    "overwrite": "fresh=True", "recreate": "fresh=True", "auto_unlink": "ephemeral=True",
}


def refuse_unknown(function: str, unknown: Iterable[str]) -> NoReturn:
    """Raise the TypeError for keyword arguments that a function does not take: with the name that
    each has here, where another package's is known."""
    told = [
        f"{name!r}" + (f" (here it is {OURS[name]})" if name in OURS else "") for name in unknown
    ]
    raise TypeError(
        f"{function} got {'an ' if len(told) == 1 else ''}unexpected keyword argument"
        f"{'s' if len(told) > 1 else ''} {', '.join(told)}"
    )


def shown(key: object) -> str:
    """Write a key for an error, whatever its length; an int may have too many digits to print."""
    try:
        text = repr(key)
    except ValueError:
        text = hex(key) if isinstance(key, int) else f"a {type(key).__name__}"
    except Exception:  # somebody's own __repr__
        text = f"a {type(key).__name__}"
    if len(text) > SHOWN:
        text = f"{text[: SHOWN // 2]}...{text[-20:]} ({len(text):,} characters)"
    return text


def path_of(path: Value) -> Value:
    """Do what os.fspath does, which calls a lack of memory a wrong type."""
    if isinstance(path, (str, bytes)):
        return path
    try:
        convert = type(path).__fspath__
    except AttributeError:
        return os.fspath(path)  # says what is wrong
    return convert(path)


def refuse_one_key(keys: object) -> None:
    """Refuse a text where several keys are asked for: its letters would be taken for them."""
    if isinstance(keys, (str, bytes)):
        raise TypeError(f"{shown(keys)} is one key: give a list of keys, [{shown(keys)}]")


def refuse_coroutine(value: object, where: str, instead: str) -> None:
    """Refuse what a coroutine function returns where it is called as a plain one."""
    if isinstance(value, CoroutineType):
        value.close()
        raise TypeError(f"{where}: the function is a coroutine function: write `{instead}`")
