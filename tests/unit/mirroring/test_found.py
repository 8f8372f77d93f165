"""What attacks on the mirror have found: each let a reader see what the old side has not, held up
its caller, or said that the sides are equal when that was not known."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

import shmmap
from shmmap import LockTimeout, Mirror
from shmmap.contrib.alike import LikeDiskcache, LikeRedis
from shmmap.mirroring import sides
from shmmap.mirroring.missed import Missed
from shmmap.mirroring.operations import Place
from shmmap.mirroring.sides import Outcome

from .breaking import Breaking, mirrored


@pytest.fixture
def m(make: Any) -> Any:
    return make()


def test_two_threads_that_write_one_key(m: Any) -> None:
    """The first on the old side may be the second on the new one: then it is looked at."""
    first, go_on = threading.Event(), threading.Event()

    class Old(dict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            super().__setitem__(key, value)
            if value == "first":
                first.set()
                go_on.wait(20)

    mirror = mirrored(Old(), m, m)
    thread = threading.Thread(target=mirror.__setitem__, args=("k", "first"))
    thread.start()
    assert first.wait(20)
    mirror["k"] = "second"
    go_on.set()
    thread.join()
    assert mirror["k"] == mirror.old["k"] == "second"
    assert mirror.flush() and m["k"] == "second"
    first.clear()
    go_on.clear()
    thread = threading.Thread(target=mirror.__setitem__, args=("k", "first"))
    thread.start()
    assert first.wait(20)
    mirror.clear()
    go_on.set()
    thread.join()
    assert mirror.get("k") is None and mirror.flush() and "k" not in m


def test_a_new_side_that_passes_over_errors(m: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our backends do, for their frameworks; a mirror has to know."""
    cachelib = pytest.importorskip("cachelib")
    from shmmap.contrib.cachelib import ShmMapCache

    new = ShmMapCache(m, key_prefix="new")
    mirror = mirrored(cachelib.SimpleCache(), new, m)
    mirror.set("k", 1, timeout=60)

    def busy(*_: Any, **__: Any) -> None:
        raise LockTimeout("busy")

    with monkeypatch.context() as patch:
        patch.setattr(shmmap.ShmMap, "set", busy)
        mirror.set("k", 2, timeout=60)
        assert new.set("other", 1) is False  # not while it is asked by others
    assert mirror.get("k") == 2 and mirror.report().failed == 1
    assert mirror.flush() and mirror.get("k") == 2


@pytest.mark.parametrize("write", [
    lambda mirror: mirror.touch("k", 0.2), lambda mirror: mirror.set("k", 1, 0.2)])
def test_a_missed_write_of_the_time_to_live(m: Any, write: Callable[[Mirror], object]) -> None:
    diskcache = pytest.importorskip("diskcache")
    with tempfile.TemporaryDirectory() as folder, diskcache.Cache(folder) as old:
        new = Breaking(LikeDiskcache(m))
        mirror = mirrored(old, new, m)
        mirror.set("k", 1)
        new.is_down = True
        write(mirror)
        new.is_down = False
        assert mirror.flush()
        time.sleep(0.25)
        assert old.get("k") is None and mirror.get("k") is None


def test_redis(m: Any) -> None:
    """What it refuses, keeps, or calls by another name; and one key of two spellings."""
    old, new = LikeRedis(m, "old"), Breaking(LikeRedis(m, "new"))
    mirror = mirrored(old, new, m)
    old.set("lock", "another's")
    assert mirror.set("lock", "mine", nx=True) is None and mirror.flush()
    assert mirror.get("lock") == old.get("lock") == new.inner.get("lock") == b"another's"
    old.set("ends", 1, ex=50)
    mirror.set("ends", 2, keepttl=True)
    assert mirror.flush() and new.inner.ttl("ends") in (-2, 49, 50)
    assert mirror.setnx("n", 1) and not mirror.setnx("n", 2) and mirror.get("n") == b"1"
    mirror.set(b"k", 1)
    new.is_down = True
    mirror.set(b"k", 2)
    assert mirror.get("k") == b"2"
    new.is_down = False
    assert mirror.get("k") == b"2" and mirror.flush() and new.inner.get("k") == b"2"


def test_a_write_of_many_that_was_made_in_part(m: Any) -> None:
    mirror = mirrored({}, m, m)
    mirror["a"] = 1
    with pytest.raises(ValueError, match="length"):
        mirror.update([("a", 2), ("b",)])
    assert mirror.old["a"] == 2 == mirror["a"] and mirror.flush() and m["a"] == 2


def test_calls_that_are_about_no_key_and_keys_that_compare_in_their_own_way(m: Any) -> None:
    diskcache = pytest.importorskip("diskcache")

    class Key:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            raise TypeError("not comparable")

    with tempfile.TemporaryDirectory() as folder, diskcache.Cache(folder) as old:
        mirror = mirrored(old, LikeDiskcache(m), m)
        mirror.set("k", 1)
        mirror.expire()  # all keys' that have ended
        assert mirror.get("k") == 1 and mirror.flush() and mirror.report().missed == 0
    mirror = mirrored({}, m, m)
    mirror[Key()] = 1
    assert len(mirror) == 1 and mirror.flush()
    mirror["k"] = 2
    assert mirror["k"] == 2 == m["k"]


def test_versions_of_any_kind(m: Any) -> None:
    conf = pytest.importorskip("django.conf")
    if not conf.settings.configured:
        conf.settings.configure()
    from django.core.cache.backends.locmem import LocMemCache

    mirror = mirrored(LocMemCache("old-any", {}), Breaking(LocMemCache("new-any", {})), m)
    mirror.set("a", 1, version="v")
    mirror.new.is_down = True
    mirror.set("a", 2, version="v")
    mirror.new.is_down = False
    assert mirror.get("a", version="v") == 2 and mirror.get(1) is None and mirror.flush()


def test_what_is_noted_between_two_steps_is_brought(m: Any) -> None:
    missed = Missed()
    missed._missed[Place("a")] = ""  # its caller was thrown out before the second step
    seen: list[Place] = []
    assert missed.waits()
    missed.bring(lambda place, why: not seen.append(place))
    assert seen == [Place("a")] and not len(missed)


def test_a_slow_old_side_does_not_make_the_new_one_late(m: Any) -> None:
    """Looking at it held up the thread that writes the new one: what came meanwhile was late, so
    missed, so looked at, and so on for ever."""
    class Old(dict[Any, Any]):
        def get(self, key: Any, default: Any = None) -> Any:
            time.sleep(0.02)
            return super().get(key, default)

    mirror = mirrored(Old(), m, m, deadline=0.1)
    operation = mirror._operation("__setitem__")
    for key in range(30):
        number = mirror._mine().missed.begins(operation, [Place(key)])
        mirror._mine().missed.ends(number, missed=True)
    for number in range(100):
        mirror["k"] = number
        time.sleep(0.002)
    assert mirror.report().late == 0 and mirror.flush(30)


def test_an_error_that_cannot_be_shown(m: Any) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError("a broken format")

    class New(dict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            raise Odd

        get = __getitem__ = lambda self, *_: (_ for _ in ()).throw(Odd())  # type: ignore[assignment]

    mirror = mirrored({}, New(), m)
    mirror["k"] = 1
    assert mirror["k"] == 1 and mirror.get("k") == 1


class Model:
    """Equal by its number, as Django's models are."""

    def __init__(self, number: int, name: str) -> None:
        self.number, self.name = number, name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and other.number == self.number

    __hash__ = None  # type: ignore[assignment]


def test_values_whose_classes_compare_a_part_of_them() -> None:
    def equal(one: Any, other: Any) -> bool:
        return sides.equal(Outcome(one, None), Outcome(other, None))

    assert equal(Model(1, "a"), Model(1, "a")) and not equal(Model(1, "a"), Model(1, "b"))
    assert not equal(OrderedDict(a=1), OrderedDict(a=True))
    assert not equal([Model(1, "a")], [Model(1, "b")])


def test_threads_after_a_fork_share_one_state(m: Any, start: Any) -> None:
    mirror = mirrored({}, {}, m)
    mirror["k"] = 1

    def look(child: Any) -> None:
        begin, seen = threading.Barrier(8), []

        def use() -> None:
            begin.wait()
            seen.append(mirror._mine())

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        crew = [threading.Thread(target=use) for _ in range(8)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
        sys.setswitchinterval(before)
        child.tell(len(set(map(id, seen))))

    for _ in range(5):
        child = start(look)
        assert child.hear() == 1
        child.end()


@pytest.mark.parametrize("repair", ["copy", "delete", None])
def test_what_the_new_side_refuses_is_not_read_from_it(m: Any, repair: Any) -> None:
    mirror = mirrored({}, m, m, repair=repair)
    mirror["k"] = 1
    mirror["k"] = threading.Lock()
    assert mirror["k"] is mirror.old["k"] and mirror.flush() and mirror["k"] is mirror.old["k"]


def test_a_mapping_whose_entries_end(m: Any) -> None:
    cachetools = pytest.importorskip("cachetools")
    mirror = mirrored(cachetools.TTLCache(10, 100), m, m)
    mirror.old["k"] = 1
    assert mirror.compare(["k"]) == 1 and "k" not in m and mirror["k"] == 1
    mirror = mirrored(cachetools.LRUCache(10), m, m)
    mirror.old["k"] = 1
    assert mirror.compare(["k"]) == 1 and m["k"] == 1


def test_answers_are_compared_aside(m: Any) -> None:
    class Slow:
        def __eq__(self, other: object) -> bool:
            time.sleep(2.0)
            raise SystemExit

        __hash__ = None  # type: ignore[assignment]

    mirror = mirrored({}, {}, m, deadline=0.05)
    mirror["k"] = Slow()
    began = time.monotonic()
    assert type(mirror.pop("k")) is Slow and time.monotonic() - began < 1.0
    mirror.flush()


def test_what_the_old_side_refuses_may_be_on_the_new_one(m: Any) -> None:
    """It has lost the entry, by an eviction: deleted is deleted."""
    mirror = mirrored({}, m, m)
    mirror["a"] = 1
    del mirror.old["a"]
    with pytest.raises(KeyError):
        del mirror["a"]
    assert mirror.get("a") is None and "a" not in mirror
    assert mirror.flush() and "a" not in m


def test_what_redis_calls_copy_is_a_write(m: Any) -> None:
    class Old(LikeRedis):
        def copy(self, source: str, destination: str) -> bool:
            return bool(self.set(destination, self.get(source)))

    mirror = mirrored(Old(m, "old"), LikeRedis(m, "new"), m)
    mirror.set("a", 1)
    assert mirror.copy("a", "b") and mirror.report().unmirrored == 1


def test_the_end_of_a_version(m: Any) -> None:
    """As of django-redis, which tells it for each version."""
    class Old:
        def make_key(self, key: Any) -> str: ...
        def get(self, key: Any, default: Any = None, version: Any = 1) -> str:
            return f"value {version}"

        def set(self, key: Any, value: Any, timeout: Any = None, version: Any = 1) -> None: ...
        def ttl(self, key: Any, version: Any = 1) -> int:
            return {"1": 3_600, "2": 5}[str(version)]

    assert sides.left(Old(), Place("a", "2")) == 5 and sides.left(Old(), Place("a", "1")) == 3_600
