# mypy: ignore-errors
"""Values of the standard library that lie in containers as they do in Python: dates, times, zones,
Decimal, UUID. See docs/design/value-layout.md.

Only these very classes: a subclass is another type, and a zone with rules of its own (`zoneinfo`)
is code. Who has such a value has imported its module, so nothing is imported to write one.
Compiled, no line of Python runs as one is written: what contains it does not change meanwhile.
"""

from __future__ import annotations

import sys

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]
if not cython.compiled:
    from shmmap.memory._atomics import i64, u64
    from shmmap.memory.layout import (  # type: ignore[attr-defined]
        ITEM_BYTES,
        ITEM_BYTES8,
        ITEM_FEW,
        ITEM_HEAD_MOST,
        ITEM_OTHER,
        OTHER_AWARE_DATETIME,
        OTHER_AWARE_TIME,
        OTHER_CLASSES,
        OTHER_DATE,
        OTHER_DATETIME,
        OTHER_DECIMAL,
        OTHER_TIME,
        OTHER_TIMEDELTA,
        OTHER_TIMEZONE,
        OTHER_UUID,
    )
    from shmmap.values._octets import (
        octets_at,
        put8,
        put16,
        put32,
        put_octets,
        reserve,
        signed32,
        word16,
        word32,
    )

    def date_new(year, month, day):
        """Make a date; compiled, CPython's own call does it."""
        return class_of(OTHER_DATE)(year, month, day)

    def time_new(hour, minute, second, micros, zone, fold):
        """Make a time, likewise."""
        return class_of(OTHER_TIME)(hour, minute, second, micros, zone, fold=fold)

    def datetime_new(year, month, day, hour, minute, second, micros, zone, fold):
        """Make a datetime, likewise."""
        return class_of(OTHER_DATETIME)(
            year, month, day, hour, minute, second, micros, zone, fold=fold)

    def timedelta_new(days, seconds, micros):
        """Make a timedelta, likewise."""
        return class_of(OTHER_TIMEDELTA)(days, seconds, micros)


COMPILED = cython.compiled
# The modules that have them: first those in C, which nobody replaces to have tests travel in time.
_ORIGINS = (
    ("date", "_datetime", "datetime"), ("time", "_datetime", "datetime"),
    ("datetime", "_datetime", "datetime"), ("timedelta", "_datetime", "datetime"),
    ("timezone", "_datetime", "datetime"), ("Decimal", "_decimal", "decimal"),
    ("UUID", "uuid", "uuid"),
)
_classes = [None] * 7  # by code - 1; None: not met yet
_SAFETY = {0: b"\0", -1: b"\1"}  # by the value of UUID.is_safe; None: not known
_SAFE = {mark: value for value, mark in _SAFETY.items()}


def other_code(kind):
    """Return the code of a class; 0: it is none of these."""
    code: u64
    for code in range(OTHER_CLASSES):
        if _classes[code] is kind:
            return code + 1
    for code in range(OTHER_CLASSES):
        if _classes[code] is None and resolve(code) is kind:
            return code + 1
    return 0


def resolve(code):
    """Find a class, if its module is imported; None: it is not."""
    name, first, second = _ORIGINS[code]
    module = sys.modules.get(first)
    if module is None:
        module = sys.modules.get(second)
    found = None if module is None else getattr(module, name, None)
    _classes[code] = found
    return found


def class_of(code):
    """Return the class with that code; its module is imported, if it has to be."""
    found = _classes[code - 1]
    if found is None:
        __import__(_ORIGINS[code - 1][2])
        found = resolve(code - 1)
    return found


# -- writing --------------------------------------------------------------------------------


def zone_of(value, code):
    """Return the zone of a time or a datetime; None: it has none, or is neither."""
    return value.tzinfo if code in (OTHER_TIME, OTHER_DATETIME) else None


def is_own_zone(zone):
    """Tell whether a zone is one of those that are written."""
    return other_code(type(zone)) == OTHER_TIMEZONE


def put_count(writer, kind, count):
    """Write the head of an item whose length or count is not in the first byte."""
    if count < 1 << 8:
        put8(writer, kind)
        put8(writer, count)
    else:
        put8(writer, kind + 8)
        put32(writer, count)


def begin_bytes(writer, length):
    """Write the head of so many bytes, and reserve room for them."""
    if length < ITEM_FEW:
        put8(writer, ITEM_BYTES + length)
    else:
        put_count(writer, ITEM_BYTES8, length)
    reserve(writer, length + ITEM_HEAD_MOST)
    return 0


def put_bytes(writer, data):
    """Write bytes."""
    length: u64 = len(data)
    begin_bytes(writer, length)
    put_octets(writer, data, length)
    return 0


def begin_other(writer, code, length):
    """Write the head of a value with this code, of so many bytes."""
    reserve(writer, ITEM_HEAD_MOST)
    put8(writer, ITEM_OTHER)
    put8(writer, code)
    return begin_bytes(writer, length)


def put_other(writer, value, code, is_aware):
    """Write a value with this code, but for its zone; False: it cannot be written."""
    if code == OTHER_DECIMAL:
        return put_raw(writer, code, str(value).replace("e", "E").encode("ascii"))
    if code == OTHER_UUID:
        return put_uuid(writer, value)
    if code == OTHER_TIMEZONE:
        return put_zone(writer, value)
    if code == OTHER_TIMEDELTA:
        begin_other(writer, code, 12)
        put_span(writer, value)
    elif code == OTHER_DATE:
        begin_other(writer, code, 4)
        put_day(writer, value)
    elif code == OTHER_TIME:
        begin_other(writer, OTHER_AWARE_TIME if is_aware else OTHER_TIME, 6)
        put_clock(writer, value)
    else:
        begin_other(writer, OTHER_AWARE_DATETIME if is_aware else OTHER_DATETIME, 10)
        put_day(writer, value)
        put_clock(writer, value)
    return True


def put_raw(writer, code, data):
    """Write the bytes of a value with this code."""
    length: u64 = len(data)
    begin_other(writer, code, length)
    put_octets(writer, data, length)
    return True


def put_clock(writer, value):
    """Write a time of day."""
    micros: u64 = value.microsecond
    fold: u64 = value.fold
    put8(writer, value.hour | (fold << 7))
    put8(writer, value.minute)
    put8(writer, value.second)
    put16(writer, micros)
    put8(writer, micros >> 16)


def put_day(writer, value):
    """Write a date."""
    put16(writer, value.year)
    put8(writer, value.month)
    put8(writer, value.day)


def put_span(writer, value):
    """Write a timedelta."""
    days: i64 = value.days
    put32(writer, days)
    put32(writer, value.seconds)
    put32(writer, value.microseconds)


def put_zone(writer, value):
    """Write a timezone; False: it has parts of other classes."""
    parts: tuple = value.__getinitargs__()
    offset: object = parts[0]
    if len(parts) == 1 and not offset:
        return put_raw(writer, OTHER_TIMEZONE, b"U")
    if other_code(type(offset)) != OTHER_TIMEDELTA:
        return False
    name: bytes = b""
    if len(parts) > 1:
        if type(parts[1]) is not str:
            return False
        name = b"=" + parts[1].encode("utf-8", "surrogatepass")
    length: u64 = len(name)
    begin_other(writer, OTHER_TIMEZONE, 13 + length)
    put8(writer, 0x4F)  # "O"
    put_span(writer, offset)
    put_octets(writer, name, length)
    return True


def put_uuid(writer, value):
    """Write a UUID; False: it was made of other things."""
    number = value.int
    if type(number) is not int or number < 0 or number >= 1 << 128:
        return False
    safety = _SAFETY.get(value.is_safe._value_, b"")
    return put_raw(writer, OTHER_UUID, number.to_bytes(16, "big") + safety)


# -- reading --------------------------------------------------------------------------------


def is_aware_code(code):
    """Tell whether a zone follows the bytes of that code."""
    return code in (OTHER_AWARE_TIME, OTHER_AWARE_DATETIME)


def read_other_value(code, data, at, length, zone):
    """Return the value of these bytes. Raises ValueError, or what its class raises, where none
    gives them."""
    make_ready()
    if code in (OTHER_DATETIME, OTHER_AWARE_DATETIME) and length == 10:
        return datetime_new(
            word16(data, at), data[at + 2], data[at + 3], data[at + 4] & 0x7F, data[at + 5],
            data[at + 6], word16(data, at + 7) | (data[at + 9] << 16), zone, data[at + 4] >> 7,
        )
    if code == OTHER_DATE and length == 4:
        return date_new(word16(data, at), data[at + 2], data[at + 3])
    if code in (OTHER_TIME, OTHER_AWARE_TIME) and length == 6:
        return time_new(
            data[at] & 0x7F, data[at + 1], data[at + 2],
            word16(data, at + 3) | (data[at + 5] << 16), zone, data[at] >> 7,
        )
    if code == OTHER_TIMEDELTA and length == 12:
        return read_span(data, at)
    return read_rarer(code, octets_at(data, at, length))


def read_span(data, at):
    """Read a timedelta."""
    if word32(data, at + 4) >= 86_400 or word32(data, at + 8) >= 1_000_000:
        raise ValueError("more than a day, or than a second")
    return timedelta_new(signed32(data, at), word32(data, at + 4), word32(data, at + 8))


def read_rarer(code, data):
    """Read a value that takes longer."""
    if code == OTHER_TIMEZONE:
        return read_zone(data)
    if code == OTHER_DECIMAL:
        text = data.decode("ascii")
        made = class_of(OTHER_DECIMAL)(text)
        if str(made).replace("e", "E") != text:  # where a context traps nothing, anything is NaN
            raise ValueError("a Decimal is written in another way")
        return made
    if code == OTHER_UUID and len(data) in (16, 17):
        return read_uuid(data)
    raise ValueError(f"{len(data)} bytes are none of type {code}")


def read_zone(data):
    """Read a timezone."""
    kind = class_of(OTHER_TIMEZONE)
    if data == b"U":
        return kind.utc
    if data[:1] != b"O" or len(data) < 13 or data[13:14] not in (b"", b"="):
        raise ValueError("not a zone")
    offset: object = read_span(data, 1)
    if len(data) == 13:
        if not offset:
            raise ValueError("UTC is written in another way")
        return kind(offset)
    return kind(offset, data[14:].decode("utf-8", "surrogatepass"))


def read_uuid(data):
    """Read a UUID, as pickle does: what is called otherwise takes long."""
    kind = class_of(OTHER_UUID)
    safe = sys.modules["uuid"].SafeUUID
    made = object.__new__(kind)
    number = int.from_bytes(data[:16], "big")
    object.__setattr__(made, "int", number)
    known = safe._value2member_map_
    object.__setattr__(made, "is_safe", known[_SAFE[data[16:]]] if data[16:] else safe.unknown)
    return made


def make_ready():
    """Have CPython's own calls be ready, before the first of them."""
    if cython.compiled and not has_datetime_calls():
        import_datetime()
    return 0
