"""What the resize storm of `shmmap torture` has found, one schedule after the other, without
chance."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import shmmap
from shmmap.errors import LockTimeout, MapFull, MapUnlinked
from shmmap.lifecycle import half_replaced, sweeper
from shmmap.memory.layout import constants
from shmmap.memory.table import read_table
from shmmap.memory.words import ShardWords
from shmmap.moving import changing, group, mover, resizing, watch
from shmmap.operations.routing import distinct
from shmmap.shard._status import CORRUPT, NOBODY
from shmmap.system import segment

K = constants()
KEYS = 300
VALUES = {f"key-{number}": number for number in range(KEYS)}


class Raised(Exception):
    pass


@pytest.fixture
def m(name: str) -> Iterator[Any]:
    with shmmap.ShmMap(name, size="2MB", shards=4) as made:
        made.update(VALUES)
        yield made
        made.unlink()


def assert_whole(m: Any, shards: int) -> None:
    """All keys are there, in so many shards, and the map can be resized."""
    assert dict(m) == VALUES
    assert not read_table(m.attachment.control).is_moving
    assert m.attachment.geometry.shards == shards
    assert m.check() == []


def once(function: Any, first: Any) -> Any:
    """Call `first` before the second call of a function: of the second group, mostly."""
    calls: list[None] = []

    def call(*arguments: Any) -> Any:
        calls.append(None)
        if len(calls) == 2:
            first()
        return function(*arguments)

    return call


def raising_after(cut: Any) -> Any:
    """Cut, and then raise."""
    def cut_and_raise(*arguments: Any) -> Any:
        assert cut(*arguments)[0] == 1
        raise Raised

    return cut_and_raise


def header_of(m: Any, shard: Any) -> ShardWords:
    return ShardWords(m.attachment.places.mapping_of(shard).buffer)


def take_back(m: Any) -> None:
    other = mover.Mover(m.attachment)
    changing.take_back(other.handle, m.attachment, other.groups)
    other.close()


def begin(m: Any, **shape: Any) -> None:
    """Begin a change, and move nothing."""
    wanted = resizing.read_wish(m.attachment.parameters, shape)
    other = mover.Mover(m.attachment)
    changing.begin(other.handle, m.attachment, other.groups, wanted, wanted.plan(), 0)
    other.close()


def test_a_handler_raises_after_the_cut(m, monkeypatch):
    """What was published is the only copy by then."""
    monkeypatch.setattr(group, "cut_group", raising_after(group.cut_group))
    with pytest.raises(Raised):
        m.resize(shards=16)
    monkeypatch.undo()
    m.resize()
    assert_whole(m, 16)


def test_it_is_taken_back_before_a_mover_tracks(m, monkeypatch):
    """The mover has read the table before, and must not publish by that."""
    monkeypatch.setattr(group, "track_moved", once(group.track_moved, lambda: take_back(m)))
    m.resize(shards=16)
    assert_whole(m, 4)


def test_it_is_taken_back_before_the_cut(m, monkeypatch):
    monkeypatch.setattr(group, "cut_group", once(group.cut_group, lambda: take_back(m)))
    m.resize(shards=16)
    assert_whole(m, 4)


def test_a_snapshot_clears_the_marks_of_what_was_copied(m, monkeypatch):
    """What looks damaged then is only torn."""
    carry = group.carry_copied
    taken: list[Any] = []

    def carry_torn(*arguments: Any) -> int:
        if not taken:
            taken.append(m.snapshot())
            return CORRUPT
        return carry(*arguments)

    monkeypatch.setattr(group, "carry_copied", carry_torn)
    m.resize(shards=16)
    assert len(taken[0]) == KEYS
    assert_whole(m, 16)


def test_what_does_not_fit_is_asked_for_while_it_moves(m):
    """It is refused as ever, and the map is not left half-way."""
    begin(m, shards=16)
    with pytest.raises(MapFull):
        m.resize(capacity=KEYS // 10, shards=1)
    assert_whole(m, 16)


def test_another_rate_wakes_a_mover(m, monkeypatch):
    asleep = threading.Event()
    sleep = mover.sleep

    def note(seconds: float) -> None:
        if seconds > 0.1:
            asleep.set()
        sleep(seconds)

    monkeypatch.setattr(mover, "sleep", note)
    slow = m.resize(shards=16, rate=1, wait=False)
    assert asleep.wait(30.0)  # for a minute, with the lease
    m.resize(shards=16)
    assert slow.wait(0)
    assert_whole(m, 16)


def sleep_through_a_change(m: Any, start: Any, monkeypatch: Any) -> list[Any]:
    """Have another process make 8 shards of the 4, and begin to make one of these. Return those of
    the 8 that this process goes by, for a part of the hash: for the rest it goes by the 4 still."""
    monkeypatch.setattr(watch, "look_after", lambda _: None)  # nobody moves but who is told to

    def resize(_: Any) -> None:
        with shmmap.ShmMap.attach(m.name) as own:
            own.resize(shards=8)
            begin(own, shards=1)

    start(resize).result(60.0)
    assert m["key-0"] == 0
    met = [shard for shard in distinct(m._routes()) if shard.generation == 1]
    assert len(met) == 1 and len(distinct(m._routes())) == 5
    return met


def test_a_sweep_leaves_none_out_that_came_after_a_shard(name, start, monkeypatch):
    """An operation of one key has the process go by one of 16 new shards, as a sweep begins."""
    with shmmap.ShmMap(name, size="2MB", shards=1, sweep_interval=None) as m:
        for number in range(KEYS):
            m.set(number, number, ttl=60)
        monkeypatch.setattr(watch, "look_after", lambda _: None)

        def resize(_: Any) -> None:
            with shmmap.ShmMap.attach(name) as own:
                own.resize(shards=16)

        start(resize).result(60.0)
        sweep_part, shard = sweeper.sweep_part, m._routes()[0]

        def read_before(handle: Any, unit: int, *more: Any) -> Any:
            key = KEYS
            while m._routes()[0] is shard:  # until one is met that unit 0 leads to
                assert key not in m
                key += 1
            return sweep_part(handle, unit, *more)

        monkeypatch.setattr(sweeper, "sweep_part", read_before)
        m.attachment.clock.frozen_ns = m.attachment.clock.now_ns() + 120 * 10**9
        assert m.sweep().expired == KEYS
        m.unlink()


def test_a_dead_holders_lock_is_taken_over_by_who_slept_through_a_change(m, start, monkeypatch):
    """The older shards that the process goes by have moved, which says nothing of the group."""
    for shard in sleep_through_a_change(m, start, monkeypatch):
        with header_of(m, shard) as header:
            header.OWNER = NOBODY  # as after a death
    m["key-0"] = 0
    assert len(distinct(m._routes())) == 8
    assert [shard.moved_to() for shard in distinct(m._routes())] == [0] * 8
    m.resize()
    assert_whole(m, 1)


def test_a_mover_has_died_between_two_stores_of_moved(m, start, monkeypatch):
    """Who takes over the lock of a shard that does not say so yet, and slept through a change, must
    not write there."""
    def publish(_: Any) -> None:
        with shmmap.ShmMap.attach(m.name) as own, monkeypatch.context() as patches:
            patches.setattr(group, "cut_group", raising_after(group.cut_group))
            with pytest.raises(Raised):
                own.resize()

    met = sleep_through_a_change(m, start, monkeypatch)
    start(publish).result(60.0)
    for shard in met:
        with header_of(m, shard) as header:
            assert header.MOVED
            header.MOVED, header.OWNER = 0, NOBODY
    m["key-0"] = 0
    assert met[0].moved_to() or met[1].moved_to()
    m.resize()
    assert_whole(m, 1)


def test_a_wish_that_has_to_wait_leaves_the_rate(m):
    m.resize(shards=16, rate=40, wait=False)
    with pytest.raises(changing.Busy):
        begin(m, shards=8)
    assert m.attachment.control.MOVE_RATE == 40
    m.resize(rate=1_000_000)
    assert_whole(m, 16)


def test_an_opener_does_not_wait_for_a_change_that_began_meanwhile(m, monkeypatch):
    """It has looked at all entries by then."""
    look = resizing.refuse_what_cannot_fit

    def look_long(*arguments: Any) -> None:
        monkeypatch.undo()
        look(*arguments)
        m.resize(shards=16, rate=40, wait=False)

    monkeypatch.setattr(resizing, "refuse_what_cannot_fit", look_long)
    with pytest.warns(shmmap.MapMismatchWarning, match="on its way to another shape"):
        shmmap.ShmMap(m.name, shards=8, on_mismatch="resize").close()
    assert read_table(m.attachment.control).is_moving
    m.resize(rate=1_000_000)
    assert_whole(m, 16)


def test_a_shard_that_a_writer_has_said_moved_leads_to_those_without_a_public_name(
    m, start, monkeypatch
):
    """A mover has died between two stores of MOVED, and another one, who has the lease, is stopped.
    Who takes a lock over says it for the dead one: others find from there what it published."""
    monkeypatch.setattr(watch, "look_after", lambda _: None)
    def publish_and_write(_: Any) -> str:
        with shmmap.ShmMap.attach(m.name) as own, monkeypatch.context() as patches:
            begin(own, shards=2)
            first, second = distinct(own._routes())[:2]
            with header_of(own, second) as header:
                patches.setattr(group, "cut_group", raising_after(group.cut_group))
                with pytest.raises(Raised):
                    own.resize()
                header.MOVED, header.OWNER = 0, NOBODY
                assert [own[key] for key in VALUES] == [*VALUES.values()]
                assert first not in own._routes() and second in own._routes()
                for key, value in VALUES.items():
                    own[key] = value
                    if second.moved_to():
                        return key
                raise AssertionError("no key is in the second shard")

    in_second = start(publish_and_write).result(60.0)
    began = time.monotonic()
    assert m[in_second] == VALUES[in_second]
    assert [m[key] for key in VALUES] == [*VALUES.values()]
    assert time.monotonic() - began < 5.0 and read_table(m.attachment.control).is_moving
    m.resize()
    assert_whole(m, 2)


def test_another_user_judges_a_replacer_by_a_shard_that_has_not_moved(m, start, monkeypatch):
    """It slept through a move, after which the map was being replaced."""

    def resize_and_replace(child: Any) -> None:
        with shmmap.ShmMap.attach(m.name) as own:
            own.resize(shards=8)
            with header_of(own, own._routes()[0]) as header:
                header.OWNER = own.attachment.worker.fork_page.word
                own.attachment.control.STATE = K["STATE_REPLACING"]
                child.tell("replacing")
                assert child.hear() == "die"
                header.OWNER = NOBODY
            child.tell("dead")

    monkeypatch.setattr(watch, "look_after", lambda _: None)  # it would judge, too
    child = start(resize_and_replace)
    assert child.hear() == "replacing"
    monkeypatch.setattr(half_replaced, "_PATIENCE_S", 0.5)
    monkeypatch.setattr(half_replaced, "os", SimpleNamespace(geteuid=lambda: -1))
    m.attachment.owner_uid = os.geteuid()
    with pytest.raises(LockTimeout, match=f"by process {child.pid} "):
        half_replaced.is_ready(m.attachment)
    child.tell("die")
    assert child.hear() == "dead"
    assert half_replaced.is_ready(m.attachment)
    assert_whole(m, 8)


def test_the_files_of_a_map_are_listed_before_a_mover_makes_one_more(name, monkeypatch):
    """Its semaphore is not left."""
    m = shmmap.ShmMap(name, size="2MB", shards=4, on_unlinked="raise")
    make = segment.create_semaphore
    unlinked: list[bool] = []

    def make_late(label: str, mode: int) -> None:
        if not unlinked:
            unlinked.append(shmmap.unlink(name))
        make(label, mode)

    monkeypatch.setattr(segment, "create_semaphore", make_late)
    with pytest.raises(MapUnlinked):
        m.resize(shards=16)
    m.close()
    assert unlinked == [True]
    assert [entry for entry in os.listdir("/dev/shm") if name in entry] == []


def test_a_map_that_is_there_is_not_locked_as_one_that_is_being_made(m):
    """Else what a dead replacer leaves of it is taken for that, as long as its maker lives."""
    with open(f"/dev/shm{segment.control_name(m.name)}", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
