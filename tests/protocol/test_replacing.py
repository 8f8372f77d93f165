"""A map of another shape takes a map's name and entries, while others use it, and is killed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.copies import replacing
from shmmap.lifecycle import checking, making, opening
from shmmap.lifecycle.sweeper import Sweeper
from shmmap.system import removal, segment

from ..support.leftovers import objects_of


def replaced(name: str, **shape: Any) -> Any:
    """Open a map in a shape, whatever it has now."""
    return shmmap.ShmMap(name, **shape, on_mismatch="replace")


def test_the_entries_come_along_and_handles_follow(make, name, start):
    m = make(size="1MB", shards=2, ttl=1000, codec="safe")
    m.update({("k", number): number for number in range(500)})
    m.set("short", "soon", ttl=100)
    m.set("long", "x" * 5000)
    before = {key: m.ttl(key) for key in m}

    def follow(child: Any) -> Any:
        other = shmmap.ShmMap(name)
        other["seen"] = 1
        child.tell("ready")
        child.hear()
        return dict(other), other.size

    child = start(follow)
    child.hear()
    new = replaced(name, size="2MB")
    assert m["long"] == new["long"] == "x" * 5000
    assert new.size == m.size == 2 * 10**6 and new._live is m._live
    assert {key: new.ttl(key) for key in before} == pytest.approx(before, abs=5)
    assert (new.default_ttl, new.codec) == (1000, "safe")
    child.tell("replaced")
    entries, size = child.result()
    assert entries == dict(new) and size == 2 * 10**6
    assert new.check() == []
    assert len(objects_of(name)) == 2 * new._live.geometry.shards + 4, "nothing of the old one"


@pytest.mark.parametrize("shape", [
    {"size": "2MB"}, {"capacity": 3000}, {"shards": 8}, {"value_size": 500}, {"key_size": 50},
    {"on_full": "evict"},
], ids=repr)  # fmt: skip
def test_every_part_of_the_shape_can_be_changed(make, name, shape):
    m = make(shards=2)
    m.update({number: str(number) for number in range(300)})
    with replaced(name, **shape) as new:
        field, value = next(iter(shape.items()))
        assert new.parameters[field] == (2 * 10**6 if field == "size" else value)
        assert dict(new) == {number: str(number) for number in range(300)}
        nonce = new._live.nonce
        with replaced(name, **shape) as same:
            assert same._live.nonce == nonce, "it has this shape already"


def test_handles_of_attach_are_told(make, name):
    make()
    m = shmmap.ShmMap.attach(name)
    replaced(name, size="2MB")
    with pytest.raises(shmmap.MapUnlinked):
        m["a"] = 1
    m.close()


def test_what_does_not_fit_is_left_out_and_told(make, name):
    m = make(size="2MB", shards=1)
    m.update(dict.fromkeys(range(1000), "x" * 1000))
    with pytest.warns(shmmap.MapMismatchWarning, match="did not fit") as told:
        new = replaced(name, size="500kB")
    left_out = int(str(told[0].message).split("; ")[1].split()[0].replace(",", ""))
    assert 0 < len(new) == 1000 - left_out < 1000
    assert new.check() == []


def test_without_room_for_both_it_is_used_as_it_is(make, name, monkeypatch):
    m = make()
    m["a"] = 1

    def refuse(what: str, size: int) -> None:
        raise shmmap.SharedMemoryFull("no room")

    monkeypatch.setattr(segment, "check_room", refuse)
    with pytest.warns(shmmap.MapMismatchWarning, match="was not replaced.*no room"):
        other = replaced(name, size="2MB")
    assert other["a"] == 1 and other.size == 10**6


@pytest.mark.parametrize("error", [MemoryError, shmmap.MapCorrupted])
def test_what_keeps_it_from_being_replaced_keeps_nobody_from_opening_it(
    make, name, error, monkeypatch
):
    m = make()
    m["a"] = 1

    def fail(copying: Any, entries: Any) -> None:
        raise error("no room for the copy")

    monkeypatch.setattr(replacing.Copying, "bring", fail)
    with pytest.warns(shmmap.MapMismatchWarning, match="was not replaced.*no room"):
        other = replaced(name, size="2MB")
    assert other["a"] == 1 and other.size == 10**6


def test_another_users_map_is_used_as_it_is(make, name, monkeypatch):
    make()["a"] = 1
    with pytest.warns(shmmap.MapMismatchWarning, match="belongs to uid"):
        monkeypatch.setattr(replacing, "os", _OtherUser())
        assert replaced(name, size="2MB")["a"] == 1


class _OtherUser:
    """The module `os` of somebody else."""

    lstat = staticmethod(os.lstat)

    @staticmethod
    def geteuid() -> int:
        return os.stat("/dev/shm").st_uid + 12345


def count(name: str) -> Callable[[Any], tuple[int, int]]:
    """Make a worker that counts until it is told to stop: (its count, the map's)."""

    def work(child: Any) -> tuple[int, int]:
        m = shmmap.ShmMap(name)
        mine, done = f"own{child.pid}{os.getpid()}", 0
        child.tell("ready")
        while not child.is_told():
            m.incr("all")
            m.incr(mine)
            m[("last", mine)] = done = done + 1
            assert m.pop(("last", mine)) == done
        return done, m.get(mine, 0)

    return work


def test_no_write_is_lost_while_it_is_replaced(make, name, start):
    m = make(size="1MB", shards=2)
    m.update({("k", number): number for number in range(200)})
    workers = [start(count(name)) for _ in range(2)]
    for worker in workers:
        worker.hear()
    for number in range(6):
        replaced(name, size=f"{2 + number % 2}MB").close()
    for worker in workers:
        worker.tell("stop")
    found = [worker.result() for worker in workers]
    assert all(mine == there for mine, there in found)
    assert m["all"] == sum(mine for mine, _ in found)
    assert all(m[("k", number)] == number for number in range(200))
    assert m.check() == []


STEPS: dict[str, tuple[Any, str, bool]] = {
    "before the new map is made": (making.Successor, "make", False),
    "when it is made": (making.Successor, "make", True),
    "when it is open": (opening, "open_apart", True),
    "before the entries are copied": (replacing.Copying, "bring", False),
    "before the shards are held": (replacing, "hold_all", False),
    "while the shards are held": (replacing, "take_held", False),
    "when all is copied": (making.Successor, "take_over", False),
    "before the exchange": (segment, "exchange", False),
    "after the exchange": (segment, "exchange", True),
    "before the old parts are removed": (making, "remove_files", False),
    "when the old parts are removed": (making, "remove_files", True),
    "before the old control segment is removed": (removal, "unlink_if", False),
}  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_a_death_loses_nothing_and_stops_nobody(make, name, start, step, monkeypatch):
    m = make(size="1MB", shards=2)
    m.update({number: number for number in range(100)})
    where, what, after = STEPS[step]
    original = getattr(where, what)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        if after:
            original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    def work(child: Any) -> None:
        setattr(where, what, deadly)
        replaced(name, size="2MB")

    child = start(work)
    with pytest.raises(EOFError):
        child.hear()
    assert child.reap() == signal.SIGKILL
    started = time.monotonic()
    assert m.incr("n") == 1 and dict(m) == {**{n: n for n in range(100)}, "n": 1}
    assert time.monotonic() - started < 3
    assert m.check() == []
    with replaced(name, size="3MB") as new:  # removes what the dead one left
        assert dict(new) == dict(m) and new.size == 3 * 10**6
        assert len(objects_of(name)) == 2 * new._live.geometry.shards + 4


@pytest.mark.parametrize("seed", range(3))
def test_deaths_at_any_moment(make, name, start, seed):
    m = make(size="1MB", shards=2)
    m.update({("k", number): number for number in range(100)})
    dice = random.Random(seed)
    worker = start(count(name))
    worker.hear()

    def work(child: Any) -> None:
        for size in ("2MB", "1MB", "3MB") * 1000:
            replaced(name, size=size).close()

    for _ in range(4):
        child = start(work)
        time.sleep(dice.random() * 0.3)
        child.kill()
    worker.tell("stop")
    mine, there = worker.result()
    assert mine == there == m["all"] > 0
    assert all(m[("k", number)] == number for number in range(100))
    assert m.check() == []


def test_readers_go_on_while_writers_wait(make, name, monkeypatch):
    m = make(size="1MB", shards=2)
    m["a"] = 1
    seen = []

    def copy(attached: Any) -> Any:
        seen.append(other["a"])  # by another handle: of this very thread, which holds the shards
        with pytest.raises(shmmap.Reentered):
            other["a"] = 2
        return original(attached)

    original = replacing.take_held
    monkeypatch.setattr(replacing, "take_held", copy)
    other = shmmap.ShmMap(name)
    new = replaced(name, size="2MB")
    assert seen == [1] and new["a"] == 1
    other["a"] = 3
    assert new["a"] == 3


def test_an_error_in_the_middle_leaves_the_map_as_it_was(make, name, monkeypatch):
    m = make(size="1MB", shards=2)
    m["a"] = 1
    files = objects_of(name)

    def fail(attached: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(replacing, "take_held", fail)
    with pytest.raises(ZeroDivisionError):
        replaced(name, size="2MB")
    m["a"] = 2  # its shards are free again
    assert sorted(objects_of(name)) == sorted(files)
    assert m.check() == [] and m["a"] == 2


def test_writers_that_are_stopped_before_their_step_write_into_the_new_map(make, name, start):
    """They have seen that the map is there, and take its shard's lock when that is long replaced:
    the first one from its replacer, which has left it, the second one after the first."""
    m = make(size="1MB", shards=1)
    m["a"] = 1

    def write(key: str, child: Any) -> Any:
        mine = shmmap.ShmMap(name)

        def stop() -> bool:  # the last Python code before the lock is taken
            child.tell("stops")
            os.kill(os.getpid(), signal.SIGSTOP)
            return False

        mine.attachment.start_sweeper = stop
        mine.set(key, 2, ttl=1000)
        return mine[key], mine["a"]

    children = [start(partial(write, key)) for key in ("late", "later")]
    for child in children:
        child.hear()
        child.wait_stopped()
    replaced(name, size="2MB").close()
    assert m["a"] == 1  # by now this process has left the one that was replaced
    for child in children:
        child.go_on()
        assert child.result() == (2, 1)
    assert m["late"] == m["later"] == 2 and m.check() == []



@pytest.mark.parametrize("shards", [1, 2, 8, 16])
def test_a_listing_goes_on_in_the_new_map(make, name, shards):
    m = make(size="1MB", shards=4)
    m.update({number: number for number in range(400)})
    listing = iter(m.items())
    first = [next(listing) for _ in range(150)]  # into the second shard
    cursor, scanned = m.scan()
    replaced(name, shards=shards).close()
    rest = list(listing)
    if shards >= 4:
        assert sorted(first + rest) == [(number, number) for number in range(400)]
    assert {key for key, _ in first + rest} == set(range(400))
    while cursor:
        cursor, more = m.scan(cursor)
        scanned += more
    assert {key for key, _ in scanned} == set(range(400))


def test_handles_of_attach_go_on_after_a_replacer_has_died(make, name, start):
    make(size="1MB", shards=2)["a"] = 1
    m = shmmap.ShmMap.attach(name)

    def work(child: Any) -> None:
        segment.exchange = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        replaced(name, size="2MB")

    assert start(work).reap() == signal.SIGKILL
    assert m["a"] == 1
    m["a"] = 2
    assert shmmap.ShmMap(name)["a"] == 2
    m.close()


@pytest.mark.parametrize(("where", "what"), [
    (segment, "exchange"), (making, "remove_files"), (removal, "unlink_if"),
], ids=["exchange", "parts", "control"])  # fmt: skip
def test_what_is_raised_after_the_publication_undoes_nothing(make, name, where, what, monkeypatch):
    m = make(size="1MB", shards=2)
    m.update({number: number for number in range(50)})
    original = getattr(where, what)

    def interrupted(*args: Any) -> Any:
        original(*args)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(where, what, interrupted)
    with pytest.raises(KeyboardInterrupt):
        replaced(name, size="2MB")
    with shmmap.ShmMap(name) as new:
        assert new.size == 2 * 10**6 and dict(new) == {number: number for number in range(50)}
        m["after"] = 1
        assert new["after"] == 1 and new.check() == []


def test_a_child_that_a_handler_forks_in_the_middle_changes_nothing(make, name, monkeypatch):
    m = make(size="1MB", shards=2)
    m.update({number: number for number in range(50)})
    children = []
    original = replacing.take_held

    def fork(attached: Any) -> Any:
        copied = original(attached)
        pid = os.fork()
        if pid == 0:
            try:
                monkeypatch.undo()
                return copied  # and go on, as if nothing were: it is refused
            finally:
                children.append(0)
        children.append(pid)
        _, status = os.waitpid(pid, 0)
        assert status == 0
        return copied

    monkeypatch.setattr(replacing, "take_held", fork)
    try:
        new = replaced(name, size="2MB")
    except BaseException:
        if children == [0]:
            os._exit(0)
        raise
    if children == [0]:
        os._exit(1)  # it must not have come so far
    assert new.size == 2 * 10**6 and dict(m) == dict(new) == {n: n for n in range(50)}
    assert m.check() == []


@pytest.mark.parametrize("ttl", [None, 1000], ids=["looks in writes", "sweeps"])
def test_a_new_map_that_has_no_name_yet_is_not_taken_for_a_removed_one(make, name, ttl):
    """A process that writes, or sweeps, looks at each interval whether its map has its name."""
    m = make(size="4MB", shards=1, sweep_interval=0.01)
    m.update({number: number for number in range(3000)})
    m.set("leased", 1, ttl=ttl)
    copying = replacing.Copying.bring

    def bring_slowly(self: Any, entries: Any) -> None:
        copying(self, entries[:2000])
        time.sleep(0.1)
        copying(self, entries)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replacing.Copying, "bring", bring_slowly)
        new = replaced(name, size="8MB")
    assert len(new) == 3001 and new.size == 8 * 10**6 and new.check() == []
    (segment_file := Path("/dev/shm" + segment.control_name(name))).rename(f"{segment_file}-away")
    try:
        deadline = time.monotonic() + 10
        with pytest.raises(shmmap.MapUnlinked):  # once it has its name, it misses it
            while time.monotonic() < deadline:
                new._live.notice_removal()
    finally:
        Path(f"{segment_file}-away").rename(segment_file)
        shmmap.ShmMap(name).unlink()


@pytest.mark.parametrize("what", ["check", "repair", "sweep_if_due"])
def test_what_goes_through_all_shards_begins_again_in_the_new_map(make, name, what, monkeypatch):
    m = make(size="1MB", shards=2)
    m["a"] = 1
    where, step = (Sweeper, "_sweep_shard") if what == "sweep_if_due" else (
        checking, f"{what}_shard"
    )
    original = getattr(where, step)

    def replaced_before(*args: Any) -> Any:
        monkeypatch.undo()
        replaced(name, size="2MB").close()
        return original(*args)

    monkeypatch.setattr(where, step, replaced_before)
    assert not getattr(m, what)() or what == "sweep_if_due"
    assert m["a"] == 1 and m.size == 2 * 10**6


@pytest.mark.parametrize("change", ["one goes, one comes", "one shrinks, another grows"])
def test_what_changed_meanwhile_fits_where_the_whole_does(make, name, change, monkeypatch):
    """Also where what was there before takes the room until it has gone."""
    m = make(size="1MB", shards=1, value_size=100)
    long, short = "x" * 400_000, "y" * 1000
    m.update({number: short if number else long for number in range(100)})

    original = replacing._change_over

    def change_first(*args: Any) -> Any:
        if change == "one goes, one comes":
            del m[0]
            m["new"] = long
        else:
            m[0] = short
            m[1] = long
        return original(*args)

    monkeypatch.setattr(replacing, "_change_over", change_first)
    with replaced(name, size="1MB", shards=1, value_size=110) as new:
        assert dict(new) == dict(m) and len(new) == 100 and new.check() == []
