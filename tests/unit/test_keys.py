"""Keys as bytes: equal keys and no others give equal bytes, and come back."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmmap import EntryTooLarge, MapCorrupted, _hash_cy, _keys_cy
from shmmap.layout import constants

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


def test_a_key_above_the_limit_says_what_to_do(make):
    m = make()
    for key in ("k" * 65_536, b"k" * 65_536, ("k" * 65_531,), 1 << (8 * 65_536)):
        for use in (lambda k=key: m.get(k), lambda k=key: m.__setitem__(k, 1)):
            with pytest.raises(EntryTooLarge, match="digest"):
                use()
