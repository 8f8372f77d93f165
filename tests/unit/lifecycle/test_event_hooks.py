"""`m.on`: what happens to a map is told to callbacks, whatever process has met it."""

from __future__ import annotations

import gc
import os
from typing import Any

import shmmap
from shmmap.lifecycle.hooks import hooks_of
from shmmap.memory.events import note
from shmmap.memory.layout import constants

from ...support.waiting import until

K = constants()


def test_a_hook_is_not_told_of_what_was_before(make):
    m = make(shards=1)
    first: list[Any] = []
    late: list[Any] = []
    m.on(None, first.append)
    note(m.attachment, "takeover", 1, 0)
    m.on(None, late.append)  # before anybody has looked
    until(lambda: first)
    note(m.attachment, "repair", 1, 0)
    until(lambda: late)
    assert [one.kind for one in late] == ["repair"]


def test_a_hook_that_breaks_off_takes_no_event_from_others(make):
    m = make(shards=1)
    seen: list[Any] = []

    def leave(event: Any) -> None:
        raise SystemExit

    m.on(None, leave)
    m.on(None, seen.append)
    note(m.attachment, "takeover", 1, 0)
    note(m.attachment, "repair", 1, 0)
    until(lambda: len(seen) == 2)


def test_a_hook_waits_for_what_is_half_written_once(make):
    m = make(shards=1)
    seen: list[Any] = []
    watching = hooks_of(m)
    watching._background.stopping = True  # the test looks itself
    watching.add(m, None, seen.append)
    note(m.attachment, "takeover", 1, 0)
    note(m.attachment, "repair", 1, 0)
    control = m.attachment.control
    check = control.first + (K["C_EVENTS"] >> 3) + 1 * (K["EVENT_BYTES"] >> 3) + 3
    whole, control.words[check] = control.words[check], 0
    watching._step()
    assert seen == []
    control.words[check] = whole
    watching._step()
    assert [one.kind for one in seen] == ["takeover", "repair"]
    control.EVENT_NEXT += 1  # of one that has died
    note(m.attachment, "takeover", 1, 0)
    watching._step()
    assert len(seen) == 2
    watching._step()
    assert len(seen) == 3


def test_a_hook_hears_what_any_process_has_met(make, start):
    m = make(shards=1)
    note(m.attachment, "full", 1, 0)  # before it was asked for
    every, repairs = [], []
    end, end_too = m.on(None, every.append), m.on("repair", repairs.append)

    def other(child: Any) -> None:
        m.get("become a worker")
        for kind in ("takeover", "repair"):
            note(m.attachment, kind, 5, 0)

    start(other).reap()
    until(lambda: len(every) == 2 and repairs)
    assert [one.kind for one in every] == ["takeover", "repair"] and every[0].pid != os.getpid()
    assert [one.kind for one in repairs] == ["repair"]
    end()
    note(m.attachment, "repair", 6, 0)
    until(lambda: len(repairs) == 2)
    assert len(every) == 2
    end_too()
    end_too()


def test_what_a_hook_raises_is_logged_and_others_are_called(make, caplog):
    m = make()
    seen: list[Any] = []
    m.on(None, lambda event: 1 / 0)
    m.on(None, seen.append)
    note(m.attachment, "repair", 6, 0)
    until(lambda: seen)
    assert "what was to be called for an event raised" in caplog.text


def test_a_hook_in_a_child_is_the_child_s(make, start):
    m = make()
    mine: list[Any] = []
    m.on(None, mine.append)

    def other(child: Any) -> int:
        seen: list[Any] = []
        m.on("repair", seen.append)
        note(m.attachment, "repair", 6, 0)
        until(lambda: seen)
        return len(mine)  # what the parent has asked for is not called here

    child = start(other)
    assert child.result() == 0
    until(lambda: mine)


def test_a_hook_keeps_no_handle_alive_and_ends_with_it(make):
    name = make().name
    m = shmmap.ShmMap.attach(name)
    seen: list[Any] = []
    m.on(None, seen.append)
    del m
    gc.collect()
    until(lambda: len(shmmap.ShmMap.attach(name).attachment.handles) <= 2)
