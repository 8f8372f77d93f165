"""A map that moves to another geometry, as seen from outside at each step of it."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import stats
from shmmap.memory.table import UNITS, Table, row_of
from shmmap.memory.words import ControlWords
from shmmap.system import segment
from shmmap.tools import cli, counting, fsck, inspection

from ...support.leftovers import SHM, objects_of
from ...support.moving_maps import STEPS, TOKEN, MovingMap, header

ENTRIES = {f"key-{number}": number for number in range(700)}
SHAPES = [(4, 16), (16, 4), (8, 8), (1, 64), (64, 1)]


@pytest.fixture
def moving(make):
    """moving(4, shards=16): a map of 4 shards that begins to move to 16."""

    def begin(old: int, /, **shape: Any) -> MovingMap:
        m = make(size="2MB", shards=old)
        m.update(ENTRIES)
        return MovingMap(m, **shape)

    return begin


def counted(name: str) -> int:
    """Count a map's entries from outside; each shard can be read."""
    seen, = inspection.find_maps(name)
    assert seen.state == "ready", seen.problem
    shards = inspection.shards_of(seen)
    assert not [shard.problem for shard in shards if shard.problem]
    assert sum(1 / shard.shape.shards for shard in shards) == 1  # each part of the hash once
    assert all(shard.header is not None and not shard.header.MOVED for shard in shards)
    return sum(shard.entries for shard in shards)


def run(capsys: Any, *arguments: str) -> str:
    """Run a command; return what it printed."""
    assert cli.main(arguments) == 0
    printed: str = capsys.readouterr().out
    return printed


@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_each_entry_is_counted_once_at_each_step(moving, old, new):
    it = moving(old, shards=new)
    while it.table.cursors[-1] < UNITS:
        for what in STEPS:
            it.step(what)
            assert counted(it.name) == len(ENTRIES), (it.table, what)
    it.end()
    assert counted(it.name) == len(ENTRIES)


@pytest.mark.parametrize(("old", "new"), [(4, 16), (16, 4), (8, 8)])
@pytest.mark.parametrize("third", [4, 16])
def test_each_entry_is_counted_once_while_a_move_is_taken_back(moving, old, new, third):
    it = moving(old, shards=new)
    it.move(min(old, new) // 2)
    it.step("make")
    it.turn_back(shards=third)
    assert len(it.table.rows) == 3
    for _ in range(40):
        for what in STEPS:
            it.step(what)
            assert counted(it.name) == len(ENTRIES), (it.table, what)
        if it.table.cursors[-1] == UNITS:
            break
    assert it.table.cursors[-1] == UNITS


def test_a_joining_of_which_one_old_shard_has_moved_so_far(moving):
    """The first MOVED is the publication: the others have the same entries still."""
    it = moving(16, shards=4)
    it.step("make")
    _, old, _ = it.group()
    for row, number in (old[0], *old[2:], old[1]):
        it.mark(row, number)
        assert counted(it.name) == len(ENTRIES)


def test_what_moves_on_while_it_is_looked_at_is_looked_at_again(moving, monkeypatch):
    """The walk has the table of before; then all of it moves, and the old segments go."""
    it = moving(4, shards=16)
    it.move(1)
    seen, = inspection.find_maps(it.name)
    real, looks = counting.open_file, 0

    def open_file(label: str) -> int:
        nonlocal looks
        looks += 1
        if looks == 6:
            it.end()
        return real(label)

    monkeypatch.setattr(counting, "open_file", open_file)
    shards = inspection.shards_of(seen)
    assert sum(shard.entries for shard in shards) == len(ENTRIES)
    assert {shard.generation for shard in shards} == {1} and len(shards) == 16


def test_a_table_that_is_behind_is_noticed_where_nothing_is_gone(moving):
    """The second move has begun: a shard of the newest generation that was read has moved."""
    it = moving(4, shards=4)
    it.end()
    seen, = inspection.find_maps(it.name)
    stale = it.table
    it.store(stale._replace(rows=(1,)))
    with header(it.label(1, 0)) as words:
        words.MOVED = TOKEN + 9
    walk = counting._Walk(it.name, seen.control)
    walk.run()
    assert walk.is_behind


def test_a_shard_that_is_lost_is_told(moving):
    it = moving(4, shards=16)
    it.move(2)
    segment.unlink(it.label(1, 3))
    seen, = inspection.find_maps(it.name)
    bad = [shard for shard in inspection.shards_of(seen) if shard.problem]
    assert [(shard.generation, shard.number, shard.header) for shard in bad] == [(1, 3, None)]
    it.write(it.label(1, 3), bytes(8192))
    bad = [shard for shard in inspection.shards_of(seen) if shard.problem]
    assert [(shard.generation, shard.problem) for shard in bad] == [(1, "it is damaged")]


def test_info_and_ls_say_where_it_is_moving(moving, capsys):
    it = moving(16, shards=64)
    it.move(6)
    shown = run(capsys, "info", it.name)
    assert re.search(r"^  moving +16 -> 64 shards, 38 %$", shown, re.M), shown
    assert re.search(rf"^  entries +{len(ENTRIES)}$", shown, re.M)
    assert re.search(r"least \d+ \(shard [01]\.\d+\)", shown)
    assert f"{it.name}: moving 16 -> 64 shards, 38 %" in run(capsys, "ls")
    it.turn_back(shards=16)
    assert "16 and 64 -> 16 shards, 0 %" in run(capsys, "info", it.name)
    it.end()
    shown = run(capsys, "info", it.name)
    assert "moving" not in shown and re.search(r"least \d+ \(shard \d+\)", shown)


@pytest.mark.parametrize(("shape", "said"), [
    ({"size": 4_000_000}, r"4 shards of [\d,]+ -> [\d,]+ slots, 0 %"),
    ({"value_size": 300}, r"4 shards of [\d,]+ -> [\d,]+ slots, 0 %"),
    ({}, r"4 shards of [\d,]+ slots of ([\d,]+) -> \1 bytes, 0 %"),
])
def test_a_move_to_other_shards_of_the_same_number(moving, shape, said):
    assert re.fullmatch(said, counting.move_in_words(moving(4, **shape).control))


def test_a_map_at_rest_moves_nowhere(make):
    assert counting.move_in_words(make().attachment.control) == ""


def test_the_slots_are_those_of_both_generations(moving, capsys):
    it = moving(4, shards=16)
    it.move(1)
    old, new = it.shapes[0].slots, it.shapes[1].slots
    assert f" of {3 * old + 4 * new:,} (" in run(capsys, "info", it.name)


@pytest.mark.parametrize("what", STEPS)
def test_fsck_misses_nothing_at_any_step(moving, what):
    it = moving(4, shards=16)
    it.move(1)
    for step in STEPS[: STEPS.index(what) + 1]:
        it.step(step)
    seen, = inspection.find_maps(it.name)
    assert list(fsck.object_problems(seen)) == []
    shard = inspection.shards_of(seen)[0]
    os.chmod(segment.SHM_DIRECTORY + shard.label, 0o666)
    segment.unlink(shard.semaphore)
    problems = list(fsck.object_problems(seen))
    assert len(problems) == 2 and "mode 666" in problems[0] and "is missing" in problems[1]


def listed_bytes(name: str) -> int:
    """Count what /dev/shm has of a map."""
    return sum(os.stat(SHM / entry).st_blocks * 512 for entry in objects_of(name))


def test_what_is_allocated_counts_what_movers_have(moving):
    it = moving(4, shards=16)
    for what in STEPS:
        before = stats.allocated(it.name, it.control)
        it.step(what)
        found = stats.allocated(it.name, it.control)
        seen, = inspection.find_maps(it.name)
        assert found == listed_bytes(it.name) == seen.allocated, what
        assert (found > before) == (what == "make")
        assert found >= before or what in ("punch", "unlink")
    it.end()
    assert stats.allocated(it.name, it.control) == listed_bytes(it.name)


def test_a_map_that_moves_is_listed_with_all_its_files(moving):
    it = moving(4, shards=16)
    it.move(1)
    it.step("make")
    private = it.label(1, it.group()[2][0], private=True)
    seen, = inspection.find_maps(it.name)
    assert private[1:] in seen.objects and set(seen.objects) == set(objects_of(it.name))


def test_a_damaged_table_that_is_sound_all_the_same_ends_each_walk(make, name):
    """A cursor in the middle of a shard: no mover stores it, and no check can know."""
    m = make(size="1MB", shards=8)
    m.update(ENTRIES)
    seen, = inspection.find_maps(name)
    for cursors in ((1,), (4095,), (513,), (511, 1), (3, 4000)):
        control = ControlWords(bytearray(seen.control.words.tobytes()))
        for row in range(1, len(cursors) + 1):
            m.attachment.parameters.store_shape(
                row_of(control, row), m.attachment.geometry._replace(shards=8 >> row), row)
        control.TABLE = Table(tuple(range(len(cursors) + 1)), (UNITS, *cursors), 9).word()
        found = inspection.shards_of(seen._replace(control=control))
        assert {shard.generation for shard in found} >= {0} and len(found) <= 24


def test_maps_counts_the_entries_of_a_map_that_moves(moving):
    it = moving(4, shards=16)
    it.move(2)
    it.step("make")
    it.step("publish")
    found, = (one for one in shmmap.maps() if one.name == it.name)
    assert found.entries == len(ENTRIES)
