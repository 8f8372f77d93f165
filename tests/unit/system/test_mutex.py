"""The lock of a process's tasks: threads, greenlets, handlers that raise, forks."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from greenlet import getcurrent, greenlet

from shmmap.system import mutex as mutexes
from shmmap.system import tasks
from shmmap.system.mutex import Mark, Mutex


class Hub:
    """Greenlets that take turns wherever one of them sleeps, as under gevent's patches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ready: list[Any] = []
        self.main = getcurrent()
        self.native = time.sleep
        switch = self.sleep
        monkeypatch.setattr(time, "sleep", switch)
        monkeypatch.setitem(sys.modules, "gevent.hub", SimpleNamespace(sleep=switch))
        there = SimpleNamespace(get_hub_if_exists=lambda: self)
        monkeypatch.setitem(sys.modules, "gevent._hub_local", there)

    def sleep(self, seconds: float) -> None:
        me = getcurrent()
        if me is self.main:
            self.native(seconds)
            return
        self.ready.append(me)
        self.main.switch()

    def run(self, *works: Any, limit: int = 10_000) -> None:
        """Run functions as greenlets until all have ended."""
        everyone = [greenlet(work) for work in works]
        self.ready += everyone
        while self.ready and limit:
            limit -= 1
            self.ready.pop(0).switch()
        assert all(one.dead for one in everyone), "they wait for ever"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    yield Hub(monkeypatch)


# -- who is running -----------------------------------------------------------------------------


def test_a_thread_is_its_own_task_and_no_other_is():
    seen: list[object] = []
    for _ in range(3):  # idents of threads are used again
        thread = threading.Thread(target=lambda: seen.append(tasks.current_task()))
        thread.start()
        thread.join()
    assert len({*seen, tasks.current_task()}) == 4
    assert tasks.current_task() is tasks.current_task()


def test_greenlets_count_where_sleeping_lets_others_go_on(hub):
    seen: list[object] = []
    mine = tasks.current_task()
    hub.run(*[lambda: seen.append(tasks.current_task())] * 3)
    assert tasks.current_task() is mine and mine not in seen
    assert len(set(seen)) == 3


def test_a_greenlet_is_not_taken_for_one_that_ended(hub):
    seen: list[object] = []
    for _ in range(5):  # the memory of one that ended is used again
        hub.run(lambda: seen.append(tasks.current_task()))
        gc.collect()
    assert len(set(seen)) == 5


def test_greenlets_that_hold_each_other_up_are_one():
    seen: list[object] = []
    greenlet(lambda: seen.append(tasks.current_task())).switch()
    assert seen == [tasks.current_task()]


def test_where_a_sleep_cannot_switch_it_waits_all_the_same(monkeypatch):
    """As in a finalizer that runs in gevent's or eventlet's hub."""
    def refuse(seconds: float) -> None:
        raise AssertionError("Impossible to call blocking function in the event loop callback")

    monkeypatch.setattr(time, "sleep", refuse)
    monkeypatch.setitem(sys.modules, "gevent.hub", SimpleNamespace(sleep=refuse))
    mine = getcurrent()
    for label, module in (
        ("gevent._hub_local", SimpleNamespace(get_hub_if_exists=lambda: mine)),
        ("eventlet.hubs", SimpleNamespace(
            _threadlocal=SimpleNamespace(hub=SimpleNamespace(greenlet=mine))
        )),
    ):
        monkeypatch.setitem(sys.modules, label, module)
        began = time.monotonic()
        tasks.sleep(0.02)
        assert time.monotonic() - began >= 0.015
        monkeypatch.delitem(sys.modules, label)
    began = time.monotonic()
    tasks.sleep(0.02)  # this thread has no hub, nor other greenlets: none is made for it
    assert time.monotonic() - began >= 0.015
    other = SimpleNamespace(get_hub_if_exists=lambda: object())
    monkeypatch.setitem(sys.modules, "gevent._hub_local", other)
    with pytest.raises(AssertionError):  # not one of ours, so it is not swallowed
        tasks.sleep(0.02)


# -- the mutex ----------------------------------------------------------------------------------


def test_its_task_may_take_it_again():
    mutex = Mutex()
    outer, inner = Mark(), Mark()
    assert not mutex.owned() and not mutex.locked()
    assert mutex.acquire(outer) and mutex.owned()
    assert mutex.acquire(inner, 0) and mutex.owned()
    inner.clear()
    assert mutex.owned()
    outer.clear()
    assert not mutex.owned() and not mutex.locked()
    for _ in range(1000):
        assert mutex.acquire(outer, 0)
        outer.clear()
    assert len(mutex._chain) < 3


def test_others_wait_until_it_is_free():
    mutex = Mutex()
    mark = Mark()
    assert mutex.acquire(mark)
    tried: list[bool] = []

    def try_it() -> None:
        other = Mark()
        tried.append(mutex.acquire(other, 0.01))
        tried.append(mutex.owned())
        mark.clear()
        tried.append(mutex.acquire(other))
        tried.append(mutex.owned())
        other.clear()

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    assert tried == [False, False, True, True]


def test_a_mark_that_is_gone_holds_nothing():
    mutex = Mutex()
    assert mutex.acquire(Mark())
    assert not mutex.locked()


def test_threads_exclude_each_other():
    mutex = Mutex()
    inside: list[int] = []
    most: list[int] = []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(number: int) -> None:
        for _ in range(400):
            mark = Mark()
            try:
                assert mutex.acquire(mark)
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)
            finally:
                mark.clear()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert len(most) == 2400 and max(most) == 1


def test_what_happens_between_two_steps_of_taking_it_is_noticed(monkeypatch):
    """Another task takes it, leaves it and forgets the numbers, where a task is about to add one
    of them; and the next one holds it."""
    mutex = Mutex()
    real = Mutex._holders
    marks = [Mark(), Mark()]

    def meanwhile(self: Mutex) -> Any:
        found = real(self)
        monkeypatch.setattr(Mutex, "_holders", real)

        def others() -> None:
            for mark in marks:
                assert mutex.acquire(mark, 0)
                if mark is marks[0]:
                    mark.clear()

        thread = threading.Thread(target=others)
        thread.start()
        thread.join()
        return found

    monkeypatch.setattr(Mutex, "_holders", meanwhile)
    mine = Mark()
    assert not mutex.acquire(mine, 0) and not mine and marks[1]
    marks[1].clear()
    assert mutex.acquire(mine, 0)


def test_greenlets_exclude_each_other_and_let_each_other_go_on(hub):
    mutex = Mutex()
    inside: list[Any] = []

    def work() -> None:
        mark = Mark()
        try:
            assert mutex.acquire(mark)
            assert inside == []
            inside.append(getcurrent())
            for _ in range(5):
                time.sleep(0)
            assert inside == [getcurrent()] and mutex.owned()
            inside.clear()
        finally:
            mark.clear()

    hub.run(*[work] * 5)
    assert not mutex.locked()


def test_a_greenlet_that_ended_holds_nothing(hub):
    mutex = Mutex()
    kept: list[Mark] = []  # as the traceback of an exception does

    def work() -> None:
        kept.append(Mark())
        assert mutex.acquire(kept[0])

    hub.run(work)
    gc.collect()
    assert kept[0] and not mutex.locked()


@pytest.mark.parametrize("nested", [False, True])
def test_an_exception_at_any_line_leaves_it_free(nested):
    """As a signal handler may raise it; the other marks of the same task are not touched."""
    class Raised(Exception):
        pass

    steps = 0
    while True:
        mutex = Mutex()
        outer = Mark()
        if nested:
            assert mutex.acquire(outer)
        left = [steps]

        def trace(frame: FrameType, event: str, argument: Any, left: Any = left) -> Any:
            if frame.f_code.co_filename != mutexes.__file__:
                return None
            left[0] -= 1
            if left[0] < 0:
                sys.settrace(None)
                raise Raised
            return trace

        mark = Mark()
        raised = False
        try:
            sys.settrace(trace)
            assert mutex.acquire(mark)
        except Raised:
            raised = True
        finally:
            sys.settrace(None)
            mark.clear()
        assert mutex.owned() is nested
        assert mutex.acquire(mark, 0)
        mark.clear()
        if not raised:
            break
        steps += 1
    assert steps > 20


def test_a_handler_may_take_it_where_its_own_thread_is_taking_it():
    """At every line: the handler gets it or is refused by nobody, and the outer one has it."""
    steps = 0
    while True:
        mutex = Mutex()
        left = [steps]
        handled: list[bool] = []

        def trace(frame: FrameType, event: str, argument: Any, left: Any = left,
                  mutex: Mutex = mutex, handled: list[bool] = handled) -> Any:
            if frame.f_code.co_filename != mutexes.__file__:
                return None
            left[0] -= 1
            if left[0] == 0:
                sys.settrace(None)
                inner = Mark()
                handled.append(mutex.acquire(inner, 0))
                inner.clear()
            return trace

        mark = Mark()
        sys.settrace(trace)
        try:
            assert mutex.acquire(mark, 1.0)
        finally:
            sys.settrace(None)
        assert mutex.owned() and mark
        mark.clear()
        assert not mutex.locked()
        if steps and not handled:
            break
        assert handled in ([], [True])
        steps += 1
    assert steps > 20


def test_a_forked_child_has_nothing_of_its_parents(start):
    mutex = Mutex()
    outer, mark = Mark(), Mark()
    assert mutex.acquire(outer)

    def work(child: Any) -> Any:
        found = mutex.owned(), mutex.locked(), mutex.acquire(mark, 0), mutex.owned()
        mark.clear()
        return found

    assert start(work).result() == (False, False, True, True)
    assert mutex.owned()


def test_a_task_that_takes_it_again_and_again_lets_others_have_it():
    """Without that, others were kept waiting for a thousand times of taking it."""
    mutex, taken, ended = Mutex(), [0], list[bool]()

    def again_and_again() -> None:
        while not ended:
            mark = Mark()
            mutex.acquire(mark)
            taken[0] += 1
            until = time.perf_counter() + 0.001
            while time.perf_counter() < until:
                pass
            mark.clear()

    thread = threading.Thread(target=again_and_again)
    thread.start()
    meanwhile = []
    try:
        for _ in range(20):
            before, mark = taken[0], Mark()
            assert mutex.acquire(mark, 60)
            meanwhile.append(taken[0] - before)
            mark.clear()
            time.sleep(0.003)
    finally:
        ended.append(True)
        thread.join()
    assert max(meanwhile) < 100 and sorted(meanwhile)[10] < 5, meanwhile


def test_a_thread_is_itself_where_greenlets_are_no_more(monkeypatch):
    """At exit gevent's own marks raise; who has a mutex takes it again all the same."""
    class Gone:
        @property
        def mine(self) -> object:
            raise RuntimeError("greenlet is being finalized")

    monkeypatch.setattr(tasks, "_marks", Gone())
    mutex, outer, inner = Mutex(), Mark(), Mark()
    assert mutex.acquire(outer, 0) and mutex.acquire(inner, 0) and mutex.owned()


def test_a_timeout_below_zero_is_one_try():
    mutex, mark, other = Mutex(), Mark(), Mark()
    assert mutex.acquire(mark, -1)
    thread = threading.Thread(target=lambda: mutex.acquire(other, 0))
    thread.start()
    thread.join()
    mark.clear()
    assert mutex.acquire(mark, -1)
