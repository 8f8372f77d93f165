"""Values of the standard library that lie in containers as they do in Python, as bytes.

    date       year 2 bytes, month, day
    time       hour, minute, second, microsecond 3 bytes, zone
    datetime   a date's bytes and a time's; the highest bit of the hour: fold
    timedelta  days 4 bytes, seconds 4, microseconds 4
    zone       nothing: none; "U": UTC; "O" and a timedelta: that offset; then, perhaps, a name
    Decimal    its digits, as str() has them, with an "E"
    UUID       16 bytes, and one if it is known whether it was made safely

Only these very classes: a subclass is another type, and a zone with rules of its own (`zoneinfo`)
is code. Who has such a value has imported its module, so nothing is imported to write one.
"""

from __future__ import annotations

import importlib
import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import MapCorrupted

if TYPE_CHECKING:
    from datetime import date, datetime, time, timedelta, tzinfo
    from decimal import Decimal
    from uuid import UUID

_DATE, _TIME, _DATETIME, _TIMEDELTA, _ZONE, _DECIMAL, _UUID = range(1, 8)
_DAY = struct.Struct("<HBB")
_CLOCK = struct.Struct("<BBBHB")  # hour and fold, minute, second, microseconds: low 16 bits, high 8
_SPAN = struct.Struct("<iII")
_FOLD = 0x80
_UTC, _OFFSET = b"U", b"O"
_SAFETY = {0: b"\0", -1: b"\1"}  # by the value of UUID.is_safe; None: not known
_SAFE = {mark: value for value, mark in _SAFETY.items()}
Packer = Callable[[Any], "bytes | None"]
Reader = Callable[[bytes], object]

_MODULES = {"Decimal": "decimal", "UUID": "uuid", "SafeUUID": "uuid"}
_PLAIN = (str, int, float, bool, bytes, type(None))
_CONTAINERS = (dict, list, tuple, set, frozenset)
_DEEPEST = 100
# In a dict, not by names: what makes tests travel in time replaces those.
_known: dict[type, tuple[int, Packer]] = {}
_classes: dict[str, Any] = {}


def pack_other(value: object) -> tuple[int, bytes] | None:
    """Encode a value of one of these types as (code, bytes); None: it is of none of them."""
    found = _known.get(type(value)) or _find(type(value))
    if found is None:
        return None
    code, packer = found
    data = packer(value)
    return None if data is None else (code, data)


def unpack_other(code: int, data: bytes) -> object:
    """Return the value that was encoded. Raises MapCorrupted for bytes that none gives."""
    reader = _READERS.get(code)
    if reader is None:
        raise MapCorrupted(f"there is no type {code}")
    try:
        return reader(data)
    except (struct.error, LookupError, ValueError, TypeError, ArithmeticError) as error:
        raise MapCorrupted(f"{data[:40]!r} is none of type {code}: {error}") from None


def why_not(value: Any, what: str, depth: int = 0) -> str:
    """Name what in a value is the reason that it cannot be written as items; `what`: it is, where
    it contains nothing."""
    if depth > _DEEPEST:
        return "what is nested so deeply, or contains itself,"
    kind = type(value)
    inside: Any = ()
    if kind is dict:
        inside = [*value.keys(), *value.values()]
    elif kind in (list, tuple, set, frozenset):
        inside = list(value)
    for item in inside:
        if type(item) not in _PLAIN and pack_other(item) is None:
            found = why_not(item, type(item).__name__, depth + 1)
            if found:
                return found if depth else f"{found} in a {kind.__name__}"
    return "" if kind in _CONTAINERS and depth else what


def _class(name: str) -> Any:
    """Return one of these classes by its name."""
    found = _classes.get(name)
    if found is None:
        module = _MODULES.get(name, "datetime")
        found = _classes[name] = getattr(importlib.import_module(module), name)
    return found


def _find(kind: type) -> tuple[int, Packer] | None:
    """Look whether it is one of these classes; remember those that are."""
    for module, name, code, packer in _PACKERS:
        if kind.__name__ != name:
            continue
        for origin in (f"_{module}", module):  # the former is never replaced
            if getattr(sys.modules.get(origin), name, None) is kind:
                _known[kind] = code, packer
                return code, packer
    return None


# -- dates and times ------------------------------------------------------------------------


def _pack_date(value: date) -> bytes:
    return _DAY.pack(value.year, value.month, value.day)


def _pack_clock(value: time | datetime) -> bytes:
    micros = value.microsecond
    return _CLOCK.pack(value.hour | (value.fold * _FOLD), value.minute, value.second,
                       micros & 0xFFFF, micros >> 16)


def _pack_time(value: time) -> bytes | None:
    zone = _pack_tzinfo(value.tzinfo)
    return None if zone is None else _pack_clock(value) + zone


def _pack_datetime(value: datetime) -> bytes | None:
    zone = _pack_tzinfo(value.tzinfo)
    return None if zone is None else _pack_date(value) + _pack_clock(value) + zone


def _pack_timedelta(value: timedelta) -> bytes:
    return _SPAN.pack(value.days, value.seconds, value.microseconds)


def _pack_tzinfo(zone: tzinfo | None) -> bytes | None:
    """Encode a zone, or that there is none; None: it has rules of its own."""
    if zone is None:
        return b""
    found = _known.get(type(zone)) or _find(type(zone))
    return _pack_zone(zone) if found is not None and found[0] == _ZONE else None


def _pack_zone(zone: Any) -> bytes | None:
    offset, *name = zone.__getinitargs__()
    if not name and not offset:
        return _UTC
    if name and type(name[0]) is not str:
        return None
    said = f"={name[0]}" if name else ""
    return _OFFSET + _pack_timedelta(offset) + said.encode("utf-8", "surrogatepass")


def _read_date(data: bytes) -> Any:
    return _class("date")(*_DAY.unpack(data))


def _read_clock(data: bytes) -> tuple[int, int, int, int, int]:
    """Return what `time` and `datetime` take, and the fold."""
    hour, minute, second, low, high = _CLOCK.unpack(data)
    return hour & ~_FOLD, minute, second, low | high << 16, hour // _FOLD


def _read_time(data: bytes) -> Any:
    *clock, fold = _read_clock(data[: _CLOCK.size])
    return _class("time")(*clock, tzinfo=_read_tzinfo(data[_CLOCK.size :]), fold=fold)


def _read_datetime(data: bytes) -> Any:
    start = _DAY.size + _CLOCK.size
    *clock, fold = _read_clock(data[_DAY.size : start])
    return _class("datetime")(*_DAY.unpack(data[: _DAY.size]), *clock,
                             tzinfo=_read_tzinfo(data[start:]), fold=fold)


def _read_timedelta(data: bytes) -> Any:
    days, seconds, micros = _SPAN.unpack(data)
    if seconds >= 86_400 or micros >= 10**6:
        raise ValueError("more than a day, or than a second")
    return _class("timedelta")(days, seconds, micros)


def _read_tzinfo(data: bytes) -> Any:
    return _read_zone(data) if data else None


def _read_zone(data: bytes) -> Any:
    if data == _UTC:
        return _class("timezone").utc
    end = 1 + _SPAN.size
    if data[:1] != _OFFSET or data[end : end + 1] not in (b"", b"="):
        raise ValueError("not a zone")
    offset = _read_timedelta(data[1:end])
    if len(data) == end:
        if not offset:
            raise ValueError("UTC is written in another way")
        return _class("timezone")(offset)
    return _class("timezone")(offset, data[end + 1 :].decode("utf-8", "surrogatepass"))


# -- Decimal and UUID -----------------------------------------------------------------------


def _text_of(value: Decimal) -> str:
    """Write it as str() does, whatever this thread's context says of letters."""
    return str(value).replace("e", "E")


def _pack_decimal(value: Decimal) -> bytes:
    return _text_of(value).encode("ascii")


def _read_decimal(data: bytes) -> Decimal:
    text = data.decode("ascii")
    made: Decimal = _class("Decimal")(text)
    if _text_of(made) != text:  # where a context traps nothing, anything is NaN
        raise ValueError("it is written in another way")
    return made


def _pack_uuid(value: Any) -> bytes | None:
    number, safety = value.int, value.is_safe._value_
    if type(number) is not int or not 0 <= number < 1 << 128:
        return None
    return number.to_bytes(16, "big") + _SAFETY.get(safety, b"")


def _read_uuid(data: bytes) -> UUID:
    if len(data) not in (16, 17):
        raise ValueError("not a UUID")
    kind, safe = _class("UUID"), _class("SafeUUID")
    made: UUID = object.__new__(kind)  # as pickle does: what is called otherwise takes long
    object.__setattr__(made, "int", int.from_bytes(data[:16], "big"))
    object.__setattr__(made, "is_safe", safe(_SAFE[data[16:]]) if data[16:] else safe.unknown)
    return made


_PACKERS: tuple[tuple[str, str, int, Packer], ...] = (
    ("datetime", "date", _DATE, _pack_date), ("datetime", "time", _TIME, _pack_time),
    ("datetime", "datetime", _DATETIME, _pack_datetime),
    ("datetime", "timedelta", _TIMEDELTA, _pack_timedelta),
    ("datetime", "timezone", _ZONE, _pack_zone), ("decimal", "Decimal", _DECIMAL, _pack_decimal),
    ("uuid", "UUID", _UUID, _pack_uuid),
)
_READERS: dict[int, Reader] = {
    _DATE: _read_date, _TIME: _read_time, _DATETIME: _read_datetime, _TIMEDELTA: _read_timedelta,
    _ZONE: _read_zone, _DECIMAL: _read_decimal, _UUID: _read_uuid,
}
