"""Keys as bytes: equal keys and no others give equal bytes, and come back."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import os
import struct
import subprocess
import sys
import uuid
import zoneinfo
from collections import namedtuple
from decimal import Decimal
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmmap import EntryTooLarge, MapCorrupted, cached
from shmmap.memory import _hash_cy
from shmmap.memory.layout import constants
from shmmap.values import _keys_cy
from shmmap.values.more_keys import MissingMember

K = constants()
class Colour(enum.Enum):
    RED = 1
    GREEN = "green"
    VERMILION = 1  # an alias


class Parts(enum.Flag):
    A = 1
    B = 2
    C = 4


zones = st.integers(-1439, 1439).map(
    lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes)))
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**65), 2**65), st.binary(),
    st.floats(allow_nan=False), st.text(st.characters(codec=None, exclude_categories=[])),
    st.dates(), st.datetimes(), st.uuids(), st.decimals(allow_nan=False),
    st.datetimes(datetime.datetime(2, 1, 1), datetime.datetime(9998, 1, 1), timezones=zones),
    st.integers(-9, 9).map(Decimal), st.integers(-99, 99).map(lambda n: Decimal(n) / 8),
    st.sampled_from([*Colour, *Parts, Parts.A | Parts.C, Parts(0)]),
)  # fmt: skip
keys = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)


def equal(one: Any, other: Any) -> bool:
    return one == other and hash(one) == hash(other)


@given(keys)
def test_a_key_comes_back_equal(key):
    kind, data = _keys_cy.pack(key)
    assert type(data) is bytes
    assert equal(_keys_cy.unpack(kind, data), key)


@given(keys, keys)
def test_keys_are_equal_if_and_only_if_their_bytes_are(one, other):
    assert (_keys_cy.pack(one) == _keys_cy.pack(other)) is equal(one, other)


@given(st.integers(-(2**70), 2**70) | st.integers(-(2**1000), 2**1000))
def test_whole_floats_are_the_integers_they_equal(number):
    try:
        whole = float(number)
    except OverflowError:
        return
    assert _keys_cy.pack(whole) == _keys_cy.pack(int(whole))
    assert (_keys_cy.pack(whole) == _keys_cy.pack(number)) is (whole == number)
    assert _keys_cy.pack((whole,)) == _keys_cy.pack((int(whole),))


@pytest.mark.parametrize("number", [0, -1, 2**63 - 1, -(2**63)])
def test_a_64_bit_integer_takes_8_bytes(number):
    assert _keys_cy.pack(number) == (K["KEY_INT"], struct.pack("<q", number))


@given(st.integers(0, K["KEY_TYPE_MAX"] + 1), st.binary(max_size=40))
def test_any_bytes_are_a_key_or_corruption(kind, data):
    try:
        key = _keys_cy.unpack(kind, data)
    except MapCorrupted:
        return
    hash(key)


def item(key: Any) -> bytes:
    """Return what a tuple of this alone is stored as."""
    return bytes(_keys_cy.pack((key,))[1])


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (K["KEY_INT"], b"1234567"), (K["KEY_FLOAT"], b"123"), (K["KEY_NONE"], b"x"), (0, b""),
        (K["KEY_STR"], b"\xff"), (7, b""), (K["KEY_TUPLE"], b"\x01"),
        (K["KEY_TUPLE"], struct.pack("<BI", K["KEY_STR"], 5) + b"abcd"),
        (K["KEY_DATE"], bytes(4)), (K["KEY_DATE"], b"\xff" * 4), (K["KEY_DATETIME"], bytes(8)),
        (K["KEY_INSTANT"], b"\xff" * 8), (K["KEY_UUID"], bytes(15)), (K["KEY_DECIMAL"], b"x"),
        (K["KEY_DECIMAL"], b"5E-1"), (K["KEY_DECIMAL"], b"10E-2"), (K["KEY_DECIMAL"], b"1E0"),
        (K["KEY_DECIMAL"], b"1E9999999999999999999"), (K["KEY_DECIMAL"], b"+1E-1"),
        (K["KEY_FROZENSET"], item("b") + item("a")), (K["KEY_FROZENSET"], item("a") * 2),
        (K["KEY_MEMBER"], item("a") * 2), (K["KEY_MEMBER"], item("a") * 2 + item(b"a")),
        (K["KEY_MEMBER"], b""), (K["KEY_TYPE_MAX"] + 1, b""),
    ],
)  # fmt: skip
def test_bytes_that_no_key_gives(kind, data):
    with pytest.raises(MapCorrupted):
        _keys_cy.unpack(kind, data)


@given(st.binary(max_size=300), st.integers(1, 6), st.integers(0, 2**64 - 1))
def test_the_hash_is_xxh3_of_the_bytes_under_a_seed_by_type(data, kind, seed):
    import xxhash

    mixed = (seed + kind * 0x9E37_79B9_7F4A_7C15) % 2**64
    assert _hash_cy.hash_of(data, kind, seed) == xxhash.xxh3_64_intdigest(data, mixed)


class Lower(str):
    """A str that is equal whatever its case, as a dict sees it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.lower())


class SameHash(str):
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return False


class SameTime(datetime.datetime):
    __hash__ = datetime.datetime.__hash__

    def __eq__(self, other: object) -> bool:
        return True


class Odd(enum.Enum):
    A = 1

    def __hash__(self) -> int:
        return 5


class Liar(int):
    """Its conversions say something else than it is equal to."""

    def __int__(self) -> int:
        return 99

    __index__ = __trunc__ = __float__ = __int__


class LyingFloat(float):
    def __float__(self) -> float:
        return 99.0

    def is_integer(self) -> bool:
        return True


class LyingBytes(bytes):
    def __bytes__(self) -> bytes:
        return b"99"

    def __len__(self) -> int:
        return 0


class LyingText(str):
    def encode(self, *_: object) -> bytes:
        return b"99"

    def __str__(self) -> str:
        return "99"


class LyingTuple(tuple):
    def __iter__(self):
        return iter((99,))

    def __len__(self) -> int:
        return 0


class Number(enum.IntEnum):
    ONE = 1


class Flag(enum.IntFlag):
    A = 1
    B = 2


class Name(str, enum.Enum):
    A = "a"


class Ratio(float, enum.Enum):
    HALF = 0.5


class Own(datetime.date):
    def toordinal(self) -> int:
        return 5


class SetOfOwn(frozenset):
    def __iter__(self):
        return iter(())


Pair = namedtuple("Pair", "a b")
UTC = datetime.timezone.utc
EAST = datetime.timezone(datetime.timedelta(hours=5))


@pytest.mark.parametrize(("key", "plain"), [
    (Liar(7), 7), (LyingFloat(7.5), 7.5), (LyingFloat(7), 7), (LyingBytes(b"7"), b"7"),
    (LyingText("7"), "7"), (LyingTuple((7, "x")), (7, "x")), (Number.ONE, 1), (Flag.A | Flag.B, 3),
    (Name.A, "a"), (Ratio.HALF, 0.5), (Pair(1, Pair("x", 2.0)), (1, ("x", 2))), (-0.0, 0),
    (True, 1), (math.inf, math.inf), (1e300, int(1e300)), ("\ud800", "\ud800"),
    *[(getattr(np, kind)(5), 5) for kind in (
        "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "longlong",
        "float16", "float32", "float64",
    )],
    (np.float32(0.1), float(np.float32(0.1))), (np.bool_(True), 1), (np.str_("x"), "x"),
    (np.bytes_(b"x"), b"x"), ((np.int64(1), np.str_("x")), (1, "x")), (np.float64(-0.0), 0),
    (Decimal(1), 1), (Decimal("1.00"), 1.0), (Decimal("0.5"), 0.5), (Decimal("-0"), 0),
    (Decimal("1E+30"), 10**30), (Decimal("-Infinity"), -math.inf),
    (Decimal("0.10"), Decimal("0.1")),
    (Decimal("1E-500"), Decimal("10E-501")), (Own(2024, 1, 1), datetime.date(2024, 1, 1)),
    (datetime.datetime(2024, 1, 1, fold=1), datetime.datetime(2024, 1, 1)),
    (datetime.datetime(2024, 1, 1, 5, tzinfo=EAST), datetime.datetime(2024, 1, 1, 0, tzinfo=UTC)),
    (frozenset("ab"), frozenset("ba")), (frozenset({1, 2.0}), frozenset({2, True})),
    (SetOfOwn("ab"), frozenset("ab")), (Colour.VERMILION, Colour.RED),
], ids=repr)  # fmt: skip
def test_what_a_dict_takes_for_one_key_is_one_key(key, plain):
    assert key == plain and hash(key) == hash(plain), "this is about keys that a dict has equal"
    kind, data = _keys_cy.pack(key)
    assert (kind, data) == _keys_cy.pack(plain)
    assert type(data) is bytes
    assert equal(_keys_cy.unpack(kind, data), key)


@pytest.mark.parametrize("key", [
    Lower("A"), SameHash("a"), Fraction(1), Fraction(1, 2), complex(1), 1j,
    np.longdouble(1), np.complex128(1), np.timedelta64(5, "ns"),
    np.timedelta64(5000, "ps"), np.datetime64(5, "ns"), object(), SameTime(2024, 1, 1),
    range(3), ("a", 1j), ml_dtypes.bfloat16(1), Odd.A, datetime.timedelta(1),
], ids=repr)  # fmt: skip
def test_what_cannot_be_told_from_other_keys_is_refused_by_name(key):
    kind = type(key[1] if isinstance(key, tuple) else key).__name__
    with pytest.raises(TypeError, match=f"a key must be .*{kind} is not"):
        _keys_cy.pack(key)


@pytest.mark.parametrize("key", [[], {}, bytearray(), np.array(5), np.arange(3), (1, [])], ids=repr)
def test_what_has_no_hash_gets_the_error_of_a_dict(key):
    with pytest.raises(TypeError, match="unhashable"):
        _keys_cy.pack(key)


LONG = ("k" * 65_536, b"k" * 65_536, ("k" * 65_531,), 1 << (8 * 65_536), "k" * (1 << 20))


@pytest.mark.parametrize("near", [0, 10])
@pytest.mark.parametrize("key", LONG, ids=["str", "bytes", "tuple", "int", "1 MiB"])
def test_a_key_above_the_limit_is_in_no_map(make, key, near):
    m = make(near=near)
    m["k"] = 1
    for there in (m, m.snapshot()):
        assert key not in there and there.get(key) is None and there.get(key, 5) == 5
        assert (key, 1) not in there.items() and key not in there.keys()  # noqa: SIM118
        with pytest.raises(KeyError):
            there[key]
        if isinstance(key, (str, bytes)):
            assert list(there.items(prefix=key)) == []
    assert m.pop(key, 5) == 5 and not m.delete(key) and not m.touch(key, 5)
    assert m.get_versioned(key) == (None, 0)
    assert m.get_many([key, "k"]) == {"k": 1} and m.delete_many([key]) == 0
    for miss in (m.ttl, m.pop, m.__delitem__):
        with pytest.raises(KeyError):
            miss(key)
    assert not m.replace(key, 1) and not m.cas(key, 1, 2)
    with m.lock(key) as lock:
        assert lock.held


@pytest.mark.parametrize("value", [1, b"x", "v" * 1000], ids=repr)
@pytest.mark.parametrize("key", LONG, ids=["str", "bytes", "tuple", "int", "1 MiB"])
def test_a_key_above_the_limit_is_not_written(make, key, value):
    m = make(size="16MB", shards=1, on_full="evict")
    m["k"] = 1
    data = _keys_cy.pack(key)[1]
    for write in (
        lambda: m.__setitem__(key, value), lambda: m.set(key, value), lambda: m.add(key, value),
        lambda: m.cas(key, value, 0), lambda: m.setdefault(key, value), lambda: m.incr(key),
        lambda: m.set_many({key: value}),
    ):
        with pytest.raises(EntryTooLarge, match=rf"{len(data):,} encoded bytes.*digest"):
            write()
    assert m.get_or_set(key, lambda: value) == value  # to keep it was a wish
    assert m.stats().uncached == {"too_large": 1}
    assert m == {"k": 1} and m.check() == []


# -- the types of `more_keys` ---------------------------------------------------------------


@pytest.mark.parametrize("key", [Decimal("NaN"), Decimal("sNaN"), ("a", Decimal("NaN"))], ids=repr)
def test_a_decimal_that_is_no_number_is_refused(key):
    with pytest.raises(TypeError, match="NaN cannot be a key"):
        _keys_cy.pack(key)


@pytest.mark.parametrize("text", ["1E+999999999", "1E+160001", "-7E+999999999999999999"])
def test_a_decimal_of_any_size_takes_no_time(text):
    with pytest.raises(EntryTooLarge, match="too long for a key"):
        _keys_cy.pack(Decimal(text))


def test_a_decimal_is_a_key_whatever_the_context_traps():
    context = decimal.Context(prec=2, traps=list(decimal.Context().traps))
    with decimal.localcontext(context):
        for text in ("0.123456789", "1234.5", "1E-999", "123456789012345678901234567890", "0.5"):
            kind, data = _keys_cy.pack(Decimal(text))
            assert _keys_cy.unpack(kind, data) == Decimal(text)


def test_aware_datetimes_are_their_instant():
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    summer = datetime.datetime(2024, 7, 1, 12, tzinfo=berlin)
    twice = datetime.datetime(2024, 10, 27, 2, 30, tzinfo=berlin)
    pack = _keys_cy.pack
    assert pack(summer) == pack(summer.astimezone(UTC)) != pack(summer.replace(tzinfo=None))
    assert pack(twice) == pack(twice.replace(fold=1)), "which Python has equal"
    assert _keys_cy.unpack(*pack(twice)) == datetime.datetime(2024, 10, 27, 0, 30, tzinfo=UTC)
    assert pack(datetime.date(2024, 7, 1)) != pack(datetime.datetime(2024, 7, 1))
    for far in (datetime.datetime.min.replace(tzinfo=EAST),
                datetime.datetime.max.replace(tzinfo=datetime.timezone(-datetime.timedelta(hours=5)))):
        with pytest.raises(TypeError, match="in UTC"):
            pack(far)


def test_the_order_of_a_set_is_none_of_its_bytes():
    names = [f"name {n}" for n in range(50)]
    code = (f"from shmmap.values._keys_cy import pack; import sys; "
            f"sys.stdout.write(pack(frozenset({names}))[1].hex())")
    found = {
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed},
                       capture_output=True, text=True, check=True, timeout=60, cwd="/").stdout
        for seed in ("1", "2", "3")
    }
    assert found == {_keys_cy.pack(frozenset(names))[1].hex()}


def test_sets_and_tuples_are_nested_so_deep_and_no_deeper():
    def nest(depth: int, wrap: Any) -> Any:
        key: Any = "x"
        for _ in range(depth):
            key = wrap((key,))
        return key

    for wrap in (tuple, frozenset, lambda items: frozenset((tuple(items),))):
        most = 50 if wrap not in (tuple, frozenset) else 100
        key = nest(most, wrap)
        kind, data = _keys_cy.pack(key)
        assert _keys_cy.unpack(kind, data) == key
        with pytest.raises(TypeError, match="100 deep"):
            _keys_cy.pack(nest(most + 1, wrap))
        with pytest.raises(MapCorrupted, match="too deeply"):
            _keys_cy.unpack(K["KEY_FROZENSET"], struct.pack("<BI", kind, len(data)) + data)


def test_a_member_without_its_class_is_still_a_key(make, monkeypatch):
    m = make()
    for key in (Colour.GREEN, Parts.A | Parts.C, ("a", Colour.RED)):
        m[key] = str(key)
    assert m[Colour.GREEN] == "Colour.GREEN" and set(m) == {
        Colour.GREEN, Parts.A | Parts.C, ("a", Colour.RED)}
    monkeypatch.delattr(sys.modules[__name__], "Colour")
    monkeypatch.delattr(sys.modules[__name__], "Parts")
    found = {key for key in m if isinstance(key, MissingMember)}
    assert {one.member for one in found} == {"GREEN", 5}
    (green,) = (one for one in found if one.member == "GREEN")
    assert (green.module, green.kind) == (__name__, "Colour") and "not to be had" in repr(green)
    assert m[green] == "Colour.GREEN" and len({green, *found}) == 2
    assert m.pop(green) == "Colour.GREEN" and m.check() == []


def test_a_member_that_no_other_process_could_find_is_refused():
    class Local(enum.Enum):
        A = 1

    Colour2 = enum.Enum("Colour", "RED")
    Colour2.__module__ = __name__
    for member in (Local.A, Colour2.RED):
        with pytest.raises(TypeError, match="is not found there by that name"):
            _keys_cy.pack(member)


def test_nothing_is_imported_for_a_member(make):
    m = make()
    data = b"".join(item(part) for part in ("antigravity", "Colour", "RED"))
    assert isinstance(_keys_cy.unpack(K["KEY_MEMBER"], data), MissingMember)
    for module, kind, member in ((__name__, "Colour.RED", "RED"), (__name__, "K", "RED"),
                                 (__name__, "Colour", "BLUE"), (__name__, "Parts", "A"),
                                 (__name__, "Parts", 99), (__name__, "Colour", 5)):
        data = b"".join(map(item, (module, kind, member)))
        assert isinstance(_keys_cy.unpack(K["KEY_MEMBER"], data), MissingMember)
    assert "antigravity" not in sys.modules and len(m) == 0


MORE = [
    datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1), uuid.UUID(int=5), Decimal("0.1"),
    frozenset({1, "a"}), Colour.RED, ("user", uuid.UUID(int=7), datetime.date(2024, 1, 2)),
]


@pytest.mark.parametrize("near", [0, 4])
def test_they_are_keys_of_every_operation(make, near):
    m = make(near=near)
    for key in MORE:
        m[key] = 1
        assert m[key] == 1 == m[key] and key in m and m.incr(key) == 2 and m.get(key) == 2
        assert m.touch(key, 60) and 59 < m.ttl(key) <= 60 and m.add(key, 5) is False
        with m.lock(key) as lock:
            assert lock.held
        assert m.get_or_set(key, lambda: 7) == 2
    assert set(m) == set(MORE) == set(m.snapshot()) and m.check() == []
    assert m._ipython_key_completions_() and m.get_many(MORE) == dict.fromkeys(MORE, 2)
    assert set(m.keys(prefix=("user", uuid.UUID(int=7)))) == {MORE[-1]}
    m.repair()
    assert dict(m) == dict.fromkeys(MORE, 2)
    m.dump(path := f"/tmp/{m.name}.dump")
    try:
        assert m.delete_many(MORE) == len(MORE) and m.merge(path).written == len(MORE)
    finally:
        os.unlink(path)
    assert {m.popitem()[0] for _ in MORE} == set(MORE) and len(m) == 0


def test_they_are_arguments_of_a_cached_function(make):
    calls = []

    @cached(make())
    def weekday(day: Any, colour: Any = Colour.RED) -> int:
        calls.append(day)
        return int(day.weekday())

    day = datetime.date(2024, 1, 1)
    assert weekday(day) == weekday(day=day) == weekday(day, Colour.RED) == 0 and len(calls) == 1
