"""Values as bytes: each type under its own number, whole or MapCorrupted."""

from __future__ import annotations

import math
import struct
import sys
import types
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shmmap import MapCorrupted
from shmmap.memory.layout import constants
from shmmap.values import _codecs_cy

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
        (None, "NONE"), (np.zeros(1), "ARRAY"), ([], "ITEMS"), ([1j], "PICKLE"),
        (np.zeros(1, "i4,i4"), "PICKLE"),
        (np.float64(1), "PICKLE"), (np.array([None]), "PICKLE"), (bytearray(), "PICKLE"),
    ):  # fmt: skip
        assert _codecs_cy.pack(value)[0] == K[f"VALUE_{kind}"]


def test_an_array_of_objects_is_never_read():
    head = struct.pack("<BBBxq", 1, 2, 0, 1) + b"|O" + bytes(8)
    with pytest.raises(MapCorrupted):
        _codecs_cy.unpack(K["VALUE_ARRAY"], head)


def test_a_pickle_carries_its_checksum():
    kind, data = _codecs_cy.pack({"a": 1j})
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
        _codecs_cy.pack({"a": 1j}, True)


def native_arrays():
    """Arrays of every dtype that a type code or a unit names, in both byte orders."""
    codes = [*"?bBhHiIlLqQefdgFDG", "S1", "S7", "U1", "U3", "V1", "V9"]
    units = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as", "25s", "7D")
    times = [f"{kind}8{unit and f'[{unit}]'}" for kind in "mM" for unit in ("", *units)]
    for code in codes + times:
        for order in "<>":
            dtype = np.dtype(code).newbyteorder(order)
            raw = bytes(range(1, 1 + 3 * dtype.itemsize)) if dtype.kind in "iuSVmM" else b""
            if raw:
                yield np.frombuffer(raw, dtype)
            else:
                yield np.array(["0", "1", "1"], "U1").astype(dtype)


PICKLED_ARRAYS = {
    **{name: np.arange(3).astype(getattr(ml_dtypes, name)) for name in (
        "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz", "int4", "uint4", "int2",
        "uint2",
    )},
    "bfloat16, no dimension": np.array(1.5, ml_dtypes.bfloat16),
    **{f"{code}0": np.ndarray((2, 2), f"{code}0") for code in "SUV"},
    "no fields": np.zeros(2, np.dtype([])),
    "metadata": np.zeros(2, np.dtype("i4", metadata={"unit": "m"})),
    "record without fields": np.zeros(2, np.dtype((np.record, 16))),
    "fields": np.zeros(2, "i4,f8"),
    "objects": np.array([1, None]),
    "masked": np.ma.masked_array([1, 2, 3], [0, 1, 0]),
    "matrix": np.arange(4).reshape(2, 2).view(np.matrix) if hasattr(np, "matrix") else np.arange(2),
}


@pytest.mark.parametrize("array", list(native_arrays()), ids=lambda array: array.dtype.str)
def test_every_plain_dtype_is_native_and_comes_back(array):
    kind, data = _codecs_cy.pack(array, True)
    assert kind == K["VALUE_ARRAY"]
    _codecs_cy.verify(kind, data)
    back = _codecs_cy.unpack(kind, data, True)
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize("array", [*PICKLED_ARRAYS.values()], ids=[*PICKLED_ARRAYS])
def test_a_dtype_that_its_name_does_not_give_back_is_pickled(array):
    kind, data = _codecs_cy.pack(array)
    assert kind == K["VALUE_PICKLE"]
    back = _codecs_cy.unpack(kind, data)
    assert type(back) is type(array)
    assert (back.dtype, back.dtype.type, back.shape) == (array.dtype, array.dtype.type, array.shape)
    assert back.dtype.metadata == array.dtype.metadata
    assert (back == array).all() and (np.ma.getmask(back) == np.ma.getmask(array)).all()
    with pytest.raises(TypeError, match=r'codec="safe".*would have to be pickled'):
        _codecs_cy.pack(array, True)


@pytest.mark.parametrize("shape", [(), (0,), (0, 1 << 40), (3, 0, 2), (1,) * 32])
@pytest.mark.parametrize("order", "CF")
def test_odd_shapes_come_back(shape, order):
    array = np.ndarray(shape, "f8", order=order)
    array.fill(2.5)
    array.flags.writeable = False
    kind, data = _codecs_cy.pack(array, True)
    back = _codecs_cy.unpack(kind, data, True)
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, shape, array.tobytes())


def head_of(dtype: bytes, *shape: int) -> bytes:
    return struct.pack("<BBBx", len(shape), len(dtype), 0) + struct.pack(
        f"<{len(shape)}q", *shape) + dtype


@pytest.mark.parametrize("data", [
    b"", head_of(b"<i4", 2) + bytes(7), head_of(b"<i4", 2) + bytes(9), head_of(b"<i4", -1),
    head_of(b"<i4", -1, -2) + bytes(8), head_of(b"|S0", 2), head_of(b"<f1", 2) + bytes(2),
    head_of(b"|O", 1) + bytes(8), head_of(b"i4,i4", 1) + bytes(8), head_of(b"<M8[x]", 1) + bytes(8),
    head_of(b"<U1", 2) + bytes(2), head_of(b"<i4", 1 << 62, 4), head_of(b"<i4", 5)[:9],
], ids=repr)  # fmt: skip
def test_bytes_that_are_no_array(data):
    for read in (_codecs_cy.verify, _codecs_cy.unpack):
        with pytest.raises(MapCorrupted):
            read(K["VALUE_ARRAY"], data)


STANDINS = {
    "none": None, "half imported": types.ModuleType("numpy"), "a mock": mock.MagicMock(),
    "no ndarray": types.SimpleNamespace(ndarray=None),
    "its own": types.SimpleNamespace(ndarray=type("ndarray", (), {"__module__": "numpy"})),
}


@pytest.mark.parametrize("standin", [*STANDINS.values()], ids=[*STANDINS])
def test_whatever_is_in_the_place_of_numpy_writes_go_on(standin, monkeypatch):
    array = np.arange(3)
    monkeypatch.setitem(sys.modules, "numpy", standin)
    assert _codecs_cy.unpack(*_codecs_cy.pack({"a": (1,)})) == {"a": (1,)}
    kind, data = _codecs_cy.pack(array, True)
    assert kind == K["VALUE_ARRAY"]
    _codecs_cy.verify(kind, data)  # a check, a repair, a load read no array
    with pytest.raises(TypeError, match="safe"):  # a class of that name is no array
        _codecs_cy.pack(type("ndarray", (), {"__module__": "numpy"})(), True)
    monkeypatch.undo()
    assert (_codecs_cy.unpack(kind, data) == array).all()
