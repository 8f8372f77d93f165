"""Merging: of two writes the later one stays, and what cannot be merged is refused."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.copies import dumps, merging
from shmmap.memory.geometry import SHARD_LIMIT
from shmmap.operations._listing_cy import list_entries
from shmmap.operations._restore_cy import write_raw

from ...support.dump_files import BYTES, STR, load, rewritten

# -- the last write wins ----------------------------------------------------------------------


def test_newer_and_older_entries(make, other, tmp_path):
    m, n = make(), other()
    n["older here"], m["newer here"] = "here", "dumped"
    m["older here"], n["newer here"] = "dumped", "here"
    m["only there"] = "dumped"
    n["only here"] = "here"
    m.dump(tmp_path / "d")
    assert n.merge(tmp_path / "d")[:3] == (2, 1, 0)
    whole = {"older here": "dumped", "newer here": "here", "only there": "dumped",
             "only here": "here"}
    assert dict(n) == whole
    assert n.merge(tmp_path / "d")[:3] == (0, 3, 0)  # may be run again
    assert dict(n) == whole


def test_merging_live_maps(make, other):
    m, n = make(), other(value_size=8, shards=1)
    for i in range(100):
        (m if i % 2 else n)[i] = "first"
    for i in range(0, 100, 3):
        (n if i % 2 else m)[i] = "second" * 20
    whole = {i: "first" if i % 3 else "second" * 20 for i in range(100)}
    assert n.merge(m)[:3] == (33 + 17, 17, 0)
    assert dict(n) == whole
    m.merge(n)
    assert dict(m) == whole and m.check() == n.check() == []


def test_a_map_into_itself_is_nothing_to_do(make):
    m = make()
    m["a"] = 1
    again = make()
    version = m.get_versioned("a")[1]
    assert m.merge(m) == m.merge(again) == merging.MergeReport(0, 0, 0, 0.0)
    assert m.get_versioned("a") == (1, version)


def test_a_written_entry_has_a_version_of_its_own(make, other):
    m, n = make(), other()
    m["a"] = 1
    n.merge(m)
    assert n.get_versioned("a")[1] > m.get_versioned("a")[1]


def test_a_delete_does_not_win(make, tmp_path):
    m = make()
    m["a"] = 1
    m.dump(tmp_path / "d")
    del m["a"]
    assert m.merge(tmp_path / "d").written == 1 and m["a"] == 1


def test_an_expired_entry_is_no_entry(make, other, tmp_path, boots):
    m = make()
    boots.become(m, "one", 1000, 50_000)
    m["a"] = "dumped"
    m.dump(tmp_path / "d")
    n = other()
    boots.become(n, "one", 2000, 51_000)
    n.set("a", "here", ttl=5)
    boots.become(n, "one", 2010, 51_010)
    assert n.merge(tmp_path / "d").written == 1
    assert n["a"] == "dumped" and n.ttl("a") is None


@pytest.mark.parametrize("form", [str, os.fsencode, Path])
def test_paths_of_any_type(make, other, tmp_path, form):
    m = make()
    m["a"] = 1
    path = form(str(tmp_path / "d"))
    m.dump(path)
    theirs = other()
    assert theirs.merge(path).written == 1 and theirs["a"] == 1
    with shmmap.ShmMap.load(path, theirs.name) as loaded:
        assert loaded["a"] == 1


def test_merge_takes_nothing_else(make):
    with pytest.raises(TypeError, match="a ShmMap, or the path of a dump, not dict"):
        make().merge({"a": 1})


def test_merged_while_others_write(make, other, start):
    """No write that comes meanwhile is lost: the last one wins."""
    m, n = make(), other()
    m.set_many((i, "old") for i in range(1000))

    def write(child: Any) -> None:
        child.tell("go")
        for i in range(1000):
            n[i] = "new"

    child = start(write)
    assert child.hear() == "go"
    for _ in range(3):
        n.merge(m)
    child.result()
    child.reap()
    n.merge(m)
    assert dict(n) == dict.fromkeys(range(1000), "new")


def test_killed_while_merging(make, other, start):
    """Each key has its old value or its new one, nothing is damaged, and running it again ends
    what was begun."""
    m, n = make(size="4MB", value_size=64), other(size="4MB", value_size=40)
    for i in range(0, 2000, 2):
        n[i] = "old" * 50
    m.set_many((i, f"new {i}") for i in range(2000))
    n["newer"] = m["newer"] = "dumped"
    n["newer"] = "here"
    for turn in range(8):
        child = start(lambda child: [child.tell("go"), n.merge(m)])
        assert child.hear() == "go"
        time.sleep(0.003 * turn)
        child.kill()
        assert n.check() == []
        for i in range(2000):
            assert n.get(i) in ((None if i % 2 else "old" * 50), f"new {i}")
    report = n.merge(m)
    assert report.written + report.older == 2001
    assert dict(n) == {**dict(m), "newer": "here"}


def test_raw_writes_take_bytes_only(make):
    m = make()
    for key, value in (("a", b""), (b"a", "x"), (bytearray(b"a"), b""), (b"a", None)):
        with pytest.raises(TypeError, match="must be bytes"):
            write_raw(m, STR, key, BYTES, value, 0, 2)
    with pytest.raises(shmmap.DumpCorrupted, match=r"no entry has 65,536"):
        write_raw(m, STR, b"a" * 65536, BYTES, b"", 0, 2)
    for deadline, limit in ((-1, 0), (1 << 63, 0), (0, -1), (0, 1 << 63)):
        with pytest.raises(shmmap.DumpCorrupted, match="no deadline"):
            write_raw(m, STR, b"a", BYTES, b"", deadline, limit)
    assert len(m) == 0
    m.close()
    with pytest.raises(shmmap.MapClosed):
        write_raw(m, STR, b"a", BYTES, b"", 0, 2)


# -- what cannot be merged --------------------------------------------------------------------


def test_a_safe_map_takes_no_pickles(make, other, tmp_path):
    m = make(shards=1)
    m["plain"] = 1
    m["pickled"] = [1j]
    m.dump(tmp_path / "d")
    n = other(codec="safe")
    with pytest.raises(TypeError, match=r"holds 1 pickled values.*nothing was written"):
        n.merge(tmp_path / "d")
    assert len(n) == 0
    with pytest.raises(TypeError, match=r"takes no pickles.*may be run again") as caught:
        n.merge(m)
    assert caught.value.report.written == len(n) <= 1
    n.unlink()
    with pytest.raises(TypeError, match="pickled values"):
        shmmap.ShmMap.load(tmp_path / "d", other.name, codec="safe")
    with pytest.raises(shmmap.MapNotFound):  # what load made, it took away again
        shmmap.ShmMap.attach(other.name)


def test_an_entry_that_is_too_large(make, other, tmp_path):
    m = make(size="2MB", shards=1)
    m["a"], m["large"] = 1, bytes(500_000)
    m.dump(tmp_path / "d")
    n = other(size="1MB", shards=4)
    with pytest.raises(shmmap.EntryTooLarge, match="500,005"):
        n.merge(tmp_path / "d")
    assert len(n) == 0  # known beforehand
    with pytest.raises(shmmap.EntryTooLarge, match="merging map"):
        n.merge(m)


def test_a_map_that_is_full_half_way(make, other, tmp_path):
    m = make(capacity=2000)
    m.set_many((i, b"dumped") for i in range(2000))
    m.dump(tmp_path / "d")
    n = other(size=None, capacity=300)
    with pytest.raises(shmmap.MapFull, match=r"entries were written and stay.*run again") as caught:
        n.merge(tmp_path / "d")
    report = caught.value.report
    assert report.written == len(n) >= 300 and report.older == 0
    assert n.check() == []
    n.clear()
    for i in range(2000):
        if i % 10:
            del m[i]
    m.dump(tmp_path / "d")
    assert n.merge(tmp_path / "d").written == len(n) == 200


def test_load_of_what_does_not_fit_leaves_no_map(make, other, tmp_path):
    m = make(capacity=2000)
    m.set_many((i, b"dumped") for i in range(2000))
    m.dump(tmp_path / "d")
    with pytest.raises(shmmap.MapFull) as caught:
        shmmap.ShmMap.load(tmp_path / "d", other.name, capacity=100)
    assert str(caught.value).startswith(
        f"loading {tmp_path / 'd'} into a new map '{other.name}': no room for all of its 2,000 "
        "entries. The new map was removed again: give a larger size="
    )
    assert "stay" not in str(caught.value) and caught.value.report.written >= 100
    with pytest.raises(shmmap.MapNotFound):
        shmmap.ShmMap.attach(other.name)
    n = other(size=None, capacity=100)
    n["mine"] = 1
    with pytest.raises(shmmap.MapFull, match=r"entries were written and stay"):
        shmmap.ShmMap.load(tmp_path / "d", other.name)
    assert n["mine"] == 1  # it was there before: it stays


def test_a_map_that_others_opened_meanwhile_is_not_removed(make, other, tmp_path, monkeypatch):
    m = make(capacity=2000)
    m.set_many((i, b"dumped") for i in range(2000))
    m.dump(tmp_path / "d")
    merge_dump, opened = merging._merge_dump, []

    def join_first(*arguments: Any, **more: Any) -> Any:
        opened.append(other(size=None))
        return merge_dump(*arguments, **more)

    monkeypatch.setattr(merging, "_merge_dump", join_first)
    with pytest.raises(shmmap.MapFull, match=r"entries were written and stay"):
        shmmap.ShmMap.load(tmp_path / "d", other.name, capacity=100)
    assert len(opened[0]) >= 100


def test_other_failures_of_a_load_say_that_the_map_is_gone(make, other, tmp_path):
    m = make(size="2MB", shards=1)
    m["large"] = bytes(500_000)
    m.dump(tmp_path / "d")
    with pytest.raises(shmmap.EntryTooLarge, match=r"500,005; shards=1.*was removed again$"):
        shmmap.ShmMap.load(tmp_path / "d", other.name, size="1MB", shards=4)
    rewritten(tmp_path / "d", [(STR, b"a", BYTES, b"", 0, 2), (STR, b"\xff", BYTES, b"", 0, 2)])
    with pytest.raises(shmmap.DumpCorrupted, match=r"new map.*not an entry.*was removed again$"):
        shmmap.ShmMap.load(tmp_path / "d", other.name)
    with pytest.raises(shmmap.MapNotFound):
        shmmap.ShmMap.attach(other.name)


def full(m: Any) -> int:
    """Fill a map until its first MapFull, or eviction; return how many entries it has."""
    for i in range(100_000):
        try:
            m[f"key:{i}"] = bytes(i * 37 % 200)
        except shmmap.MapFull:
            break
        if i % 50 == 0 and m.attachment.shards[0].evicts and m.stats().evicted:
            break
    return len(m)


@pytest.mark.parametrize("on_full", ["raise", "evict"])
def test_a_full_map_fits_into_one_of_its_parameters(make, other, tmp_path, on_full):
    """With its seed every entry falls on the shard that it had, and has room there."""
    m = make(size="2MB", shards=16, on_full=on_full)
    count = full(m)
    m.dump(tmp_path / "d")
    for _ in range(6):
        n = shmmap.ShmMap.load(tmp_path / "d", other.name)
        try:
            assert len(n) == count and n.stats().evicted == 0 and n.check() == []
            assert n.attachment.seed == m.attachment.seed
            assert dict(n) == dict(m)
        finally:
            n.unlink()
            n.close()


def test_a_shard_of_a_full_map_has_what_it_had(make, other, tmp_path):
    """Every shard is full, but for the slot in reserve."""
    m = make(size="1MB", shards=4)
    for i in range(20_000):
        try:
            m.set(i, i, ttl=None)
        except shmmap.MapFull:
            continue
    assert m.stats().free_slots == 4
    m.dump(tmp_path / "d")
    n = load(other, tmp_path / "d", ttl=None)
    for unit in range(0, SHARD_LIMIT, SHARD_LIMIT // 4):
        (_, there), (_, here) = list_entries(n, unit, False), list_entries(m, unit, False)
        assert sorted(there) == sorted(here)
    larger = shmmap.ShmMap.load(tmp_path / "d", f"{other.name}-larger", size="2MB")
    assert len(larger) == len(m)
    larger.unlink()
    larger.close()


def test_a_dump_without_a_seed_is_loaded(make, other, tmp_path):
    """Early versions wrote none."""
    m = make()
    m["a"] = 1
    m.dump(tmp_path / "d")
    with dumps.DumpReader(tmp_path / "d") as dump:
        head, entries = dump.head, list(dump.records())
    assert head.parameters.pop("hash_seed") == m.attachment.seed
    with open(tmp_path / "d", "wb") as file:
        dumps.write(file, head, entries)
    n = load(other, tmp_path / "d")
    assert dict(n) == {"a": 1} and n.attachment.seed != m.attachment.seed


def test_a_map_that_evicts_takes_all(make, other, tmp_path):
    m = make(capacity=2000)
    m.set_many((i, b"dumped") for i in range(2000))
    m.dump(tmp_path / "d")
    n = other(size=None, capacity=300, on_full="evict")
    assert n.merge(tmp_path / "d").written == 2000
    assert 300 <= len(n) < 1000 and n.check() == []


def test_what_a_system_call_failed_with_stays():
    report = merging.MergeReport(1, 2, 3, 0.1)
    said = merging._stopped(shmmap.SystemCallError(errno.ENOLCK, "no lock"), "a dump", report)
    assert isinstance(said, shmmap.SystemCallError) and said.errno == errno.ENOLCK
    assert "no lock" in str(said) and said.report is report
