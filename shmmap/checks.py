"""What callers give: numbers in any of Python's forms, and keys to be named in errors."""

from __future__ import annotations

import operator
import os
from math import inf
from numbers import Real
from typing import Any

Key = Any  # of an entry: str, bytes, numbers, None, or tuples of these
Value = Any  # whatever a user stores, or has computed
SHOWN = 200  # characters of a key that an error shows
_FAR_S = 10**18  # seconds; more is more than any limit, and may have too many digits to print


def whole(value: object, what: str, kind: str = "an int") -> int:
    """Return an int for whatever is one exactly, numpy's integers among them. A bool is none."""
    if not _is_no_number(value):
        try:
            return int(operator.index(value))  # type: ignore[arg-type]
        except TypeError:
            pass
    raise TypeError(f"{what} must be {kind}, not {type(value).__name__}")


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
    """Return a plain number of seconds for any real number: numpy's, a Fraction. A bool is none,
    nor is a timedelta or a Decimal."""
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
    hint = ": give its .total_seconds()" if hasattr(value, "total_seconds") else ""
    raise TypeError(f"{what} must be seconds (int or float){or_none}, not {kind.__name__}{hint}")


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
