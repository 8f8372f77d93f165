"""joblib's Memory on a map."""

from __future__ import annotations

import json
import linecache
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import shmmap

from ..support.children import Child, Children
from . import upstream

pytest.importorskip("joblib")

import joblib
from joblib import Memory, expires_after
from joblib.memory import _FUNCTION_HASHES

from shmmap.contrib.joblib import ShmMapStoreBackend

from ..support.engines import once

pytestmark = once  # the same with either engine

PLUGIN = Path(__file__).parent / "plugins" / "joblib_suite.py"
MAPPED = "it wants numpy's arrays mapped from a file, and a map's values are copies"
SCRIPT = "with joblib's own store it fails, too, where pytest is started as a module"
Make = Callable[..., Any]


@pytest.fixture
def memory(name: str) -> Iterator[Make]:
    """Make a Memory on the test's map, as each process would."""
    made: list[Any] = []

    def make(location: str = "reports", **options: Any) -> Any:
        options = {"name": name, "size": "1MB", **options}
        made.append(Memory(location, backend="shmmap", backend_options=options, verbose=0))
        return made[-1]

    yield make
    _FUNCTION_HASHES.clear()
    for one in made:
        one.store_backend.map.close()


def test_the_tests_of_joblib(tmp_path: Path) -> None:
    """Of Memory, also for coroutines, and of stores; but not of how a file is written."""
    folder = Path(joblib.__file__).parent
    found = upstream.run(  # with no configuration: where the package lies, ours may be above it
        folder, ["test_memory", "test_memory_async", "test_store_backends"],
        tmp_path / "report.xml", PLUGIN, "-k", "not concurrency_safe_write", "-c", os.devnull,
        "--rootdir", str(folder), under="test",
    )
    jupyter = "test_memory.test_parallel_call_cached_function_defined_in_jupyter"
    upstream.compare(found, {
        f"{jupyter}[True]": SCRIPT,
        f"{jupyter}[False]": SCRIPT,
        "test_memory.test_memory_numpy_check_mmap_mode": MAPPED,
        "test_memory.test_memorized_result_forwards_mmap_mode": MAPPED,
        "test_memory_async.test_memory_numpy_check_mmap_mode_async": MAPPED,
        "test_memory.test_call_and_shelve_lazily_load_stored_result": "of a file's time of access",
        "test_memory.test__get_items": "of a file's time of access",
        "test_memory.test_filesystem_store_backend_repr": "of a store that was not configured",
        "test_memory.test_memory_pickle_dump_load[memory_kwargs0]":
            "it compares all attributes of two stores; two handles on one map are not equal",
        "test_memory.test_memory_pickle_dump_load[memory_kwargs1]":
            "it gives an option that nobody knows, which is refused here",
        "TestAutoGitignore.test_memory_creates_gitignore": "there is no directory",
        "test_store_backends.test_store_cached_func_code_is_not_written_in_place":
            "it opens the file under its own name; ours is one write",
    }, passed=65)


def test_processes_share_results(memory: Make, start: Children) -> None:
    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    calls: list[int] = []

    def work(child: Child) -> Any:
        cached = memory().cache(double)
        return cached(1), cached(2), cached(1), calls

    assert start(work).result() == (2, 4, 2, [1, 2])
    assert start(work).result() == (2, 4, 2, [])
    assert memory().cache(double)(2) == 4 and not calls
    assert memory("others").cache(double)(2) == 4 and calls == [2]


PROGRAM = """
import sys
import joblib
import numpy as np
import shmmap
import shmmap.contrib.joblib

memory = joblib.Memory("reports", backend="shmmap", verbose=0,
                       backend_options={"name": sys.argv[1], "size": "4MB"})
counts = shmmap.ShmMap(sys.argv[1] + "-counts", size="1MB", ephemeral=True)

@memory.cache(ignore=["m"])
def squares(number, m):
    m.incr(number)
    return np.arange(number) ** 2

if __name__ == "__main__":
    seen = []
    for turn in range(3):
        results = joblib.Parallel(2)(joblib.delayed(squares)(n, counts) for n in range(20))
        assert all((r == np.arange(n) ** 2).all() for n, r in enumerate(results))
        seen.append(dict(counts.items()))
    # who stores the code first may remove a result that another one has stored meanwhile
    assert set(seen[0]) == set(range(20)) and seen[1] == seen[2], seen
    assert all(squares(n, None).size == n for n in range(20))
"""


def test_the_workers_of_parallel_share_results(name: str, tmp_path: Path) -> None:
    """The store goes to them by pickle, with the function."""
    (tmp_path / "program.py").write_text(PROGRAM)
    ran = subprocess.run([sys.executable, "program.py", name], cwd=tmp_path, timeout=60,
                         capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def version(number: int, folder: Path) -> Any:
    """Return a function of the same name and place each time, as another release of it has it."""
    file = folder / "release.py"
    file.write_text(f"def answer(question):\n    return question, {number}\n")
    namespace: dict[str, Any] = {"__name__": "release"}
    exec(compile(file.read_text(), str(file), "exec"), namespace)
    _FUNCTION_HASHES.clear()  # as in a new process
    linecache.clearcache()
    return namespace["answer"]


def keys_of(memory: Any, file: str = "") -> list[Any]:
    """List the keys of a Memory's files of that name."""
    return [key for key in list(memory.store_backend.part.keys()) if key.endswith(file)]


def test_what_another_release_computed_is_never_served(memory: Make, tmp_path: Path) -> None:
    """Not where the map has lost the code, either: by eviction, say."""
    store = memory()
    old = memory().cache(version(1, tmp_path))
    assert [old(1), old(2)] == [(1, 1), (2, 1)]
    new = memory().cache(version(2, tmp_path))
    assert [new(1), new(2)] == [(1, 2), (2, 2)]
    store.store_backend.part.delete(*keys_of(store, "func_code.py"))
    newer = memory().cache(version(3, tmp_path))
    assert [newer(1), newer(2), newer(2)] == [(1, 3), (2, 3), (2, 3)]
    assert len(keys_of(store)) == 5


def refuse(*_: Any, **__: Any) -> Any:
    """Stand for an operation of a map that is in the way."""
    raise shmmap.LockTimeout("a process that holds the shard was stopped")


def test_who_stores_the_same_code_again_removes_nothing(memory: Make, tmp_path: Path) -> None:
    """Two processes that call a function for the first time at once both store its code."""
    one, other = memory(), memory()
    answer = one.cache(version(1, tmp_path))
    assert answer(1) == (1, 1)
    function = answer.func_id
    code = other.store_backend.get_cached_func_code([function])
    other.store_backend.store_cached_func_code([function], code)
    assert answer.check_call_in_cache(1)
    other.store_backend.store_cached_func_code([function], code + "# changed")
    assert not answer.check_call_in_cache(1)


def test_nor_where_it_cannot_be_removed(
    memory: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = memory()
    old = memory().cache(version(1, tmp_path))
    assert [old(1), old(2)] == [(1, 1), (2, 1)]
    store.store_backend.part.delete(*keys_of(store, "func_code.py"))
    mine = memory()
    new = mine.cache(version(2, tmp_path))
    with monkeypatch.context() as context:
        context.setattr(mine.store_backend.map, "delete", refuse, raising=False)
        assert [new(1), new(2), new(2)] == [(1, 2), (2, 2), (2, 2)]
        assert not keys_of(store, "func_code.py")
        assert mine.store_backend.map.stats().uncached["busy"] >= 2
    assert [new(1), new(2), new(2)] == [(1, 2), (2, 2), (2, 2)]
    other = memory().cache(version(2, tmp_path))
    assert [other(1), other(2), other(3)] == [(1, 2), (2, 2), (3, 2)]


def test_a_function_that_is_called_keeps_its_code_when_the_map_evicts(memory: Make) -> None:
    """Its results would be lost with it."""
    calls = []
    one = memory(size="200KB", shards=1)

    def often(number: int) -> str:
        calls.append(number)
        return "x" * 200

    cached, flood = one.cache(often), memory("flood", size="200KB").store_backend
    cached(1)
    for number in range(5000):
        flood.part.set(str(number), b"x" * 100)
        flood.part.get(str(max(0, number - 50)))  # so they are worth something, too
        if number % 20 == 0:
            assert len(cached(1)) == 200
    assert one.store_backend.map.stats().evicted > 1000
    assert keys_of(one, "func_code.py") and len(calls) <= 3


def test_a_result_whose_notes_were_lost_counts_as_old(memory: Make) -> None:
    one = memory()
    results = iter(range(10))
    cached = one.cache(lambda: next(results), cache_validation_callback=expires_after(hours=1))
    assert (cached(), cached()) == (0, 0)
    (notes,) = keys_of(one, "metadata.json")
    assert json.loads(one.store_backend.part.get(notes)).keys() == {
        "duration", "input_args", "time"}
    one.store_backend.part.delete(notes)
    assert (cached(), cached()) == (1, 1)


def test_a_map_in_the_way_fails_no_call(memory: Make) -> None:
    one, calls = memory(), []

    def large(size: int) -> str:
        calls.append(size)
        return "x" * size

    cached = one.cache(large)
    assert [len(cached(2_000_000)) for _ in range(2)] == [2_000_000] * 2
    assert calls == [2_000_000] * 2
    assert one.store_backend.map.stats().uncached == {"too_large": 2}
    with pytest.warns(joblib.memory.CacheWarning, match="2,000,"):
        memory(strict=True).cache(large)(2_000_001)


def test_limits_remove_what_was_stored_first(memory: Make) -> None:
    one, calls = memory(), []

    def text(number: int) -> str:
        calls.append(number)
        return str(number) * 1000

    cached = one.cache(text)
    for number in range(4):
        cached(number)
    sizes = [item.size for item in one.store_backend.get_items()]
    assert len(sizes) == 4 and all(1000 < size < 1300 for size in sizes)
    one.reduce_size(items_limit=2)
    assert cached.check_call_in_cache(3) and not cached.check_call_in_cache(1)
    one.reduce_size(bytes_limit=1300)
    assert [item.size for item in one.store_backend.get_items()] and cached(3) and len(calls) == 4
    assert not cached.check_call_in_cache(2)
    one.reduce_size(age_limit=timedelta(0))
    assert one.store_backend.get_items() == []


def test_clear_is_for_one_location_and_one_function(memory: Make) -> None:
    one, other = memory("a"), memory("ab")
    functions = [one.cache(abs), one.cache(max), other.cache(abs)]
    for cached in functions:
        cached(1, 2) if cached is functions[1] else cached(-1)
    functions[0].clear()
    # joblib stores a function's code once in a process, whatever the Memory
    assert [len(keys_of(m)) for m in (one, other)] == [1 + 3, 2]
    one.clear()
    assert [len(keys_of(m)) for m in (one, other)] == [0, 2]
    assert repr(other.store_backend) == 'ShmMapStoreBackend(location="ab/joblib")'


def test_pickles_lead_to_the_same_map(memory: Make) -> None:
    one = memory()
    cached = one.cache(abs)
    shelved = cached.call_and_shelve(-5)
    for thing in (pickle.loads(pickle.dumps(one)).cache(abs), pickle.loads(pickle.dumps(cached))):
        assert thing.check_call_in_cache(-5) and thing(-5) == 5
    again = pickle.loads(pickle.dumps(shelved))
    assert again.get() == 5
    shelved.clear()
    with pytest.raises(KeyError, match="cleared"):
        again.get()


def test_options(name: str, memory: Make) -> None:
    with pytest.raises(TypeError, match="arbitrary"):
        memory(arbitrary=1)
    with pytest.warns(UserWarning, match="read as a copy"):
        Memory("a", backend="shmmap", verbose=0, mmap_mode="r",
               backend_options={"name": name, "size": "1MB"}).store_backend.map.close()
    with shmmap.ShmMap(f"{name}-safe", size="1MB", codec="safe", ephemeral=True) as safe:
        packed = Memory("a", backend="shmmap", verbose=0, compress=3,
                        backend_options={"name": safe})
        cached = packed.cache("{:0500}".format)
        assert cached(1) == cached(1) and cached.check_call_in_cache(1)
        (item,) = packed.store_backend.get_items()
        assert item.size < 300 and isinstance(packed.store_backend, ShmMapStoreBackend)
