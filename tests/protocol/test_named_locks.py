"""m.lock(key): keys, threads, waiting, and what a timeout or a full table says."""

from __future__ import annotations

import pickle
import threading
import time
from typing import Any

import pytest

import shmmap
from shmmap.locks import waiting
from shmmap.memory import geometry

from .holders import PURE, SOON_S, entries, take_and_stop


def test_a_lock_is_held_within_its_block(make):
    m = make()
    lock = m.lock("a")
    assert not lock.held and lock.token == 0 and entries(m) == 0
    with lock as entered:
        assert entered is lock and lock.held and entries(m) == 1
        first = lock.token
    assert not lock.held and lock.token == 0 and entries(m) == 0
    with lock:
        assert lock.token > first > 0
    assert m.check() == []


def test_locks_are_no_entries(make):
    m = make()
    before = m.stats()
    with m.lock("a"):
        after = m.stats()
        assert len(m) == 0 and list(m) == [] and "a" not in m and m.get("a") is None
        m["a"] = 1
        m.clear()
        with pytest.raises(KeyError):
            m.popitem()
        assert m.lock("a", timeout=0).held is False
        assert entries(m) == 1
        assert m.sweep().dead_locks == 0 and entries(m) == 1
        m.repair()
        assert entries(m) == 1 and m.check() == []
    for field in ("hits", "misses", "writes", "deletes", "entries", "free_slots"):
        assert getattr(before, field) == getattr(after, field), field


@pytest.mark.parametrize(("key", "same"), [
    ("text", "text"), (b"bytes", b"bytes"), (1, True), (1.0, 1), (None, None), (2.5, 2.5),
    (("a", 1, (None, b"x")), ("a", 1.0, (None, b"x"))), ((None, "k"), (None, "k")),
    ((b"", "k"), (b"", "k")), (1 << 200, 1 << 200), ("x" * 5000, "x" * 5000),
])
def test_keys_are_those_of_the_map(make, key, same):
    m = make()
    with m.lock(key), pytest.raises(shmmap.Reentered):
        m.lock(same).acquire()


def test_locks_of_other_keys_and_computings_do_not_meet(make):
    m = make()
    with m.lock("k"), m.lock((None, "k")), m.lock((b"", "k")), m.lock((b"", (None, "k"))):
        assert m.get_or_set("k", lambda: 5) == 5
        assert m.get_or_set((None, "k"), lambda: 6) == 6
        assert entries(m) == 4


@pytest.mark.parametrize("key", [[], {}, float("nan"), object()])
def test_what_is_no_key_is_refused(make, key):
    with pytest.raises(TypeError):
        make().lock(key)


@pytest.mark.parametrize(("parameters", "error"), [
    ({"timeout": -1}, ValueError), ({"timeout": "1"}, TypeError), ({"timeout": True}, TypeError),
    ({"lease": 0}, ValueError), ({"lease": -1}, ValueError), ({"lease": "1"}, TypeError),
    ({"lease": float("nan")}, ValueError), ({"timeout": float("nan")}, ValueError),
])
def test_bad_arguments(make, parameters, error):
    with pytest.raises(error):
        make().lock("a", **parameters)


def test_a_lock_does_not_pickle_and_says_what_does(make):
    with pytest.raises(TypeError, match="pickle the map"):
        pickle.dumps(make().lock("a"))


def test_release_of_what_is_not_held(make):
    lock = make().lock("a")
    with pytest.raises(shmmap.LockLost, match="has not taken it"):
        lock.release()
    with pytest.raises(shmmap.LockLost):
        lock.extend(1)


def test_the_same_thread_is_told_at_once(make):
    m = make()
    began = time.monotonic()
    with m.lock("a"), pytest.raises(shmmap.Reentered, match="already"):
        m.lock("a", timeout=30).acquire()
    assert time.monotonic() - began < SOON_S


def test_threads_exclude_each_other(make):
    m = make()
    lock = m.lock("a")
    counts = [0]

    def count() -> None:
        for _ in range(50):
            with lock:
                seen = counts[0]
                time.sleep(0)
                counts[0] = seen + 1

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [300] and entries(m) == 0


def test_another_thread_may_release(make):
    m = make()
    lock = m.lock("a")
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert entries(m) == 0
    with lock:
        assert lock.held


def test_one_thread_of_a_process_polls(make, monkeypatch):
    """Of ten that wait for one key; the others look only as often as a turn may have been lost."""
    m = make()
    looks: dict[int, int] = {}

    def counted(part: Any, key: Any, raw: Any, lease: Any) -> int:
        looks[threading.get_ident()] = looks.get(threading.get_ident(), 0) + 1
        return original(part, key, raw, lease)

    with m._inside():
        table = type(m._lock_table())
    original = table.try_take
    monkeypatch.setattr(table, "try_take", counted)

    def wait() -> None:
        assert not m.lock("a", timeout=0.8).acquire()

    with m.lock("a"):
        threads = [threading.Thread(target=wait) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    often = sorted(looks.values())
    assert often[-2] <= 12 < 30 < often[-1], often


def test_the_pauses_grow_to_their_limit():
    first = [pause for pause, _ in zip(waiting.pauses(), range(10), strict=False)]
    assert first[0] == waiting.FIRST_PAUSE_S and first == sorted(first)
    assert first[-1] == waiting.LONGEST_PAUSE_S <= 0.002


def test_waiting_costs_little(make, start):
    m = make()
    holder = start(take_and_stop(m, "a"))
    holder.hear()
    before = time.process_time()
    assert not m.lock("a", timeout=1.0).acquire()
    used = time.process_time() - before
    assert used < (0.25 if PURE else 0.15), used


def test_a_timeout_names_the_holder(make, start):
    m = make()
    holder = start(take_and_stop(m, "report"))
    holder.hear()
    for timeout in (0, 0.05):
        began = time.monotonic()
        with pytest.raises(shmmap.LockTimeout) as caught:
            m.lock("report", timeout=timeout).__enter__()
        assert time.monotonic() - began < SOON_S
        text = str(caught.value)
        assert f"process {holder.pid} (" in text and "'report'" in text and " s. " in text
    holder.tell("leave")
    assert holder.result() == "released"
    with m.lock("report", timeout=0) as lock:
        assert lock.held


def test_a_full_table_says_how_many_are_held(make, start):
    m = make()

    def work(child: Any) -> str:
        held = []
        try:
            while True:
                held.append(m.lock(len(held)))
                held[-1].acquire()
        except shmmap.MapFull as error:
            child.tell((len(held) - 1, str(error)))
        child.hear()
        return "done"

    child = start(work)
    count, text = child.hear()
    assert geometry.LOCK_SLOTS - 2 <= count <= geometry.LOCK_SLOTS
    assert f"{count:,} are held" in text and "get_or_set" in text
    with pytest.raises(shmmap.MapFull):
        m.lock("one more", timeout=0).acquire()
    assert m.get_or_set("one more", lambda: 1) == 1 and entries(m) == count
    child.kill()
    with m.lock("one more", timeout=0):  # the dead make room at once
        assert entries(m) == 1
    assert m.check() == []
