"""Keys of types that are used more rarely than those of `_keys_cy`, as bytes.

    date       its ordinal, 4 bytes
    datetime   microseconds since the year 1, 8 bytes: of its own clock, or, if it is aware, of UTC
    UUID       16 bytes
    Decimal    what no int and no float equals: "-12345E-7", without zeros at its end
    frozenset  as a tuple of its items, which are in the order of their bytes
    Enum       as a tuple: module, class, and the member's name; of a Flag, its number

Equal keys give equal bytes here, too. A Decimal that equals an int or a float is that one. Aware
datetimes are the instant that they stand for, whatever their zone (in the hour that a zone has
twice, the first one: Python has both equal there), and come back in UTC.

Members of an Enum are found again by name among the modules that are imported; nothing is imported
for them, since whoever can write to a map would choose what. Where a class or a member is not
there, a `MissingMember` stands for it, which is the same key.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import EntryTooLarge, MapCorrupted
from ..memory.layout import constants

if TYPE_CHECKING:
    from decimal import Decimal

K = constants()
DATE, DATETIME, INSTANT = K["KEY_DATE"], K["KEY_DATETIME"], K["KEY_INSTANT"]
UUID, DECIMAL, FROZENSET = K["KEY_UUID"], K["KEY_DECIMAL"], K["KEY_FROZENSET"]
MEMBER = K["KEY_MEMBER"]
LONGEST_DIGITS = 160_000  # of a Decimal: more than the longest key has as an int
_DAY_US = 86_400 * 10**6
_FIRST_US = _DAY_US  # 0001-01-01, the day 1, as `datetime` counts
_END_US = 3_652_060 * _DAY_US  # the day after 9999-12-31
Packed = tuple[int, bytes]
Parts = tuple[str, str, str | int]
ComparesAs = Callable[[object, type], bool]
PackItems = Callable[[Any, int], list[bytes]]
ReadItems = Callable[[bytes, int], tuple[list[bytes], list[Any]]]


class MissingMember:
    """A key that is a member of an Enum which this process does not have: its module is not
    imported, or has no such class or member. It is that key all the same, for lookups and deletes.

    Attributes:
        module: of the class.
        kind: the class's qualified name.
        member: the member's name, or, of a Flag, its number.
    """

    __slots__ = ("kind", "member", "module")

    def __init__(self, module: str, kind: str, member: str | int) -> None:
        self.module, self.kind, self.member = module, kind, member

    @property
    def parts(self) -> tuple[str, str, str | int]:
        """What it is told by."""
        return self.module, self.kind, self.member

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MissingMember) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)

    def __repr__(self) -> str:
        return f"<{self.kind}.{self.member} of {self.module}, which is not to be had here>"


class PackedKey(tuple[Any, ...]):
    """The stored form of a key, instead of the key: to compare two of them runs nobody's code. Its
    first item is one that no user's tuple has."""

    __slots__ = ()

    def __repr__(self) -> str:
        from ._keys_cy import unpack

        return repr(unpack(self[1], self[2]))


_MARK = object()


def packed_key(kind: int, data: bytes) -> PackedKey:
    """Make the key that stands for these bytes."""
    return PackedKey((_MARK, kind, data))


def pack_more(key: Any, depth: int, compares_as: ComparesAs, pack_items: PackItems) -> (
    Packed | None
):
    """Encode a key of one of these types, which lies so deep; None: it is of none of them.
    `pack_items` encodes what is in it."""
    if compares_as(key, frozenset):
        return FROZENSET, b"".join(sorted(pack_items(frozenset.__iter__(key), depth)))
    kind = type(key)
    if kind is MissingMember:
        return MEMBER, b"".join(pack_items(key.parts, depth))
    if issubclass(kind, enum.Enum):
        parts = _parts_of(key)
        return None if parts is None else (MEMBER, b"".join(pack_items(parts, depth)))
    for module, packer in _PACKERS.items():  # who has such a key has imported its module
        found = sys.modules.get(module)
        if found is not None:
            packed = packer(key, found, compares_as)
            if packed is not None:
                return packed
    return None


# -- dates and times ------------------------------------------------------------------------


def _pack_time(key: Any, datetime: Any, compares_as: ComparesAs) -> (
    Packed | None
):
    if compares_as(key, datetime.datetime):
        return _pack_datetime(key, datetime)
    if compares_as(key, datetime.date):
        return DATE, datetime.date.toordinal(key).to_bytes(4, "little")
    return None


def _pack_datetime(key: Any, datetime: Any) -> Packed:
    of = datetime.datetime
    # of the class itself, and `fold` 0, which is what hash() takes
    plain = of.combine(of.date(key), of.time(key).replace(fold=0), of.tzinfo.__get__(key))
    offset = plain.utcoffset()
    local = plain.replace(tzinfo=None) - of.min
    if offset is None:
        return DATETIME, _since(local).to_bytes(8, "little")
    instant = _since(local - offset)
    if not _FIRST_US <= instant < _END_US:
        raise TypeError(f"{key!r} cannot be a key: in UTC it is before year 1, or after 9999")
    return INSTANT, instant.to_bytes(8, "little")


def _since(span: Any) -> int:
    days: int = span.days + 1
    micros: int = (days * 86_400 + span.seconds) * 10**6 + span.microseconds
    return micros


def _read_time(kind: int, data: bytes) -> Any:
    import datetime

    number = int.from_bytes(data, "little")
    try:
        if kind == DATE and len(data) == 4:
            return datetime.date.fromordinal(number)
        if kind != DATE and len(data) == 8 and _FIRST_US <= number < _END_US:
            found: datetime.datetime = datetime.datetime.min + datetime.timedelta(
                microseconds=number - _FIRST_US)
            return found if kind == DATETIME else found.replace(tzinfo=datetime.timezone.utc)
    except (ValueError, OverflowError):
        pass
    raise MapCorrupted(f"{data!r} is no date or time")


# -- UUID and Decimal -----------------------------------------------------------------------


def _pack_uuid(key: Any, uuid: Any, compares_as: ComparesAs) -> Packed | None:
    if not compares_as(key, uuid.UUID):
        return None
    return UUID, uuid.UUID.int.__get__(key).to_bytes(16, "big")


def _pack_decimal(key: Any, decimal: Any, compares_as: ComparesAs) -> (
    Packed | None
):
    if not compares_as(key, decimal.Decimal):
        return None
    from ._keys_cy import pack

    sign, digits, exponent = decimal.Decimal.as_tuple(key)
    if exponent == "F":
        return pack(float("-inf" if sign else "inf"))
    if not isinstance(exponent, int):
        raise TypeError("NaN cannot be a key: it does not equal itself, so no lookup finds it")
    text = "".join(map(str, digits)).rstrip("0")
    exponent += len(digits) - len(text)
    if not text:
        return pack(0)
    if len(text) + max(exponent, 0) > LONGEST_DIGITS:
        raise EntryTooLarge(
            f"a Decimal of {len(text):,} digits and exponent {exponent:,} is too long for a key: "
            "use a digest of it, or its logarithm, and keep the long form in the value"
        )
    plain = _decimal_of(decimal, f"{'-' if sign else ''}{text}E{exponent}")
    if exponent >= 0:
        return pack(int(plain))
    near = float(plain)
    if decimal.Decimal.from_float(near) == plain:
        return pack(near)
    return DECIMAL, f"{'-' if sign else ''}{text}E{exponent}".encode()


def _decimal_of(decimal: Any, text: str) -> Decimal:
    """Make a Decimal, exactly, whatever the thread's context traps."""
    sign, rest = (1, text[1:]) if text.startswith("-") else (0, text)
    digits, _, exponent = rest.partition("E")
    made: Decimal = decimal.Decimal((sign, tuple(map(int, digits)), int(exponent)))
    return made


def _read_decimal(data: bytes) -> Decimal:
    import decimal

    try:
        found = _decimal_of(decimal, data.decode("ascii"))
        if _pack_decimal(found, decimal, lambda key, kind: True) == (DECIMAL, data):
            return found
    except (ValueError, ArithmeticError, EntryTooLarge, TypeError):
        pass
    raise MapCorrupted(f"{data[:100]!r} is no Decimal that is a key")


_PACKERS: dict[str, Callable[..., Packed | None]] = {
    "datetime": _pack_time, "uuid": _pack_uuid, "decimal": _pack_decimal,
}


# -- members of enumerations ------------------------------------------------------------------


def _parts_of(key: Any) -> Parts | None:
    """Return what a member is told by; None: it compares in a way of its own."""
    kind: Any = type(key)
    if kind.__hash__ is not enum.Enum.__hash__ or kind.__eq__ is not object.__eq__:
        return None
    member = key._value_ if isinstance(key, enum.Flag) else key._name_
    if _class_of(kind.__module__, kind.__qualname__) is not kind:
        raise TypeError(
            f"{key!r} cannot be a key: its class {kind.__module__}.{kind.__qualname__} is not "
            "found there by that name, so no other process could find it. Define it at the top of "
            "a module"
        )
    return kind.__module__, kind.__qualname__, member


def _class_of(module: str, name: str) -> Any:
    """Return what a name in an imported module stands for; None: nothing."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        try:
            found = vars(found).get(part)  # no code of the module's, as a property's
        except TypeError:
            return None
    return found


def _read_member(items: list[Any]) -> Any:
    if [type(item) for item in items] not in ([str, str, str], [str, str, int]):
        raise MapCorrupted(f"{items!r:.200} is no member of an Enum")
    missing = MissingMember(*items)
    kind = _class_of(missing.module, missing.kind)
    if not isinstance(kind, type) or not issubclass(kind, enum.Enum):
        return missing
    if issubclass(kind, enum.Flag) is not isinstance(missing.member, int):
        return missing
    if isinstance(missing.member, str):
        return kind._member_map_.get(missing.member, missing)
    try:
        return kind(missing.member)
    except ValueError:
        return missing


def unpack_more(kind: int, data: bytes, depth: int, read_items: ReadItems) -> Any:
    """Decode a key of one of these types; `read_items` gives the bytes of what is in it, and what
    they stand for. Raises MapCorrupted for bytes that none gives."""
    if kind == FROZENSET:
        parts, items = read_items(data, depth)
        if sorted(set(parts)) == parts:
            return frozenset(items)
        raise MapCorrupted("the items of a frozenset are not in their order")
    if kind == MEMBER:
        return _read_member(read_items(data, depth)[1])
    if kind in (DATE, DATETIME, INSTANT):
        return _read_time(kind, data)
    if kind == UUID and len(data) == 16:
        import uuid

        return uuid.UUID(bytes=data)
    if kind == DECIMAL:
        return _read_decimal(data)
    raise MapCorrupted(f"{len(data)} bytes of key type {kind} are not a key")
