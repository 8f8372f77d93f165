"""A file of a live map is truncated by another process.

The compiled engine survives: the operation that finds it out may give anything documented,
every later one of that handle raises MapCorrupted, other maps do not notice. The pure engine
cannot: SIGBUS ends the process as it accesses what is gone.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.memory.layout import PAGE
from shmmap.system import _sigbus_cy

from .cutting import KEYS, LONGEST_S, OPERATIONS, SHM, cut, filled, needs_guard, objects, outcome


def is_lost(m: Any) -> bool:
    """Tell whether the handle has found out; then every operation says so."""
    said = {outcome(partial(operation, m)) for kind, operation in OPERATIONS.items()
            if kind not in ("close", "unlink")}
    if said & {"cut"}:
        assert {outcome(lambda: m.get(1)), outcome(lambda: m.set(1, 1)), outcome(m.check),
                outcome(lambda: len(m)), outcome(m.stats)} == {"cut"}
    return "cut" in said


@needs_guard
@pytest.mark.parametrize("length", ["nothing", "a page", "half", "all but a page"])
@pytest.mark.parametrize("what", ["control", "shard 0", "shard 1", "liveness", "semaphore"])
def test_every_operation_survives(leftovers, start, what, length):
    def work(child: Any) -> None:
        other = shmmap.ShmMap.attach(f"{leftovers}-other")
        other["a"] = 1
        for kind, operation in OPERATIONS.items():
            m = filled(leftovers)
            paths = objects(m)
            cut(paths[what], length)
            how = outcome(partial(operation, m))
            if kind == "close":
                assert m.closed and how == "done"
            elif kind != "unlink":
                assert is_lost(m) == (what not in ("liveness", "semaphore")), (kind, how)
            assert other["a"] == 1 and other.check() == []
            if kind != "close":
                m.unlink()
                m.close()
                assert m.closed and not any(path.exists() for path in paths.values())
            for path in paths.values():
                path.unlink(missing_ok=True)
        other.close()

    with shmmap.ShmMap.create(f"{leftovers}-other", "150KB", sweep_interval=None) as made:
        try:
            start(work).result(50)
        finally:
            made.unlink()


@needs_guard
def test_after_it_a_new_map_of_that_name_works(make, name):
    m = make(shards=2)
    m["a"] = 1
    cut(objects(m)["shard 0"], "nothing")
    cut(objects(m)["shard 1"], "nothing")
    outcome(lambda: m.get("a"))
    with pytest.raises(shmmap.MapCorrupted, match=r"truncated.*unlink"):
        m.get("a")
    with pytest.raises(shmmap.MapCorrupted):
        shmmap.ShmMap.attach(name)
    m.unlink()
    with pytest.raises(shmmap.MapUnlinked):
        m.get("a")
    fresh = make(shards=2)
    fresh["a"] = 2
    m.unlink()  # not its successor
    m.close()
    with shmmap.ShmMap.attach(name) as same:
        assert same["a"] == 2 and fresh.check() == []


@needs_guard
def test_unlink_of_a_cut_control_segment_spares_a_successor(make, name):
    m = make()
    cut(objects(m)["control"], "nothing")
    outcome(lambda: m.get("a"))
    fresh = make(size="1MB")  # an empty control segment is what a dead creator leaves
    fresh["a"] = 2
    m.unlink()
    m.close()
    with shmmap.ShmMap.attach(name) as same:
        assert same["a"] == 2 and fresh.check() == []


@needs_guard
@pytest.mark.parametrize("what", ["control", "shard 0"])
@pytest.mark.parametrize("found_by", ["parent", "child"])
def test_a_forked_child_is_told_too(leftovers, start, what, found_by):
    def work(child: Any) -> None:
        m = filled(leftovers)
        if found_by == "parent":
            cut(objects(m)[what], "nothing")
            outcome(partial(OPERATIONS["get"], m))
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                if found_by == "child":
                    cut(objects(m)[what], "nothing")
                    outcome(partial(OPERATIONS["get"], m))
                assert {outcome(lambda: m.get(1)), outcome(lambda: m.set(1, 1))} == {"cut"}
                m.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        outcome(partial(OPERATIONS["get"], m))
        assert outcome(lambda: m.get(1)) == "cut"
        m.close()

    start(work).result()


@needs_guard
@pytest.mark.parametrize("what", ["control", "shard 0", "shard 1", "semaphore"])
def test_a_waiting_thread_comes_back(leftovers, start, what):
    """Shard 0 is held by a process that is stopped."""
    def hold(child: Any) -> None:
        m = shmmap.ShmMap.attach(leftovers)
        lock = m.attachment.shards[0].lock
        assert lock.lock(m.attachment.worker.fork_page.word | 1, 10**9) == 0
        child.tell("held")
        child.hear()

    def work(child: Any) -> None:
        m = filled(leftovers)
        child.tell("made")
        child.hear()
        said: list[str] = []
        waiting = threading.Thread(target=lambda: said.append(outcome(m.clear)))
        waiting.start()
        time.sleep(0.1)
        cut(objects(m)[what], "nothing")
        waiting.join(LONGEST_S)
        assert not waiting.is_alive()
        # who held the lock is not robbed of it; whoever waits looks at the control segment
        if what in ("control", "semaphore"):
            assert said == [{"control": "cut", "semaphore": "LockTimeout"}[what]]
        if what != "semaphore":
            assert is_lost(m)
        m.unlink()
        m.close()

    child = start(work)
    child.hear()
    holder = start(hold)
    holder.hear()
    child.tell("go on")
    child.result()
    holder.kill()


@needs_guard
@pytest.mark.parametrize("seed", range(4))
def test_cut_at_a_random_moment(leftovers, start, seed):
    """Two threads work while another process truncates; they come back, and find it out."""
    def work(child: Any) -> list[str]:
        m = filled(leftovers, on_full="evict")
        kinds = [k for k in OPERATIONS if k not in ("close", "unlink")]
        said: list[str] = []

        def go_on(number: int) -> None:
            rng = random.Random(seed * 10 + number)
            how, end = "", time.monotonic() + 10
            while how != "cut" and time.monotonic() < end:
                how = outcome(lambda: OPERATIONS[rng.choice(kinds)](m))
                if how == "done":
                    outcome(lambda: m.set(rng.randrange(KEYS), rng.randbytes(90)))
            said.append(how)

        threads = [threading.Thread(target=go_on, args=(number,)) for number in range(2)]
        child.tell({kind: str(path) for kind, path in objects(m).items()})
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        m.unlink()
        m.close()
        return said

    rng = random.Random(seed)
    child = start(work)
    paths = child.hear()
    time.sleep(rng.uniform(0.01, 0.2))
    cut(Path(paths[rng.choice(("control", "shard 0", "shard 1"))]), rng.choice(("nothing", "half")))
    assert child.result() == ["cut", "cut"]


@needs_guard
def test_the_lock_of_a_whole_shard_is_free_afterwards(leftovers, start, name):
    """Others go on with a shard whose neighbour was cut off, for as long as they do not ask it."""
    def work(child: Any) -> None:
        m = filled(name)
        child.tell("made")
        child.hear()
        cut(objects(m)["shard 1"], "nothing")
        for kind in OPERATIONS:
            if kind not in ("close", "unlink"):
                outcome(partial(OPERATIONS[kind], m))
        m.close()

    child = start(work)
    child.hear()
    mine = shmmap.ShmMap.attach(name)
    child.tell("go on")
    child.result()
    assert mine.attachment.shards[0].lock.owner() == 0
    mine.unlink()
    mine.close()


@needs_guard
def test_what_is_no_longer_watched_makes_room():
    def count(watched: int) -> int:
        in_use, spare, in_all = _sigbus_cy.count_regions()
        assert (in_use, spare) == (before + watched, in_all - in_use)
        return int(in_all)

    before, spare, _ = _sigbus_cy.count_regions()
    regions = [_sigbus_cy.Region() for _ in range(spare + 3)]
    for at, region in enumerate(regions, 1):
        region.watch(at * PAGE, PAGE)
    in_all = count(len(regions))
    for region in (*regions, *regions):  # again: nothing is forgotten twice
        region.forget()
    assert count(0) == in_all
    for at, region in enumerate(regions, 1):
        region.watch(at * PAGE, 1)
    assert count(len(regions)) == in_all
    del regions, region  # what nobody has any more guards nothing
    assert count(0) == in_all


@needs_guard
@pytest.mark.parametrize("what", ["control", "shard 0"])
def test_the_command_line_looks_at_it_and_removes_it(leftovers, start, tmp_path, what):
    def work(child: Any) -> None:
        m = filled(leftovers, on_unlinked="raise")
        cut(objects(m)[what], "half")
        child.tell("made")
        child.hear()
        assert is_lost(m) or outcome(lambda: m.get(1)) == "MapUnlinked"
        m.close()

    child = start(work)
    child.hear()
    for command in (["ls"], ["info", leftovers], ["fsck", leftovers], ["doctor"],
                    ["unlink", leftovers, "--yes"]):
        done = subprocess.run([sys.executable, "-m", "shmmap", *command], capture_output=True,
                              text=True, timeout=30, cwd=tmp_path)
        assert done.returncode >= 0 and "Traceback" not in done.stderr, done.stderr
    assert not list(SHM.glob(f"*shmmap.{leftovers}*"))
    child.tell("go on")
    child.result()


@needs_guard
@pytest.mark.parametrize("length", ["nothing", "a page", "half"])
def test_the_lock_shard_is_cut_off(leftovers, start, length):
    """Entries go on until a lock is wanted; then the map says what it has lost."""
    def work(child: Any) -> None:
        for use in (lambda m: m.lock("a", timeout=0).__enter__(), lambda m: m.sweep(),
                    lambda m: m.get_or_set("new", int), lambda m: m.check()):
            m = filled(leftovers)
            cut(objects(m)["locks"], length)
            m["still"] = 1
            assert m["still"] == 1
            with contextlib.suppress(shmmap.ShmMapError):
                use(m)  # appears done, or says so: see the guard
            if length == "nothing":
                assert is_lost(m)
            m.unlink()
            m.close()

    start(work).result()
