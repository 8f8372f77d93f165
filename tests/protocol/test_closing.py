"""A signal's handler that raises at any line of what a close does."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import shmmap
from shmmap.system import unfinished

from ..support.leftovers import objects_of

MOST_CALLS = 30
INSIDE = os.path.dirname(shmmap.__file__)


class Boom(Exception):
    """What the handler raises."""


def is_finalizing(frame: Any) -> bool:
    """Tell whether what is raised there reaches nobody: in a finalizer, or a generator's end."""
    while frame is not None:
        if frame.f_code.co_name in ("__del__", "<genexpr>"):
            return True
        frame = frame.f_back
    return False


def lines_of(work: Callable[[], None], at: int) -> list[str]:
    """Run; raise at that line of the package, as a handler would; list the lines until then. Of a
    function that is called for each row of the workers' table it is the first calls that count."""
    lines: list[str] = []
    calls: Counter[Any] = Counter()

    def trace(frame: Any, event: str, argument: Any) -> Any:
        code = frame.f_code
        if event == "call":
            calls[code] += 1
            if not code.co_filename.startswith(INSIDE) or calls[code] > MOST_CALLS or (
                is_finalizing(frame)
            ):
                return None
        if event != "return":
            lines.append(f"{os.path.basename(code.co_filename)}:{frame.f_lineno}")
            if len(lines) - 1 == at:
                raise Boom
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return lines


def left_of(name: str) -> list[str]:
    """List what is left of a map: objects, mappings and descriptors of them."""
    with open("/proc/self/maps") as file:
        mapped = [line.split("/", 1)[1].strip() for line in file if f"shmmap.{name}" in line]
    opened = []
    for number in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        opened += [link] if f"shmmap.{name}" in link else []
    return objects_of(name) + mapped + opened


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("ephemeral", [False, True])
def test_a_close_that_is_broken_off_is_finished_and_the_error_arrives(name, ephemeral):
    def make() -> Any:
        m = shmmap.ShmMap(  # no sweeper: how many lines it takes to end its thread varies
            name, "177KB", shards=1, ephemeral=ephemeral, sweep_interval=None
        )
        m["a"] = 1
        return m

    m = make()
    unfinished.finish()  # what other tests have left is not done in what is counted here
    lines = lines_of(m.close, -1)
    first = {line: at for at, line in reversed(list(enumerate(lines)))}
    last = {line: at for at, line in enumerate(lines)}
    assert len(first) > 100
    for at in sorted({*first.values(), *last.values()}):
        m = make()
        try:
            passed = lines_of(m.close, at)
            assert len(passed) <= at, f"{lines[at]}: nothing arrived"  # else it took fewer lines
        except Boom:
            pass
        m.close()  # where it was broken off before it had begun
        left = [one for one in left_of(name) if ephemeral or not one.startswith(("shm", "sem"))]
        assert left == [], lines[at]
    if not ephemeral:
        shmmap.ShmMap.attach(name).unlink()
