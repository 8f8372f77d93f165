"""Damaged and hostile dumps: a file that was changed anywhere is refused, and changes nothing."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path
from typing import Any

import pytest
import xxhash

import shmmap
from shmmap.copies import dumps
from shmmap.operations._restore_cy import write_raw
from shmmap.values._keys_cy import pack, unpack

from ...support.dump_files import BYTES, FLOAT, INT, NONE, PICKLE, STR, TUPLE, read, rewritten


@pytest.fixture
def small(make: Any, tmp_path: Path) -> tuple[Path, bytes]:
    """A small dump, and its bytes."""
    m = make()
    m["a"] = "one"
    m.set("b", [2], ttl=1000)
    m[3] = 3
    m.dump(tmp_path / "d")
    return tmp_path / "d", (tmp_path / "d").read_bytes()


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
    path.write_bytes(whole[:8] + struct.pack("<H", dumps.FORMAT_STAMPED + 1) + whole[10:])
    with pytest.raises(shmmap.ConfigMismatch, match=r"of format 4, this version.* reads 3"):
        read(path)


def with_head(whole: bytes, text: bytes, order: int = dumps._ORDER) -> bytes:
    """Return a dump whose head says something else; the head's checksum is right."""
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
    ("size", "'; drop"), ("size", -1), ("codec", "no name"), ("shards", 3), ("mode", 0o777),
    ("on_full", 7), ("ttl_ns", -5), ("capacity", 1.5), ("value_size", 1 << 40),
    ("ttl_ns", 10**400), ("max_age_ns", 10**400), ("sweep_ns", 10**400), ("size", 10**30),
    ("size", 10**4000), ("size", "9" * 5000), ("capacity", 10**30), ("capacity", 10**4000),
    ("shards", 10**400), ("mode", 10**400), ("key_size", 10**400), ("ttl_ns", 4 * 10**18),
    ("hash_seed", 1 << 64), ("hash_seed", -1), ("hash_seed", "7"), ("hash_seed", True),
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
            written += write_raw(n, key_type, key, value_type, value, 0, 1 << 62)
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
