"""Containers as bytes, while others run: collections, threads, handlers, what is deep in calls; and
that forged bytes cost neither time nor memory."""

from __future__ import annotations

import datetime as dt
import decimal
import gc
import signal
import struct
import sys
import threading
import time
import tracemalloc
from typing import Any

import pytest

from shmmap.errors import MapCorrupted
from shmmap.memory.layout import constants
from shmmap.values import _codecs_cy
from shmmap.values._packing_cy import pack_items
from shmmap.values._unpacking_cy import unpack_items

K = constants()


class Late:
    """Has a finalizer that runs when a garbage collection finds it."""

    def __init__(self, act: Any) -> None:
        self.act, self.me = act, self

    def __del__(self) -> None:
        self.act()


def test_a_collection_that_reads_and_writes_meanwhile():
    """Each allocation of a container may start one; what is half made must not be seen."""
    inner = [{"key": [str(n)], "t": (n, [n])} for n in range(50)]
    seen: list[Any] = []

    def act() -> None:
        seen.append(unpack_items(pack_items(inner)) == inner)
        for found in gc.get_objects():
            if type(found) in (tuple, list):
                list(found)  # of an empty place: the end of the process

    before = gc.get_threshold()
    data = pack_items(inner)
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(15):
            Late(act)
            assert unpack_items(data) == inner
            assert pack_items([inner, {1, 2}, decimal.Decimal(1)]) is not None
    finally:
        gc.set_threshold(*before)
    assert seen and all(seen)


def test_a_container_that_others_change_meanwhile_is_whole():
    """Another thread changes it all the time, and does not let go of it in the middle of a value:
    each that is written was there at some moment."""
    moments = {f"key{n}": [decimal.Decimal(n), dt.datetime(2024, 1, 1)] for n in range(40)}
    log = [dt.datetime(2024, 1, 1)] * 300
    ends = threading.Event()

    def change() -> None:
        n = 0
        while not ends.is_set():
            n += 7
            moments[f"key{n % 40}"] = moments.pop(f"key{n % 40}")
            log.append(log[0])
            if len(log) > 2_000:
                del log[300:]

    thread = threading.Thread(target=change)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            back = unpack_items(pack_items([moments, log]))
            assert set(back[0]) <= set(map("key{}".format, range(40))) and len(back[0]) >= 39
    finally:
        ends.set()
        thread.join()
        sys.setswitchinterval(before)


class TooLate(ValueError):
    pass


def test_what_a_handler_raises_is_not_taken_for_damage(make):
    def late(*_: object) -> None:
        raise TooLate

    m = make(size="16MB")
    m["k"] = [dt.datetime(2024, 1, 1) + dt.timedelta(n) for n in range(5_000)]
    former = signal.signal(signal.SIGALRM, late)
    try:
        for n in range(20):
            signal.setitimer(signal.ITIMER_REAL, 0.0002 * (n + 1))
            try:
                assert len(m["k"]) == 5_000
                time.sleep(0.01)
            except TooLate:
                pass
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, former)
    assert m.check() == []


def test_deep_in_calls_a_value_is_not_taken_for_unreadable(make):
    """Pure, the reader calls itself: what is too deep here is no fault of the value."""
    value: Any = 1
    for _ in range(60):
        value = {"child": value}
    m = make()
    m["tree"] = value
    seen: set[str] = set()

    def deep(left: int) -> None:
        try:
            if left:
                deep(left - 1)
            else:
                seen.add(type(m.get_or_set("tree", lambda: "replaced")).__name__)
        except RecursionError:
            seen.add("RecursionError")

    for left in range(sys.getrecursionlimit() - 400, sys.getrecursionlimit(), 9):
        deep(left)
    assert m["tree"] == value and "str" not in seen


def test_classes_that_travel_in_time_are_others(monkeypatch):
    class FakeDatetime(dt.datetime):
        pass

    FakeDatetime.__name__ = FakeDatetime.__qualname__ = "datetime"
    monkeypatch.setattr(dt, "datetime", FakeDatetime)
    data = bytes.fromhex("10 fa 03 da 01 00 01 01 00 00 00 00 00 00")
    back = unpack_items(data)
    assert type(back) is FakeDatetime.__mro__[1] and pack_items(FakeDatetime(1, 1, 1)) is None
    assert pack_items(back) == data


def test_an_error_does_not_take_for_ever_to_compose():
    value: Any = [1]
    for _ in range(60):
        value = [value, value]
    with pytest.raises(TypeError, match="complex in a list would"):
        _codecs_cy.pack([value, 1j], True)
    for much in ({(tuple(range(2000)), n): n for n in range(3)}, {(big, n): n for big in (
            tuple(range(2000)),) for n in range(200)}, nested(101)):
        if pack_items(much) is None:
            with pytest.raises(TypeError, match="nested so deeply, contains itself, or has keys"):
                _codecs_cy.pack(much, True)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_nested_counts_do_not_multiply_memory():
    size = 50_000
    for kind in ("f2", "f3", "f4", "f5"):
        data = bytearray(b"\x10")
        for _ in range(K["ITEMS_DEEPEST"]):
            left = size - len(data) - 5
            data += bytes.fromhex(kind) + struct.pack("<I", left // (2 if kind == "f2" else 1))
            data += b"\x00" if kind == "f2" else b""
        data += bytes(size - len(data))
        tracemalloc.start()
        with pytest.raises(MapCorrupted):
            unpack_items(bytes(data))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 150 * size


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="collections begin between lines there")
def test_what_is_let_go_of_meanwhile_is_not_taken_for_another():
    """An object's place in memory goes to the next one of its size. A collection begins where the
    iterator of the set is made."""
    value: list[Any] = []

    def act() -> None:
        if value and value[2] is None:
            value[0] = None
            value[2] = ["new"]

    before, changed = gc.get_threshold(), 0
    for _ in range(300):
        value[:] = [["old"], {1}, None]
        Late(act)
        gc.set_threshold(1, 1, 1)
        try:
            data = pack_items(value)
        finally:
            gc.set_threshold(*before)
        assert unpack_items(data) in ([["old"], {1}, None], [["old"], {1}, ["new"]],
                                      [None, {1}, ["new"]])
        changed += value[2] is not None
    assert changed
