"""Mirror: what callers get whatever the new side does, what is compared, and the switch."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap import Mirror, breaker


class Faulty:
    """A new side with a fault: a call of it does `fault()` first."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.fault: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        known = getattr(self._inner, name)

        def call(*given: Any, **named: Any) -> Any:
            self.fault()
            return known(*given, **named)

        return call if callable(known) else known


@pytest.fixture
def sides(make: Any, other: Any) -> tuple[dict[Any, Any], Any, Any]:
    """An old dict, a faulty new map, and the map of the gate."""
    return {}, Faulty(make()), other(size="300KB")


@pytest.fixture
def mirror(sides: Any) -> Iterator[Mirror]:
    old, new, m = sides
    made = Mirror(old, new, m, sample=1.0, deadline=0.2)
    yield made
    new.fault = lambda: None
    made.flush()


def test_both_sides_are_written_and_the_old_one_is_read(mirror: Mirror) -> None:
    old, new = mirror.old, mirror.new
    mirror["a"] = 1
    mirror.update({"b": [1, 2]})
    assert mirror["a"] == 1 and "b" in mirror and mirror.get("none") is None
    assert mirror.pop("a") == 1 and mirror.setdefault("c", 3) == 3
    with pytest.raises(KeyError):
        mirror["a"]
    with pytest.raises(KeyError):
        del mirror["a"]
    assert list(mirror) == ["b", "c"] and len(mirror) == 2
    assert old == {"b": [1, 2], "c": 3} and new.get("b") == [1, 2] and new.get("c") == 3
    assert mirror.flush()
    found = mirror.report()
    assert found.differences == found.failed == found.late == 0 and not found.reads_new
    assert found.writes == 5 and found.reads == 4 and found.compared >= 3


def test_what_differs_is_found_and_repaired(mirror: Mirror, sides: Any) -> None:
    told: list[Any] = []
    mirror._on_difference = told.append
    mirror["a"] = 1
    mirror.new._inner["a"] = 2  # behind its back
    assert mirror["a"] == 1
    assert mirror.flush() and mirror.new.get("a") == 1
    found = mirror.report()
    assert (found.differences, found.repaired) == (1, 1) and found.equal_for < 10
    assert [one.kind for one in sides[2].events()] == ["mismatch"]
    assert found.last == tuple(told) and told[0][1:3] == ("__getitem__", "a")
    assert told[0].old != told[0].new and len(told[0].old) == 16
    assert mirror.compare(["a"]) == 0


@pytest.mark.parametrize("repair", ["delete", None])
def test_repairs(sides: Any, repair: Any) -> None:
    old, new, m = sides
    mirror = Mirror(old, new, m, repair=repair)
    mirror["a"] = 1
    new._inner["a"] = 2
    assert mirror.compare(["a"]) == 1 and new._inner.get("a") == (None if repair else 2)


def fail() -> None:
    raise ConnectionError("partitioned")


@pytest.mark.parametrize("fault", ["slow", "raises", "hangs"])
def test_a_fault_of_the_new_side_never_reaches_the_caller(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Nor does its slowness: once the breaker is open, nothing waits. What was missed is brought
    when it answers again."""
    monkeypatch.setattr(breaker, "PAUSE_S", 0.05)
    released = threading.Event()
    mirror._mine()._deadline_s = 0.02
    mirror._mine().breaker = breaker.Breaker()
    mirror.new.fault = {
        "slow": lambda: time.sleep(0.05), "raises": fail, "hangs": lambda: released.wait(30),
    }[fault]
    longest = 0.0
    for number in range(60):
        began = time.monotonic()
        mirror[number] = number
        assert mirror[number] == number
        longest = max(longest, time.monotonic() - began)
    assert longest < 1.0  # one deadline for the write, none of the new side's time
    found = mirror.report()
    assert found.skipped > 0 and found.late + found.failed >= 5 and found.equal_for < 5
    mirror.new.fault = lambda: None
    released.set()
    deadline = time.monotonic() + 20
    while any(mirror.new._inner.get(number) != number for number in range(60)):
        assert time.monotonic() < deadline, mirror.report()
        mirror["again"] = time.monotonic()
        time.sleep(0.01)


def test_the_gate_switches_every_process_at_once(mirror: Mirror, start: Any) -> None:
    mirror["a"] = "old and new"
    mirror.old["a"] = "old"

    def look(child: Any) -> None:
        child.tell(mirror["a"])
        child.hear()
        child.tell(mirror["a"])

    mirror._sample = 0.0
    child = start(look)
    assert child.hear() == "old" == mirror["a"]
    mirror.map.gates["mirror"] = True
    child.tell("switched")
    assert child.hear() == "old and new" == mirror["a"] and mirror.report().reads_new
    mirror.new.fault = fail
    assert mirror["a"] == "old"  # it stands by
    mirror["b"] = 1
    mirror.new.fault = lambda: None
    assert mirror["b"] == 1 and mirror.get("none") is None
    with pytest.raises(KeyError):
        mirror["none"]


def test_what_it_missed_is_not_read_from_it(mirror: Mirror) -> None:
    mirror.map.gates["mirror"] = True
    mirror._sample = 0.0
    mirror["a"] = 1
    mirror.new.fault = fail
    mirror["a"] = 2
    mirror.new.fault = lambda: None
    assert mirror["a"] == 2
    mirror["other"] = 1
    assert mirror.flush() and mirror.new.get("a") == 2


def test_a_missed_clear_is_made_good(mirror: Mirror) -> None:
    mirror["a"] = 1
    mirror.new.fault = fail
    mirror.clear()
    mirror.new.fault = lambda: None
    mirror["b"] = 1
    assert mirror.flush() and mirror.new.get("a") is None and mirror.new.get("b") == 1


def test_a_full_new_side(make: Any, other: Any) -> None:
    small = make(size="300KB", shards=1)
    mirror = Mirror({}, small, other(size="300KB"), sample=0.0)
    for number in range(5_000):
        mirror[number] = "x" * 100
    mirror["big"] = "x" * 10_000_000
    assert len(mirror) == 5_001 and mirror["big"][:1] == "x" and mirror.report().failed >= 5
    mirror._read_from = "new"
    assert mirror.flush(30) and all(mirror[key] == mirror.old[key] for key in mirror)


def test_it_says_when_it_is_proven(mirror: Mirror) -> None:
    mirror["a"] = 1
    assert not mirror.is_proven(0.0, 10)
    for _ in range(10):
        assert mirror["a"] == 1
    assert mirror.flush() and mirror.is_proven(0.0, 10) and not mirror.is_proven(3600, 10)
    mirror.new._inner["a"] = 2
    mirror.compare(["a"])
    assert not mirror.is_proven(1.0, 10)


def test_children_count_for_themselves_and_together(mirror: Mirror, start: Any) -> None:
    mirror["a"] = 1

    def work(child: Any) -> None:
        for _ in range(7):
            mirror.get("a")
        mirror.flush()

    for child in [start(work) for _ in range(3)]:
        child.end()
    assert mirror.flush() and mirror.report().reads == 21 and mirror.report().writes == 1


def test_many_threads(mirror: Mirror) -> None:
    def work(mine: int) -> None:
        for number in range(100):
            mirror[mine, number] = number

    threads = [threading.Thread(target=work, args=(mine,)) for mine in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mirror.flush() and len(mirror.new._inner) == 400
    assert mirror.report().late == 0 or mirror.report().writes == 400


def test_arguments_that_are_used_up_reach_both_sides(mirror: Mirror) -> None:
    mirror.update((key, 1) for key in ("a", "b"))
    assert mirror.old == {"a": 1, "b": 1} and mirror.new.get("b") == 1
    with pytest.raises(TypeError):
        mirror[["no key"]] = 1
    assert mirror.flush() and mirror.report().failed == 0


def test_it_is_as_true_as_the_old_side_and_no_copy_is_made(mirror: Mirror) -> None:
    assert not mirror
    mirror["a"] = 1
    assert mirror
    for act in (copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match="make one in each process"):
            act(mirror)


def test_what_waits_is_done_as_the_process_ends(name: str, tmp_path: Path) -> None:
    program = (
        "import shmmap, sys, time\n"
        "class Slow(shmmap.ShmMap):\n"
        "    def __setitem__(self, key, value):\n"
        "        time.sleep(0.1)\n"
        "        super().__setitem__(key, value)\n"
        f"m = Slow({name!r}, size='1MB')\n"
        "mirror = shmmap.Mirror({}, m, m, deadline=0.0)\n"
        "mirror['a'] = 1\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True,
                          text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    with shmmap.ShmMap.attach(name) as m:
        assert m["a"] == 1
        m.unlink()


def test_an_old_side_that_fails_costs_no_entry_of_the_new_one(make: Any, other: Any) -> None:
    old = Faulty({})
    mirror = Mirror(old, make(), other(size="300KB"), sample=1.0)
    old._inner["a"] = mirror.new["a"] = 1
    mirror.map.gates["mirror"] = True
    old.fault = fail
    assert mirror.get("a") == 1 and mirror.compare(["a"]) == 0
    assert mirror.flush() and mirror.new["a"] == 1 and mirror.report().differences == 0


def test_sides_that_cannot_stand_for_each_other(make: Any) -> None:
    class OfCoroutines:
        async def get(self, name: str) -> None: ...

    class Client:
        def get(self, name: str) -> None: ...
        def set(self, name: str, value: object, ex: int | None = None) -> None: ...

    m = make()
    with pytest.raises(TypeError, match="for coroutines"):
        Mirror(OfCoroutines(), {}, m)
    with pytest.raises(TypeError, match="must have its interface"):
        Mirror(Client(), m, m)
    for wrong in ("name", {}):
        with pytest.raises(TypeError, match="must be the handle of a map"):
            Mirror({}, {}, wrong)  # type: ignore[arg-type]
    mirror = Mirror({}, m, m)
    assert repr(mirror) == "<Mirror 'mirror' of a dict in a ShmMap, reads the old one>"
    with pytest.raises(TypeError):
        mirror.compare("ab")


def test_wrong_arguments(make: Any) -> None:
    for wrong in ({"read_from": "both"}, {"repair": "all"}, {"sample": 2}, {"deadline": "x"}):
        with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
            Mirror({}, {}, make(), **wrong)  # type: ignore[arg-type]


def test_what_it_does_not_know_is_the_old_sides(
    mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    mirror["a"] = 1
    assert list(mirror.items()) == [("a", 1)] and mirror.report().unmirrored == 0  # it only reads
    assert mirror["a"] == 1 and mirror.flush() and mirror.is_proven(0, 1)
    assert mirror.popitem() == ("a", 1) and mirror.report().unmirrored == 1
    assert not mirror.is_proven(0, 1)
    assert [record.getMessage().partition("()")[0] for record in caplog.records] == [
        "mirror 'mirror': popitem"]
    with pytest.raises(AttributeError):
        mirror.nothing()


def test_old_and_new_of_one_kind(make: Any) -> None:
    """Caches of Flask's: the mirror is a third one of that interface."""
    cachelib = pytest.importorskip("cachelib")
    from shmmap.contrib.cachelib import ShmMapCache

    m = make()
    mirror = Mirror(cachelib.SimpleCache(), ShmMapCache(m, key_prefix="new"), m, sample=1.0)
    assert mirror.set("a", 1, timeout=60) and mirror.add("a", 2) is False and mirror.inc("a") == 2
    assert mirror.get_many("a", "b") == [2, None] and mirror.get_dict("a") == {"a": 2}
    assert mirror.set_many({"x": 1, "y": 2}) == ["x", "y"]
    assert mirror.delete("x") and mirror.has("y")
    assert mirror.flush() and mirror.report().differences == 0 and mirror.report().failed == 0
    assert 59 < m.ttl(("new", "a")) <= 60
    mirror.clear()
    assert mirror.new.get("y") is None
