"""Snapshots, prefixes and scan in one process: contents, independence, damage, refusals."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import pytest

import shmmap
from shmmap.copies import snapshots
from shmmap.memory.layout import constants

from ...support.damage import Damage

K = constants()


def fill(m):
    """Write entries of every kind; return what they are."""
    entries = {f"user:{i}": i for i in range(300)}
    entries |= {f"page:{i}": "x" * (40 * i) for i in range(30)}
    entries |= {b"user:raw": b"\0\1", 7: 2.5, None: None, (1, "a"): [1, {2}], "é€𐍈": "ü",
                -1.5: True}
    m.update(entries)
    return entries


@pytest.mark.parametrize("shards", [1, 8])
@pytest.mark.parametrize("on_full", ["raise", "evict"])
def test_it_is_what_the_map_was(make, shards, on_full):
    m = make(size="2MB", shards=shards, on_full=on_full)
    assert dict(m.snapshot()) == {}
    entries = fill(m)
    s = m.snapshot()
    assert len(s) == len(entries) and s == entries and dict(s) == entries == dict(m)
    assert sorted(map(repr, s)) == sorted(map(repr, entries))
    assert s["user:7"] == 7 and s.get("nope", 5) == 5 and "user:7" in s and "nope" not in s
    with pytest.raises(KeyError):
        s["nope"]
    with pytest.raises(TypeError):
        s["user:7"] = 1  # type: ignore[index]
    assert ("user:7", 7) in s.items() and 7 in s.values() and "user:7" in s.keys()  # noqa: SIM118
    assert s.name == m.name and 0 <= s.held_seconds < 5 and s.taken_ns > 0
    assert f"{len(entries)} entries" in repr(s)
    assert m.check() == []


def test_it_outlives_changes_and_the_map(name):
    m = shmmap.ShmMap(name, "2MB", shards=4, sweep_interval=None)
    entries = fill(m)
    s = m.snapshot()
    for key in entries:
        m[key] = "changed"
    assert s == entries
    later = m.snapshot()
    m.clear()
    m.unlink()
    m.close()
    gc.collect()
    assert s == entries and set(later.values()) == {"changed"} and later.taken_ns > s.taken_ns
    pid = os.fork()
    if not pid:
        os._exit(0 if s == entries else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_what_expired_is_not_in_it_and_nothing_expires_in_it(make, freeze):
    m = make(shards=2)
    clock = freeze(m)
    m["stays"] = 1
    m.set("gone", 1, ttl=1)
    m.set("lives", 1, ttl=10)
    clock.advance(2)
    s = m.snapshot()
    clock.advance(20)
    assert set(s) == {"stays", "lives"} and len(s) == 2 and "gone" not in s
    assert s.taken_ns == 10**15 + 2 * 10**9
    assert len(m) == 1
    deadlines = {raw[1]: raw[4] for raw in s.raw_entries()}
    assert deadlines == {b"stays": 0, b"lives": 10**15 + 10 * 10**9}


def test_raw_entries_are_as_stored(make):
    m = make(shards=2)
    m["text"], m[b"octets"], m["long"] = "value", b"v", "y" * 3000
    raw = {entry[1]: entry for entry in m.snapshot().raw_entries()}
    assert set(raw) == {b"text", b"octets", b"long"}
    assert raw[b"text"] == (K["KEY_STR"], b"text", K["VALUE_STR"], b"value", 0,
                            m.get_versioned("text")[1])
    assert raw[b"octets"][::2] == (K["KEY_BYTES"], K["VALUE_BYTES"], 0)
    assert raw[b"long"][3] == b"y" * 3000


def test_safe_maps_give_safe_snapshots(make):
    m = make(codec="safe")
    m["a"] = 1
    plain = m.snapshot()
    assert plain["a"] == 1 and plain._view.attachment.safe is True


def test_only_used_slots_cost_memory(make):
    m = make(size="60MB", shards=1)
    m["a"] = 1

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    kept = [m.snapshot()]
    before = resident()
    kept += [m.snapshot() for _ in range(20)]
    assert resident() - before < 20 * 2**20 and len(kept[-1]) == 1


def test_one_at_a_time(make):
    m = make(lock_timeout=0.2)
    attached = m.attachment
    done = threading.Event()
    inside = threading.Event()

    def hold() -> None:
        with attached.snapshots:
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(10)
    with pytest.raises(shmmap.LockTimeout, match="another thread"):
        m.snapshot()
    done.set()
    thread.join()
    assert len(m.snapshot()) == 0


def test_a_snapshot_within_a_snapshot_is_refused(make, monkeypatch):
    m = make()
    original = snapshots._catch_up

    def nested(handle, copies):
        with pytest.raises(shmmap.Reentered, match="snapshot"):
            m.snapshot()
        return original(handle, copies)

    monkeypatch.setattr(snapshots, "_catch_up", nested)
    m["a"] = 1
    assert m.snapshot()["a"] == 1
    monkeypatch.undo()
    m.attachment.snapshots.acquire()  # as a signal handler leaves it that raises at the end
    assert m.snapshot()["a"] == 1


def test_it_begins_again_when_the_marks_are_lost(make, monkeypatch):
    m = make(shards=2, lock_timeout=0.3)
    m["a"] = 1
    original = snapshots._catch_up
    lost = []

    def lose(handle, copies):
        if len(lost) < 2:
            lost.append(1)
            with_words = memoryview(m.attachment.mappings[1].buffer).cast("B").cast("Q")
            with_words[K["S_TRACKING"] >> 3] = 12345 if len(lost) == 1 else 0
            with_words.release()
        return original(handle, copies)

    monkeypatch.setattr(snapshots, "_catch_up", lose)
    assert m.snapshot()["a"] == 1 and len(lost) == 2
    monkeypatch.setattr(snapshots, "_catch_up", lambda handle, copies: False)
    with pytest.raises(shmmap.LockTimeout, match="other's way"):
        m.snapshot()
    m.sweep()
    assert m.check() == []


def test_failure_leaves_no_marks(make, monkeypatch):
    m = make(shards=2)
    m["a"] = 1
    monkeypatch.setattr(snapshots, "_catch_up", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        m.snapshot()
    for mapping in m.attachment.mappings:
        assert bytes(mapping.buffer[K["S_TRACKING"] : K["S_TRACKING"] + 8]) == bytes(8)


def test_damaged_bitmap_and_tracking_word_are_harmless(make):
    m = make(size="200KB", shards=1)
    m.update(dict.fromkeys(range(50), "z" * 300))
    d = Damage(m)
    d.words[K["S_TRACKING"] >> 3] = 0xDEAD_BEEF_DEAD_BEEF
    start, end = d.areas.changed >> 3, d.areas.slots >> 3
    for at in range(start, end):
        d.words[at] = (1 << 64) - 1
    assert m.check() == []
    m[1] = "changed"
    assert dict(m.snapshot()) == dict(m)
    d.words[K["S_TRACKING"] >> 3] = (1 << 64) - 1
    m.sweep()
    assert d.words[K["S_TRACKING"] >> 3] == 0


@pytest.mark.parametrize("what", ["chain", "meta", "version"])
def test_damage_is_an_error(make, what):
    m = make(size="200KB", shards=1)
    m.update(dict.fromkeys(range(50), "z" * 300))
    d = Damage(m)
    if what == "chain":
        halves = d.octets.cast("I")
        for at in range(d.areas.next >> 2, (d.areas.next >> 2) + 20):
            halves[at] = 0x8000_0003
    else:
        step = d.shape.slot_size >> 3
        first = (d.areas.slots >> 3) + (what == "meta")
        for slot in range(0, 30):
            if d.words[(d.areas.slots >> 3) + slot * step]:
                d.words[first + slot * step] = (1 << 64) - 1
    with pytest.raises(shmmap.MapCorrupted, match="repair"):
        m.snapshot()
    m.repair()
    assert dict(m.snapshot()) == dict(m) and m.check() == []


@pytest.mark.parametrize(("field", "value"), [
    ("ENTRIES", 1 << 40), ("ENTRIES", 0), ("FRESH", 3), ("FRESH", 0), ("FRESH", 1 << 60),
])
def test_damaged_counts_are_not_believed(make, field, value):
    m = make(size="200KB", shards=1)
    m.update(dict.fromkeys(range(50), "z" * 300))
    Damage(m).words[K[f"S_{field}"] >> 3] = value
    assert dict(m.snapshot()) == dict(m)


def test_prefixes(make):
    m = make(size="2MB", shards=4)
    entries = fill(m)
    for source in (m, m.snapshot()):
        for prefix in ("", "user:", "user:1", "page:", "é", "é€𐍈", "nothing", "x" * 500):
            wanted = {k: v for k, v in entries.items()
                      if isinstance(k, str) and k.startswith(prefix)}
            assert dict(source.items(prefix=prefix)) == wanted
            assert set(source.keys(prefix)) == set(wanted)
            assert len(source.keys(prefix)) == len(source.items(prefix)) == len(wanted)
            assert sorted(map(repr, source.values(prefix))) == sorted(map(repr, wanted.values()))
        assert dict(source.items(b"user")) == {b"user:raw": b"\0\1"}
        assert "user:1" in source.keys("user:") and "page:1" not in source.keys("user:")
        assert ("user:1", 1) in source.items("user:") and (7, 2.5) not in source.items("u")
        assert source.keys() & {"user:1"} == {"user:1"}
        for wrong in (1, ["a"], 2.5):
            with pytest.raises(TypeError, match="prefix"):
                source.items(prefix=wrong)
        for long in ("a" * 70_000, b"a" * 70_000, "é" * 40_000):  # no key can be so long
            assert list(source.items(prefix=long)) == list(source.keys(long)) == []
            assert len(source.values(long)) == 0
    assert m.scan(prefix="a" * 70_000) == m.scan(prefix="nothing")


def test_prefix_of_long_keys(make):
    m = make(size="1MB", shards=1)
    keys = {"k" * 500 + str(i) for i in range(20)} | {"k" * 499}
    m.update(dict.fromkeys(keys, 1))
    assert set(m.keys("k" * 500)) == keys - {"k" * 499}
    assert set(m.keys("k" * 499)) == keys
    assert list(m.keys("k" * 500 + "7")) == ["k" * 500 + "7"]


@pytest.mark.parametrize("shards", [1, 2, 16])
def test_scan_lists_everything_once(make, shards):
    m = make(size="2MB", shards=shards)
    entries = fill(m)
    for prefix in (None, "user:", b"user"):
        cursor, listed, calls = 0, [], 0
        while True:
            cursor, part = m.scan(cursor, prefix=prefix)
            listed += part
            calls += 1
            if not cursor:
                break
        assert calls == shards
        assert dict(listed) == (entries if prefix is None else dict(m.items(prefix)))
        assert len(listed) == len(dict(listed))
    for wrong, kind in ((-1, ValueError), (4096, ValueError), (True, TypeError), ("0", TypeError)):
        with pytest.raises(kind, match="cursor"):
            m.scan(wrong)
    with pytest.raises(TypeError, match="prefix"):
        m.scan(0, 5)


def test_closed_handles_refuse(make):
    m = make()
    m.close()
    for operation in (m.snapshot, lambda: list(m.keys("a")), m.scan):
        with pytest.raises(shmmap.MapClosed):
            operation()


def test_a_snapshots_memory_goes_with_its_last_reference(make):
    """Not when the garbage collector comes by: servers turn it off."""
    m = make()
    m["a"] = 1
    gc.disable()
    try:
        snapshot = m.snapshot()
        memory = [weakref.ref(snapshot._view.attachment)]
        memory += [weakref.ref(copy.buffer) for copy in snapshot._view.attachment.shards]
        assert dict(snapshot) == {"a": 1}
        del snapshot
        assert {each() for each in memory} == {None}
    finally:
        gc.enable()


@pytest.mark.parametrize("container", [list, iter, set], ids=["list", "iterator", "set"])
def test_many_keys_of_a_snapshot_at_once(make, container):
    m = make()
    m.update((f"k{i}", i) for i in range(100))
    s = m.snapshot()
    m.clear()
    keys = [f"k{i}" for i in range(0, 200, 3)]
    there = {key: int(key[1:]) for key in keys if int(key[1:]) < 100}
    assert s.get_many(container(keys)) == there
    assert s.get_many(container(keys), None) == {**dict.fromkeys(keys), **there}
    with pytest.raises(TypeError, match="one key"):
        s.get_many("k1")


def test_what_a_snapshot_s_handle_writes_has_room(make):
    """Events and times, too: a damaged copy is one of them, and once ended the process."""
    still = make().snapshot()._view.attachment
    assert still.worker.row_offset(0) >= K["C_BYTES_TOTAL"]
    assert len(still.control_memory) >= still.worker.row_offset(0) + K["R_BYTES_TOTAL"]
