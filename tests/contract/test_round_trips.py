"""What a map accepts comes back from every way out of it, and a check has nothing against it."""

from __future__ import annotations

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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import shmmap


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Text(str):
    pass


Pair = namedtuple("Pair", "a b")
texts = st.text(st.characters(codec=None, exclude_categories=[]), max_size=150)
plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**70), st.binary(max_size=150),
    st.floats(), texts,
)  # fmt: skip
native_dtypes = st.one_of(
    arrays.boolean_dtypes(), arrays.integer_dtypes(endianness="?"), arrays.complex_number_dtypes(),
    arrays.unsigned_integer_dtypes(endianness="?"), arrays.floating_dtypes(endianness="?"),
    arrays.datetime64_dtypes(endianness="?"), arrays.timedelta64_dtypes(endianness="?"),
    arrays.byte_string_dtypes(), arrays.unicode_string_dtypes(endianness="?"),
)  # fmt: skip
other_dtypes = st.sampled_from([
    *(np.dtype(getattr(ml_dtypes, name)) for name in ("bfloat16", "float8_e5m2", "int4", "uint2")),
    np.dtype("V0"), np.dtype("V5"), np.dtype([]), np.dtype("i4,(2,3)f8"), np.dtype("M8"),
    np.dtype("i4", metadata={"unit": "m"}), np.dtype("<M8[25s]"), np.dtype("g"), np.dtype("G"),
])  # fmt: skip
shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@st.composite
def any_arrays(draw: Any) -> Any:
    """Arrays of any dtype, layout and order."""
    if draw(st.booleans()):
        array = draw(arrays.arrays(draw(native_dtypes), draw(shapes)))
    else:
        array = np.zeros(draw(shapes), draw(other_dtypes))
        if array.dtype.kind not in "VmM":
            array = np.asarray(array + array.dtype.type(1))
    if draw(st.booleans()):
        array = np.asfortranarray(array)
    if array.ndim:
        array = array.transpose(draw(st.permutations(range(array.ndim))))
        array = array[:: draw(st.sampled_from((1, 2, -1)))]
    array.flags.writeable = draw(st.booleans()) and array.flags.writeable
    return array


scalars = st.sampled_from([
    np.float32(0.1), np.int8(-3), np.str_("x"), np.bool_(True), np.datetime64("2024-01-01"),
    ml_dtypes.bfloat16(1.5), Level.HIGH, Text("t"), Decimal("1.5"), Fraction(1, 3), 1j,
    Pair(1, "x"), bytearray(b"x"), frozenset((1, 2)), range(4),
])  # fmt: skip
values = st.recursive(
    st.one_of(plain, any_arrays(), scalars),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(texts, inner, max_size=3),
    ),
    max_leaves=6,
)  # fmt: skip
keys = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), texts,
        st.binary(max_size=150),
        st.sampled_from([Level.LOW, Text("k"), np.int64(4), np.float16(1.5)]),
    ),
    lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5,
)  # fmt: skip


def same(one: Any, other: Any, nested: bool = False) -> bool:
    """Tell whether two values are the same in type and content, to the bit. Of arrays that are
    nested in something numpy's pickles may give back another byte order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        if nested and one.dtype != other.dtype and one.dtype.kind != "V":
            one, other = (each.astype(each.dtype.newbyteorder("=")) for each in (one, other))
        return (one.dtype, one.shape, one.dtype.metadata) == (
            other.dtype, other.shape, other.dtype.metadata) and one.tobytes() == other.tobytes()
    if isinstance(one, float) and type(one) is float:
        return struct.pack("d", one) == struct.pack("d", other) or one == other
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key], True) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(
            same(*pair, True) for pair in zip(one, other, strict=True))
    return bool(one == other) or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


@pytest.mark.parametrize("near", [0, 4])
@settings(max_examples=25, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(entries=st.lists(st.tuples(keys, values), max_size=8))
def test_whatever_goes_in_comes_out(make, name, tmp_path, near, entries):
    m = make(size="400KB", shards=2, near=near)
    m.clear()
    expected: dict[Any, Any] = {}
    for key, value in entries:
        m[key] = value
        expected[key] = value
    file = tmp_path / "dump"

    def compare(found: dict[Any, Any]) -> None:
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert same(found[key], value), (key, value, found[key])

    compare({key: m[key] for key in expected})
    compare({key: m.get_versioned(key)[0] for key in expected})
    for listed in (m.items(), m.snapshot().items(), m.get_many(expected), m,
                   (pair for part in range(2) for pair in m.scan(part * 2048)[1])):
        compare(dict(listed))
    assert m.check() == []
    m.dump(file)
    m.repair()
    assert m.check() == []
    compare(dict(m))
    with shmmap.ShmMap.load(file, name + "b") as other:
        try:
            assert other.check() == []
            compare(dict(other))
            other.clear()
            other.merge(m)
            compare(dict(other))
            other.update(m)
            compare(dict(other))
        finally:
            other.unlink()
    for key in list(m):
        assert same(m.pop(key), expected.pop(key))
    assert not m and not expected and m.check() == []


@settings(max_examples=25, deadline=None, suppress_health_check=[
    HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(value=values)
def test_a_safe_map_takes_it_and_gives_it_back_or_refuses_it_at_once(make, value):
    m = make(size="400KB", shards=1, codec="safe")
    m["k"] = "before"
    try:
        m["k"] = value
    except TypeError as error:
        assert 'codec="safe"' in str(error)
        value = "before"
    assert same(m["k"], value) and same(dict(m)["k"], value)
    assert m.check() == []
