"""LocalMap: it does what ShmMap does, in one process; and what a fork, a pickle, an end make of it.
"""

from __future__ import annotations

import doctest
import gc
import inspect
import pickle
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import shmmap
from shmmap.testing import LocalMap, local_maps

from ...support.every_method import CALLS, outcome, public
from ...support.leftovers import objects_of
from ...support.programs import run_code


@pytest.fixture
def local(name: str) -> Iterator[Callable[..., Any]]:
    """Open LocalMaps of the test's name; they are unlinked at the end."""
    def open_map(**parameters: Any) -> Any:
        parameters.setdefault("size", "300kB")
        return LocalMap(name, **parameters)

    yield open_map
    for left in [one for one in local_maps._maps if one.startswith(name)]:
        with LocalMap.attach(left) as m:
            m.unlink()


# -- the same interface ----------------------------------------------------------------


def test_every_public_method_has_a_call():
    """Of a new method of ShmMap: add a call to tests/support/every_method.py."""
    assert set(CALLS) == public()


@pytest.mark.parametrize("method", CALLS)
def test_every_method_does_what_it_does_on_a_shared_map(name, local, tmp_path, method):
    folders = [tmp_path / kind for kind in ("shared", "local")]
    for folder in folders:
        folder.mkdir()
    shared = shmmap.ShmMap(f"{name}-s", size="300kB", shards=2)
    try:
        wanted = outcome(method, shared, str(folders[0]))
    finally:
        with shmmap.ShmMap(f"{name}-s") as again:
            again.unlink()
        shared.close()
    m = local(shards=2)
    assert outcome(method, m, str(folders[1])) == wanted
    m.close()
    assert not objects_of(name)


@pytest.mark.parametrize("method", sorted(public()))
def test_signatures_are_the_same(method):
    theirs, ours = (
        inspect.getattr_static(kind, method) for kind in (shmmap.ShmMap, LocalMap)
    )
    if callable(theirs):
        assert inspect.signature(theirs) == inspect.signature(ours)
    else:
        assert type(theirs) is type(ours)


def test_it_takes_the_same_arguments(name, local):
    assert inspect.signature(LocalMap) == inspect.signature(shmmap.ShmMap)
    for said in (
        {"size": "1MB", "ttl": 5, "on_full": "evict"}, {"capacity": 500, "value_size": 40},
        {"size": 10**6, "shards": 4, "codec": "safe", "max_age": 9, "sweep_interval": None},
    ):
        with shmmap.ShmMap(f"{name}-s", **said) as shared, LocalMap(f"{name}-l", **said) as m:
            ours, theirs = m.attachment.parameters, shared.attachment.parameters
            assert ours._replace(hash_seed=0) == theirs._replace(hash_seed=0)
            assert m.attachment.geometry == shared.attachment.geometry
            m.unlink()
            shared.unlink()


@pytest.mark.parametrize("said", [
    {"size": "1"}, {"size": "much"}, {"shards": 3}, {"ttl": -1}, {"mode": 0o644}, {"near": -1},
    {"on_full": "drop"}, {"codec": "json5"}, {"capacity": 10, "size": "1MB"}, {"lock_timeout": -1},
], ids=str)  # fmt: skip
def test_it_refuses_what_shmmap_refuses(name, said):
    errors = []
    for kind in (shmmap.ShmMap, LocalMap):
        with pytest.raises((ValueError, TypeError)) as caught:
            kind(name, **said)
        errors.append((type(caught.value), str(caught.value)))
    assert errors[0] == errors[1]
    assert name not in local_maps._maps


def test_what_a_machine_cannot_hold_is_refused(name):
    with pytest.raises(shmmap.SharedMemoryFull, match="this machine has"):
        LocalMap(name, size=1 << 55)
    assert name not in local_maps._maps


def test_a_map_that_exists_is_compared(local):
    first = local(size="300kB", ttl=5, codec="safe")
    assert (local(ttl=6).default_ttl, local().default_ttl) == (6, 5)
    with pytest.raises(shmmap.ConfigMismatch, match="codec: asked auto, it has safe"):
        local(codec="auto")
    with pytest.raises(shmmap.ConfigMismatch, match="size: asked 400000, it has 300000"):
        local(size="400kB", on_mismatch="raise")
    with pytest.warns(shmmap.MapMismatchWarning, match="size: asked 400000, it has 300000"):
        first["a"] = local(size="400kB").size
    assert local(size="400kB", on_mismatch="replace").size == 400_000
    assert first == {"a": 300_000} and first.size == 400_000, "it follows"
    assert local(fresh=True, size="500kB", codec="safe") == {} == first and first.size == 500_000
    with pytest.raises(shmmap.MapExists):
        LocalMap.create(local(size=None).name)
    with pytest.raises(shmmap.MapNotFound, match=r"no LocalMap 'other' in this process"):
        LocalMap.attach("other")


def test_a_near_cache_a_codec_and_cached(local):
    m = local(codec="safe", near=5)
    with pytest.raises(TypeError, match="safe"):
        m["a"] = {1j}
    m["a"] = "x" * 50
    assert m["a"] is m["a"] and m.stats().near_hits > 0

    @shmmap.cached(local())
    def double(n: int) -> int:
        calls.append(n)
        return 2 * n

    calls: list[int] = []
    assert [double(4), double(4), double(5)] == [8, 8, 10] and calls == [4, 5]


def test_threads(local):
    m = local()

    def work() -> None:
        for number in range(300):
            m.incr("n")
            m[number % 7] = [number]
            with m.lock("l"):
                m["held"] = m.get("held", 0) + 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert m["n"] == m["held"] == 1200 and m.check() == []


# -- names, and ends -------------------------------------------------------------------


def test_entries_stay_while_the_map_has_its_name(local):
    with local() as m:
        m["a"] = 1
        m.set("b", 2, ttl=1000)
    with local() as m:
        assert m.copy() == {"a": 1, "b": 2} and 900 < m.ttl("b") <= 1000
        assert m.stats().writes == 2
        m.unlink()
    with local() as m:
        assert len(m) == 0


def test_an_ephemeral_one_ends_with_its_last_handle(local):
    m, other = local(ephemeral=True), local()
    m["a"] = 1
    m.close()
    assert other["a"] == 1
    other.close()
    assert other.name not in local_maps._maps


def test_a_successor_is_another_map(local):
    m = local(on_unlinked="raise")
    pickled = pickle.dumps(m)
    m.unlink()
    other = local()
    other["a"] = 1
    with pytest.raises(shmmap.MapUnlinked):
        m.get("a")
    with pytest.raises(shmmap.MapNotFound, match="made anew since"):
        pickle.loads(pickled)
    m.unlink()  # the old one again: nothing of the successor's
    m.close()
    assert other["a"] == 1 and local()["a"] == 1


def test_its_memory_and_its_threads_go_with_it(name):
    before = threading.active_count()
    m = LocalMap(name, size="1MB", ttl=9, sweep_interval=0.01, ephemeral=True)
    m["a"] = 1
    memory = weakref.ref(m.attachment.mappings[0])
    m.close()
    del m
    gc.collect()
    assert memory() is None and threading.active_count() == before


def test_one_that_is_dropped_is_as_one_that_is_closed(name):
    m = LocalMap(name, size="1MB", ephemeral=True)
    lock = m.lock("l")
    lock.acquire()
    del m, lock
    gc.collect()
    assert name not in local_maps._maps


def test_it_sweeps_in_the_background(local):
    m = local(sweep_interval=0.02)
    m.set("a", 1, ttl=0.01)
    done = threading.Event()
    for _ in range(500):
        if m.stats().expired:
            break
        done.wait(0.02)
    assert m.stats().expired == 1 and m.stats().sweeps > 0


# -- other processes -------------------------------------------------------------------


def test_a_forked_child_goes_on_with_a_copy_and_says_so(local, start):
    m = local()
    m["n"] = 1
    lock = m.lock("l")
    lock.acquire()

    def work(child: Any) -> None:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            m.incr("n")
            m.incr("n")
        with m.lock("l", timeout=5):  # its parent's is not in this copy
            child.tell((m["n"], [str(one.message) for one in said], m.check(), m.stats().workers))

    child = start(work)
    number, said, wrong, workers = child.hear()
    assert (number, wrong, workers) == (3, [], (child.pid,))
    assert len(said) == 1 and "goes on with a copy of its own" in said[0]
    child.reap()
    assert m["n"] == 1 and lock.held
    lock.release()


def test_a_child_forked_while_threads_write(local, start):
    """What they held as it was forked it takes over from the dead."""
    m = local(shards=1, lock_timeout=20)
    m.update({number: [number] for number in range(50)})
    over = threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            number += 1
            m[number % 50] = [number] * (number % 90)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()

    def work(child: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            m.incr("n")
        child.tell((m["n"], len(m), m.check()))

    try:
        for _ in range(15):
            child = start(work)
            assert child.hear() == (1, 51, [])
            child.reap()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert "n" not in m and m.check() == []


def test_a_pickle_leads_nowhere_in_another_process(local):
    m = local()
    ended = run_code("import pickle, sys\npickle.loads(bytes.fromhex(sys.argv[1]))",
                     pickle.dumps(m).hex())
    assert "MapNotFound" in ended.stderr and "No other process sees one" in ended.stderr


def test_it_makes_no_files(name, tmp_path):
    """Nor looks at one in /dev/shm."""
    script = tmp_path / "one.py"
    script.write_text(
        "import sys\n"
        "from shmmap.testing import LocalMap\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, at: opened.append((event, at)) if event in\n"
        "    ('open', 'os.listdir', 'shutil.rmtree', 'os.remove') else None)\n"
        f"m = LocalMap({name!r}, size='1MB', ttl=5)\n"
        "m['a'] = 1; m.incr('n'); m.snapshot(); m.sweep(); m.check(); m.stats(); m.unlink()\n"
        "m.close()\n"
        "wrong = [one for one in opened if '/dev/shm' in str(one)]\n"
        "assert not wrong, wrong\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd="/",
                          timeout=60)
    assert done.returncode == 0, done.stderr


def test_imported_again_it_knows_its_maps():
    ended = run_code("""
import sys
from shmmap.testing import LocalMap
m = LocalMap("h", size="1MB")
m["a"] = 1
for module in [one for one in sys.modules if one.startswith("shmmap")]:
    del sys.modules[module]
from shmmap.testing import LocalMap as Again
print(Again is LocalMap, Again.attach("h")["a"])
""")
    assert ended.stdout == "True 1\n", ended.stderr


def test_its_example_is_true():
    module = sys.modules[local_maps.__name__.replace("maps", "map")]
    assert doctest.testmod(module)[:2] == (0, 1)


def test_it_imports_no_test_framework():
    ended = run_code("import sys, shmmap.testing\nprint('pytest' in sys.modules)")
    assert ended.stdout == "False\n", ended.stderr


def test_it_says_what_it_is(local):
    m = local()
    assert repr(m).startswith(f"<LocalMap {m.name!r}, 0 entries")
    m.close()
    assert repr(m) == f"<LocalMap {m.name!r}, closed>"
    assert isinstance(m, shmmap.ShmMap)


@pytest.mark.parametrize("ephemeral", [False, True])
def test_threads_and_finalizers_that_open_and_close_it(name, ephemeral):
    """One leaves as another one comes: who has a handle has the map."""
    class Garbage:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            opened().close()

    def opened() -> LocalMap:
        return LocalMap(name, size="300kB", ephemeral=ephemeral, sweep_interval=None)

    def use() -> None:
        with opened() as m:
            m["a"] = 1
            assert m["a"] == 1
            m.incr("n")

    def work() -> None:
        try:
            for _ in range(40):
                Garbage()
                use()
        except BaseException as error:
            wrong.append(error)

    wrong: list[BaseException] = []
    before = gc.get_threshold()
    gc.set_threshold(50)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert wrong == []
    if not ephemeral:
        with LocalMap.attach(name) as m:
            assert m["n"] == 160 and m.check() == []
            m.unlink()
    assert name not in local_maps._maps
