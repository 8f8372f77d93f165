"""Values as bytes: each type under its own number, whole or MapCorrupted."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shmmap import MapCorrupted, _codecs_cy
from shmmap.layout import constants

K = constants()
values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**65), 2**65), st.binary(),
    st.floats(), st.text(st.characters(codec=None, exclude_categories=[])),
)  # fmt: skip
plain_dtypes = st.one_of(
    arrays.boolean_dtypes(), arrays.integer_dtypes(endianness="?"), arrays.datetime64_dtypes(),
    arrays.floating_dtypes(endianness="?", sizes=(16, 32, 64)), arrays.complex_number_dtypes(),
    arrays.timedelta64_dtypes(), arrays.byte_string_dtypes(), arrays.unicode_string_dtypes(),
)  # fmt: skip
shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@given(values, st.booleans())
def test_a_plain_value_comes_back_equal_and_of_its_type(value, safe):
    kind, data = _codecs_cy.pack(value, safe)
    assert kind != K["VALUE_PICKLE"]
    back = _codecs_cy.unpack(kind, data, safe)
    assert type(back) is type(value)
    if type(value) is float:
        assert struct.pack("<d", back) == struct.pack("<d", value)
    else:
        assert back == value


@given(arrays.arrays(plain_dtypes, shapes), st.booleans(), st.randoms())
def test_an_array_comes_back_however_it_lay_in_memory(array, fortran, draw):
    if fortran:
        array = np.asfortranarray(array)
    if array.ndim:
        axes = list(range(array.ndim))
        draw.shuffle(axes)
        array = array.transpose(axes)[:: draw.choice((1, 2, -1))]
    kind, data = _codecs_cy.pack(array, True)
    assert kind == K["VALUE_ARRAY"]
    back = _codecs_cy.unpack(kind, data, True)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()
    assert back.flags.writeable and back.flags.aligned


@given(st.integers(1, K["VALUE_TYPE_MAX"]) | st.just(255), st.binary(max_size=60))
def test_any_bytes_are_a_value_or_corruption(kind, data):
    try:
        _codecs_cy.unpack(kind, data)
    except MapCorrupted:
        pass
    else:
        assert kind != K["VALUE_PICKLE"], "a pickle without its checksum was loaded"


def test_the_numbers_of_the_types():
    for value, kind in (
        (b"", "BYTES"), ("", "STR"), (2**63 - 1, "INT"), (-(2**63), "INT"), (2**63, "BIG_INT"),
        (-(2**63) - 1, "BIG_INT"), (math.nan, "FLOAT"), (False, "FALSE"), (True, "TRUE"),
        (None, "NONE"), (np.zeros(1), "ARRAY"), ([], "PICKLE"), (np.zeros(1, "i4,i4"), "PICKLE"),
        (np.float64(1), "PICKLE"), (np.array([None]), "PICKLE"), (bytearray(), "PICKLE"),
    ):  # fmt: skip
        assert _codecs_cy.pack(value)[0] == K[f"VALUE_{kind}"]


def test_an_array_of_objects_is_never_read():
    head = struct.pack("<BBBxq", 1, 2, 0, 1) + b"|O" + bytes(8)
    with pytest.raises(MapCorrupted):
        _codecs_cy.unpack(K["VALUE_ARRAY"], head)


def test_a_pickle_carries_its_checksum():
    kind, data = _codecs_cy.pack({"a": 1})
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1
        for safe in (False, True):
            with pytest.raises(MapCorrupted, match="checksum"):
                _codecs_cy.unpack(kind, bytes(damaged), safe)
    with pytest.raises(MapCorrupted):
        _codecs_cy.unpack(kind, data[:7])
    with pytest.raises(TypeError, match="safe"):
        _codecs_cy.unpack(kind, data, True)
    with pytest.raises(TypeError, match="safe"):
        _codecs_cy.pack({"a": 1}, True)
