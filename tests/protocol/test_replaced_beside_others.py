"""A map that is replaced or unlinked: what forked children, other users and threads do then."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest

import shmmap
from shmmap import care
from shmmap.copies import replacing
from shmmap.lifecycle.attachment import Attachment
from shmmap.system import segment

from ..support.strangers import stranger

USER = 54321
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")


@pytest.mark.parametrize("when", ["as the snapshot is written", "as the shards are held"])
def test_a_child_that_is_forked_as_entries_are_copied_writes_no_old_ones(
    make, name, when, monkeypatch
):
    """It goes on late, when the new map has been published and written to."""
    m = make(size="1MB", shards=2)
    m.update(dict.fromkeys(range(100), "old"))
    written, writing = [], replacing.write_raw
    changing, copying = replacing._change_over, os.getpid()
    child = 0

    def fork_and_write(*args: Any) -> Any:
        nonlocal child
        written.append(args)
        if len(written) == (50 if when == "as the snapshot is written" else 101):
            child = os.fork()
            if not child:
                signal.pause()
        return writing(*args)

    def change(*args: Any) -> Any:
        m.update(dict.fromkeys(range(50), "newer"))
        return changing(*args)

    monkeypatch.setattr(replacing, "write_raw", fork_and_write)
    if when == "as the shards are held":
        monkeypatch.setattr(replacing, "_change_over", change)
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        new = shmmap.ShmMap(name, size="2MB", on_mismatch="replace")
    except shmmap.Reentered:  # or creation.Forked, which is one
        os._exit(7)
    finally:
        if os.getpid() != copying:
            os._exit(1)
    new.update(dict.fromkeys(range(100), "newest"))
    status = None
    while status is None:  # a signal that comes before it pauses is lost
        os.kill(child, signal.SIGUSR1)
        ended, code = os.waitpid(child, os.WNOHANG)
        status = code if ended else time.sleep(0.01)
    assert os.waitstatus_to_exitcode(status) == 7
    assert set(m.values()) == {"newest"} and len(m) == 100 and m.check() == []


def test_a_lock_of_a_map_that_was_unlinked_is_lost_whoever_made_the_new_one(make, name, start):
    m = make(size="1MB")
    lock = m.lock("x")
    lock.acquire()
    shmmap.ShmMap(name).unlink()

    def make_the_new_one(child: Any) -> None:  # which has the row that the holder had
        shmmap.ShmMap(name, size="1MB")["a"] = 1
        child.tell("made")
        child.hear()

    child = start(make_the_new_one)
    child.hear()
    assert m["a"] == 1 and not lock.held
    with pytest.raises(shmmap.LockLost, match="its map was unlinked"):
        lock.release()
    with pytest.raises(shmmap.LockLost):
        lock.extend()
    child.tell("end")
    child.result()


def test_two_threads_that_go_over_do_not_wait_for_each_other(make, name, monkeypatch):
    """One is in the middle of an operation of several steps, the other begins one."""
    m = make(size="1MB", lock_timeout=20)
    m["a"] = 1
    inside, going_on = threading.Event(), threading.Event()
    alive = care.alive

    def wait(handles: Any) -> Any:
        inside.set()
        going_on.wait(20)
        return alive(handles)

    found: list[object] = []
    monkeypatch.setattr(care, "alive", wait)
    one = threading.Thread(target=lambda: found.append(m.stats().entries))
    one.start()
    assert inside.wait(20)
    shmmap.ShmMap(name).unlink()
    threading.Timer(0.2, going_on.set).start()
    began = time.monotonic()
    assert m.get("a") is None
    one.join(20)
    assert found == [0] and time.monotonic() - began < 10


def stop_the_replacer(monkeypatch: Any) -> None:
    """Have looks at a map find one that is just being replaced, by a process that is stopped."""
    def wait(attached: Any) -> None:
        raise shmmap.LockTimeout("is just being replaced")

    monkeypatch.setattr(Attachment, "notice_removal", wait)


def test_what_a_look_for_the_files_finds_is_told_the_next_operation(make, monkeypatch):
    """This one is done: what `pop` has taken must reach its caller."""
    m = make(size="1MB", sweep_interval=0.001)
    m["a"] = 1
    m.delete("b")
    stop_the_replacer(monkeypatch)
    time.sleep(0.01)
    assert m.pop("a") == 1
    time.sleep(0.01)
    m["a"] = 2
    assert m["a"] == 2


@pytest.mark.parametrize("kind", ["lock", "semaphore"])
def test_a_lock_that_is_refused_after_its_taking_is_free(make, kind, monkeypatch):
    m = make(size="1MB")

    def name_it() -> Any:
        return m.lock("x") if kind == "lock" else m.semaphore("x", 1)

    with monkeypatch.context() as patch:
        stop_the_replacer(patch)
        with pytest.raises(shmmap.LockTimeout, match="just being replaced"):
            name_it().acquire()
        assert m.attachment.locks.count() == 0 and not m.attachment.locks.holds
    with name_it():
        pass


@AS_ROOT
@pytest.mark.parametrize("deed", ["reads", "unlinks"])
def test_root_meets_a_users_map_as_it_is_being_replaced(name, deed):
    """Each user has a creation lock of its own: root's does not keep the replacer waiting."""

    def replace(child: Any) -> dict[Any, Any]:
        m = shmmap.ShmMap(name, size="1MB", shards=1, mode=0o666)
        m["a"] = 1
        child.tell("made")
        child.hear()
        exchange = segment.exchange

        def slow(*names: str) -> bool:
            child.tell("replacing")
            time.sleep(0.5)
            return exchange(*names)

        segment.exchange = slow
        new = shmmap.ShmMap(name, size="2MB", shards=1, mode=0o666, on_mismatch="replace")
        new["owner"] = 1
        child.tell("replaced")
        child.hear()
        return dict(new)

    child = stranger(USER, replace)
    try:
        child.hear()
        m = shmmap.ShmMap.attach(name, owner_uid=USER, mode=0o666, on_unlinked="reopen")
        assert m["a"] == 1
        child.tell("go on")
        assert child.hear() == "replacing"
        if deed == "unlinks":
            shmmap.ShmMap.attach(name, owner_uid=USER, mode=0o666).unlink()
        else:
            assert m["a"] == 1
        assert child.hear() == "replaced"
        m["root"] = 1
        child.tell("end")
        expected = {"owner": 1, "root": 1, **({"a": 1} if deed == "reads" else {})}
        assert child.result() == expected and dict(m) == expected
        m.unlink()
    finally:
        child.kill()


def test_what_a_map_that_evicts_has_no_room_for_is_told(make, name):
    m = make(capacity=2000, shards=1, on_full="evict")
    m.update(dict.fromkeys(range(1500), "x" * 50))
    with pytest.warns(shmmap.MapMismatchWarning, match="did not fit") as told:
        new = shmmap.ShmMap(name, capacity=300, on_mismatch="replace")
    left_out = int(str(told[0].message).split("; ")[1].split()[0].replace(",", ""))
    assert left_out == 1500 - len(new) > 0
