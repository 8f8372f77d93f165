"""What the new side has missed: read from the old one until it is brought, whatever happened."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shmmap import MapFull, Mirror
from shmmap.mirroring import missed as missed_module
from shmmap.mirroring.operations import Place


class Side(dict[Any, Any]):
    """A cache; `fault` happens to each call of the methods in `struck`."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: Callable[[], object] | None = None
        self.after: Callable[[], object] | None = None

    def _meet(self, fault: Callable[[], object] | None) -> None:
        if fault is not None:
            fault()

    def __setitem__(self, key: Any, value: Any) -> None:
        self._meet(self.fault)
        super().__setitem__(key, value)
        self._meet(self.after)

    def get(self, key: Any, default: Any = None) -> Any:
        self._meet(self.fault)
        return super().get(key, default)

    def __getitem__(self, key: Any) -> Any:
        self._meet(self.fault)
        return super().__getitem__(key)

    def pop(self, key: Any, *default: Any) -> Any:
        self._meet(self.fault)
        return super().pop(key, *default)

    def clear(self) -> None:
        self._meet(self.fault)
        super().clear()


def fail() -> None:
    raise ConnectionError("partitioned")


@pytest.fixture
def mirror(other: Any) -> Iterator[Mirror]:
    """Reads the new side, compares nothing."""
    made = Mirror(Side(), Side(), other(size="300KB"), sample=0.0, read_from="new", deadline=2.0)
    yield made
    made.new.fault = made.old.fault = made.old.after = None
    made.flush()


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_reads_bring_it_over_and_so_does_flush(mirror: Mirror) -> None:
    mirror["a"] = 1
    for act in (lambda: mirror.get("b"), lambda: mirror.flush(0.1)):
        mirror.new.fault = fail
        mirror["a"] = mirror.old.get("a") + 1
        assert mirror["a"] == mirror.old["a"] and mirror.report().equal_for == 0.0
        mirror.new.fault = None

        def is_there(act: Callable[[], Any] = act) -> bool:
            act()
            return bool(mirror.report().missed == 0)

        until(is_there)
        assert mirror.new.get("a") == mirror.old["a"]
    assert not mirror.is_proven(3600, 0) and mirror.is_proven(0, 0)


def test_one_probe_brings_the_clear_and_what_came_after_it(mirror: Mirror) -> None:
    mirror["a"] = 1
    mirror.new.fault = fail
    mirror.clear()
    mirror["b"] = 1
    mirror.new.fault = None
    assert mirror.get("a") is None and mirror["b"] == 1  # the old side's
    assert mirror.flush()
    assert dict(mirror.new) == {"b": 1}


def test_an_old_side_that_raises_after_it_has_written(mirror: Mirror) -> None:
    mirror["a"] = 1

    def raises() -> None:
        raise TimeoutError

    mirror.old.after = raises
    with pytest.raises(TimeoutError):
        mirror["a"] = 2
    mirror.old.after = None
    assert mirror["a"] == 2
    assert mirror.flush() and mirror.new["a"] == 2


def test_a_handler_that_raises_while_the_new_side_is_waited_for(mirror: Mirror) -> None:
    """Of a second alarm, say. It is the caller's; the write is brought over, and the mirror works.
    """
    class Alarm(Exception):
        pass

    def ring(*_: Any) -> None:
        raise Alarm

    mirror["a"] = 1
    before = signal.signal(signal.SIGALRM, ring)
    gc.disable()  # hypothesis has a callback there, in which an alarm would be lost
    try:
        for number in range(20):
            mirror.new.fault = lambda: time.sleep(0.02)
            signal.setitimer(signal.ITIMER_REAL, 0.001 + number * 0.0005)
            with pytest.raises(Alarm):
                mirror["a"] = number
                time.sleep(1)
            mirror.new.fault = None
            assert mirror["a"] == mirror.old["a"]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    assert mirror.flush() and mirror.new["a"] == 19
    mirror["b"] = 1
    assert mirror.new["b"] == 1


def test_what_is_noted_while_it_is_brought_stays_noted(mirror: Mirror) -> None:
    mirror["a"] = 1
    mirror.new.fault = fail
    mirror["a"] = 2
    looking, go_on = threading.Event(), threading.Event()

    def look() -> None:
        looking.set()
        go_on.wait(10)

    mirror.new.fault = look
    mirror.get("other")  # begins to bring it
    assert looking.wait(10)
    mirror._mine()._deadline_s = 0.01
    mirror["a"] = 3  # late: noted again
    assert mirror["a"] == 3
    mirror.new.fault = None
    go_on.set()
    until(lambda: mirror.flush(0.1))
    assert mirror["a"] == 3 == mirror.new["a"]


def test_what_is_brought_is_read_from_the_old_side_until_it_is_there(mirror: Mirror) -> None:
    """Readers ask all the while; a catch-up that took its note back before would be seen."""
    seen: list[int] = []
    mirror["a"] = 0
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            at_least = mirror.old["a"]
            if mirror["a"] < at_least:
                seen.append(at_least)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, 60):
        mirror.new.fault = fail if number % 2 else None
        mirror["a"] = number
        mirror.new.fault = None
        mirror._mine().breaker.passed()
        mirror._mine()._next_go = 0.0
        time.sleep(0.002)
    stop.set()
    for reader in readers:
        reader.join()
    assert not seen and mirror.flush()


def test_what_the_new_side_cannot_hold_is_removed_from_it(make: Any, other: Any) -> None:
    """So that every process reads the old side for it: a value that cannot be pickled, and one for
    which there is no room. The next catch-up has nothing to do any more."""
    m = make(size="1MB", shards=1, on_full="raise")
    mirror = Mirror({}, m, other(size="300KB"), sample=0.0, read_from="new", deadline=2.0)
    mirror["lock"] = mirror["big"] = 1
    with pytest.raises(MapFull):
        for number in range(10_000):
            m["fill", number] = b"x" * 2_000
    mirror["lock"] = value = threading.Lock()
    mirror["big"] = b"x" * 50_000
    assert mirror["lock"] is value and len(mirror["big"]) == 50_000
    assert mirror.flush() and "lock" not in m and "big" not in m
    assert mirror["lock"] is value and len(mirror["big"]) == 50_000
    assert mirror.report().missed == 0


def test_what_the_new_side_refuses_or_has_no_method_for_is_copied(mirror: Mirror) -> None:
    class Old(dict[Any, Any]):
        def incr(self, key: Any, by: int = 1) -> int:
            self[key] = self.get(key, 0) + by
            return int(self[key])

    mirror.old = mirror._mine()._old = Old()
    for number in range(1, 10):
        assert mirror.incr("n") == number
    assert mirror.flush() and mirror.new["n"] == 9 and mirror.report().failed == 0
    mirror["gone"] = 1
    del mirror.new["gone"]
    del mirror["gone"]  # KeyError of the new side: they are equal for all that
    assert mirror.flush() and mirror.report().failed == 0


def test_more_than_can_be_noted(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the old side is read for all keys, until the mirror is made anew."""
    monkeypatch.setattr(missed_module, "MOST", 10)
    for key in range(30):
        mirror[key] = 0
    mirror.new.fault = fail
    for key in range(30):
        mirror[key] = 1
    mirror.new.fault = None
    assert not mirror.flush(0.3)
    assert [mirror[key] for key in range(30)] == [1] * 30
    assert mirror.report().missed and not mirror.is_proven(0, 0)


def test_a_write_that_was_left_is_found(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a caller that was thrown out between two of our lines."""
    mirror["a"] = 1
    operation = mirror._operation("__setitem__")
    mirror._mine().missed.begins(operation, operation.places(("a", 2), {}))
    dict.__setitem__(mirror.old, "a", 2)
    mirror["b"] = 1
    assert mirror["a"] == 2
    monkeypatch.setattr(missed_module, "_LOST_S", -1.0)
    assert mirror["b"] == 1 and mirror.flush() and mirror.new["a"] == 2


def test_a_forked_child_knows_what_its_parent_had_missed(mirror: Mirror, start: Any) -> None:
    mirror["a"] = 1
    mirror.new.fault = fail
    mirror["a"] = 2
    mirror.new.fault = None

    def look(child: Any) -> None:
        child.tell((mirror["a"], mirror.flush(), mirror["a"], mirror.new["a"]))

    child = start(look)
    assert child.hear() == (2, True, 2, 2)
    child.end()


def test_a_result_that_differs_is_a_difference_and_repaired(mirror: Mirror) -> None:
    mirror["n"] = 1
    mirror.new["n"] = 2  # behind its back
    assert mirror.pop("n") == 1  # 2 on the new side; both have none now
    assert mirror.flush()
    mirror["n"] = 1
    mirror.new["n"] = 5
    assert mirror.setdefault("n", 7) == 1 == mirror["n"]
    assert mirror.flush() and mirror.new["n"] == 1
    report = mirror.report()
    assert (report.differences, report.last[0].operation) == (1, "setdefault")


def test_counts_are_kept_when_the_new_side_is_their_map(make: Any) -> None:
    m = make()
    mirror = Mirror({}, m, m, sample=1.0)
    mirror["a"] = 1
    for _ in range(5):
        assert mirror["a"] == 1
    assert mirror.flush()
    before = mirror.report()
    mirror.clear()
    assert mirror.flush() and len(mirror) == 0 and m.get("a") is None
    after = mirror.report()
    assert (after.reads, after.compared) == (before.reads, before.compared) == (5, 5)


def test_what_is_being_brought_counts_as_missed(mirror: Mirror) -> None:
    missed = mirror._mine().missed
    place, seen = Place("a"), []
    for done in (False, True):
        missed.note(place)
        assert not missed.bring(
            lambda place, why, done=done: seen.append(missed.has([place])) or done)
        assert seen.pop() and missed.has([place]) is not done
    for done in (False, True):
        missed.clears = "clear"
        assert missed.bring_clear(
            lambda name, done=done: seen.append(missed.has([place])) or done) is done
        assert seen.pop() and missed.has([place]) is not done


def test_what_is_written_while_it_is_looked_at(mirror: Mirror) -> None:
    """Its write may come to the new side after the look at that, and end before all is done."""
    here = mirror._mine()
    operation = mirror._operation("__setitem__")
    mirror.old["a"] = mirror.new["a"] = 2
    number = here.missed.begins(operation, [Place("a")])

    def look_late(key: Any, default: Any = None) -> Any:
        found = dict.get(mirror.new, key, default)
        dict.__setitem__(mirror.new, "a", 1)  # the write, that began before
        here.missed.ends(number, missed=False)
        return found

    mirror.new.get = look_late
    assert not here._look_and_bring(Place("a"), "beside another one")
    del mirror.new.get
    here.missed.ends(number, missed=False)
    here.missed.note(Place("a"))
    mirror.new["a"] = 1
    assert mirror.flush() and mirror.new["a"] == 2


def test_what_is_being_written_is_no_difference(mirror: Mirror) -> None:
    """The old side has it, the new one waits for the thread that compares."""
    operation = mirror._operation("pop")
    mirror.new["a"] = 1
    number = mirror._mine().missed.begins(operation, [Place("a")])
    mirror._mine().missed.note(Place("a"), "pop")
    assert not mirror._mine()._look_and_bring(Place("a"), "pop")
    assert mirror.report().differences == 0 and mirror.new["a"] == 1
    mirror._mine().missed.ends(number, missed=False)
    assert mirror.flush() and mirror.report().differences == 1 and not mirror.new
