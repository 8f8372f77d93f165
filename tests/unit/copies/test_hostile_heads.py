"""The head of a dump is what its writer liked to say: it decides the shape of a new map, and
neither who may use it nor how much of the machine it takes without a word.
"""

from __future__ import annotations

import json
import os
import random
import stat
import time
from pathlib import Path
from typing import Any

import pytest
import xxhash

import shmmap
from shmmap.copies import dumps
from shmmap.lifecycle.parameters import Parameters
from shmmap.system import segment

from ...support.leftovers import objects_of

SHM = Path(segment.SHM_DIRECTORY)
AT_ONCE_S = 5.0  # on a machine that has much else to do


@pytest.fixture
def dumped(make: Any, tmp_path: Path) -> Path:
    """A small dump of a map with no pickles."""
    m = make(size="300KB", shards=1)
    m["a"] = "one"
    m.dump(tmp_path / "d")
    return tmp_path / "d"


def forged(whole: bytes, text: bytes) -> bytes:
    """Return a small dump whose head says something else, with every checksum right."""
    length = dumps.HEAD.unpack_from(whole)[3]
    first = dumps.HEAD.size + length + dumps.SUM.size
    begin = dumps.HEAD.pack(dumps.MAGIC, dumps.FORMAT, dumps._ORDER, len(text)) + text
    start = dumps.SUM.pack(xxhash.xxh3_64_intdigest(begin))
    blocks = whole[first : -dumps.TRAILER.size - dumps.SUM.size]
    of_block = blocks[dumps.BLOCK.size : dumps.BLOCK.size + dumps.SUM.size]  # there is one
    tag, number, *sums = dumps.TRAILER.unpack_from(whole, first + len(blocks))
    totals = dumps.Totals(*sums)._replace(
        bytes=len(whole) - length + len(text), chain=xxhash.xxh3_64_intdigest(start + of_block)
    )
    end = dumps.TRAILER.pack(tag, number, *totals)
    return begin + start + blocks + end + dumps.SUM.pack(xxhash.xxh3_64_intdigest(end))


def forge(path: Path, **parameters: Any) -> None:
    """Have a dump's head say other parameters; None takes one out."""
    with dumps.DumpReader(path) as dump:
        head = dump.head
    said = {**head.parameters, **parameters}
    said = {field: value for field, value in said.items() if value is not None}
    text = json.dumps(head._replace(parameters=said)._asdict()).encode()
    path.write_bytes(forged(path.read_bytes(), text))


def modes(name: str) -> set[int]:
    return {stat.S_IMODE(os.lstat(file).st_mode) for file in SHM.iterdir()
            if file.name.removeprefix("sem.").split(".")[1:2] == [name]}


@pytest.mark.parametrize("mode", [0o666, 0o660, 0o606, 0o644, 0o600])
def test_it_does_not_say_who_may_use_the_new_map(dumped, other, mode):
    forge(dumped, mode=mode)
    for said, has in (({}, 0o600), ({"codec": "safe"}, 0o600), ({"mode": 0o660}, 0o660)):
        with shmmap.ShmMap.load(dumped, other.name, **said) as m:
            assert modes(other.name) == {has} and m.attachment.parameters.mode == has
            assert m["a"] == "one"
            m.unlink()


def test_safe_is_the_map_s_for_every_process(dumped, other, start):
    """codec= of the call wins over the dump's, and is the map's own from then on."""
    forge(dumped, codec="auto")
    with shmmap.ShmMap.load(dumped, other.name, codec="safe") as m:
        assert m.attachment.parameters.codec == "safe"

        def write(child: Any) -> str:
            with shmmap.ShmMap(other.name) as theirs:
                try:
                    theirs["b"] = object
                except TypeError:
                    return "refused"
            return "pickled"

        assert start(write).result() == "refused"
        m.unlink()


def test_it_keeps_no_map_alive_or_short_lived(dumped, other):
    forge(dumped, ephemeral=True)
    shmmap.ShmMap.load(dumped, other.name).close()
    with shmmap.ShmMap.attach(other.name) as m:
        assert m["a"] == "one" and m.attachment.parameters.ephemeral is False
        m.unlink()


@pytest.mark.parametrize(("ns", "seconds"), [(1, 1.0), (10**6, 1.0), (2 * 10**9, 2.0), (0, 0.0)])
def test_it_keeps_no_processor_busy_with_sweeping(dumped, other, ns, seconds):
    forge(dumped, sweep_ns=ns)
    with shmmap.ShmMap.load(dumped, other.name) as m:
        assert m.attachment.parameters.sweep_ns == seconds * 1e9
        m.unlink()


@pytest.mark.parametrize("asked", [
    {"size": 10**13}, {"size": 1 << 61}, {"capacity": 10**10, "size": None},
    {"size": 10**13, "shards": 4096}, {"capacity": 1000, "size": None, "value_size": (1 << 32) - 1},
])
def test_more_than_the_machine_has(dumped, other, asked):
    """Said before anything is made, with the file's name, and at once."""
    forge(dumped, **{"shards": None, **asked})
    before, started = sorted(os.listdir(SHM)), time.monotonic()
    with pytest.raises((shmmap.SharedMemoryFull, shmmap.DumpCorrupted)) as caught:
        shmmap.ShmMap.load(dumped, other.name)
    assert str(dumped) in str(caught.value) and time.monotonic() - started < AT_ONCE_S
    assert [e for e in os.listdir(SHM) if e not in before and other.name in e] == []
    with shmmap.ShmMap.load(dumped, other.name, size="300KB") as m:  # the caller knows better
        assert m["a"] == "one"
        m.unlink()


WORDS: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 64, 0o600, 0o666, 1 << 16, 1 << 32, 1 << 62, 1 << 64,
    -(1 << 64), 10**30, 10**400, 0.0, -0.5, 1.5, 1e300, float("nan"), float("inf"), "", "64MB",
    "auto", "safe", "evict", "raise", "\x1b]0;x\x07", "\ud800", "é" * 3000, "0x10", [], [1], {},
    {"a": 1}, [[[]]],
]


def test_heads_at_random(dumped, other):
    """Seeded. A map, or DumpCorrupted, or no room; at once, with nothing left, and nothing else."""
    rng = random.Random(20)
    whole = dumped.read_bytes()
    with dumps.DumpReader(dumped) as dump:
        good = dump.head
    made = 0
    for turn in range(800):
        said = dict(good.parameters)
        for _ in range(rng.randrange(1, 4)):
            field = rng.choice([*Parameters._fields, *Parameters._fields, "new", "__class__"])
            if rng.random() < 0.2:
                said.pop(field, None)
            else:
                said[field] = rng.choice(WORDS)
        head = {**good._asdict(), "parameters": said}
        if rng.random() < 0.15:
            head[rng.choice([*head, "more"])] = rng.choice(WORDS)
        text = json.dumps(head).encode()[: 1 << 16]
        dumped.write_bytes(forged(whole, text))
        started = time.monotonic()
        try:
            shape = None
            with dumps.DumpReader(dumped) as dump:
                shape = Parameters.read(dump.options()).plan()
            if shape.total_bytes > 4_000_000:
                continue
            with shmmap.ShmMap.load(dumped, other.name) as m:
                assert modes(other.name) == {0o600}, (turn, said)
                m.unlink()
            made += 1
        except (shmmap.DumpCorrupted, shmmap.SharedMemoryFull, shmmap.MapFull,
                shmmap.EntryTooLarge, shmmap.ConfigMismatch) as error:  # a codec that is not given
            text = str(error)
            assert all(one.isprintable() for one in text) and len(text) < 1000, (turn, text)
        assert time.monotonic() - started < AT_ONCE_S, (turn, said)
    assert made > 40
    left = [entry for entry in os.listdir(SHM) if f"shmmap.{other.name}" in entry]
    assert left == []


def test_bytes_at_random(dumped, other):
    """The JSON itself: cut, doubled, nested, not text."""
    rng = random.Random(21)
    whole = dumped.read_bytes()
    length = dumps.HEAD.unpack_from(whole)[3]
    text = whole[dumps.HEAD.size : dumps.HEAD.size + length]
    read = 0
    for _ in range(1500):
        data = bytearray(text)
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(data) + 1)
            piece = rng.choice([b"", b'"', b"{", b"[" * 900, b"NaN", b"1e999", b"\x00", b"\xff",
                                b',"name":"x"', b"-", b"9" * 4400, text[at : at + 20]])
            data[at : at + rng.randrange(12)] = piece
        dumped.write_bytes(forged(whole, bytes(data)))
        try:
            with dumps.DumpReader(dumped) as dump:
                dump.options()
            read += 1
        except shmmap.DumpCorrupted as error:
            assert all(one.isprintable() for one in str(error))
    assert 0 < read < 1500


def test_a_dump_that_says_it_has_no_pickles(make, other, tmp_path):
    """The count in the trailer is the forger's, too: each record is looked at."""
    m = make(size="300KB", shards=1)
    m["a"] = [1j]
    m.dump(tmp_path / "d")
    with dumps.DumpReader(tmp_path / "d") as dump:
        head, entries = dump.head, list(dump.records())
    with open(tmp_path / "d", "wb") as file:
        original = dumps.Totals
        dumps.Totals = lambda r, p, *rest: original(r, 0, *rest)  # type: ignore[assignment,misc]
        try:
            dumps.write(file, head, entries)
        finally:
            dumps.Totals = original  # type: ignore[misc]
    with pytest.raises(TypeError, match="pickle"):
        shmmap.ShmMap.load(tmp_path / "d", other.name, codec="safe")
    assert not objects_of(other.name)
