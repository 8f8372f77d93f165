"""What attacks on the mirror have found: each let a reader see what the old side has not, held up
its caller, or said that the sides are equal when that was not known."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap import LockTimeout, Mirror
from shmmap.contrib.alike import LikeDiskcache, LikeRedis
from shmmap.mirroring import sides
from shmmap.mirroring.missed import Missed
from shmmap.mirroring.operations import Place
from shmmap.mirroring.sides import Outcome
from shmmap.mirroring.tally import Tally


class Breaking:
    """A side that can be out of reach."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.is_down = inner, False

    def __getattr__(self, name: str) -> Any:
        if self.is_down:
            raise ConnectionError("down")
        return getattr(self.inner, name)

    def __setitem__(self, key: Any, value: Any) -> None:
        if self.is_down:
            raise ConnectionError("down")
        self.inner[key] = value


@pytest.fixture
def m(make: Any) -> Any:
    return make()


def mirrored(old: Any, new: Any, m: Any, **options: Any) -> Mirror:
    return Mirror(old, new, m, **{"read_from": "new", "sample": 0.0, "deadline": 2.0, **options})


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


def test_what_is_shared(m: Any) -> None:
    """Since when the sides are equal: the latest of what any process says, also beside a clear, and
    with a clock that was put back."""
    one, other = Tally(m, "mirror"), Tally(m, "mirror")
    one.is_equal()
    one.is_unequal()
    one.share()
    kept = one.kept()
    m.clear()
    other.is_equal()
    other.share()
    one.keep(kept)
    assert time.time() - 60 < m[("shmmap.mirror", "mirror", "since")] <= time.time()
    m[("shmmap.mirror", "mirror", "since")] = time.time() + 1e9
    other.share()
    assert m[("shmmap.mirror", "mirror", "since")] <= time.time()
    m.clear()
    other.is_unequal()
    assert other.totals()[1] >= time.time() - 1


def test_a_difference_that_is_shared_while_it_is_reported(
    m: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = Tally(m, "mirror")
    tally.is_equal()
    tally.share()
    m[("shmmap.mirror", "mirror", "since")] = 1.0
    tally.is_unequal()
    get = type(m).get

    def late(handle: Any, key: Any, *given: Any) -> Any:
        found = get(handle, key, *given)
        if key[-1] == "since":  # between this look and the next one
            monkeypatch.undo()
            tally.share()
        return found

    monkeypatch.setattr(type(m), "get", late)
    assert tally.totals()[1] > time.time() - 60


def test_a_process_that_only_writes_tells_the_others(m: Any, start: Any) -> None:
    mirror = mirrored({}, Breaking({}), m)

    def work(child: Any) -> None:
        mirror.new.is_down = True
        mirror["k"] = 1
        child.tell("missed")
        child.hear()

    child = start(work)
    assert child.hear() == "missed"
    until = time.monotonic() + 20
    while not mirror.report().failed:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert mirror.report().equal_for < 10
    child.tell("end")


def test_what_was_missed_is_brought_and_told_as_the_process_ends(
    name: str, tmp_path: Path
) -> None:
    program = (
        "import shmmap\n"
        "from shmmap.mirroring import new_side\n"
        "new_side._AT_EXIT_S = 20.0\n"  # on a busy machine, too
        f"m = shmmap.ShmMap({name!r}, size='1MB')\n"
        "class New(dict):\n"
        "    is_down = True\n"
        "    def __setitem__(self, key, value):\n"
        "        if self.is_down:\n"
        "            raise OSError\n"
        "        m[key] = value\n"
        "    def pop(self, key, default=None):\n"  # else the entry is taken out, which is as good
        "        if self.is_down:\n"
        "            raise OSError\n"
        "new = New()\n"
        "mirror = shmmap.Mirror({}, new, m)\n"
        "mirror['a'] = 1\n"
        "new.is_down = False\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True,
                          text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    with shmmap.ShmMap.attach(name) as m:
        assert m["a"] == 1 and m[("shmmap.mirror", "mirror", "failed")] >= 1
        m.unlink()


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


def test_what_is_too_large_says_nothing_of_the_rest(make: Any, other: Any) -> None:
    m = make(size="300KB", on_full="evict")
    mirror = mirrored({}, m, other(size="300KB"))
    for number in range(20):
        mirror["big", number] = b"x" * 10_000_000
    report = mirror.report()
    assert report.failed >= 20 and not report.is_open and report.skipped == 0


def test_what_the_new_side_has_nothing_of_is_no_difference(make: Any, other: Any) -> None:
    """It was not filled yet, or has evicted it: the old side answers, and it may be proven."""
    cachelib = pytest.importorskip("cachelib")
    from shmmap.contrib.cachelib import ShmMapCache

    m = make()
    mirror = mirrored(cachelib.SimpleCache(), ShmMapCache(m, key_prefix="new"), m, sample=1.0)
    mirror.set("right", 1)
    mirror.old.set("a", 1)
    for _ in range(5):
        assert mirror.get("a") == 1 and mirror.get("right") == 1
    assert mirror.flush()
    report = mirror.report()
    assert (report.missing, report.differences) == (5, 0) and mirror.is_proven(0, 10)
    assert mirror.compare(["a", "right"]) == 1


def test_a_counter_that_never_rests(m: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its looks it is another number each time: nobody can tell whether that differs."""
    from shmmap.mirroring import mirror as module

    monkeypatch.setattr(module, "AGAIN_S", 0.001)
    counts = iter(range(1_000_000))

    class Old(dict[Any, Any]):
        def get(self, key: Any, default: Any = None) -> Any:
            return next(counts) if key == "n" else super().get(key, default)

    mirror = mirrored(Old(), {"n": -1}, m, sample=1.0)
    for _ in range(5):
        assert mirror.get("n") == -1
    assert mirror.compare(["n"]) == 0 and mirror.flush()
    report = mirror.report()
    assert (report.compared, report.differences, report.repaired) == (0, 0, 0)


def test_answers_that_differ_leave_it_proven_where_the_entries_are_equal(m: Any) -> None:
    """As of a counter of several processes, whose writes come in another order on each side."""
    class New(dict[Any, Any]):
        def incr(self, key: Any) -> int:
            self[key] = self.get(key, 0) + 1
            return -1

    class Old(New):
        def incr(self, key: Any) -> int:
            super().incr(key)
            return int(self[key])

    mirror = mirrored(Old(), New(), m, sample=1.0)
    mirror["a"] = 1
    assert mirror["a"] == 1 and mirror.flush()
    time.sleep(0.2)
    for number in range(1, 20):
        assert mirror.incr("n") == number
    assert mirror.flush() and mirror.report().differences == 0
    assert mirror.report().equal_for > 0.2 and mirror.is_proven(0.2, 20)


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


def test_unmirrored_calls_are_not_forgotten_with_their_count(make: Any, other: Any) -> None:
    """A map that evicts may lose it; one that was unlinked tells nothing."""
    m, counts = make(), other(size="300KB", on_unlinked="raise")
    mirror = mirrored({"a": 1}, m, counts, sample=1.0)
    assert mirror.get("a") == 1 and mirror.popitem() == ("a", 1)
    assert mirror.flush() and mirror.report().unmirrored == 1
    del counts[("shmmap.mirror", "mirror", "unmirrored")]
    assert mirror.report().unmirrored == 1 and not mirror.is_proven(0, 0)
    assert counts[("shmmap.mirror", "mirror", "unmirrored")] == 1
    proven = mirrored({"a": 1}, {"a": 1}, counts, name="proven", sample=1.0)
    assert proven.compare(["a"]) == 0 and proven.is_proven(0, 1)
    counts.unlink()
    assert not proven.is_proven(0, 1) and proven.report().equal_for == 0.0


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


def test_a_callback_that_raises_is_logged(
    m: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def tell(difference: object) -> None:
        raise RuntimeError("of the callback")

    mirror = mirrored({}, {}, m, sample=1.0, read_from="old", on_difference=tell)
    mirror["a"] = 1
    mirror.new["a"] = 2
    assert mirror["a"] == 1 and mirror.flush()
    assert "on_difference has raised RuntimeError('of the callback')" in caplog.text
    mirror.new["a"] = 2
    with pytest.raises(RuntimeError):
        mirror.compare(["a"])


def test_a_write_that_was_left_is_counted(m: Any) -> None:
    mirror = mirrored({}, m, m, sample=1.0)
    mirror["k"] = 1
    assert mirror["k"] == 1 and mirror.flush() and mirror.is_proven(0, 1)
    operation = mirror._operation("__setitem__")
    mirror._mine().missed.begins(operation, [Place("k")])
    mirror.old["k"] = 2
    time.sleep(1.1)
    assert mirror.report().missed == 1 and not mirror.is_proven(0, 1)
    assert mirror["k"] == 2
