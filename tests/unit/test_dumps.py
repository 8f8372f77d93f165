"""Dumps: what was written comes back; a file that was changed anywhere is refused."""

from __future__ import annotations

import os
import random
import signal
import stat
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash

import shmmap
from shmmap import dumps, merging
from shmmap._keys_cy import pack, unpack

KEYS = ["", "a", "é\U0001f600", "\ud800", b"", b"\x00\xff", 0, -1, 2**63 - 1, 2**80, -(2**200), 0.5,
        float("inf"), None, (), ("a", 1, (None, b"x", 2.5)), "k" * 5000]  # fmt: skip
VALUES = [b"", b"x" * 5000, "", "é\ud800", 0, -5, 2**70, 0.25, None, True, False, {"a": [1, 2]},
          np.arange(12, dtype="i4").reshape(3, 4), np.array(["a", "bc"])]  # fmt: skip


class Boots:
    """Which boot of the machine it seems to be, and what its clocks say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch

    def become(self, m: Any, boot: str, boottime_s: float, wall_s: float) -> None:
        """Be on that boot: a map's clock and the wall clock stand still there."""
        m.attachment.clock.frozen_ns = round(boottime_s * 1e9)
        self.patch.setattr(dumps, "this_boot", lambda: boot)
        self.patch.setattr(dumps, "wall_ns", lambda: round(wall_s * 1e9))


@pytest.fixture
def boots(monkeypatch: pytest.MonkeyPatch) -> Boots:
    return Boots(monkeypatch)


@pytest.fixture
def other(name: str) -> Any:
    """Open a second map: other(size="1MB", ...); it is unlinked at the end."""
    opened: list[Any] = []

    def open_map(**parameters: Any) -> Any:
        parameters = {"size": "1MB", "sweep_interval": None, **parameters}
        opened.append(shmmap.ShmMap(f"{name}-other", **parameters))
        return opened[-1]

    open_map.name = f"{name}-other"  # type: ignore[attr-defined]
    yield open_map
    for m in opened:
        if not m.closed:
            m.unlink()
            m.close()


def load(other: Any, path: Path, **parameters: Any) -> Any:
    """Load a dump into the second map; the fixture unlinks it."""
    shmmap.ShmMap.load(path, other.name, **parameters).close()
    return other(size=None)


def rewritten(path: Path, records: list[tuple[Any, ...]]) -> None:
    """Write a dump with a dump's head and these records, every checksum right."""
    with dumps.DumpReader(path) as dump:
        head = dump.head
    with open(path, "wb") as file:
        dumps.write(file, head, [dumps.RawEntry(*record) for record in records])


# -- round trips ------------------------------------------------------------------------


def test_every_kind_of_entry_comes_back(make, other, tmp_path):
    m = make(size="2MB", shards=2)
    for i, key in enumerate(KEYS):
        m[key] = VALUES[i % len(VALUES)]
    for i, value in enumerate(VALUES):
        m["value", i] = value
    report = m.dump(tmp_path / "d")
    assert report.entries == len(m) == len(KEYS) + len(VALUES)
    assert report.bytes == (tmp_path / "d").stat().st_size
    assert report.pickled == sum(type(value) is dict for value in m.values()) >= 1
    n = load(other, tmp_path / "d")
    assert n.check() == [] and len(n) == len(m)
    for key, value in m.items():
        back = n[key]
        assert type(back) is type(value)
        if isinstance(value, np.ndarray):
            assert back.dtype == value.dtype
            np.testing.assert_array_equal(back, value)
        else:
            assert back == value
    assert n.merge(m)[:3] == (0, len(m), 0)  # as new already


def test_parameters_come_with_it(make, other, tmp_path):
    m = make(capacity=500, shards=4, ttl=7.5, on_full="evict", value_size=300, key_size=20,
             codec="safe", max_idle=30, mode=0o640, ephemeral=False)
    m["a"] = 1
    m.dump(tmp_path / "d")
    n = load(other, tmp_path / "d")
    assert n.attachment.parameters == m.attachment.parameters
    assert n.attachment.geometry == m.attachment.geometry


def test_parameters_that_are_said_win(make, other, tmp_path):
    m = make(size="1MB", ttl=7, shards=4)
    m["a"] = 1
    m.dump(tmp_path / "d")
    n = load(other, tmp_path / "d", capacity=1000, ttl=None)
    assert n.attachment.parameters.capacity == 1000
    assert n.attachment.parameters.size is None and n.attachment.parameters.ttl_ns == 0
    assert n["a"] == 1
    with pytest.raises(shmmap.ConfigMismatch, match="asked 2000"):
        shmmap.ShmMap.load(tmp_path / "d", other.name, capacity=2000)


def test_a_dump_of_an_ephemeral_map_makes_one_that_stays(make, other, tmp_path):
    m = make(ephemeral=True)
    m["a"] = 1
    m.dump(tmp_path / "d")
    assert load(other, tmp_path / "d").attachment.parameters.ephemeral is False


def test_an_empty_map(make, other, tmp_path):
    assert make().dump(tmp_path / "d").entries == 0
    assert len(load(other, tmp_path / "d")) == 0


def test_long_values_and_many_blocks(make, other, tmp_path):
    m = make(size="16MB", shards=1)
    for i in range(30):
        m[i] = bytes([i]) * (i * 10_000)
    m["huge"] = bytes(range(256)) * 10_000  # longer than a block
    m.dump(tmp_path / "d")
    n = load(other, tmp_path / "d")
    assert dict(n) == dict(m) and n.check() == []
    with dumps.DumpReader(tmp_path / "d") as dump:
        lengths = [(records, len(payload)) for records, payload in dump._payloads()]
    assert len(lengths) > 4
    assert all(length <= dumps.BLOCK_LIMIT or records == 1 for records, length in lengths)
    assert max(length for _, length in lengths) > dumps.BLOCK_LIMIT


def test_100_000_entries(make, other, tmp_path):
    count = 100_000 if shmmap.ENGINE == "compiled" else 10_000
    m = make(capacity=count, value_size=16)
    m.set_many((i, b"%016d" % i) for i in range(count))
    assert m.dump(tmp_path / "d").entries == count
    n = load(other, tmp_path / "d")
    assert len(n) == count
    assert all(n[i] == b"%016d" % i for i in range(0, count, 997))
    assert n.check() == []


def test_memory_beside_one_block_is_constant(make, tmp_path):
    """The records go through one by one: nothing gathers them."""
    entries = (dumps.RawEntry(1, b"%d" % i, 1, bytes(10_000), 0, 2) for i in range(5000))
    m = make()
    m.dump(tmp_path / "d")
    with dumps.DumpReader(tmp_path / "d") as dump:
        head = dump.head
    import tracemalloc

    tracemalloc.start()
    try:
        with open(tmp_path / "d", "wb") as file:
            totals = dumps.write(file, head, entries)
        with dumps.DumpReader(tmp_path / "d") as dump:
            dump.verify()
            assert sum(1 for _ in dump.records()) == totals.records == 5000
        assert tracemalloc.get_traced_memory()[1] < 6 * dumps.BLOCK_LIMIT < totals.bytes // 5
    finally:
        tracemalloc.stop()


# -- time ---------------------------------------------------------------------------------


def test_time_goes_on_while_the_dump_lies_there(make, other, tmp_path, boots):
    m = make()
    boots.become(m, "one", 1000, 50_000)
    m.set("long", 1, ttl=100)
    m.set("short", 2, ttl=10)
    m.set("none", 3)
    m.dump(tmp_path / "d")
    n = other()
    boots.become(n, "one", 1030, 50_030)
    assert n.merge(tmp_path / "d")[:3] == (2, 0, 1)
    assert n.ttl("long") == 70 and n.ttl("none") is None and "short" not in n


def test_on_the_same_boot_the_wall_clock_does_not_matter(make, other, tmp_path, boots):
    m = make()
    boots.become(m, "one", 1000, 50_000)
    m.set("a", 1, ttl=100)
    m.dump(tmp_path / "d")
    n = other()
    boots.become(n, "one", 1030, 90_000)
    n.merge(tmp_path / "d")
    assert n.ttl("a") == 70


def test_on_another_boot_the_wall_clock_decides(make, other, tmp_path, boots):
    m = make()
    boots.become(m, "one", 1000, 50_000)
    for key in ("old", "new", "gone"):
        m.set(key, "dumped", ttl=100)
    m["forever"] = "dumped"
    m.dump(tmp_path / "d")
    n = other()
    boots.become(n, "two", 20, 49_990)  # before that write, by the wall clock
    n["old"] = "here"
    boots.become(n, "two", 50, 50_020)
    n["new"] = "here"
    assert n.merge(tmp_path / "d")[:3] == (3, 1, 0)
    assert n["old"] == "dumped" and n["new"] == "here"
    assert n.ttl("old") == n.ttl("gone") == 80 and n.ttl("forever") is None


def test_what_an_earlier_boot_wrote_loses_to_all_of_this_one(make, other, tmp_path, boots):
    m = make()
    boots.become(m, "one", 1000, 50_000)
    m["a"] = "dumped"
    m["b"] = "dumped"
    m.dump(tmp_path / "d")
    n = other()
    boots.become(n, "two", 5, 60_000)
    n["a"] = "here"
    assert n.merge(tmp_path / "d")[:3] == (1, 1, 0)
    assert dict(n) == {"a": "here", "b": "dumped"}


def test_a_real_deadline_comes_back(make, other, tmp_path):
    m = make()
    m.set("a", 1, ttl=60)
    m.dump(tmp_path / "d")
    assert 50 < load(other, tmp_path / "d").ttl("a") <= m.ttl("a") + 1 < 62


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


def test_merge_takes_nothing_else(make):
    with pytest.raises(TypeError, match="a ShmMap, or the path of a dump, not dict"):
        make().merge({"a": 1})


# -- what cannot be merged --------------------------------------------------------------------


def test_a_safe_map_takes_no_pickles(make, other, tmp_path):
    m = make(shards=1)
    m["plain"] = 1
    m["pickled"] = [1]
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
    with pytest.raises(shmmap.MapFull):
        shmmap.ShmMap.load(tmp_path / "d", other.name, capacity=100)
    with pytest.raises(shmmap.MapNotFound):
        shmmap.ShmMap.attach(other.name)
    n = other(size=None, capacity=100)
    n["mine"] = 1
    with pytest.raises(shmmap.MapFull):
        shmmap.ShmMap.load(tmp_path / "d", other.name)
    assert n["mine"] == 1  # it was there before: it stays


def test_a_map_that_evicts_takes_all(make, other, tmp_path):
    m = make(capacity=2000)
    m.set_many((i, b"dumped") for i in range(2000))
    m.dump(tmp_path / "d")
    n = other(size=None, capacity=300, on_full="evict")
    assert n.merge(tmp_path / "d").written == 2000
    assert 300 <= len(n) < 1000 and n.check() == []


# -- damaged files --------------------------------------------------------------------------------


@pytest.fixture
def small(make: Any, tmp_path: Path) -> tuple[Path, bytes]:
    """A small dump, and its bytes."""
    m = make()
    m["a"] = "one"
    m.set("b", [2], ttl=1000)
    m[3] = 3
    m.dump(tmp_path / "d")
    return tmp_path / "d", (tmp_path / "d").read_bytes()


def read(path: Path) -> list[Any]:
    with dumps.DumpReader(path) as dump:
        dump.verify()
        return [dump.head, *dump.records()]


def test_truncated_anywhere(small):
    path, whole = small
    assert len(read(path)) == 4
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(shmmap.DumpCorrupted, match=r"it (has only|ends at byte)"):
            read(path)


def test_any_byte_flipped(small):
    path, whole = small
    for at in range(len(whole)):
        for bit in (1, 0x80):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
            with pytest.raises((shmmap.DumpCorrupted, shmmap.ConfigMismatch)):
                read(path)


def test_a_damaged_dump_changes_nothing(small, other):
    path, whole = small
    path.write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    n = other()
    with pytest.raises(shmmap.DumpCorrupted):
        n.merge(path)
    assert len(n) == 0


def test_anything_appended(small):
    path, whole = small
    for more in (b"\0", b"x" * 1000, whole):
        path.write_bytes(whole + more)
        with pytest.raises(shmmap.DumpCorrupted):
            read(path)


def test_blocks_of_another_dump(make, tmp_path):
    """Each block is whole; the chain of checksums says that they are not of one file."""
    m = make(size="8MB", shards=1)
    m["a"] = bytes(1_100_000)
    m["b"] = bytes(1_100_000)
    m.dump(tmp_path / "one")
    m["a"] = bytes([1]) * 1_100_000
    m.dump(tmp_path / "two")
    one, two = ((tmp_path / which).read_bytes() for which in ("one", "two"))
    assert len(one) == len(two)
    start = one.index(b"BLCK", 100_000)
    with pytest.raises(shmmap.DumpCorrupted, match="not those that its trailer sums up"):
        (tmp_path / "mixed").write_bytes(one[:start] + two[start:])
        read(tmp_path / "mixed")


def test_not_a_dump(tmp_path, make):
    for content in (b"hello, this is some text\n", bytes(1000), b"\x80\x05pickle" * 9):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(shmmap.DumpCorrupted, match="not a dump of a map"):
            make().merge(tmp_path / "x")
    with pytest.raises(FileNotFoundError):
        make().merge(tmp_path / "missing")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="a dump is a regular file"):
        make().merge(tmp_path / "fifo")


def test_another_format(small):
    path, whole = small
    path.write_bytes(whole[:8] + struct.pack("<H", dumps.FORMAT + 1) + whole[10:])
    with pytest.raises(shmmap.ConfigMismatch, match=r"of format 2, this version.* reads 1"):
        read(path)


def with_head(whole: bytes, text: bytes, order: int = dumps._ORDER) -> bytes:
    """Give a dump whose head says something else; the head's checksum is right."""
    length = dumps.HEAD.unpack_from(whole)[3]
    head = dumps.HEAD.pack(dumps.MAGIC, dumps.FORMAT, order, len(text)) + text
    total = struct.pack("<Q", xxhash.xxh3_64_intdigest(head))
    return head + total + whole[dumps.HEAD.size + length + 8 :]


def test_the_other_byte_order(small):
    path, whole = small
    path.write_bytes(with_head(whole, b"{}", 3 - dumps._ORDER))
    with pytest.raises(shmmap.ConfigMismatch, match="other byte order"):
        read(path)


@pytest.mark.parametrize("text", [
    b"", b"[]", b"{}", b"null", b"[" * 50_000, b"1" * 5000, b"\xff",
    b'{"name":1,"boot_id":"a","wall_ns":1,"boottime_ns":1,"parameters":{}}',
    b'{"name":"a","boot_id":"a","wall_ns":1.5,"boottime_ns":1,"parameters":{}}',
    b'{"name":"a","boot_id":"a","wall_ns":1' + b"0" * 30 + b',"boottime_ns":1,"parameters":{}}',
])  # fmt: skip
def test_a_head_that_says_nonsense(small, text):
    path, whole = small
    path.write_bytes(with_head(whole, text))
    with pytest.raises(shmmap.DumpCorrupted):
        read(path)


@pytest.mark.parametrize(("field", "value"), [
    ("size", "'; drop"), ("size", -1), ("codec", "evil"), ("shards", 3), ("mode", 0o777),
    ("on_full", 7), ("ttl_ns", -5), ("capacity", 1.5), ("value_size", 1 << 40),
])  # fmt: skip
def test_parameters_that_no_map_has(small, other, field, value):
    path, _ = small
    with dumps.DumpReader(path) as dump:
        head, entries = dump.head, list(dump.records())
    parameters = {**head.parameters, field: value}
    if field == "capacity":
        del parameters["size"]
    with open(path, "wb") as file:
        dumps.write(file, head._replace(parameters=parameters), entries)
    with pytest.raises(shmmap.DumpCorrupted, match="parameters that no map has"):
        shmmap.ShmMap.load(path, other.name)


STR, INT, FLOAT, NONE, TUPLE = 1, 3, 4, 5, 6  # keys
BYTES, PICKLE = 1, 10  # values
HOSTILE: dict[str, tuple[Any, ...]] = {
    "a key of no type": (0, b"a", BYTES, b"", 0, 2),
    "a key with the deadline's flag": (0x81, b"a", BYTES, b"", 0, 2),
    "a str key that is not UTF-8": (STR, b"\xff", BYTES, b"", 0, 2),
    "a short int key": (INT, b"\1", BYTES, b"", 0, 2),
    "a long int key that needs no more than 8 bytes": (INT, bytes(9), BYTES, b"", 0, 2),
    "a float key that is an int": (FLOAT, struct.pack("<d", 2.0), BYTES, b"", 0, 2),
    "a NaN": (FLOAT, struct.pack("<d", float("nan")), BYTES, b"", 0, 2),
    "None, and more": (NONE, b"x", BYTES, b"", 0, 2),
    "a tuple cut off": (TUPLE, b"\x01\x09\0\0\0a", BYTES, b"", 0, 2),
    "a tuple nested too deeply": (TUPLE, b"".join(
        struct.pack("<BI", TUPLE, 5 * i) for i in reversed(range(200))), BYTES, b"", 0, 2),
    "a value of no type": (STR, b"a", 0, b"", 0, 2),
    "a value of an unknown type": (STR, b"a", 11, b"", 0, 2),
    "a str value that is not UTF-8": (STR, b"a", 2, b"\xc0\x80", 0, 2),
    "an int of 7 bytes": (STR, b"a", 3, b"1234567", 0, 2),
    "a float of 9 bytes": (STR, b"a", 5, b"123456789", 0, 2),
    "an array of objects": (STR, b"a", 9, b"\0\3\0\0|O8" + bytes(8), 0, 2),
    "a pickle with no checksum": (STR, b"a", PICKLE, b"cos\nsystem\n(S'false'\ntR.", 0, 2),
}


@pytest.mark.parametrize("record", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_record_is_refused(small, other, record):
    """Its checksums are all right, and still it does not get into a map."""
    path, _ = small
    rewritten(path, [(STR, b"good", BYTES, b"one", 0, 2), record, (STR, b"z", BYTES, b"", 0, 2)])
    n = other()
    with pytest.raises(shmmap.DumpCorrupted, match="Before that 1 entries were written") as caught:
        n.merge(path)
    assert caught.value.report.written == 1
    assert dict(n) == {"good": b"one"} and n.check() == []


@pytest.mark.parametrize("deadline", [-1, 1, dumps.FAR, (1 << 63) - 1 - (1 << 61)])
def test_strange_deadlines_and_versions(small, other, deadline):
    path, _ = small
    for version in (0, 1, 1 << 62, 1 << 63, (1 << 64) - 1):
        rewritten(path, [(STR, b"k", BYTES, b"one", deadline, version)])
        n = other()
        assert sum(n.merge(path)[:3]) == 1
        assert n.check() == [] and n.get("k", b"one") == b"one"


def test_random_records_get_in_only_if_a_map_could_have_written_them(other):
    rng = random.Random(7)
    pieces = [b"", b"a", b"\xff", b"\xed\xa0\x80", bytes(8), bytes(7), bytes(9), b"\1" * 9,
              struct.pack("<BI", 1, 1) + b"a", struct.pack("<d", 0.5), struct.pack("<d", 3.0),
              struct.pack("<BI", 6, 5) + struct.pack("<BI", 2, 0), b"\0\3\0\0<i8" + bytes(16)]
    n = other()
    written = 0
    for _ in range(3000):
        key_type, value_type = rng.randrange(0, 9), rng.randrange(0, 13)
        key = b"".join(rng.choices(pieces, k=rng.choice([1, 1, 1, 2])))
        value = b"".join(rng.choices(pieces, k=rng.choice([1, 1, 2])))
        try:
            written += n._write_raw(key_type, key, value_type, value, 0, 1 << 62)
        except shmmap.DumpCorrupted:
            continue
        found = unpack(key_type, key)
        assert pack(found) == (key_type, key)  # as a lookup encodes it, so it is found
        assert found in n
    assert written > 300 and n.check() == []
    assert len(list(n.items())) == len(n)


def test_a_hostile_pickle_is_not_loaded(small, other):
    path, _ = small
    data = b"cos\n_exit\n(I7\ntR."
    rewritten(path, [
        (STR, b"k", PICKLE, struct.pack("<Q", xxhash.xxh3_64_intdigest(data)) + data, 0, 2)])
    n = other()
    assert n.merge(path).written == 1  # we are still here
    assert list(n) == ["k"] and n.check() == []


def test_a_record_longer_than_its_block(small, other):
    path, whole = small
    at = whole.index(b"BLCK")
    head, payload = whole[at : at + dumps.BLOCK.size], bytearray(whole[at + 32 : -56])
    for where, value in ((4, 0xFFFFFFF0), (2, 0xFFFF)):
        bad = bytearray(payload)
        struct.pack_into("<I" if where == 4 else "<H", bad, where, value)
        total = dumps._digest(head, bytes(bad))
        with dumps.DumpReader(path) as dump:
            chain = xxhash.xxh3_64(dump._begin_chain + struct.pack("<Q", total)).intdigest()
            end = dumps.TRAILER.pack(b"DONE", 1, *dump.totals._replace(chain=chain))
        end += struct.pack("<Q", xxhash.xxh3_64_intdigest(end))
        forged = whole[:at] + head + struct.pack("<Q", total) + bytes(bad) + end
        (path.parent / "forged").write_bytes(forged)
        with pytest.raises(shmmap.DumpCorrupted, match="longer than its block"):
            other().merge(path.parent / "forged")


def test_lengths_that_promise_too_much_take_no_memory(small):
    path, whole = small
    at = whole.index(b"BLCK")
    for length in (1 << 40, (1 << 64) - 1):
        path.write_bytes(whole[:at] + dumps.BLOCK.pack(b"BLCK", 0, length, 1, 0) + whole[at + 24 :])
        with pytest.raises(shmmap.DumpCorrupted, match="no block 0"):
            read(path)


# -- the file --------------------------------------------------------------------------------


def test_permissions_are_the_maps(make, tmp_path):
    before = os.umask(0o077)
    try:
        m = make(mode=0o640)
        m.dump(tmp_path / "d")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o640
    (tmp_path / "d").chmod(0o666)
    m.dump(tmp_path / "d")  # the new file's, not those of what it replaces
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o640


def test_a_failure_leaves_what_was_there(make, tmp_path, monkeypatch):
    m = make()
    m["a"] = 1
    m.dump(tmp_path / "d")
    whole = (tmp_path / "d").read_bytes()

    def entries(source: Any) -> Any:
        yield dumps.RawEntry(1, b"x", 1, b"y", 0, 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(dumps, "raw_entries", entries)
    with pytest.raises(KeyboardInterrupt):
        m.dump(tmp_path / "d")
    assert os.listdir(tmp_path) == ["d"] and (tmp_path / "d").read_bytes() == whole


def test_it_replaces_regular_files_only(make, tmp_path):
    m = make()
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for target in (tmp_path / "directory", tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(OSError, match="only of a regular file"):
            m.dump(target)
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    m.dump(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and len(read(tmp_path / "real")) == 1
    with pytest.raises(FileNotFoundError):
        m.dump(tmp_path / "missing" / "d")
    assert sorted(os.listdir(tmp_path)) == ["directory", "fifo", "link", "real"]


def test_killed_at_each_step(make, start, tmp_path):
    """Until the rename the name holds what it held before, from then on the whole new dump."""
    m = make()
    target = tmp_path / "d"
    for i, (function, turn, there) in enumerate((
        ("write", 1, False), ("fchmod", 1, False), ("fsync", 1, False), ("replace", 1, False),
        ("fsync", 2, True),
    )):
        m.clear()
        m["step"] = i - 1
        m.dump(target)
        m["step"] = i

        def die_there(child: Any, function: str = function, turn: int = turn) -> None:
            owner: Any = dumps if function == "write" else os
            real, calls = getattr(owner, function), []

            def dies(*arguments: Any) -> Any:
                calls.append(1)
                if len(calls) == turn:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments)

            setattr(owner, function, dies)
            m.dump(target)

        child = start(die_there)
        assert os.WTERMSIG(child.reap()) == signal.SIGKILL
        (entry,) = read(target)[1:]
        assert entry.value == struct.pack("=q", i if there else i - 1)
    left = [file for file in os.listdir(tmp_path) if file != "d"]
    assert len(left) == 4 and all(file.startswith(".shmmap-dump.") for file in left)


def test_killed_at_any_moment(make, start, tmp_path):
    m = make(size="8MB")
    m.set_many((i, bytes(1000)) for i in range(2000))
    m.dump(tmp_path / "d")
    for turn in range(12):
        child = start(lambda child: [child.tell("go"),
                                     *(m.dump(tmp_path / "d") for _ in range(1000))])
        assert child.hear() == "go"
        time.sleep(0.01 * turn)
        child.kill()
        assert len(read(tmp_path / "d")) == 2001



def test_dumped_while_others_write(make, start, tmp_path):
    m = make(size="4MB")
    m.set_many((i, b"%08d" % i * 9) for i in range(1000))

    def write(child: Any) -> None:
        child.tell("go")
        turn = 0
        while True:
            turn += 1
            for i in range(0, 1000, 2):
                m[i] = b"%08d" % i * (turn % 20 + 1)
                m.delete(("gone", i))
                m[("gone", i + turn)] = b"x"

    child = start(write)
    assert child.hear() == "go"
    for _ in range(5):
        m.dump(tmp_path / "d")
        found = {}
        with dumps.DumpReader(tmp_path / "d") as dump:
            dump.verify()
            for entry in dump.records():
                assert (entry.key_type, entry.key) not in found
                found[entry.key_type, entry.key] = entry.value
        for i in range(1000):
            value = found[INT, i.to_bytes(8, "little")]
            assert value == b"%08d" % i * (len(value) // 8) and value
    child.kill()


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
            m._write_raw(STR, key, BYTES, value, 0, 2)
    with pytest.raises(shmmap.DumpCorrupted, match=r"no entry has 65,536"):
        m._write_raw(STR, b"a" * 65536, BYTES, b"", 0, 2)
    for deadline, limit in ((-1, 0), (1 << 63, 0), (0, -1), (0, 1 << 63)):
        with pytest.raises(shmmap.DumpCorrupted, match="no deadline"):
            m._write_raw(STR, b"a", BYTES, b"", deadline, limit)
    assert len(m) == 0
    m.close()
    with pytest.raises(shmmap.MapClosed):
        m._write_raw(STR, b"a", BYTES, b"", 0, 2)
