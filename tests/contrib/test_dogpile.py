"""dogpile.cache on a map."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmmap

from ..support.children import Child, Children
from . import upstream

pytest.importorskip("dogpile.cache")

from dogpile.cache import make_region
from dogpile.cache.api import NO_VALUE
from dogpile.cache.proxy import ProxyBackend

from shmmap.contrib.dogpile import ShmMapBackend, ShmMapInvalidation

PLUGIN = Path(__file__).parent / "plugins" / "dogpile_suite.py"
EXAMPLE = Path(__file__).parents[2] / "examples" / "06_dogpile_region.py"
BEFORE = "its clock says 1970, and what is older than the map's first region counts as invalid"


@pytest.fixture
def region(name: str) -> Callable[..., Any]:
    """Make a region of the test's map, as each process would."""
    def make(expiration_time: float | None = None, wrap: Any = None, **arguments: Any) -> Any:
        made = make_region("pages")
        return made.configure(
            "shmmap", expiration_time, {"name": name, "size": "1MB", **arguments}, wrap=wrap,
            region_invalidator=ShmMapInvalidation(made),
        )

    return make


def refuse(*_: Any, **__: Any) -> Any:
    """Stand for an operation of a map that is in the way."""
    raise shmmap.LockTimeout("a process that holds the shard was stopped")


def test_the_tests_of_dogpile_cache(tmp_path: Path) -> None:
    """Regions, decorators, and the suites for backends and their locks, as Redis runs them; but
    not the arguments of Redis's connection."""
    folder = upstream.fetch("dogpile.cache")
    names = [f"cache/test_{part}" for part in ("region", "decorator", "redis_backend")]
    found = upstream.run(
        folder, names, tmp_path / "report.xml", PLUGIN, "-k", "not Connection"
    )
    upstream.compare(found, {
        "RegionTest.test_get_value_metadata": BEFORE,
        "ProxyRegionTest.test_get_value_metadata": BEFORE,
    }, passed=248)


def test_one_process_computes(region: Any, start: Children) -> None:
    def work(child: Child) -> Any:
        mine, computed = region(), []
        child.hear()
        value = mine.get_or_create("page", lambda: computed.append(1) or time.sleep(0.1) or "drawn")
        return value, len(computed)

    children = [start(work) for _ in range(3)]
    for child in children:
        child.tell("go")
    results = [child.result() for child in children]
    assert sorted(results) == [("drawn", 0), ("drawn", 0), ("drawn", 1)]


def test_the_next_one_computes_when_a_process_is_killed(region: Any, start: Children) -> None:
    def work(child: Child) -> None:
        region().get_or_create("page", lambda: child.tell("drawing") or time.sleep(60))

    child = start(work)
    assert child.hear() == "drawing"
    mine = region()
    assert mine.key_is_locked("page") and not mine.backend.get_mutex("page").acquire(False)
    got: list[str] = []
    waits = threading.Thread(target=lambda: got.append(mine.get_or_create("page", lambda: "mine")))
    waits.start()
    waits.join(0.05)
    assert not got
    child.kill()
    waits.join(30)
    assert got == ["mine"] and not mine.key_is_locked("page")


def test_an_old_value_is_served_while_another_process_computes(
    region: Any, start: Children
) -> None:
    mine = region(expiration_time=0.001)
    mine.set("page", "old")
    time.sleep(0.002)

    def work(child: Child) -> Any:
        def draw() -> str:
            child.tell("drawing")
            return str(child.hear())

        return region(expiration_time=0.001).get_or_create("page", draw)

    child = start(work)
    assert child.hear() == "drawing"
    assert mine.get_or_create("page", lambda: "computed twice") == "old"
    child.tell("new")
    assert child.result() == "new" and mine.get("page", ignore_expiration=True) == "new"


def test_an_invalidation_counts_for_all_processes(region: Any, start: Children) -> None:
    def work(child: Child) -> Any:
        other = region(expiration_time=60)
        other.set("page", "old")
        child.tell("set")
        seen = []
        for _ in range(2):
            child.hear()
            seen.append(other.get("page") is NO_VALUE)
            other.region_invalidator.was_soft_invalidated()
            child.tell(other.get_or_create("page", lambda: "new"))
        return seen

    child = start(work)
    assert child.hear() == "set"
    mine = region(expiration_time=60)
    for hard in (True, False):
        mine.invalidate(hard=hard)
        child.tell("go")
        assert child.hear() == "new" == mine.get("page")
    assert child.result() == [True, True]
    mine.invalidate()
    later = region()  # of a process that starts only now
    assert later.get("page") is NO_VALUE
    assert later.region_invalidator.was_hard_invalidated()


def test_a_soft_invalidation_does_not_revoke_a_hard_one(region: Any) -> None:
    mine, other = region(expiration_time=60), region(expiration_time=60)
    mine.set("wrong", 1)
    mine.invalidate()
    mine.set("old", 1)
    other.invalidate(hard=False)
    strategy = mine.region_invalidator
    made = {key: mine.backend.get(key).cached_time for key in ("wrong", "old")}
    assert strategy.is_hard_invalidated(made["wrong"]) and strategy.is_invalidated(made["old"])
    assert not strategy.is_hard_invalidated(made["old"]) and strategy.was_soft_invalidated()
    assert strategy.is_soft_invalidated(made["old"])
    assert not strategy.is_soft_invalidated(made["wrong"])


def test_values_are_invalid_where_the_invalidation_was_lost(region: Any) -> None:
    mine = region()
    mine.set("page", "kept")
    assert mine.get("page") == "kept"
    assert mine.backend.map.delete(("dogpile.cache", "invalidated"))
    assert mine.get("page") is NO_VALUE
    mine.set("page", "new")
    assert mine.get("page") == "new" == region().get("page")


def test_an_invalidation_that_cannot_be_told_is_told_later(
    region: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = region(), region()
    mine.set("page", "old")
    assert other.get("page") == "old" == mine.get("page")
    with monkeypatch.context() as context:
        context.setattr(mine.backend.map, "apply", refuse, raising=False)
        mine.invalidate()
        assert mine.get("page") is NO_VALUE and other.get("page") == "old"
    assert mine.get("page") is NO_VALUE and other.get("page") is NO_VALUE
    assert mine.backend.map.stats().uncached == {"busy": 2}


def test_invalidation_is_for_regions_of_this_backend() -> None:
    made = make_region()
    made.configure("dogpile.cache.memory", region_invalidator=ShmMapInvalidation(made))
    with pytest.raises(TypeError, match="'shmmap', not MemoryBackend"):
        made.invalidate()


def test_a_value_that_takes_longer_than_its_lock_lasts(
    region: Any, caplog: pytest.LogCaptureFixture
) -> None:
    mine, other = region(lock_timeout=0.05), region()
    assert mine.backend.has_lock_timeout() and not other.backend.has_lock_timeout()
    mutex = mine._mutex("page")
    assert mutex.acquire()
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.append(other.get_or_create("page", lambda: "own")))
    thread.start()
    thread.join(30)
    mutex.release()
    assert got == ["own"] and not mutex.locked() and "LockLost" in caplog.text


def test_who_waited_long_enough_computes_it_and_frees_nothing(region: Any) -> None:
    mine = region(lock_blocking_timeout=0.05)
    mutex = mine._mutex("page")  # the one object that the threads of a region share
    assert mutex.acquire()
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.append(mine.get_or_create("page", lambda: "own")))
    thread.start()
    thread.join(30)
    assert got == ["own"] and mutex.locked()
    mutex.release()
    assert not mutex.locked()


def test_a_map_in_the_way_fails_no_request(
    region: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mine, big = region(), "x" * 2_000_000
    assert mine.get_or_create("page", lambda: big) == big and mine.get("page") is NO_VALUE
    assert mine.backend.map.stats().uncached == {"too_large": 1}
    mutex = mine._mutex("page")
    for method in ("acquire", "release", "locked"):
        monkeypatch.setattr(mutex._lock, method, refuse)
    assert not mine.key_is_locked("page") and not mutex.acquire(False)
    assert mine.get_or_create("page", lambda: "drawn") == "drawn" == mine.get("page")
    mutex.release()
    assert mine.backend.map.stats().uncached == {"too_large": 1, "busy": 4}
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    with pytest.raises(shmmap.EntryTooLarge):
        region(strict=True).set("page", big)
    with pytest.raises(shmmap.Reentered):
        mine.get_or_create("a", lambda: mine.get_or_create("a", lambda: "it needs itself"))


def test_arguments(region: Any, name: str) -> None:
    arguments = {"name": name, "size": "1MB", "prefix": "a", "expiration_time": 60,
                 "distributed_lock": False}
    before = dict(arguments)
    one = ShmMapBackend(arguments)
    assert arguments == before and one.get_mutex("page") is None
    two = ShmMapBackend({"name": one.map, "prefix": "b", "expiration_time": 0})
    one.set("page", b"1"), two.set_multi({"page": b"2", "other": b"3"})
    assert one.get_serialized_multi(["page"]) == [b"1"] and one.map.ttl(("a", "page")) > 59
    assert two.get_serialized("page") == b"2" and two.map.ttl(("b", "page")) is None
    three = ShmMapBackend({"name": shmmap.ShmMap.attach(name, ttl=30)})
    three.set("page", b"3")
    assert 29 < (one.map.ttl("page") or 0) <= 30 and three.get("page") is NO_VALUE
    two.delete_multi(["page", "page"])
    assert two.get_serialized_multi(["page", "other"]) == [NO_VALUE, b"3"]
    with pytest.raises(TypeError, match="arbitrary"):
        ShmMapBackend({"name": name, "arbitrary": 1})
    made = make_region().configure_from_config({
        "cache.backend": "shmmap", "cache.expiration_time": "60", "cache.arguments.name": name,
        "cache.arguments.size": "1MB", "cache.arguments.lock_timeout": "30",
        "cache.arguments.distributed_lock": "true",
    }, "cache.")
    assert made.expiration_time == 60 and made.backend.has_lock_timeout()


def test_values_with_a_serializer_and_without(region: Any, name: str) -> None:
    """On a map that pickles nothing, too; a value of the other kind is a miss."""
    class Proxy(ProxyBackend):
        pass

    plain = region(wrap=[Proxy])
    plain.set("page", {"a": (1, None)})
    assert plain.get("page") == {"a": (1, None)} and plain.get_multi(["page", "x"])[1] is NO_VALUE
    assert isinstance(plain.backend.proxied.map["page"], tuple)
    dumping = make_region(serializer=pickle.dumps, deserializer=pickle.loads).configure(
        "shmmap", arguments={"name": name})
    assert dumping.get("page") is NO_VALUE
    dumping.set("page", [1])
    assert dumping.get("page") == [1] and plain.get("page") is NO_VALUE
    with shmmap.ShmMap(f"{name}-safe", size="1MB", codec="safe", ephemeral=True) as safe:
        made = make_region(serializer=repr(1).__class__.encode, deserializer=bytes.decode)
        made.configure("shmmap", arguments={"name": safe},
                       region_invalidator=ShmMapInvalidation(made))
        made.set_multi({"page": "text"})
        made.invalidate(), made.set("page", "new")
        assert made.get("page") == "new"


def test_the_example() -> None:
    ran = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"3 workers asked at once, 1 drew it.*killed.*2 left 1 drew it anew",
                     ran.stdout, re.S) and not ran.stderr
