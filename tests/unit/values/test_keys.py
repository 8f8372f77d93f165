"""Keys as bytes: equal keys and no others give equal bytes, and come back."""

from __future__ import annotations

import datetime
import enum
import math
import struct
from collections import namedtuple
from decimal import Decimal
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmmap import EntryTooLarge, MapCorrupted
from shmmap.memory import _hash_cy
from shmmap.memory.layout import constants
from shmmap.values import _keys_cy

K = constants()
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**65), 2**65), st.binary(),
    st.floats(allow_nan=False), st.text(st.characters(codec=None, exclude_categories=[])),
)  # fmt: skip
keys = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8)


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


@given(st.integers(0, 7), st.binary(max_size=40))
def test_any_bytes_are_a_key_or_corruption(kind, data):
    try:
        key = _keys_cy.unpack(kind, data)
    except MapCorrupted:
        return
    hash(key)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (K["KEY_INT"], b"1234567"), (K["KEY_FLOAT"], b"123"), (K["KEY_NONE"], b"x"), (0, b""),
        (K["KEY_STR"], b"\xff"), (7, b""), (K["KEY_TUPLE"], b"\x01"),
        (K["KEY_TUPLE"], struct.pack("<BI", K["KEY_STR"], 5) + b"abcd"),
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


Pair = namedtuple("Pair", "a b")


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
], ids=repr)  # fmt: skip
def test_what_a_dict_takes_for_one_key_is_one_key(key, plain):
    assert key == plain and hash(key) == hash(plain), "this is about keys that a dict has equal"
    kind, data = _keys_cy.pack(key)
    assert (kind, data) == _keys_cy.pack(plain)
    assert type(data) is bytes
    assert equal(_keys_cy.unpack(kind, data), key)


@pytest.mark.parametrize("key", [
    Lower("A"), SameHash("a"), Decimal(1), Fraction(1), Fraction(1, 2), complex(1), 1j,
    enum.Enum("Plain", "A").A, np.longdouble(1), np.complex128(1), np.timedelta64(5, "ns"),
    np.timedelta64(5000, "ps"), np.datetime64(5, "ns"), frozenset(), object(),
    range(3), datetime.date(2024, 1, 1), ("a", Decimal(1)), ml_dtypes.bfloat16(1),
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
