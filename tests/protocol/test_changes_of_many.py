"""apply, edit and counters of floats between processes: nothing is lost, whoever dies."""

from __future__ import annotations

import signal
from typing import Any

import pytest

EACH = 150
PROCESSES = 4


def by_apply(m: Any) -> None:
    m.apply("n", lambda n: n + 1, default=0)


def by_edit(m: Any) -> None:
    with m.edit("n", default=0) as n:
        n += 1


def by_halves(m: Any) -> None:
    m.incr("n", 0.5)
    m.decr("n", -0.5)


def in_a_list(m: Any) -> None:
    m.apply("list", lambda items: [*items, len(items)], default=list)
    with m.edit("n", default=0) as n:
        n += 1


@pytest.mark.parametrize("change", [by_apply, by_edit, by_halves, in_a_list])
def test_no_change_of_four_processes_is_lost(make, start, change):
    m = make()

    def work(child: Any) -> None:
        child.hear()
        for _ in range(EACH):
            change(m)

    children = [start(work) for _ in range(PROCESSES)]
    for child in children:
        child.tell("begin")
    for child in children:
        child.end()
    assert m["n"] == PROCESSES * EACH
    if change is in_a_list:
        assert m["list"] == list(range(PROCESSES * EACH))
    assert m.check() == []


def test_all_kinds_of_change_at_once(make, start):
    m = make()
    m["n"] = 0

    def work_of(change: Any) -> Any:
        def work(child: Any) -> None:
            for _ in range(EACH):
                change(m)
        return work

    children = [start(work_of(change)) for change in (
        by_apply, lambda m: m.incr("n"), lambda m: m.incr("n", 0.5))]
    for child in children:
        child.end()
    assert m["n"] == EACH * 2.5


def test_an_editor_that_is_killed_has_written_nothing(make, start):
    m = make()
    m["d"] = {"n": 1}

    def work(child: Any) -> None:
        with m.edit("d") as d:
            d["n"] = 2
            child.tell("inside")
            child.hear()

    child = start(work)
    assert child.hear() == "inside"
    child.signal(signal.SIGKILL)
    child.reap()
    with m.edit("d", timeout=30) as d:  # at once: a dead holder's lock is free
        assert d == {"n": 1}
        d["n"] = 3
    assert m["d"] == {"n": 3}
