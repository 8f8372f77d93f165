"""What a store does for tombstones and for a reconcile, each by itself: the same of each store."""

from __future__ import annotations

from typing import Any

import pytest

from shmmap.testing import LocalStore
from shmmap.tiers.redis_store import store_of
from shmmap.tiers.stamps import Stamps
from shmmap.tiers.store import PutIf
from shmmap.tiers.stored import Writing

from .test_tombstones import bytes_in, life_in, put_bytes

SECOND_MS = 1_000


@pytest.fixture
def steps(store: Any) -> Any:
    """The store itself."""
    return store if isinstance(store, LocalStore) else store_of(store, None)


@pytest.fixture
def writing() -> Writing:
    """What makes its bytes."""
    return Writing(True, Stamps())


def test_put_if(steps, store, writing):
    first, second, third = (writing.encode(number) for number in range(3))
    began = steps.moment()
    put_bytes(store, first, b"a")
    put_bytes(store, first, b"b")
    for number, data in enumerate((b"", b"x", b"xy", b"xy" + first[2:13])):
        put_bytes(store, data, b"foreign%d" % number)
    puts = [
        PutIf(b"a", second, 50.0, first[2:14]), PutIf(b"b", second, None, third[2:14]),
        PutIf(b"c", second, None, b""), PutIf(b"d", second, None, first[2:14]),
        *(PutIf(b"foreign%d" % number, second, None, b"") for number in range(4)),
    ]
    assert steps.put_if(puts, began, SECOND_MS) == [
        True, False, True, False, False, False, False, False]
    assert [bytes_in(store, name) for name in (b"a", b"b", b"c", b"d", b"foreign1")] == [
        second, first, second, None, b"x"]
    assert 49 < life_in(store, b"a") <= 50 and life_in(store, b"c") < 0
    late = [PutIf(b"a", third, None, second[2:14]), PutIf(b"new", third, None, b"")]
    earlier = began - 2 * SECOND_MS if isinstance(began, int) else {
        node: at - 2 * SECOND_MS for node, at in began.items()}
    assert steps.put_if(late, earlier, SECOND_MS) == [None, None]
    assert bytes_in(store, b"a") == second and bytes_in(store, b"new") is None
    many = [PutIf(b"n%d" % number, first, None, b"") for number in range(2_100)]
    assert steps.put_if(many, steps.moment(), 20 * SECOND_MS) == [True] * 2_100


def test_heads(steps, store):
    things = {b"p:%d" % number: b"x" * number for number in range(40)}
    for name, data in things.items():
        put_bytes(store, data, name)
    put_bytes(store, b"other", b"q:1")
    heads = {name: data[:16] or None for name, data in things.items()}
    assert steps.heads([*things, b"none"]) == [*heads.values(), b""]
    assert {name: head for piece in steps.list_heads(b"p:") for name, head in piece} == heads
    assert [pair for piece in steps.list_heads(b"none") for pair in piece] == []


def test_a_listing_of_many(steps, store):
    for number in range(3_300):
        put_bytes(store, b"%d" % number, b"p*:%d" % number)
        if number % 10 == 0:
            put_bytes(store, b"", b"pp:%d" % number)
    pieces = list(steps.list_heads(b"p*:"))
    assert len(pieces) > 2
    assert {name: head for piece in pieces for name, head in piece} == {
        b"p*:%d" % n: b"%d" % n for n in range(3_300)}


def test_bury(steps, store, writing):
    tombstone = writing.tombstone()
    put_bytes(store, writing.encode(1), b"a")
    put_bytes(store, b"", b"b")
    assert steps.bury([b"a", b"b", b"c", b"a"], tombstone, 50) == 2
    assert steps.bury([b"a", b"b", b"c"], tombstone, 50) == 0
    assert [bytes_in(store, name) for name in (b"a", b"b", b"c")] == [tombstone] * 3
    assert 49 < life_in(store, b"c") <= 50
    assert not steps.touch(b"a", None, True) and steps.touch(b"a", None)  # of a codec's own bytes
    for only, data in (("present", b"x"), ("absent", b"y")):
        assert steps.set(b"b", data, None, only, True) is (only == "absent")
    assert bytes_in(store, b"b") == b"y" and not steps.set(b"c", b"x", None, "absent")
