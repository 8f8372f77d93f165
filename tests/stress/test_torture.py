"""`shmmap torture`: a short seeded run passes, and whatever is sabotaged behind its back is found.

SHMMAP_TORTURE_SECONDS makes the run longer.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.locks.lock_table import LOCK, name_of
from shmmap.torture.plan import SIDES

from ..support.engines import once

SECONDS = float(os.environ.get("SHMMAP_TORTURE_SECONDS", "6"))
SIZE = {"compiled": "8MB", "pure": "1MB"}[shmmap.ENGINE]
PATIENCE_S = {"compiled": 3, "pure": 12}[shmmap.ENGINE]
KEPT_S = min(PATIENCE_S, 4)  # where a lock is kept, nobody is only slow
LIMIT_S = 100


@pytest.fixture
def torture(name: str, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """torture(*options): start the command; it and what it leaves is gone after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "shmmap", "torture", "--json", "--name", name,
                   "--size", SIZE, *map(str, options)]
        started.append(subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            env={**os.environ, "SHMMAP_ENGINE": shmmap.ENGINE},
        ))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()
    for side in SIDES:
        with shmmap.ShmMap(name + side) as m:  # also where a dead maker left a part
            m.unlink()


def read_report(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for the end; return the report."""
    out, err = process.communicate(timeout=LIMIT_S)
    assert out, err
    report = json.loads(out)
    assert process.returncode == (1 if report["problems"] else 0), err
    return {**report, "stderr": err}


def attach(process: subprocess.Popen[str], name: str) -> Any:
    """Attach to the map of a running torture, once its workers are at work."""
    deadline = time.monotonic() + 30
    while True:
        with suppress(shmmap.MapNotFound):
            m = shmmap.ShmMap.attach(name, lock_timeout=PATIENCE_S, on_unlinked="reopen")
            while m.get("count-0", 0) < 3 and time.monotonic() < deadline:
                time.sleep(0.01)
            return m
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def children_of(pid: int) -> list[int]:
    """List the pids of a process's children, grandchildren left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry.name))
    return sorted(found)


PLAIN, REPLACED = ("--no-replace", "--no-resize"), ("--replace", "--no-resize")
RESIZED, BOTH = ("--no-replace", "--resize"), ("--replace", "--resize")
EVENTS = {
    PLAIN: ("takeovers", "kills_inside", "stops", "forks", "writes", "windows", "repairs"),
    REPLACED: ("replaced", "replacers", "kills_inside", "forks", "writes"),
    RESIZED: ("resized", "cancelled", "movers", "movers_at_a_moment", "movers_stopped",
              "moves_taken_over", "kills_inside", "writes", "windows"),
    BOTH: ("resized", "movers", "replaced", "kills_inside", "writes"),
}


@pytest.mark.parametrize(("seed", "shards", "options"), [
    (1, 1, PLAIN), (2, 4, PLAIN), (3, 1, REPLACED), (4, 1, RESIZED), (5, 4, RESIZED), (6, 4, BOTH),
])
def test_a_short_run(torture, seed, shards, options):
    """Nothing is wrong, and everything has happened: on a machine that has much else to do, in
    another run, or a third or fourth, which are longer."""
    seen: Counter[str] = Counter()
    for turn, longer in enumerate((1, 1, 3, 5)):
        report = read_report(torture("--seconds", SECONDS * longer, "--seed", seed + 10 * turn,
                                     "--shards", shards, *options))
        assert report["problems"] == [], f"{report}"
        assert report["engine"] == shmmap.ENGINE and report["seed"] == seed + 10 * turn
        seen.update({field: report[field] for field in (*EVENTS[options], "kills")})
        if seen["kills"] > SECONDS and all(seen[event] for event in EVENTS[options]):
            return
    pytest.fail(f"too little has happened: {seen}")


def tamper(m: Any, _: int) -> None:
    for lane in range(12):
        m.set(f"lane-{lane}-0", bytes(100))


def lose(m: Any, _: int) -> None:
    for lane in range(12):
        m.delete(f"lane-{lane}-0")


def count_too_much(m: Any, _: int) -> None:
    m.incr("count-1", 100)


def count_too_little(m: Any, _: int) -> None:
    m.incr("own-count-0", -1)


def steal(m: Any, _: int) -> None:
    """Free the named locks of whoever holds them, as no process does with another's."""
    for lock in range(2):
        m._lock_table().touch(name_of(LOCK, f"guarded-{lock}"), 0)
    m.set("guarded-0", 0)


def lose_filling(m: Any, _: int) -> None:
    m.delete("fill-3")


def fill_windows(m: Any, _: int) -> None:
    for window in range(1, 200):
        m.set(f"window-{window}-0", 7)


def keep_a_lock(m: Any, _: int) -> None:
    """As a process does that was stopped with it in hand."""
    lock, mine = m.attachment.shards[0].lock, m.attachment.worker.fork_page.word | 0x1234
    if lock.owner() != mine:
        lock.lock(mine, 10**9)


def end_one(_: Any, parent: int) -> None:
    for pid in children_of(parent)[1:]:  # the first one only tells how late the machine is
        os.kill(pid, signal.SIGTERM)


def litter(m: Any, _: int) -> None:
    Path(f"/dev/shm/shmmap.{m.name}-stray").touch()


def replace_by_an_empty_one(m: Any, _: int) -> None:
    shmmap.ShmMap(m.name, size=SIZE, fresh=True).close()


@once  # what finds it is the same with either engine
@pytest.mark.parametrize(("sabotage", "kind"), [
    (tamper, "torn"), (lose, "lost"), (count_too_much, "lost"), (count_too_little, "lost"),
    (steal, "lost error"), (lose_filling, "lost"), (fill_windows, "linearizability"),
    (keep_a_lock, "hang error"), (end_one, "crash hang"), (litter, "leaked"),
    (replace_by_an_empty_one, "lost wrong"),
])
def test_sabotage_is_found(torture, name, sabotage, kind):
    """Who keeps a lock shows in the others first: their wait runs out. Who is ended in a call that
    the others' history waits for shows there first."""
    patience_s = KEPT_S if sabotage is keep_a_lock else PATIENCE_S
    # The others leave a lock behind together with the map that it is of.
    stays = ["--no-replace"] if sabotage is keep_a_lock else []
    process = torture("--seconds", 2 if kind == "leaked" else 40, "--patience", patience_s,
                      "--seed", 3, "--fill", 40, "--no-resize", *stays)
    m = attach(process, name)
    try:
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(shmmap.ShmMapError, ProcessLookupError):
                sabotage(m, process.pid)
            time.sleep(0.2)
        report = read_report(process)
    finally:
        Path(f"/dev/shm/shmmap.{name}-stray").unlink(missing_ok=True)
        m.close()
    assert any(map(report.get, kind.split())) and process.returncode == 1, f"{report}"


def test_an_interrupt_ends_it_with_a_report(torture, name):
    process = torture("--seconds", 60, "--seed", 4)
    attach(process, name).close()
    process.send_signal(signal.SIGINT)
    report = read_report(process)
    assert report["interrupted"] and report["problems"] == [], f"{report}"
    assert report["writes"] > 0


def test_nobody_survives_it(torture, name):
    process = torture("--seconds", 60, "--seed", 5)
    m = attach(process, name)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while (left := [pid for pid in m.stats().workers if pid != os.getpid()]):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    m.close()


class Raised(Exception):
    pass


@pytest.mark.parametrize("line", range(46, 62, 2))
def test_a_handler_that_raises_while_the_sweeper_starts(name, start, line):
    left = [line]

    def raise_there(frame: Any, event: str, _: Any) -> Any:
        if event == "line" and frame.f_code.co_filename == threading.__file__:
            left[0] -= 1
            if left[0] == 0:
                raise Raised
        return raise_there

    def work(_: Any) -> None:
        m = shmmap.ShmMap(name, size="1MB", sweep_interval=3600)
        sys.settrace(raise_there)
        try:
            m.set("a", 1, ttl=60)
        except Raised:
            pass
        finally:
            sys.settrace(None)
        m.set("a", 2, ttl=60)
        m.close()

    start(work).result(20.0)
