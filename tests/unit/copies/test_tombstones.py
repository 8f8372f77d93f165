"""Tombstones: a delete that is remembered, and maps that merge each other come to one content."""

from __future__ import annotations

import os
import random
import signal
from typing import Any

import pytest

import shmmap
from shmmap.copies import dumps
from shmmap.copies.merging import MergeReport
from shmmap.copies.replacing import Copying
from shmmap.memory.layout import constants
from shmmap.memory.stamps import AHEAD_NS
from shmmap.operations._restore_cy import merge_raw, write_raw
from shmmap.shard._status import WRITTEN

from ...support.damage import Damage
from ...support.dump_files import STR

K = constants()
KEPT = 3600


@pytest.fixture
def pair(make, other):
    """Two maps with tombstones, of different shapes."""
    return make(tombstones=KEPT), other(tombstones=KEPT, shards=1, value_size=8)


def whole(*maps: Any) -> None:
    for m in maps:
        assert m.check() == []


# -- a delete leaves one -----------------------------------------------------------------------


def _pop_all(m: Any) -> None:
    while m:
        m.popitem()


DELETES = {
    "delete": lambda m: m.delete("k"),
    "del": lambda m: m.__delitem__("k"),
    "pop": lambda m: m.pop("k"),
    "delete_many": lambda m: m.delete_many(["k"]),
    "popitem": _pop_all,
    "cas": lambda m: m.cas("k", "", m.get_versioned("k")[1], ttl=0),
    "set": lambda m: m.set("k", "", ttl=0),
    "replace": lambda m: m.replace("k", "", ttl=0),
    "touch": lambda m: m.touch("k", 0),
    "get_and_touch": lambda m: m.get_and_touch("k", 0),
    "getdel": lambda m: m.getdel("k"),
    "clear": lambda m: m.clear(),
    "apply": lambda m: m.apply("k", lambda value: shmmap.DELETE),
}


@pytest.mark.parametrize("way", DELETES)
@pytest.mark.parametrize("value", ["v", 7, "long" * 300])
@pytest.mark.parametrize("on_full", ["raise", "evict"])
def test_what_is_deleted_is_not_brought_back(pair, make, tmp_path, way, value, on_full):
    m, n = pair
    m["k"] = value
    n.merge(m)
    m.dump(tmp_path / "d")
    DELETES[way](m)
    assert "k" not in m and m.get("k") is None and len(m) == 0 and not m
    assert list(m) == [] and len(m.snapshot()) == 0 and m.stats().entries == 0
    assert m.stats().tombstones == 1
    assert m.merge(n)[:2] == (0, 1)
    assert m.merge(tmp_path / "d")[:2] == (0, 1)
    assert dict(m) == {}
    assert n.merge(m).deleted == 1 and n.merge(m).deleted == 0
    assert dict(n) == {} and n.stats().tombstones == 1
    whole(m, n)
    m["k"] = "again"
    assert m.stats().tombstones == 0 and dict(m) == {"k": "again"}
    assert n.merge(m).written == 1 and dict(n) == {"k": "again"} and n.stats().tombstones == 0
    whole(m, n)


def test_a_delete_of_what_is_not_there_leaves_none(make):
    m = make(tombstones=KEPT)
    assert not m.delete("k") and m.pop("k", 1) == 1 and not m.touch("k", 0)
    m.set("k", 1, ttl=0)
    assert m.stats().tombstones == 0 == m.stats().slots - m.stats().free_slots


def test_a_second_delete_changes_nothing(make):
    m = make(tombstones=KEPT)
    m["k"] = 1
    assert m.delete("k") and not m.delete("k")
    m.set("k", 1, ttl=0)
    assert m.stats().tombstones == 1 and m.stats().deletes == 1


def test_without_the_option_nothing_is_left(make):
    m = make()
    m["k"] = 1
    del m["k"]
    assert m.stats().tombstones == 0 == m.stats().slots - m.stats().free_slots
    assert m._live.control.WALL_NS == 0 == m._live.control.TOMBSTONES_NS


def test_expired_and_evicted_and_aged_entries_leave_none(make, freeze):
    m = make(tombstones=KEPT, max_age=60)
    clock = freeze(m)
    m.set("k", 1, ttl=5)
    m["old"] = 1
    clock.advance(6)
    assert not m.delete("k")  # it has expired
    clock.advance(60)
    m.sweep()
    assert m.stats().tombstones == 0 and m.stats().aged == 1
    m["k"] = 1
    del m["k"]
    clock.advance(100)
    m.sweep()
    assert m.stats().tombstones == 1  # of no age
    whole(m)


# -- how long it stays -------------------------------------------------------------------------


def test_it_goes_when_its_time_is_over(make, freeze):
    m = make(tombstones=100)
    clock = freeze(m)
    for i in range(600):
        m[i] = i
    m.delete_many(range(300))
    clock.advance(50)
    m.delete_many(range(300, 600))
    assert m.stats().tombstones == 600
    clock.advance(51)
    m.sweep()
    assert m.stats().tombstones == 300
    clock.advance(50)
    m.sweep()
    assert m.stats().tombstones == 0 == m.stats().tombstones_lost
    assert m.stats().expired == 0 and m.stats().free_slots == m.stats().slots
    whole(m)


def test_a_merged_one_stays_as_long_as_the_first(make, other, freeze, tmp_path):
    m, n = make(tombstones=100), other(tombstones=1000)
    clock = freeze(m)
    other_clock = freeze(n)
    m["k"] = 1
    del m["k"]
    for one, seconds in ((clock, 90), (other_clock, 90)):
        one.advance(seconds)
    n.merge(m)
    assert n.stats().tombstones == 1
    for one in (clock, other_clock):
        one.advance(11)
    assert n.merge(m).expired == 1
    n.sweep()
    assert n.stats().tombstones == 0


@pytest.mark.parametrize("on_full", ["raise", "evict"])
def test_a_map_full_of_tombstones_takes_writes(make, on_full):
    m = make(size="300KB", shards=1, tombstones=KEPT, on_full=on_full)
    number = 0
    for _ in range(3):
        keys = range(number, number + m.stats().slots - 1)
        for key in keys:
            m[key] = key
        number += len(keys)
        m.delete_many(keys)
        stats = m.stats()
        assert stats.tombstones > 0 and len(m) == 0
        whole(m)
    assert m.stats().tombstones_lost > 0
    assert (m.stats().evicted > 0) == (on_full == "evict")  # tombstones are in turn, as all others
    m["long"] = "x" * (m._live.geometry.max_entry_bytes // 2)  # takes many of them
    assert m["long"]
    whole(m)


def test_a_write_that_must_not_evict_takes_tombstones_first(make):
    m = make(size="300KB", shards=1, tombstones=KEPT, on_full="evict")
    most = m.stats().slots - 1
    for key in range(most):
        m.set(key, key)
    for key in range(10):
        del m[key]
    for key in range(10):
        m.set(("new", key), 1, evict=False)
    with pytest.raises(shmmap.MapFull):
        for key in range(10):
            m.set(("more", key), 1, evict=False)
    assert m.stats().evicted == 0
    whole(m)


def test_a_delete_in_a_full_map_never_fails(make):
    m = make(size="300KB", shards=1, tombstones=KEPT)
    key = b"k" * 500  # a tombstone of it takes several slots
    m[key] = "v"
    with pytest.raises(shmmap.MapFull):
        for i in range(10**6):
            m[i] = i
    assert m.delete(key) and key not in m
    stats = m.stats()
    assert (stats.tombstones, stats.tombstones_lost) in ((1, 0), (0, 1))
    whole(m)


# -- which write is the last -------------------------------------------------------------------


def test_a_merged_entry_keeps_the_time_of_its_writing(make, other, tmp_path):
    """What a map has merged does not win over what was written meanwhile where it came from."""
    m, n = make(tombstones=KEPT), other(tombstones=KEPT)
    n["k"] = "first"
    n.dump(tmp_path / "early")
    n["k"] = "second"
    m.merge(tmp_path / "early")  # later than the second was written
    assert n.merge(m)[:2] == (0, 1) and n["k"] == "second"
    assert m.merge(n).written == 1 and m["k"] == "second"


def test_without_tombstones_it_counts_as_written_at_the_merge(make, other, tmp_path):
    """A limit of merges without tombstones, which are for one direction: see `merging`."""
    m, n = make(), other()
    n["k"] = "first"
    n.dump(tmp_path / "early")
    n["k"] = "second"
    m.merge(tmp_path / "early")
    assert n.merge(m).written == 1 and n["k"] == "first"


@pytest.mark.parametrize("change", [
    lambda m: m.incr("k"), lambda m: m.touch("k", 60), lambda m: m.set("k", 9),
    lambda m: m.touch("k", None),
])
def test_what_is_changed_in_place_is_written_anew(pair, change):
    m, n = pair
    m.set("k", 1, ttl=90)
    n.merge(m)
    change(n)
    assert m.merge(n).written == 1 and m["k"] == n["k"]
    assert n.merge(m).written == 0 == m.merge(n).written
    whole(m, n)


def test_a_write_after_a_merge_is_later_than_what_came(pair, freeze):
    m, n = pair
    freeze(m)
    clock = freeze(n)
    n["k"] = "before"
    clock.advance(3600)  # its clock is an hour ahead
    n["k"] = "ahead"
    m.merge(n)
    m["k"] = "after"
    assert n.merge(m).written == 1 and n["k"] == "after"


def test_a_clock_far_ahead_is_refused(pair, freeze):
    m, n = pair
    freeze(m)
    clock = freeze(n)
    clock.advance(AHEAD_NS / 1e9 + 100)
    n["k"] = 1
    with pytest.raises(shmmap.ConfigMismatch, match="24 hours ahead"):
        m.merge(n)
    assert dict(m) == {}


@pytest.mark.parametrize(("first", "second"), [
    ("a", "b"), ("a", "ab"), (1, "a"), (b"x", "x"), (3, 4), ("x" * 900, "y" * 900),
    (None, ""), ({"a": 1}, {"a": 2}),
])
def test_a_tie_ends_alike_in_both(pair, freeze, first, second):
    m, n = pair
    n._live.wall_ns = m._live.wall_ns
    n = type(n).attach(n.name)  # a handle that goes by that
    for one in (m, n):
        freeze(one)
    m["k"], n["k"] = first, second
    assert m.get_versioned("k")[1] == n.get_versioned("k")[1]
    m.merge(n)
    n.merge(m)
    assert m["k"] == n["k"] and type(m["k"]) is type(n["k"])
    assert m.merge(n).written == n.merge(m).written == 0
    whole(m, n)
    n.close()


def test_of_a_write_and_a_delete_at_once_the_delete_wins(make):
    for first in ("entry", "tombstone"):
        m = make(tombstones=KEPT)
        deadline_ns = m._live.clock.now_ns() + 10**12
        merges = {"entry": (1, b"v", 0), "tombstone": (K["VALUE_TOMBSTONE"], b"", deadline_ns)}
        for which in (first, *({"entry", "tombstone"} - {first})):
            merge_raw(m, STR, first.encode(), *merges[which], 10**18)
        assert len(m) == 0
    assert m.stats().tombstones == 2


def test_what_only_vanished_may_come_back_to_the_map_that_replaces_another(make):
    """What has expired or was evicted as a map is being replaced was not deleted."""
    m = make(tombstones=KEPT)
    copying = Copying(m)
    copying.bring([(STR, b"k", 1, b"v", 0, 2, 10**18)])
    copying.bring([])
    assert len(m) == 0 == copying.counts[0]
    m.sweep()
    assert m.stats().tombstones == 0
    assert merge_raw(m, STR, b"k", 1, b"v", 0, 10**18) == WRITTEN


# -- other kinds of maps -----------------------------------------------------------------------


def test_into_a_map_without_tombstones_they_only_delete(make, other, tmp_path):
    m, n = make(tombstones=KEPT), other()
    m["k"], m["stays"] = 1, 2
    n.merge(m)
    del m["k"]
    m.dump(tmp_path / "d")
    n["other"] = 3
    assert n.merge(tmp_path / "d").deleted == 1
    assert dict(n) == {"stays": 2, "other": 3} and n.stats().tombstones == 0
    n["k"] = "later"
    assert n.merge(m).deleted == 0 == n.merge(tmp_path / "d").deleted and n["k"] == "later"
    whole(m, n)


def test_from_a_map_without_tombstones(make, other, tmp_path):
    m, n = make(tombstones=KEPT), other()
    n["k"] = 1
    n.dump(tmp_path / "d")
    assert m.merge(n).written == 1 == len(m)
    del m["k"]
    assert m.merge(n).written == 0 == m.merge(tmp_path / "d").written
    n["k"] = 2
    assert m.merge(n).written == 1 and m["k"] == 2
    whole(m)


def test_a_dump_carries_them(make, tmp_path):
    m = make(tombstones=KEPT)
    m["gone"], m["here"] = 1, 2
    m.dump(tmp_path / "early")
    del m["gone"]
    report = m.dump(tmp_path / "d")
    assert (report.entries, report.tombstones) == (1, 1)
    with shmmap.ShmMap.load(tmp_path / "d", m.name + "-loaded") as loaded:
        try:
            assert loaded._live.tombstones_ns == KEPT * 10**9
            assert dict(loaded) == {"here": 2} and loaded.stats().tombstones == 1
            assert loaded.merge(tmp_path / "early").written == 0
            whole(loaded)
        finally:
            loaded.unlink()


def test_dumps_of_maps_without_them_are_as_before(make, tmp_path):
    m = make()
    m["k"] = 1
    m.dump(tmp_path / "d")
    data = (tmp_path / "d").read_bytes()
    assert data[8] == 2 and b"tombstones" not in data and b"stamps" not in data
    with dumps.DumpReader(tmp_path / "d") as dump:
        assert dump.head.stamps_from_ns is None


@pytest.mark.parametrize("moving", ["resize", "replace"])
def test_a_map_of_another_shape_has_them(make, other, moving):
    m, n = make(tombstones=KEPT), other(tombstones=KEPT)
    for i in range(100):
        m[i] = str(i) * 40
    n.merge(m)
    m.delete_many(range(50))
    m[60] = "later"
    if moving == "resize":
        m.resize(shards=4, value_size=30)
    else:
        m = make(size="2MB", tombstones=KEPT, on_mismatch="replace")
    assert m.stats().tombstones == 50 and len(m) == 50
    whole(m)
    assert m.merge(n).written == 0 and len(m) == 50
    assert n.merge(m)[0] == 1 and n.merge(m).deleted == 0 and dict(n) == dict(m)
    n[70] = "latest"
    assert m.merge(n).written == 1


def test_replaced_by_a_map_without_them(make):
    m = make(tombstones=KEPT)
    m["a"], m["b"] = 1, 2
    del m["a"]
    with pytest.warns(shmmap.MapMismatchWarning, match="tombstones"):
        assert make(tombstones=60)["b"] == 2
    assert m._live.tombstones_ns == KEPT * 10**9


def test_a_forked_child_and_an_attached_handle_leave_them(make, start):
    m = make(tombstones=KEPT)
    m["a"] = m["b"] = 1
    start(lambda child: m.delete("a")).result()
    with shmmap.ShmMap.attach(m.name) as again:
        del again["b"]
    assert m.stats().tombstones == 2


def test_a_map_like_it_has_the_option_too(make, other):
    m = make(tombstones=KEPT)
    assert m.parameters["tombstones"] == KEPT and "tombstones" in m._repr_html_()
    n = other(**{**m.parameters, "capacity": None})
    n["k"] = 1
    del n["k"]
    assert n.stats().tombstones == 1


def test_it_must_be_some_time(make):
    for wrong in (0, -1, float("inf"), float("nan"), 4e9):
        with pytest.raises(ValueError, match="tombstones"):
            make(tombstones=wrong)
    with pytest.raises(TypeError, match="tombstones"):
        make(tombstones="hour")


# -- damage, and bytes from elsewhere ----------------------------------------------------------


def test_a_file_cannot_write_a_tombstone_where_no_map_would(make):
    m = make(tombstones=KEPT)
    with pytest.raises(shmmap.DumpCorrupted):
        write_raw(m, STR, b"k", K["VALUE_TOMBSTONE"], b"", 0, 10)
    for value, deadline, stamp in ((b"x", 5, 5), (b"", 0, 5), (b"", 5, -1), (b"", 5, 1 << 62)):
        with pytest.raises(shmmap.DumpCorrupted):
            merge_raw(m, STR, b"k", K["VALUE_TOMBSTONE"], value, deadline, stamp)
    with pytest.raises(shmmap.DumpCorrupted):
        merge_raw(m, STR, b"k", K["HAS_ORIGIN"] | 1, b"", 0, 5)


def test_a_repair_keeps_them(make):
    m = make(tombstones=KEPT, shards=1)
    for i in range(20):
        m[i] = i
    m.delete_many(range(10))
    m.repair()
    assert m.stats().tombstones == 10 and len(m) == 10
    whole(m)


@pytest.mark.parametrize("code", [0, 9])
def test_one_with_another_deadline_is_damage_and_mended(make, code):
    m = make(tombstones=KEPT, shards=1)
    m["k"] = 1
    del m["k"]
    damage = Damage(m)
    (slot,) = damage.live()
    damage.halves[damage.deadline_half(slot)] = code
    assert any(": B1: " in problem for problem in m.check())
    if code == 0:
        with pytest.raises(shmmap.MapCorrupted):
            m["k"]
    m.repair()
    assert "k" not in m and m.stats().tombstones == 1
    whole(m)


# -- any order of merges -----------------------------------------------------------------------


def _change(rng: random.Random, m: Any, model: dict[Any, Any], turn: int) -> None:
    """Do something, and note its version for the model: (stamp, value or None)."""
    key = rng.randrange(6)
    kind = rng.choice(("set", "set", "delete", "incr", "pop", "clear" if turn % 17 == 0 else "set"))
    if kind == "set":
        m[key] = rng.choice((turn, f"value {turn}", "long" * rng.randrange(100)))
    elif kind == "delete":
        m.delete(key)
    elif kind == "incr":
        if type(m.get(key)) in (int, type(None)):
            m.incr(key)
    elif kind == "pop":
        m.pop(key, None)
    else:
        m.clear()
    for entry in m.snapshot().stamped_entries():
        place = entry[:2]
        content = (entry[6], entry[2] == K["VALUE_TOMBSTONE"], entry[2], len(entry[3]), entry[3])
        model[place] = max(model.get(place, content), content)


@pytest.mark.parametrize("seed", range(12))
def test_maps_that_merge_each_other_come_to_one_content(make, other, name, tmp_path, seed):
    """The model is the last write of each key, wherever it was: what any order of merges gives."""
    rng = random.Random(seed)
    third = shmmap.ShmMap(f"{name}-third", size="1MB", shards=4, tombstones=KEPT)
    try:
        maps = [make(tombstones=KEPT), other(tombstones=KEPT, shards=1, value_size=8), third]
        maps = maps[: rng.choice((2, 3))]
        model: dict[Any, Any] = {}
        early = []
        for turn in range(60):
            _change(rng, rng.choice(maps), model, turn)
            if rng.random() < 0.2:
                path = tmp_path / str(turn)
                rng.choice(maps).dump(path)
                early.append(path)
            if rng.random() < 0.3:
                target = rng.choice(maps)
                target.merge(rng.choice([*maps, *early]))
        pairs = [(m, n) for m in maps for n in maps if m is not n]
        for _ in range(2):
            rng.shuffle(pairs)
            for m, n in pairs:
                if rng.random() < 0.5:
                    n.dump(tmp_path / "now")
                    m.merge(tmp_path / "now")
                else:
                    m.merge(n)
        for m in maps:  # of three, the first may have got what the last had only in a second round
            for n in maps:
                m.merge(n)
        wanted = {place[1]: (one[2], one[4]) for place, one in model.items() if not one[1]}
        for m in maps:
            found = {raw[1]: (raw[2], raw[3]) for raw in m.snapshot().raw_entries()}
            assert found == wanted, f"seed {seed}"
            assert not any(m.merge(n)[0] or m.merge(n).deleted for n in maps)
            whole(m)
    finally:
        third.unlink()
        third.close()


# -- the process that is killed ----------------------------------------------------------------


def test_killed_while_deleting(make, start):
    """Each key has its entry or its tombstone, whenever the process ends."""
    m = make(size="4MB", tombstones=KEPT)

    def delete_all(child: Any) -> None:
        for i in range(4000):
            del m[i]
            if i == 50:
                child.tell("go")
        os.kill(os.getpid(), signal.SIGKILL)

    for turn in range(4):
        for i in range(4000):
            m[i] = f"value {i}" * (1 + turn)
        before = m.stats().tombstones
        assert before == 0
        child = start(delete_all)
        assert child.hear() == "go"
        child.kill()
        stats = m.stats()
        assert stats.entries + stats.tombstones == 4000 and stats.tombstones_lost == 0
        whole(m)


def test_a_report_says_what_was_deleted():
    assert MergeReport(1, 2, 3, 0.5) == (1, 2, 3, 0.5, 0)
