"""Work in the background: failures, threads that cannot be started, the end."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from shmmap.system import background
from shmmap.system.background import Background

PATIENCE_S = 20.0


def eventually(condition: Callable[[], Any]) -> None:
    """Wait until something that a thread does is done."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.001)


@pytest.fixture
def run() -> Iterator[Callable[..., Background]]:
    """run(step, ...): make work in the background, ended with the test."""
    made: list[Background] = []

    def make(step: Callable[[], bool], interval_s: float = 0.001, **said: Any) -> Background:
        made.append(Background(step, interval_s, **said))
        return made[-1]

    yield make
    for one in made:
        assert one.stop()


@pytest.mark.parametrize("error", [
    OSError(24, "too many open files"), MemoryError(), RuntimeError("a bug"), SystemExit(1),
    KeyboardInterrupt(), BaseException(),
])
def test_no_error_ends_it(run, error):
    steps: list[float] = []

    def step() -> bool:
        steps.append(time.monotonic())
        if len(steps) < 5:
            raise error
        return True

    work = run(step)
    assert work.start()
    eventually(lambda: len(steps) > 10)
    assert work.is_running()
    assert work.trouble.times == 4 and type(error).__name__ in work.trouble.error
    assert 0 < work.trouble.at_ns <= time.monotonic_ns()


def test_after_failures_it_waits_longer_and_then_no_longer(run):
    steps: list[float] = []

    def step() -> bool:
        steps.append(time.monotonic())
        if len(steps) < 6:
            raise OSError
        return len(steps) < 12

    work = run(step, 0.02)
    work.start()
    eventually(lambda: len(steps) == 12 and not work.is_running())
    pauses = [after - before for before, after in pairwise(steps)]
    for number, least in enumerate((0.02, 0.04, 0.08, 0.16, 0.16)):
        assert pauses[number] >= least * 0.99
    assert min(pauses[5:]) < 0.1


def test_an_error_that_cannot_be_written_down_is_counted(run):
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise MemoryError

    steps: list[int] = []

    def step() -> bool:
        steps.append(1)
        if len(steps) < 3:
            raise Unspeakable
        return True

    work = run(step)
    work.start()
    eventually(lambda: len(steps) > 4)
    assert work.trouble.times == 2 and work.trouble.error == "Unspeakable"


@pytest.mark.parametrize("error", [
    RuntimeError("can't start new thread"), MemoryError(),
    RuntimeError("can't create new thread at interpreter shutdown"), OSError(11, "try again"),
])
def test_a_thread_that_cannot_be_started_is_tried_again_later(run, monkeypatch, error):
    tries: list[int] = []
    steps: list[int] = []

    def refuse(*_: Any) -> int:
        tries.append(1)
        raise error

    work = run(lambda: steps.append(1) or True)
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", refuse)
        assert [work.start() for _ in range(1000)] == [False] * 1000
        assert len(tries) == 1 and work.trouble.times == 1
        patch.setattr(background, "monotonic_ns",
                      lambda: time.monotonic_ns() + background.START_AGAIN_NS)
        assert not work.start() and len(tries) == 2
    work._start_again_ns = 0
    assert work.start()
    eventually(lambda: steps)


@pytest.mark.parametrize("where", ["_run", "_run_while_wanted", "_ended"])
def test_a_thread_without_memory_for_a_frame_waits_for_it(run, monkeypatch, where):
    """As where the thread cannot get its first frame; what is counted is seen before it can."""
    steps: list[int] = []
    ends: list[int] = []
    tries: list[int] = []
    work = run(lambda: not steps.append(1), at_once=True, ended=lambda: ends.append(1))
    real = getattr(work, where)

    def refuse() -> None:
        tries.append(1)
        if len(tries) <= 3:
            assert work.trouble is None or work.trouble.times == len(tries) - 1
            raise MemoryError
        real()

    monkeypatch.setattr(background, "WITHOUT_MEMORY_S", 0.001)
    monkeypatch.setattr(work, where, refuse)
    assert work.start()
    if where == "_ended":
        eventually(lambda: steps)
        assert work.stop()
    if where != "_run_while_wanted":
        eventually(lambda: len(tries) > 3)
    else:  # that it has ended is said, so that it is started anew
        for number in range(1, 4):
            eventually(lambda number=number: len(ends) == number)
            work._start_again_ns = 0
            assert work.start()
    eventually(lambda: ends if where == "_ended" else steps)
    assert work.trouble.times == 3 and work.trouble.error.startswith("MemoryError")


def test_what_is_wanted_as_it_ends_is_done(run):
    ends: list[Background] = []

    def step() -> bool:
        if len(ends) < 5:
            ends.append(work)
            assert work.start()  # as another thread may, at the last moment
        else:
            ends.append(work)
        return False

    work = run(step, at_once=True)
    work.start()
    eventually(lambda: len(ends) == 6 and not work.is_running())


def test_it_can_be_started_anew_and_says_that_it_ended(run):
    ended: list[int] = []
    work = run(lambda: False, at_once=True, ended=lambda: ended.append(1))
    for number in range(1, 4):
        work._start_again_ns = 0
        work.start()
        eventually(lambda number=number: len(ended) == number)
        eventually(lambda: not work.is_running())


def test_only_one_runs_however_many_start_it(run):
    inside: list[int] = []
    most: list[int] = []

    def step() -> bool:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.001)
        inside.pop()
        return True

    work = run(step, at_once=True)

    def start() -> None:
        for _ in range(20):
            work._start_again_ns = 0
            work.start()

    threads = [threading.Thread(target=start) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: len(most) > 20)
    assert max(most) == 1


def test_it_ends_at_once_however_long_its_interval(run):
    work = run(lambda: True, 3000.0)
    work.start()
    eventually(work.is_running)
    began = time.monotonic()
    assert work.stop() and time.monotonic() - began < 2.0
    assert not work.is_running()
    assert work.start() and not work.is_running()  # for good


def test_from_within_it_cannot_be_waited_for(run):
    said: list[bool] = []

    def step() -> bool:
        work.busy = True
        said.append(work.stop())  # as a finalizer does that closes the map
        work.busy = False
        said.append(work.stop())
        return True

    work = run(step, at_once=True)
    work.start()
    eventually(lambda: not work.is_running() and said)
    assert said == [False, True]


def test_a_forked_child_does_not_wait_for_its_parents(run, start):
    work = run(lambda: True, 3000.0)
    work.start()
    eventually(work.is_running)

    def end(child: Any) -> Any:
        began = time.monotonic()
        return work.stop(), time.monotonic() - began < 1.0

    assert start(end).result() == (True, True)
    assert work.is_running()


def test_who_asks_in_the_middle_of_the_last_step_gets_another():
    """It may have looked before there was anything to do."""
    tries: list[int] = []

    def step() -> bool:
        tries.append(1)
        if len(tries) == 1:
            background.start()
        return False

    background = Background(step, 0.01, at_once=True)
    background.start()
    eventually(lambda: not background.is_running() and len(tries) == 2)


def test_who_asks_before_a_step_shares_it():
    tries: list[int] = []
    background = Background(lambda: len(tries.append(1) or tries) < 3, 0.02, at_once=True)
    background.start()
    eventually(lambda: bool(tries))
    background.start()
    eventually(lambda: not background.is_running())
    assert len(tries) == 3
