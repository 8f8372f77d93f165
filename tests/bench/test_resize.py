"""A map that takes another shape: tiny runs, and that what goes wrong in them is found."""

from __future__ import annotations

import os
from itertools import product
from typing import Any

import pytest

import shmmap
from bench.__main__ import main
from bench.core.results import OURS
from bench.core.workloads import QUICK, key_of
from bench.load import moving_map
from bench.load.moving_map import (
    AFTER,
    BEFORE,
    BUCKET_NS,
    DURING,
    OTHER,
    REBUILD,
    REPLACE,
    STEPS,
    Clock,
    Use,
    filled,
    shape_of,
    tell,
    written_value,
)
from bench.load.operation_log import Log
from bench.peers.own_map import remove
from bench.scenarios.design import resize, shards_online

from .runs import measured, setup_of

TINY = QUICK._replace(
    resized=400, resize_repetitions=2, seconds=0.05, shards=(1, 4), experiment_seconds=0.05,
    experiment_repetitions=2,
)
compiled = pytest.mark.skipif(shmmap.ENGINE == "pure", reason="the same with either engine")


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Whatever the scenarios made is gone."""
    yield
    assert not [each for each in os.listdir("/dev/shm") if f"bench-{os.getpid()}-" in each]


def use_of(m: Any, way: str = OURS) -> Use:
    """Return the job of one who uses a map, where nobody changes it."""
    clock = Clock()
    clock.words[:] = (1, 1)
    return Use(m.name, m.name, 50, 2, way, 0.0, clock, [0])


# -- resize -------------------------------------------------------------------------------


@compiled
def test_every_change_is_measured_beside_its_control():
    rows = measured(resize.Resize(), setup_of(TINY))
    found = {(*tuple(row.point.values())[:3], row.peer) for row in rows}
    changes, kinds = [change.title for change in STEPS], ("reads", "writes")
    assert found == {
        *product(changes, kinds, (BEFORE, DURING, AFTER), (OURS,)),
        *product(changes, kinds, (DURING,), (OTHER,)),
    }
    for row in rows:
        assert row.problem == "" and len(row.samples["most_ns"]) == 2
        if row.point["when"] != DURING:  # which may be over before anybody came in
            assert row.median("per_s") > 0
        for p50, p99, most in zip(*(row.samples[n] for n in ("p50_ns", "p99_ns", "most_ns")),
                                  strict=True):
            assert p50 <= p99 <= most
        assert ("over_ns" in row.samples) == (row.peer == OURS and row.point["when"] == DURING)


def test_a_write_that_is_lost_is_found(monkeypatch):
    m = filled(50)
    try:
        user = use_of(m).begin(1)
        assert user.run(0).problem == ""
        user.m.set = lambda key, value: None
        assert "after b'k" in user.run(0).problem
        user.close()
    finally:
        remove(m)


def test_a_read_of_another_key_is_found():
    m = filled(50)
    try:
        user = use_of(m).begin(2)
        assert not user.writes and user.run(0).problem == ""
        m.update(dict.fromkeys(map(key_of, range(50)), written_value(b"x" * 16, 1)))
        assert "gave b'xxxx" in user.run(0).problem
        user.close()
    finally:
        remove(m)


def test_an_operation_belongs_to_the_part_in_which_it_was_under_way():
    log = Log()
    log.close()
    for begin, span in ((0, 10), (90, 20), (150, 40), (190, 30), (230, 5)):
        log.begins.append(begin)
        log.spans.append(span)
    log.own.append((2, 7))
    parts, _ = tell(log, 100, 200)
    assert {name: part.operations for name, part in parts.items()} == {
        BEFORE: 1, DURING: 3, AFTER: 1,
    }
    assert parts[DURING].spans.most == 40 and parts[DURING].own_most == 30
    assert [parts[name].ns for name in (BEFORE, DURING, AFTER)] == [100, 100, 35]


def test_a_long_write_is_seen_all_the_time_that_it_takes():
    log = Log()
    log.close()
    for begin, span in ((0, 5), (2 * BUCKET_NS, 2 * BUCKET_NS), (5 * BUCKET_NS, 3)):
        log.begins.append(begin)
        log.spans.append(span)
    course = tell(log, 0, 1)[1]
    assert course == {0: 5, 2: 2 * BUCKET_NS, 3: 2 * BUCKET_NS, 4: 2 * BUCKET_NS, 5: 3}
    assert resize.points(course) == [
        (slot * BUCKET_NS / 1e9, span) for slot, span in sorted(course.items())
    ]
    many = dict.fromkeys(range(10 * resize.POINTS), 1) | {77: 9}
    assert len(resize.points(many)) == resize.POINTS
    assert max(span for _, span in resize.points(many)) == 9


# -- resize-pause, resize-move ------------------------------------------------------------


@compiled
def test_the_pause_is_shown_for_every_way():
    rows = measured(resize.Pause(), setup_of(TINY))
    assert {row.peer for row in rows} == {OURS, OTHER, REPLACE, REBUILD}
    assert [row.problem for row in rows if row.problem] == []
    for way in (OURS, OTHER, REPLACE, REBUILD):
        seconds = [row.point["second"] for row in rows if row.peer == way]
        assert seconds == sorted(set(seconds)) and seconds[0] < 0 < seconds[-1]


def test_every_way_leaves_the_map_in_its_shape():
    for way in (OURS, REPLACE, REBUILD):
        m = filled(50)
        try:
            mover = use_of(m, way)._replace(other=f"{m.name}-other").begin(0)
            mover.run(0)
            assert len(m) == 50  # it follows to the map that has the name now
            mover.close()
            moved = STEPS[0].shards if way != REBUILD else STEPS[-1].shards
            assert m.attachment.geometry.shards == moved
        finally:
            remove(m)


@compiled
def test_the_peak_is_the_map_and_a_group():
    rows = measured(resize.Move(), setup_of(TINY._replace(resized=20_000)))
    assert [row.point["change"] for row in rows] == [change.title for change in STEPS]
    for row in rows:
        assert row.problem == "" and len(row.samples["entries_per_s"]) == 2
        larger = max(row.facts["before_bytes"], row.facts["after_bytes"])
        assert larger <= row.median("peak_bytes") <= larger + row.facts["group_bytes"]
        assert row.median("over_bytes") == row.median("peak_bytes") - larger


@compiled
def test_entries_that_a_move_loses_are_found():
    lane = resize.MoveLane(50)
    try:
        lane.change(0)
        assert lane.problem == ""
        del lane.m[key_of(7)]
        lane.change(1)
        assert "49 of 50" in lane.problem
    finally:
        lane.close()


# -- shards-online ------------------------------------------------------------------------


@compiled
def test_a_map_that_got_its_shards_online_stands_beside_one_that_was_made_so():
    rows = measured(shards_online.ShardsOnline(), setup_of(TINY, processes=(1, 2)))
    assert [row.problem for row in rows if row.problem] == []
    found = {(row.peer, row.point["shards"]) for row in rows}
    assert found == set(product(
        (f"{way}, {n}" for way in (shards_online.MADE, shards_online.MOVED)
         for n in ("1 process", "2 processes")), (1, 4),
    ))
    for row in rows:
        assert all(rate > 0 for rate in row.samples["per_s"])


@compiled
def test_a_map_that_does_not_get_its_shards_is_found(monkeypatch):
    monkeypatch.setattr(shmmap.ShmMap, "resize", lambda self, shards: None)
    rows = measured(shards_online.ShardsOnline(), setup_of(TINY))
    wrong = {(row.peer, row.point["shards"]) for row in rows if row.problem}
    assert wrong == {(f"{shards_online.MOVED}, 1 process", 4)}


# -- the command line ---------------------------------------------------------------------


def test_resize_is_a_command_of_its_own(capsys):
    assert main(["resize", "--list"]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:2] == "  "}
    assert listed == {"resize", "resize-pause", "resize-move", "shards-online"}
    assert shape_of(STEPS[2], 100) == {"shards": 16, "capacity": 200, "value_size": 100}
    assert moving_map.PARTS == (BEFORE, DURING, AFTER)
