"""The gate `auto-shards` on a map that processes write: who sweeps it has it grow."""

from __future__ import annotations

import logging
import pickle
import random
import time
from typing import Any

import pytest

import shmmap
from shmmap import AutoShards
from shmmap.memory.table import read_table

LIMIT_S = 50.0
EAGER = AutoShards(least=16, most=32, operations=1, wait_share=1e-9, fill=0, rounds=1, pause=0,
                   rate=None)  # what waits at all, asks for more
EVERY_S = 0.1


def hammer(m: Any) -> Any:
    """Return what a child does: count in keys at random until it is told; return how often."""
    def work(child: Any) -> int:
        numbers = random.Random(child.pid)
        counted = 0
        while not child.is_told():
            for _ in range(500):
                m.incr(numbers.randrange(2000))
            counted += 500
        return counted

    return work


def wait_until(check: Any, what: str) -> None:
    until = time.monotonic() + LIMIT_S
    while not check():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def test_a_map_that_two_processes_hammer_grows(make, start, caplog):
    caplog.set_level(logging.INFO, "shmmap")
    m = make(size="4MB", shards=16, sweep_interval=EVERY_S, auto_shards=EAGER)
    m.gates["auto-shards"] = True
    workers = [start(hammer(m)) for _ in range(2)]
    wait_until(lambda: m.parameters["shards"] == 32, "it did not grow")
    assert m.resize().wait(LIMIT_S)
    for worker in workers:
        worker.tell("enough")
    counted = sum(worker.end() for worker in workers)
    assert sum(m.values()) == counted and m.parameters["shards"] == 32
    assert m.check() == []


def test_a_dry_run_only_says_what_it_would_do(make, start, caplog):
    caplog.set_level(logging.INFO, "shmmap")
    m = make(size="4MB", shards=16, sweep_interval=EVERY_S,
             auto_shards=EAGER._replace(dry_run=True))
    m.gates["auto-shards"] = True
    before = m.attachment.control.TABLE
    workers = [start(hammer(m)) for _ in range(2)]
    # the children sweep, too: only one of all at a time, and whoever does tells
    wait_until(lambda: "would go from 16 to 32 shards" in caplog.text, "nobody said anything")
    for worker in workers:
        worker.kill()
    assert m.attachment.control.TABLE == before


def test_without_the_gate_nothing_happens(make, start, caplog):
    caplog.set_level(logging.DEBUG, "shmmap")
    m = make(size="4MB", shards=16, sweep_interval=EVERY_S, auto_shards=EAGER)
    sweeps = m.attachment.control.SWEEP_EPOCH
    worker = start(hammer(m))
    wait_until(lambda: m.attachment.control.SWEEP_EPOCH > sweeps + 5, "nobody sweeps")
    worker.kill()
    assert "auto-shards" not in caplog.text and m.attachment.control.TABLE == 0


def test_a_process_that_has_the_map_open_begins_to_look(make, caplog):
    """Not at once: with the first look for the map's files after the gate was switched."""
    m = make(size="4MB", shards=16, sweep_interval=EVERY_S)
    other = make(shards=16)
    assert not m.attachment.sweeper.is_running()
    control = m.attachment.control
    control.FEATURES = 3 << 2  # as another process does it
    assert not other.attachment.sweeper.is_running()

    def is_running() -> bool:
        m["a"] = 1
        return bool(m.attachment.sweeper.is_running())

    wait_until(is_running, "it does not sweep")


def test_whoever_opens_a_map_with_the_gate_on_sweeps_it(make):
    m = make(size="4MB", sweep_interval=3000)
    assert not m.attachment.sweeper.is_running()
    m.gates["auto-shards"] = True
    wait_until(m.attachment.sweeper.is_running, "it does not sweep")


def test_what_a_handle_was_told_goes_with_it(make):
    m = make(auto_shards=EAGER)
    again = pickle.loads(pickle.dumps(m))
    assert again._request.auto_shards == EAGER == m._request.auto_shards
    assert type(again._request.auto_shards) is AutoShards
    again.unlink()
    again.close()
    with make(size="1MB") as other:
        m["a"] = 1  # it goes over to that
        assert m.attachment is other.attachment and m._request.auto_shards == EAGER


@pytest.mark.parametrize("wrong", [True, 64, (1, 2), {}])
def test_what_are_no_settings_is_refused(name, wrong):
    with pytest.raises(TypeError, match=r"must be a shmmap.AutoShards.*m.gates"):
        shmmap.ShmMap(name, size="1MB", auto_shards=wrong)


def test_a_move_that_was_left_is_found_by_the_sweep(make, start):
    """The mover was killed before anything had moved: no operation meets a shard that has moved."""
    m = make(size="4MB", shards=16)
    m.update({n: n for n in range(5000)})

    def move(child: Any) -> None:
        m.resize(shards=32, rate=1, progress=lambda _: child.tell("begun"))

    child = start(move)
    child.hear()
    child.kill()
    assert read_table(m.attachment.control).is_moving
    m.attachment.control.MOVE_RATE = 0
    m.sweep_if_due()
    wait_until(lambda: not read_table(m.attachment.control).is_moving, "nobody goes on")
    assert m.parameters["shards"] == 32 and dict(m) == {n: n for n in range(5000)}


def test_a_move_that_was_left_is_found_by_the_next_opener(make, start):
    m = make(size="4MB", shards=16)
    m.update({n: n for n in range(5000)})

    def move(child: Any) -> None:
        with shmmap.ShmMap(m.name) as mine:
            mine.resize(shards=32, rate=1, progress=lambda _: child.tell("begun"))

    child = start(move)
    child.hear()
    child.kill()
    m.attachment.control.MOVE_RATE = 0
    with shmmap.ShmMap(m.name):
        wait_until(lambda: not read_table(m.attachment.control).is_moving, "nobody goes on")
    assert dict(m) == {n: n for n in range(5000)}
