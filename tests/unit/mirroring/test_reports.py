"""What a mirror reports: what attacks have found that let it say the sides were equal when that was
not known, or never say so.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.mirroring.operations import Place
from shmmap.mirroring.tally import Tally

from .breaking import Breaking, mirrored


@pytest.fixture
def m(make: Any) -> Any:
    return make()


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
        "            self.is_down = False\n"  # once: else it is left without, which is as good
        "            raise OSError\n"
        "        m[key] = value\n"
        "mirror = shmmap.Mirror({}, New(), m)\n"
        "mirror['a'] = 1\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True,
                          text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    with shmmap.ShmMap.attach(name) as m:
        assert m["a"] == 1 and m[("shmmap.mirror", "mirror", "failed")] >= 1
        m.unlink()


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
