"""Unmapping a shard that has moved, broken off at each of its lines as a handler does."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

from shmmap.lifecycle import routes
from shmmap.lifecycle.places import Places
from shmmap.operations.marking import marked
from shmmap.system import unfinished

LINES_AT_LEAST = 15


class Broken(Exception):
    """What the handler raises."""


def break_off_at(number: int, work: Any) -> bool:
    """Do some work; raise at so many lines after the begin of the first unmapping. Tell whether it
    was as long as that."""
    left = number

    def line(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if event == "line" and left:
            left -= 1
            if not left:
                sys.settrace(None)
                raise Broken
        return line

    def call(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal is_in
        is_in |= frame.f_code is Places.close.__code__
        return line if is_in else None

    is_in = False
    sys.settrace(call)
    try:
        work()
    except Broken:
        pass
    finally:
        sys.settrace(None)
    return not left


def mapped(name: str) -> int:
    return Path("/proc/self/maps").read_text().count(f"/shmmap.{name}.")


def test_an_unmapping_that_is_broken_off_is_gone_on_with(make, name):
    m = make(shards=2)
    m.update({number: number for number in range(50)})
    m.resize(shards=4)
    usual, shards = mapped(name), 2
    for at in range(1, 1000):
        with marked(m):  # so that what has moved stays mapped
            m.resize(shards=shards)
        is_broken = break_off_at(at, lambda: routes.let_go(m.attachment))
        assert len(m) == 50
        unfinished.finish()
        assert routes.let_go(m.attachment)
        assert mapped(name) == usual - (4 - shards), at
        assert m.check() == []
        shards = 6 - shards
        if not is_broken:
            break
    assert at > LINES_AT_LEAST
