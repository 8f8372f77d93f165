"""How a map ends, and who belongs to it: unlink, ephemeral maps, the worker table."""

from __future__ import annotations

import fcntl
import os
import signal
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import opening
from shmmap.system import segment, worker_table

from ..support.leftovers import objects_of


def forget_everything() -> None:
    """In a child: open everything anew, as an unrelated process would."""
    opening._attachments.clear()


def test_unlink_reaches_every_process(make, name, start):
    m = make(shards=2, on_unlinked="raise")
    m["a"] = 1

    def work(child: Any) -> list[str]:
        assert m["a"] == 1
        child.tell("ready")
        child.hear()
        found = []
        for operation in (
            lambda: m["a"], lambda: m.set("a", 1), lambda: len(m), lambda: list(m),
            m.check, m.sweep, m.clear, lambda: m.ttl("a"),
        ):
            try:
                operation()
                found.append("worked on")
            except shmmap.ShmMapError as error:
                found.append(type(error).__name__)
        m.close()
        return found

    child = start(work)
    child.hear()
    m.unlink()
    assert objects_of(name) == []
    child.tell("unlinked")
    assert child.result() == ["MapUnlinked"] * 8
    with pytest.raises(shmmap.MapUnlinked, match="open it again"):
        m["a"]
    m.unlink()  # again: nothing to do
    with shmmap.ShmMap.create(name, "1MB") as successor:
        assert "a" not in successor
        m.unlink()  # nor anything of a successor's
        successor["a"] = 2
        m.close()
        assert successor["a"] == 2
        successor.unlink()


def test_the_last_to_leave_unlinks_an_ephemeral_map(name, start):
    m = shmmap.ShmMap.create(name, "1MB", ephemeral=True)
    m["a"] = 1

    def work(child: Any) -> Any:
        seen = m["a"]
        child.tell("attached")
        child.hear()
        m.close()
        return seen

    child = start(work)
    child.hear()
    m.close()
    assert objects_of(name) != []
    child.tell("leave")
    assert child.result() == 1
    assert objects_of(name) == []


def test_an_ephemeral_map_is_one_map_within_its_process(name):
    """Opening it again must find the process's own row alive."""
    with shmmap.ShmMap.create(name, "1MB", ephemeral=True) as m:
        m["a"] = 1
        with shmmap.ShmMap(name) as again:
            assert again.get("a") == 1 and again.attachment is m.attachment
        with shmmap.ShmMap.attach(name) as third:
            third["b"] = 2
        assert m["b"] == 2
    assert objects_of(name) == []


def test_the_map_of_a_killed_last_worker_is_replaced(name, start):
    def work(child: Any) -> None:
        m = shmmap.ShmMap.create(name, "1MB", ephemeral=True, shards=2)
        m["a"] = 1
        child.tell("made")
        signal.pause()

    child = start(work)
    child.hear()
    with shmmap.ShmMap(name) as m:
        assert m["a"] == 1  # its maker lives: attached
    child.kill()
    assert objects_of(name) != []
    with pytest.raises(shmmap.MapNotFound):
        shmmap.ShmMap.attach(name)
    with shmmap.ShmMap(name, "2MB", ephemeral=True) as fresh:
        assert "a" not in fresh and fresh.check() == []
    assert objects_of(name) == []


def test_a_full_worker_table(make, name, start):
    m = make(shards=2)

    def take_all_rows(child: Any) -> None:
        path = segment.SHM_DIRECTORY + segment.liveness_name(name, m.attachment.nonce)
        descriptor = os.open(path, os.O_RDWR)
        fcntl.lockf(descriptor, fcntl.LOCK_EX, m.attachment.control.ROWS - 1,
                    worker_table.row_byte(1))
        child.tell("taken")
        child.hear()

    def attach_anew(child: Any) -> str:
        forget_everything()
        try:
            shmmap.ShmMap.attach(name)
        except shmmap.WorkersFull as error:
            fds = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                   if os.path.exists(f"/proc/self/fd/{fd}")]
            inherited = 1  # the parent's, through the fork
            assert sum(name in fd for fd in fds) == inherited, fds
            return str(error)
        return "attached"

    def use_inherited(child: Any) -> str:
        for _ in range(2):
            with pytest.raises(shmmap.WorkersFull):
                m["a"] = 1
        child.tell("full")
        child.hear()
        m["a"] = 1
        return "wrote"

    holder = start(take_all_rows)
    holder.hear()
    text = start(attach_anew).result()
    assert repr(name) in text and str(m.attachment.control.ROWS) in text and "close()" in text
    late = start(use_inherited)
    assert late.hear() == "full"
    m["b"] = 1  # those that have a row go on
    holder.tell("enough")
    holder.result()
    holder.reap()
    late.tell("room")
    assert late.result() == "wrote" and m["a"] == 1


def test_rows_of_the_dead_are_used_again(make, start):
    m = make(shards=2)
    rows = set()
    for _ in range(6):
        child = start(lambda child: (m.incr("n"), m.attachment.worker.row)[1])
        rows.add(child.result())
        child.reap()
    assert len(rows) == 1 and m["n"] == 6
    assert m.stats().writes == 6, "the counters of the dead are lost"
