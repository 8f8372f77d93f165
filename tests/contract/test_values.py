"""Values come back as they went in: every type, every length, and what safe maps refuse."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import struct
import uuid
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import shmmap
from shmmap.errors import ValueUnreadable
from shmmap.lifecycle.control import checksum
from shmmap.memory.layout import constants

K = constants()


class Text(str):
    pass


class Count(int):
    pass


class Level(enum.IntEnum):
    HIGH = 3


PLAIN = [
    b"", b"\x00", bytes(range(256)), "", "a", "\x00", "é\U0001f600", "\ud800", "a\udcff" * 9,
    0, 1, -1, 255, 2**31, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**64,
    10**400, -(10**400), 0.0, 0.1, -1.5, 5e-324, 1.7976931348623157e308, math.inf, -math.inf,
    None, True, False,
]  # fmt: skip
CONTAINERS = [
    [], [1, [2]], {"a": {"b": ()}}, (), (1,), {1}, frozenset("ab"), {("a", 1): [None, {2.5: b""}]},
    [list(range(300)), "x" * 2000], datetime.datetime(2024, 2, 29), decimal.Decimal("1.50"),
    [uuid.UUID(int=7), datetime.timedelta(-1), datetime.date(1, 1, 1)],
]  # fmt: skip
PICKLED = [
    Text("x"), Count(7), Level.HIGH, 1j, bytearray(b"x"), OrderedDict(a=1), range(5),
    np.float32(2), np.int64(3), np.datetime64("2024-01-01"), [Text("x")], {"a": (1j,)},
    {Level.HIGH: 1}, [np.arange(2)[0]],
]  # fmt: skip
ARRAYS = {
    "1d": np.arange(5),
    "0-d": np.array(7.5),
    "empty": np.empty(0, "f4"),
    "empty 2d": np.empty((3, 0, 2), "i2"),
    "C": np.arange(12, dtype="i4").reshape(3, 4),
    "F": np.asfortranarray(np.arange(12, dtype="f4").reshape(3, 4)),
    "3d F": np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
    "transposed": np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
    "strided": np.arange(40)[3:37:4],
    "backward": np.arange(9)[::-1],
    "broadcast": np.broadcast_to(np.arange(3), (4, 3)),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "big-endian": np.arange(4, dtype=">i8"),
    "datetime64": np.array(["2024-01-01T00:00:01", "NaT"], "M8[s]"),
    "timedelta64": np.array([1, 2], "m8[ns]"),
    "str": np.array(["a", "béta"]),
    "bytes": np.array([b"a", b"beta"], "S5"),
    "nan": np.array([np.nan, 1.0]),
    "float16": np.array([0.5], "f2"),
    "many dimensions": np.zeros((1,) * 32),
}
PICKLED_ARRAYS = {
    "objects": np.array([{"a": 1}, None], dtype=object),
    "record": np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
}


@pytest.fixture(params=[{"shards": 1}, {"value_size": 0, "key_size": 0, "shards": 1}],
                ids=["slots of 136", "slots of 32"])
def m(request: Any, make: Any) -> Any:
    """A map whose longer values are chained: in the smallest slots almost all of them."""
    opened = make(**request.param)
    yield opened
    if not opened.closed:
        assert opened.check() == []


@pytest.mark.parametrize("value", PLAIN + CONTAINERS + PICKLED,
                         ids=lambda v: f"{type(v).__name__}-{v!a:.12}")
def test_a_value_comes_back_equal_and_of_its_type(m, value):
    m["k"] = value
    for back in (m["k"], m.get_versioned("k")[0], next(iter(m.values())), m.pop("k")):
        assert back == value
        assert type(back) is type(value)


def test_floats_come_back_to_the_bit(m):
    for bits in (0x8000000000000000, 0x7FF8000000000001, 0xFFF8000000000000, 1):
        value = struct.unpack("<d", struct.pack("<Q", bits))[0]
        m["k"] = value
        assert struct.pack("<d", m["k"]) == struct.pack("<d", value)


@pytest.mark.parametrize("array", [*ARRAYS.values(), *PICKLED_ARRAYS.values()],
                         ids=[*ARRAYS, *PICKLED_ARRAYS])
def test_an_array_comes_back_with_dtype_shape_and_order(m, array):
    m["k"] = array
    back = m["k"]
    assert type(back) is np.ndarray
    assert back.dtype == array.dtype and back.shape == array.shape
    np.testing.assert_array_equal(back, array)
    assert back.flags.c_contiguous or array.flags.f_contiguous
    assert array.flags.f_contiguous == back.flags.f_contiguous or back.flags.c_contiguous
    back[...] = back.copy()  # writable, and its own memory
    back.fill(back.flat[0] if back.size else 0)
    np.testing.assert_array_equal(m["k"], array)


def test_an_object_is_not_shared_but_copied(m):
    value = {"list": [1]}
    m["k"] = value
    m["k"]["list"].append(2)
    value["list"].append(3)
    assert m["k"] == {"list": [1]}


def test_what_cannot_be_pickled_changes_nothing(m):
    m["k"] = 1
    with pytest.raises((TypeError, AttributeError)):
        m["k"] = (lambda: 1, open)
    assert m["k"] == 1


def test_every_length_around_the_slots_boundaries(make):
    m = make(value_size=0, key_size=0, shards=1)
    slot = m.attachment.geometry.slot_size
    key = "key"
    ends = [slot - 16 - len(key) + chained * (slot - 8) for chained in range(6)]
    for length in sorted({0, 1, *(end + by for end in ends for by in (-1, 0, 1))}):
        value = bytes((length + i) % 251 for i in range(length))
        m[key] = value
        m[key, length] = value
        assert m[key] == m[key, length] == value
    assert m.check() == []


def test_a_key_longer_than_a_slot(make):
    m = make(value_size=0, key_size=0, shards=1)
    for length in (15, 16, 17, 39, 40, 41, 300, 65_535):
        key = "k" * length
        m[key] = length
        m[key[:-1] + "x"] = -length
        assert m[key] == length and m[key[:-1] + "x"] == -length
        assert m.incr(key) == length + 1
    assert sorted(map(len, m)) == sorted(2 * [15, 16, 17, 39, 40, 41, 300, 65_535])
    with pytest.raises(shmmap.EntryTooLarge, match="65,535"):
        m["k" * 65_536] = 1
    assert m.check() == []


@pytest.mark.parametrize("on_full", ["raise", "evict"])
def test_the_largest_entry_fills_all_but_one_slot(make, on_full):
    m = make(size="256KB", shards=1, on_full=on_full)
    most = m.attachment.geometry.max_entry_bytes - 1
    value = bytes(i % 251 for i in range(most))
    for _ in range(2):
        m["k"] = value
        assert m["k"] == value
        assert m.check() == []
        del m["k"]
    with pytest.raises(shmmap.EntryTooLarge):
        m["k"] = value + b"x"
    assert len(m) == 0


def forge_codec(m: Any, codec: int) -> None:
    """Make a map's header say another codec, as no operation does."""
    control = m.attachment.control
    control.CODEC = codec
    control.CHECK = checksum(control.words)


class TestSafe:
    """codec="safe" neither writes nor reads pickles."""

    @pytest.mark.parametrize("value", [*PICKLED, *PICKLED_ARRAYS.values()], ids=repr)
    def test_it_refuses_to_write_them(self, make, value):
        m = make(codec="safe")
        m["k"] = 1
        version = m.get_versioned("k")[1]
        for use in (
            lambda: m.__setitem__("k", value), lambda: m.set("k", value),
            lambda: m.replace("k", value), lambda: m.cas("k", value, version),
            lambda: m.add("new", value), lambda: m.setdefault("new", value),
            lambda: m.set_many({"new": value}),
        ):  # fmt: skip
            with pytest.raises(TypeError, match="safe"):
                use()
        assert m == {"k": 1}

    @pytest.mark.parametrize("value", [*PLAIN, *CONTAINERS, *ARRAYS.values()],
                             ids=lambda v: f"{v!a:.20}")
    def test_it_takes_everything_else(self, make, value):
        m = make(codec="safe")
        m["k"] = value
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(m["k"], value)
        else:
            assert m["k"] == value
        assert type(m["k"]) is type(value)

    def test_it_refuses_to_read_them_and_loses_nothing(self, make, name):
        m = make(codec="auto")
        m["k"] = OrderedDict(pickled=1)
        forge_codec(m, 1)
        m.close()
        m = make(codec="safe")
        for use in (
            lambda: m["k"], lambda: m.get("k"), lambda: m.pop("k"), m.popitem,
            lambda: list(m.items()), lambda: list(m.values()), lambda: m.get_many(["k"]),
            lambda: m.get_versioned("k"), lambda: m.setdefault("k", 1), lambda: m == {},
        ):  # fmt: skip
            with pytest.raises(ValueUnreadable, match=r"'k'.*a pickle.*safe") as caught:
                use()
            assert type(caught.value.__cause__) is TypeError
        assert "k" in m and len(m) == 1 and list(m) == ["k"]
        forge_codec(m, 0)
        m.close()
        assert make()["k"] == OrderedDict(pickled=1)

    def test_it_can_delete_them(self, make):
        m = make(codec="auto")
        m["k"] = OrderedDict(pickled=1)
        forge_codec(m, 1)
        m.close()
        m = make()
        assert m.delete("k") is True
        assert len(m) == 0


class Trap:
    """Tells when it is unpickled."""

    sprung = 0

    def __reduce__(self) -> Any:
        return spring, ()


def spring() -> int:
    Trap.sprung += 1
    return Trap.sprung


def test_a_pickle_that_was_damaged_is_not_loaded(make):
    m = make(shards=1)
    m["k"] = Trap()
    assert m["k"] == 1
    first = m.attachment.geometry.areas.slots
    memory = memoryview(m.attachment.mappings[0].buffer).cast("B")
    length = m.stats().live_bytes
    for at in range(first + 16 + 1, first + 16 + length):
        memory[at] ^= 0x40
        with pytest.raises(shmmap.MapCorrupted, match="checksum"):
            m.get("k")
        memory[at] ^= 0x40
    assert m["k"] == 2, "only whole pickles were loaded"
