"""Containers as bytes: exact, the same in both engines, and whatever is not theirs is damage."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import math
import pickle
import random
import struct
import uuid
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmmap.errors import MapCorrupted
from shmmap.memory.layout import constants
from shmmap.values import _codecs_cy, _packing_cy, _unpacking_cy
from shmmap.values._packing_cy import pack_items
from shmmap.values._unpacking_cy import unpack_items

from ...support.same_values import same

K = constants()
PLUS_2 = dt.timezone(dt.timedelta(hours=2))
# What is written for what: it is the same in both engines, since both run this.
LAYOUT: dict[str, tuple[Any, str]] = {
    "small int": ([0, 63], "10 b2 00 3f"),
    "ints of a byte": ([64, 255, -1, -256], "10 b4 e4 40 e4 ff fb 00 fb ff"),
    "ints of two": ([256, 65_535], "10 b2 e5 00 01 e5 ff ff"),
    "ints of four": ([65_536, -257, -(2**31)],
                     "10 b3 e6 00 00 01 00 e6 ff fe ff ff e6 00 00 00 80"),
    "ints of eight": ([2**31, -(2**63)],
                      "10 b2 e7 00 00 00 80 00 00 00 00 e7 00 00 00 00 00 00 00 80"),
    "a longer int": ([2**63], "10 b1 f9 09 00 00 00 00 00 00 00 00 00 00 80 00"),
    "None and bool": ((None, False, True), "10 c3 e0 e1 e2"),
    "float": ([1.5], "10 b1 e3 00 00 00 00 00 00 f8 3f"),
    "str": (["", "a", "é"], "10 b3 40 41 61 42 c3 a9"),
    "lone surrogate": (["\ud800"], "10 b1 43 ed a0 80"),
    "str of 64": (["x" * 64], "10 b1 e8 40" + " 78" * 64),
    "str of 256": (["x" * 256], "10 b1 f0 00 01 00 00" + " 78" * 256),
    "bytes": ([b"", b"ab", b"x" * 16], "10 b3 d0 d2 61 62 e9 10" + " 78" * 16),
    "bytes of 256": ([b"x" * 256], "10 b1 f1 00 01 00 00" + " 78" * 256),
    "dict": ({"ab": 1, 2: []}, "10 a2 42 61 62 01 02 b0"),
    "dict of 16": (dict.fromkeys(range(16)),
                   "10 ea 10" + "".join(f" {n:02x} e0" for n in range(16))),
    "list of 16": ([0] * 16, "10 eb 10" + " 00" * 16),
    "list of 256": ([0] * 256, "10 f3 00 01 00 00" + " 00" * 256),
    "tuple of 16": ((0,) * 16, "10 ec 10" + " 00" * 16),
    "tuple of 256": ((0,) * 256, "10 f4 00 01 00 00" + " 00" * 256),
    "no items": ([(), frozenset(), set()], "10 b3 c0 ee 00 ed 00"),
    "set": ({7}, "10 ed 01 07"),
    "frozenset": (frozenset([7]), "10 ee 01 07"),
    "again": ((lambda s: [s, s])("ab"), "11 b2 42 61 62 80"),
    "a list again": ((lambda s: [s, s])([1]), "11 b2 b1 01 80"),
    "date": (dt.date(2024, 2, 29), "10 fa 01 d4 e8 07 02 1d"),
    "time": (dt.time(1, 2, 3, 65_536, fold=1), "10 fa 02 d6 81 02 03 00 00 01"),
    "datetime": (dt.datetime(1, 1, 1), "10 fa 03 da 01 00 01 01 00 00 00 00 00 00"),
    "in UTC": (dt.time(tzinfo=dt.timezone.utc), "10 fa 08 d6 00 00 00 00 00 00 fa 05 d1 55"),
    "two in one zone": ([dt.datetime(1, 1, 1, tzinfo=PLUS_2), dt.time(tzinfo=PLUS_2)],
                        "11 b2 fa 09 da 01 00 01 01 00 00 00 00 00 00 fa 05 dd 4f 00 00 00 00 "
                        "20 1c 00 00 00 00 00 00 fa 08 d6 00 00 00 00 00 00 80"),
    "timedelta": (dt.timedelta(-1, 2, 3), "10 fa 04 dc ff ff ff ff 02 00 00 00 03 00 00 00"),
    "timezone": (PLUS_2, "10 fa 05 dd 4f 00 00 00 00 20 1c 00 00 00 00 00 00"),
    "its name": (dt.timezone(dt.timedelta(0), "A"),
                 "10 fa 05 df 4f 00 00 00 00 00 00 00 00 00 00 00 00 3d 41"),
    "Decimal": (decimal.Decimal("-1.50"), "10 fa 06 d5 2d 31 2e 35 30"),
    "UUID": (uuid.UUID(int=1), "10 fa 07 e9 10" + " 00" * 15 + " 01"),
    "safe UUID": (uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe),
                  "10 fa 07 e9 11" + " 00" * 15 + " 01 00"),
}  # fmt: skip


def test_engines():
    assert _packing_cy.COMPILED is _unpacking_cy.COMPILED is _codecs_cy.COMPILED


@pytest.mark.parametrize(("value", "written"), LAYOUT.values(), ids=LAYOUT)
def test_the_bytes_of_each_kind(value, written):
    data = bytes.fromhex(written)
    assert pack_items(value).hex(" ") == data.hex(" ")
    assert same(unpack_items(data), value)
    assert _codecs_cy.unpack(K["VALUE_ITEMS"], data, True) == value


text = st.text(st.characters(codec=None, exclude_categories=[]), max_size=80)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**70), st.floats(), text,
    st.binary(max_size=300), st.dates(), st.times(), st.timedeltas(), st.uuids(),
    st.datetimes(timezones=st.none() | st.just(dt.timezone.utc) | st.just(PLUS_2)),
    st.decimals(allow_nan=False), st.just(decimal.Decimal("sNaN7")), st.just(PLUS_2),
)  # fmt: skip
hashable = st.recursive(
    scalars.filter(lambda v: not (isinstance(v, decimal.Decimal) and v.is_snan())),
    lambda inner: st.tuples(inner) | st.tuples(inner, inner) | st.frozensets(inner, max_size=4),
    max_leaves=5,
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(hashable, inner, max_size=20)
    | st.tuples(inner, inner) | st.sets(hashable, max_size=5) | hashable,
    max_leaves=40,
)


@given(values)
def test_everything_comes_back_as_it_was(value):
    data = pack_items(value)
    back = unpack_items(data)
    assert same(back, value)
    _codecs_cy.verify(K["VALUE_ITEMS"], data)


@given(values, st.randoms())
def test_any_bytes_are_a_value_or_damage(value, draw):
    data = bytearray(pack_items([value, value]))
    for _ in range(draw.randint(1, 4)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    if draw.random() < 0.3:
        del data[draw.randrange(len(data)):]
    if draw.random() < 0.3:
        data.insert(draw.randrange(len(data) + 1), draw.randrange(256))
    try:
        back = unpack_items(bytes(data))
    except MapCorrupted:
        return
    again = pack_items(back)
    assert again is not None and same(unpack_items(again), back)


def test_many_values_in_one_go():
    """More objects than the writer's own tables have places for, and more bytes than its own."""
    draw = random.Random(15)
    words = ["".join(draw.choices("abcdefgé", k=9)) for _ in range(3_000)]
    value = [{draw.choice(words): (draw.choice(words), [n]) for n in range(9)}
             for _ in range(2_000)]
    back = unpack_items(pack_items(value))
    assert back == value
    assert back[0] is not back[1]
    number = {id(part) for row in back for part in row}
    assert len(number) <= len(words), "a string that comes again is one object"


# -- what is the same object ---------------------------------------------------------------


def test_one_object_stays_one():
    inner, pair, data = [1], (1, 2), b"bytes"
    back = unpack_items(pack_items({"a": inner, "b": [inner, pair, data], "c": (pair, data)}))
    assert back["a"] is back["b"][0]
    assert back["b"][1] is back["c"][0] and back["b"][2] is back["c"][1]
    back["a"].append(2)
    assert back["b"][0] == [1, 2]


def test_two_equal_objects_stay_two():
    back = unpack_items(pack_items([[1], [1]]))
    assert back[0] is not back[1]


def test_what_contains_itself_is_pickled():
    value: list[Any] = [1]
    value.append({"self": value})
    assert pack_items(value) is None
    kind, data = _codecs_cy.pack(value)
    assert kind == K["VALUE_PICKLE"]
    back = _codecs_cy.unpack(kind, data)
    assert back[1]["self"] is back
    with pytest.raises(TypeError, match="nested so deeply, contains itself, or"):
        _codecs_cy.pack(value, True)


@pytest.mark.parametrize("make_one", [
    lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: frozenset([v]),
], ids=["list", "tuple", "dict", "frozenset"])
def test_depth_is_bounded(make_one):
    value: Any = 1
    for _ in range(K["ITEMS_DEEPEST"]):
        value = make_one(value)
    assert unpack_items(pack_items(value)) == value
    assert pack_items(make_one(value)) is None
    data = bytes.fromhex("10") + b"\xb1" * (K["ITEMS_DEEPEST"] + 1) + b"\x00"
    with pytest.raises(MapCorrupted, match="too deeply"):
        unpack_items(data)


@pytest.mark.parametrize("link", ["b1", "c1", "a1 00", "a1", "ed 01", "ee 01", "fa 08 d0",
                                  "fa 09 d0", "fa 09 da 01 00 01 01 00 00 00 00 00 00"])
def test_nothing_is_chained_without_end(link):
    """Whatever an item may begin with another one in it."""
    for head in (b"\x10", b"\x11"):
        with pytest.raises(MapCorrupted):
            unpack_items(head + bytes.fromhex(link) * 100_000 + b"\x00")


def tower(height: int) -> Any:
    """A tuple of few objects that is hashed in 2 ** height steps."""
    value: Any = (0,)
    for _ in range(height):
        value = (value, value)
    return value


def test_a_key_that_takes_for_ever_to_hash_is_damage():
    """Who wrote such bytes has hashed nothing. Whoever reads them must not have to."""
    data = bytearray(pack_items([tower(60)]))
    assert data[1] == K["ITEM_LIST"] + 1 and len(data) < 300
    for head, rest in ((K["ITEM_DICT"] + 1, b"\x00"), (K["ITEM_SET8"], b"")):
        forged = bytes([data[0], head, *([1] if head == K["ITEM_SET8"] else [])]) + data[2:] + rest
        with pytest.raises(MapCorrupted, match="keys contain too much"):
            unpack_items(forged)
    many = bytes([0x11, 0xB2]) + pack_items(tower(9))[1:] + b"\xf2" + struct.pack("<I", 3_000)
    many += (bytes([K["ITEM_AGAIN"] + 9]) + b"\x00") * 3_000
    with pytest.raises(MapCorrupted, match="keys contain too much"):
        unpack_items(many)


def test_a_key_that_repeats_something_comes_back():
    part = ("a", "b")
    value = {(part, part): 1, (part, 1): [part]}
    back = unpack_items(pack_items(value))
    assert back == value and pack_items({tower(20): 1}) is None
    assert _codecs_cy.pack({tower(12): 1})[0] == K["VALUE_PICKLE"]


# -- what is not of these types ------------------------------------------------------------


class Text(str):
    pass


class Row(NamedTuple):
    a: int


class Level(enum.IntEnum):
    HIGH = 3


class Zone(dt.tzinfo):
    def __repr__(self) -> str:
        return "Zone()"

    def utcoffset(self, when: Any) -> Any:
        return dt.timedelta(0)


class Moment(dt.datetime):
    pass


class Span(dt.timedelta):
    pass


OTHERS = {
    "complex": 1j, "bytearray": bytearray(b"x"), "str": Text("x"), "namedtuple": Row(1),
    "enum": Level.HIGH, "OrderedDict": collections.OrderedDict(a=1), "range": range(3),
    "defaultdict": collections.defaultdict(int), "datetime": Moment(2024, 1, 1),
    "zone": dt.datetime(2024, 1, 1, tzinfo=Zone()), "zone of a time": dt.time(tzinfo=Zone()),
    "zone's name": dt.timezone(dt.timedelta(0), Text("x")),
    "zone's offset": dt.timezone(Span(hours=1)),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_the_whole_value_is_pickled_then(other):
    for value in (other, [1, [other]], {"k": (other,)}, ({1: other},)):
        assert pack_items(value) is None
        kind, data = _codecs_cy.pack(value)
        assert kind == K["VALUE_PICKLE"]
        assert same(_codecs_cy.unpack(kind, data), value)
    name = type(other).__name__
    said = f"numbers; {name}( with a tzinfo of Zone.*)? in a list would have"
    with pytest.raises(TypeError, match=said):
        _codecs_cy.pack([1, [other]], True)


def test_a_map_with_a_codec_leaves_containers_to_it(make):
    m = make(codec="json")
    m["k"] = (1, 2)
    assert m["k"] == [1, 2]


# -- bytes that nobody wrote ---------------------------------------------------------------

DAMAGED = {
    "nothing": "", "no item": "10", "no version": "00 00", "another version": "20 00",
    "an unknown flag": "12 00", "more behind": "10 00 00", "no such kind": "10 fc",
    "str cut off": "10 42 61", "str not UTF-8": "10 42 ff ff", "long str": "10 f0 ff ff ff ff 61",
    "list cut off": "10 b2 00", "too many": "10 f3 ff ff ff ff 00", "dict cut off": "10 a1 00",
    "too many in a dict": "10 f2 ff ff ff ff 00 00", "in a tuple": "10 f4 ff ff ff ff 00",
    "in a set": "10 f5 ff ff ff ff 00", "key twice": "10 a2 01 e0 01 e0",
    "key twice, another type": "10 a2 01 e0 e2 e0", "item twice": "10 ed 02 01 01",
    "unhashable key": "10 a1 b0 00", "unhashable item": "10 ed 01 a0",
    "no number": "10 80", "no such number": "11 b2 42 61 62 81", "number of itself": "11 b1 80",
    "numbers not said": "10 b2 42 61 62 80", "long number": "11 b2 42 61 62 f7 00 00 00 01",
    "int cut off": "10 e7 00", "big int cut off": "10 f9 00 00 00", "no other": "10 fa 09 d0",
    "other cut off": "10 fa 01 d4 e8 07 02", "other's length": "10 fa 01 00",
    "no such day": "10 fa 01 d4 e8 07 02 1e", "no such hour": "10 fa 02 d6 18 00 00 00 00 00",
    "seconds of two days": "10 fa 04 dc 00 00 00 00 00 a3 02 00 00 00 00 00",
    "no Decimal": "10 fa 06 d1 78", "Decimal not as str() has it": "10 fa 06 d3 31 5f 30",
    "no UUID": "10 fa 07 d1 00", "UUID's mark": "10 fa 07 e9 11" + " 00" * 16 + " 02",
    "signalling NaN as key": "10 a1 fa 06 d4 73 4e 61 4e 00",
    "no zone behind": "10 fa 08 d6 00 00 00 00 00 00 e0",
    "another thing behind": "10 fa 09 da 01 00 01 01 00 00 00 00 00 00 b0",
    "zone cut off": "10 fa 08 d6 00 00 00 00 00 00",
    "more items than bytes": "10 b3 b3 b3 00 00 00 00",
    "UTC as an offset": "10 fa 05 dd 4f" + " 00" * 12, "no zone": "10 fa 05 d1 58",
}  # fmt: skip


@pytest.mark.parametrize("written", DAMAGED.values(), ids=DAMAGED)
def test_is_damage(written):
    with pytest.raises(MapCorrupted):
        unpack_items(bytes.fromhex(written))


def test_a_context_that_traps_nothing_lets_nothing_through():
    with decimal.localcontext(decimal.Context(traps=[], capitals=0)):
        with pytest.raises(MapCorrupted):
            unpack_items(bytes.fromhex("10 fa 06 d1 78"))
        value = [decimal.Decimal("1E+30"), decimal.Decimal("Infinity")]
        data = pack_items(value)
        assert list(map(repr, unpack_items(data))) == list(map(repr, value))
    assert unpack_items(data) == value


def test_memory_that_a_value_takes_is_that_of_pickle_at_most():
    row = {"id": 12345, "name": "Ada Lovelace", "email": "ada@example.org", "active": True,
           "score": 98.6}
    session = {f"field_{i}": [i, "x" * i] if i % 2 else i * 1000 for i in range(20)}
    for value in (row, session, [dict(row, id=i) for i in range(50)], list(range(1000)),
                  [*range(-300, 70_000, 77)], [math.pi] * 9, [dt.datetime(2024, 1, 1)] * 9):
        assert len(pack_items(value)) <= len(pickle.dumps(value, 5))
