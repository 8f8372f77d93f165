"""A handle whose map was unlinked goes over to the map that has the name now."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import half_replaced, opening
from shmmap.lifecycle.attachment import Attachment
from shmmap.lifecycle.sweeper import Sweeper

from ..support.leftovers import objects_of

SHM = Path("/dev/shm")


@pytest.fixture
def gone(make: Any, name: str) -> Any:
    """Return a handle whose map another one has just unlinked."""
    m = make(size="1MB", shards=2, ttl=50)
    m["old"] = 1
    shmmap.ShmMap(name).unlink()
    assert objects_of(name) == []
    return m


OPERATIONS = {
    "get": lambda m: m.get("old"), "in": lambda m: "old" in m, "len": len, "bool": bool,
    "list": list, "items": lambda m: dict(m.items()), "scan": lambda m: m.scan(),
    "set": lambda m: m.set("new", 1), "add": lambda m: m.add("new", 1),
    "cas": lambda m: m.cas("new", 1, 0), "incr": lambda m: m.incr("new"),
    "float": lambda m: m.incr("new", 0.5), "touch": lambda m: m.touch("old"),
    "delete": lambda m: m.delete("old"), "pop": lambda m: m.pop("old", None),
    "clear": lambda m: m.clear(), "snapshot": lambda m: m.snapshot(), "stats": lambda m: m.stats(),
    "sweep": lambda m: m.sweep(), "check": lambda m: m.check(), "repair": lambda m: m.repair(),
    "get_many": lambda m: m.get_many(["old"]), "set_many": lambda m: m.set_many({"new": 1}),
    "get_or_set": lambda m: m.get_or_set("new", lambda: 1),
    "setdefault": lambda m: m.setdefault("n"),
    "apply": lambda m: m.apply("new", lambda v: v + 1, default=0),
    "get_and_touch": lambda m: m.get_and_touch("old"), "lock": lambda m: m.lock("l").acquire(),
    "semaphore": lambda m: m.semaphore("s", 2).acquire(),
    "popitem": lambda m: m.popitem() if m else None,
}  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_goes_on_with_a_new_map(gone, name, operation):
    OPERATIONS[operation](gone)
    assert "old" not in gone and objects_of(name) != []
    assert shmmap.ShmMap.attach(name)._live is gone._live
    assert (gone.size, gone.default_ttl) == (10**6, 50), "it is made as the former one was"
    assert gone.check() == []


def test_popitem_of_a_new_map_finds_it_empty(gone):
    with pytest.raises(KeyError, match="is empty"):
        gone.popitem()


@pytest.mark.parametrize("opener", [shmmap.ShmMap.attach, None], ids=["attach", "raise"])
def test_who_does_not_want_that_gets_map_unlinked(make, name, opener):
    make()
    m = opener(name) if opener else shmmap.ShmMap(name, on_unlinked="raise")
    shmmap.ShmMap(name).unlink()
    for operation in [OPERATIONS[one] for one in OPERATIONS if one != "get_or_set"]:
        with pytest.raises(shmmap.MapUnlinked, match="unlinked"):
            operation(m)
    assert objects_of(name) == []
    m.close()


def test_the_handle_that_unlinks_is_at_its_end(make, name):
    m, other = make(), make()
    m.unlink()
    with pytest.raises(shmmap.MapUnlinked):
        m["a"] = 1
    assert objects_of(name) == []
    other["a"] = 1
    assert shmmap.ShmMap(name)["a"] == 1


def test_what_the_user_said_counts_for_the_new_map(make, name):
    make(size="1MB", value_size=50)
    with pytest.warns(shmmap.MapMismatchWarning):
        m = shmmap.ShmMap(name, size="2MB", on_full="evict")
    shmmap.ShmMap(name).unlink()
    m["a"] = 1
    assert (m.size, m.on_full, m.value_size) == (2 * 10**6, "evict", 50)
    m.unlink()


def test_a_map_that_has_the_name_already_is_used_as_it_is(gone, name, recwarn):
    with shmmap.ShmMap(name, size="3MB", shards=1) as successor:
        successor["new"] = 2
        assert gone["new"] == 2 and gone.size == 3 * 10**6
    assert not [one for one in recwarn if one.category is shmmap.MapMismatchWarning]


def test_it_is_told_once_in_a_process(gone, name, caplog):
    with caplog.at_level(logging.WARNING, "shmmap"):
        for _ in range(3):
            gone["a"] = 1
            shmmap.ShmMap(name).unlink()
        gone["a"] = 1
    told = [text for one in caplog.records if "goes on with" in (text := one.getMessage())]
    assert len(told) == 1 and name in told[0]


def test_a_near_cache_forgets_the_former_map(make, name):
    m = make(near=100, ttl=None)
    m["a"] = 1
    assert m["a"] == 1
    shmmap.ShmMap(name).unlink()
    assert "a" not in m and m.get("a") is None
    m["a"] = 2
    assert m["a"] == m["a"] == 2


def test_a_version_of_the_former_map_is_none_of_the_new_one(make, name):
    m = make()
    m["a"] = 1
    _, version = m.get_versioned("a")
    shmmap.ShmMap(name).unlink()
    m["a"] = 5
    assert not m.cas("a", 2, version) and m["a"] == 5


def test_a_named_lock_of_the_former_map_is_lost(make, name):
    m = make()
    lock = m.lock("l")
    assert lock.acquire()
    shmmap.ShmMap(name).unlink()
    m["a"] = 1
    assert not lock.held
    with pytest.raises(shmmap.LockLost):
        lock.release()
    assert m.lock("l").acquire(timeout=1)


def test_a_pickled_handle_goes_over_too(make, name):
    m = make(ttl=7)
    again = pickle.loads(pickle.dumps(m))
    shmmap.ShmMap(name).unlink()
    again["a"] = 1
    assert m["a"] == 1 and again.default_ttl == 7
    again.close()


@pytest.mark.parametrize("successor", ["made anew", "replaced"])
def test_a_handle_that_was_pickled_before_goes_over(make, name, successor):
    """A pool's worker that is started later gets what was pickled as the pool was made."""
    m = make(ttl=7, size="1MB", shards=2)
    m["kept"] = 1
    pickled, pickled_raising = pickle.dumps(m), pickle.dumps(shmmap.ShmMap.attach(name))
    if successor == "replaced":
        shmmap.ShmMap(name, size="2MB", on_mismatch="replace").close()
    else:
        shmmap.ShmMap(name).unlink()
    if successor == "made anew":
        shmmap.ShmMap(name, size="2MB")["kept"] = 2
    with pytest.raises(shmmap.MapNotFound, match="made anew since it was pickled"):
        pickle.loads(pickled_raising)
    again = pickle.loads(pickled)
    assert (again.get("kept"), again.size, again.default_ttl) == {
        "made anew": (2, 2_000_000, 7), "replaced": (1, 2_000_000, 7),
    }[successor]
    again["a"] = 1
    assert m["a"] == 1 and pickle.loads(pickle.dumps(again))["a"] == 1
    shmmap.ShmMap(name).unlink()
    assert "a" not in again
    again.close()


@pytest.mark.parametrize("is_used_before", [False, True])
def test_a_forked_child_goes_over(make, name, start, is_used_before):
    m = make()
    m["old"] = 1

    def work(child: Any) -> tuple[Any, int]:
        if is_used_before:
            assert m["old"] == 1
        child.tell("ready")
        child.hear()
        return m.get("old"), m.incr("n")

    child = start(work)
    child.hear()
    shmmap.ShmMap(name).unlink()
    child.tell("unlinked")
    assert child.result() == (None, 1)
    assert m.incr("n") == 2


def test_a_call_in_the_middle_of_an_operation_is_refused(gone, name):
    """What is further up the stack still uses the former map."""
    found = []

    def factory(value: Any) -> Any:
        shmmap.ShmMap(name).unlink()
        with gone._inside():  # as an operation that this is called in
            shmmap.ShmMap(name).unlink()
            try:
                gone["inner"] = 1
            except shmmap.MapUnlinked:
                found.append("refused")
        return value

    assert gone.apply("a", factory, default=1) == 1
    assert found == ["refused"] and gone["a"] == 1
    assert gone.check() == []


@pytest.mark.timeout(30)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_operation_in_the_middle_of_another_one_waits_for_ever(gone, name, operation):
    gone["old"] = 1
    with gone._inside():  # as in a signal handler or a finalizer
        shmmap.ShmMap(name).unlink()
        try:
            OPERATIONS[operation](gone)
        except shmmap.MapUnlinked:
            pass
        else:
            assert operation == "get_or_set", "what it computes reaches its caller"
    assert gone.check() == []


def test_threads_of_one_handle_go_over_together(make, name):
    m = make(size="1MB", shards=2)
    over, failed = threading.Event(), []

    def work(number: int) -> None:
        while not over.is_set():
            try:
                m[f"k{number}"] = m.get(f"k{number}", 0)
                list(m)
                m.pop(f"k{number}", None)
                m.incr("n")
                m.snapshot()
            except Exception as error:
                failed.append(repr(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        time.sleep(0.03)
        shmmap.ShmMap(name).unlink()
    over.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert failed == [] and m.check() == []


def test_processes_that_write_never_see_an_unlink(make, name, start):
    m = make(size="1MB", shards=2)

    def work(child: Any) -> int:
        mine = shmmap.ShmMap(name)
        child.tell("ready")
        count = 0
        while not child.is_told():
            mine.incr("n")
            mine["k"] = mine.pop("k", 0) or 0
            count += len(mine) > 0
        return count

    children = [start(work) for _ in range(2)]
    for child in children:
        child.hear()
    for _ in range(10):
        time.sleep(0.03)
        shmmap.ShmMap(name).unlink()
    for child in children:
        child.tell("over")
        assert child.result() > 0
    assert m.check() == []


def test_what_the_former_map_had_is_given_back(make, name):
    m = make()
    files = len(os.listdir("/proc/self/fd"))
    mapped = len(Path("/proc/self/maps").read_text().splitlines())
    for _ in range(20):
        m["a"] = 1
        shmmap.ShmMap(name).unlink()
    m["a"] = 1
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= files + 1
    assert len(Path("/proc/self/maps").read_text().splitlines()) <= mapped + 20



def test_a_log_handler_that_uses_the_map_is_told_of_its_going_over(gone, monkeypatch):
    """The package itself logs in the middle of it."""
    class Count(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            gone.incr("warnings")

    handler = Count()
    monkeypatch.setattr(logging.getLogger("shmmap"), "handlers", [handler])
    gone["a"] = 1
    assert gone["warnings"] == 1 and gone.check() == []



def test_a_signal_handler_that_opens_the_map_meanwhile(gone, name):
    done = []

    def handler(number: int, frame: Any) -> None:
        try:
            done.append(shmmap.ShmMap(name).incr("n"))
        except shmmap.ShmMapError as error:
            done.append(type(error).__name__)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for delay in (1e-5, 1e-4, 3e-4, 1e-3, 3e-3):
            signal.setitimer(signal.ITIMER_REAL, delay)
            gone["a"] = 1
            time.sleep(0.01)
            assert gone["a"] == 1 and gone.check() == []
            shmmap.ShmMap(name).unlink()
    finally:
        signal.signal(signal.SIGALRM, before)
    gone["a"] = 1
    assert len(done) == 5


def test_a_value_that_has_the_handle_go_over_as_it_is_encoded(make, name):
    """The key was hashed for the former map before."""
    m = make(size="1MB", shards=4)

    class Mover:
        def __reduce__(self) -> Any:
            shmmap.ShmMap(name).unlink()
            m["other"] = 1
            return int, (7,)

    for number in range(10):
        m[f"key{number}"] = Mover()
        assert m[f"key{number}"] == 7 and sorted(m) == [f"key{number}", "other"]
        assert m.check() == []


def test_a_handle_that_is_closed_as_it_goes_over_stays_closed(gone, name, monkeypatch):
    original = opening.join_map

    def join(handle: Any, *more: Any) -> Any:
        gone.close()
        return original(handle, *more)

    monkeypatch.setattr(opening, "join_map", join)
    with pytest.raises(shmmap.MapClosed):
        gone["a"] = 1
    assert gone.closed
    with pytest.raises(shmmap.MapClosed):
        gone["a"] = 1
    monkeypatch.undo()
    with shmmap.ShmMap(name) as successor:
        assert list(successor._live.handles.values()) == [successor]
        successor.unlink()


def test_a_thread_that_is_late_leaves_the_map_that_is_used_now(gone):
    former = gone._live
    gone["a"] = 1
    now = gone._live
    gone._reopen(former, shmmap.MapUnlinked("the former one"))
    assert gone._live is now is not former and gone["a"] == 1


class Raised(Exception):
    """What a signal's handler raises."""


STEPS = ("_use", "_point_at", "_join", "_reopen", "join_map", "heed", "_setting")


@pytest.mark.parametrize("where", ["reenter", "refuse_lost", "is_ready"])
def test_a_thread_that_looks_at_the_former_map_as_another_goes_over(gone, monkeypatch, where):
    """It looks again: at the map that the handle has by then."""
    owner = half_replaced if where == "is_ready" else Attachment
    inner, gone_over = getattr(owner, where), []

    def late(attached: Any) -> Any:
        if not gone_over:
            gone_over.append(attached)
            thread = threading.Thread(target=lambda: gone.set("new", 1))
            thread.start()
            thread.join(30)
            assert attached.is_down
        return inner(attached)

    monkeypatch.setattr(owner, where, late)
    assert gone.get("new") == 1 and len(gone_over) == 1


def test_a_handler_that_raises_in_the_middle_of_going_over_leaves_a_handle_that_works(name):
    """At any line of these functions."""
    for line in range(1, 1000):
        left = [line]

        def raise_there(frame: Any, event: str, _: Any, left: Any = left) -> Any:
            if frame.f_code.co_name not in STEPS:
                return None
            left[0] -= event == "line"
            if left[0] == 0:
                sys.settrace(None)
                raise Raised
            return raise_there

        m = shmmap.ShmMap(name, size="200kB", shards=1)
        shmmap.ShmMap(name).unlink()
        sys.settrace(raise_there)
        try:
            m["a"] = 1
        except Raised:
            pass
        finally:
            sys.settrace(None)
        m["a"] = 2
        assert m["a"] == shmmap.ShmMap(name)["a"] == 2, line
        m.close()
        shmmap.ShmMap(name).unlink()
        if left[0] > 0:
            return
    pytest.fail("it has no end")


def test_a_child_goes_over_to_a_map_that_its_parent_has_open(make, name, start):
    """Becoming a worker of that map starts its handles anew, and this one is among them by then;
    a handler that raises there must not find it at its first opening."""
    m = make(size="1MB")
    shmmap.ShmMap(name).unlink()
    current = shmmap.ShmMap(name, size="1MB")
    current["a"] = 1

    def work(_: Any) -> list[int]:
        original = Sweeper.heed

        def raise_once(sweeper: Sweeper) -> None:
            Sweeper.heed = original
            raise Raised

        Sweeper.heed = raise_once
        with pytest.raises(Raised):
            m["a"] = 2
        m["a"] = 3
        return [m["a"], current["a"]]

    assert start(work).result() == [3, 3]
    assert m["a"] == 3
