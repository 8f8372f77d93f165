"""Reading a map from outside: what is found, what is not touched, and what damage does."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import json
import os
import random
import subprocess
import sys
import time
import uuid
from collections import Counter
from typing import Any

import numpy as np
import pytest

import shmmap
from shmmap.lifecycle import making
from shmmap.tools import cli
from shmmap.tools.map_reading import MapReader, find_usable
from shmmap.tools.shard_reading import ShardReader
from shmmap.tools.shown import plain_value
from shmmap.values._keys_cy import unpack

from ...fuzz import damages
from ...fuzz.subject import DEAD, LATE, THEIRS, VARIANTS, Subject
from ...support.damage import Damage, K
from ...support.moving_maps import STEPS, MovingMap
from .maps import LIMIT_S, OTHER, needs_other_engine, objects

ENTRIES: dict[Any, Any] = {
    "text": "värde", b"bytes": b"\0\xff" * 9, 7: 7, -1: 1 << 62, "empty": b"", "none": None,
    None: "key none", 2.5: 1.25, ("pair", 1): True, ("nested", (None, b"x")): False,
    "big": 1 << 100, "long": bytes(range(200)) * 30, "k" * 700: "long key", 1 << 80: -5,
    frozenset({1, "a"}): {"a": [1, (2, {3})]}, datetime.date(2024, 2, 29): datetime.time(1, 2),
    uuid.UUID(int=5): decimal.Decimal("1.10"), "\ud800": "\udfff", "": "the empty key",
}  # fmt: skip


def found_in(reader: MapReader) -> dict[Any, Any]:
    """Read all entries; nothing may be unreadable, and no key come twice."""
    problems: list[Exception] = []
    found = [(unpack(entry.key_type, entry.key), plain_value(entry, reader.codec))
             for entry in reader.entries(lambda *of: True, True, problems.append)]
    assert problems == []
    assert len(found) == len(dict(found))
    return dict(found)


def reader_of(name: str, **which: Any) -> MapReader:
    return MapReader(find_usable(name, **which))


class TestWhatIsFound:
    @pytest.mark.parametrize("shape", [
        {}, {"on_full": "evict", "shards": 1}, {"value_size": 8, "key_size": 8, "shards": 16},
    ])
    def test_every_kind_of_key_and_value(self, make, shape):
        m = make(**shape)
        m.update(ENTRIES)
        reader = reader_of(m.name)
        assert found_in(reader) == ENTRIES
        for key, value in ENTRIES.items():
            entry = reader.find(key)
            assert entry is not None and plain_value(entry, "auto") == value
            assert entry.version == m.get_versioned(key)[1]
        for key in ("nope", b"text", 8, ("pair", 2), "x" * 70_000):
            assert reader.find(key) is None

    def test_an_index_that_overflows(self, make):
        m = make(capacity=3000, value_size=8, shards=1, size=None)
        entries = {number: number * 3 for number in range(3000)}
        m.update(entries)
        reader = reader_of(m.name)
        assert found_in(reader) == entries
        assert all(reader.find(number) for number in range(0, 3000, 7))
        assert not any(reader.find(-number - 1) for number in range(200))

    def test_what_has_expired_is_not_there(self, make, freeze):
        m = make()
        m.set("gone", 1, ttl=0.001)
        m.set("there", 2, ttl=1000)
        m.set("for ever", 3, ttl=None)
        time.sleep(0.05)
        reader = reader_of(m.name)
        assert set(found_in(reader)) == {"there", "for ever"} and reader.find("gone") is None
        there, ever = reader.find("there"), reader.find("for ever")
        assert there and 990 < reader.left_s(there) <= 1000 and reader.left_s(there) % (1 / 64) == 0
        assert ever and reader.left_s(ever) is None

    @pytest.mark.parametrize(("old", "new"), [(4, 16), (16, 4), (8, 8)])
    def test_each_entry_is_found_once_at_each_step_of_a_move(self, make, old, new):
        m = make(size="2MB", shards=old)
        entries = {f"key-{number}": number for number in range(400)}
        m.update(entries)
        reader = reader_of(m.name)
        it = MovingMap(m, shards=new)
        for _ in range(3):
            for what in STEPS:
                it.step(what)
                assert found_in(reader) == entries, (it.table, what)
                assert all(reader.find(f"key-{number}") for number in range(0, 400, 41))
        it.end()
        assert found_in(reader) == entries

    def test_what_moves_while_it_is_listed_is_listed_once(self, make):
        m = make(size="2MB", shards=4)
        entries = {f"key-{number}": number for number in range(400)}
        m.update(entries)
        it = MovingMap(m, shards=16)
        problems: list[Exception] = []
        found = []
        for number, entry in enumerate(
            reader_of(m.name).entries(lambda *of: True, True, problems.append)
        ):
            found.append(unpack(entry.key_type, entry.key))
            if number in (10, 150):
                for what in STEPS:
                    it.step(what)
        assert problems == [] and sorted(found) == sorted(entries)
        it.end()

    def test_an_index_that_is_rebuilt_while_it_is_listed(self, make):
        """Its entries are elsewhere in the index then: all are listed, none twice."""
        m = make(shards=1, size="2MB")
        gone = {f"gone-{number}": number for number in range(3000)}
        m.update(gone)
        entries = {f"key-{number}": number for number in range(1500)}
        m.update(entries)
        m.delete_many(gone)
        problems: list[Exception] = []
        found = []
        for number, entry in enumerate(
            reader_of(m.name).entries(lambda *of: True, True, problems.append)
        ):
            found.append(unpack(entry.key_type, entry.key))
            if number == 700:
                m.repair()
        assert problems == [] and sorted(found) == sorted(entries)

    def test_a_map_that_is_replaced_says_so(self, make):
        m = make()
        m["a"] = 1
        reader = reader_of(m.name)
        assert reader.find("a")
        listing = reader.entries(lambda *of: True, True, lambda error: None)
        with shmmap.ShmMap(m.name, size="2MB", sweep_interval=None, on_mismatch="replace") as new:
            with pytest.raises(shmmap.MapUnlinked, match="unlinked or replaced"):
                reader.find("a")
            with pytest.raises(shmmap.MapUnlinked, match="unlinked or replaced"):
                list(listing)
            reader = reader_of(m.name)
            assert reader.find("a")
            new.unlink()
        with pytest.raises(shmmap.MapUnlinked, match="unlinked or replaced"):
            reader.find("a")

    @pytest.mark.parametrize("write", [
        lambda m: m.incr("k"),  # in its place
        lambda m: [m.__setitem__("k", n) for n in (7, 8, 9, 10)],  # it may have the same slot again
        lambda m: (m.delete("k"), m.__setitem__("other", 3), m.__setitem__("k", 4)),
    ])
    def test_what_is_written_while_it_is_read_is_read_again(self, make, monkeypatch, write):
        m = make(shards=1)
        m["k"] = 5
        whole = ShardReader._read_entry
        writes = [write] * 3

        def write_meanwhile(self, *arguments):
            found = whole(self, *arguments)
            if writes:
                writes.pop()(m)
            return found

        monkeypatch.setattr(ShardReader, "_read_entry", write_meanwhile)
        entry = reader_of(m.name).find("k")
        assert entry is not None
        assert (plain_value(entry, "auto"), entry.version) == m.get_versioned("k")


# -- nothing is touched -----------------------------------------------------------------------

READING = """
import os, sys
NAME = sys.argv[1]
touched = []

def look(event, arguments):
    if event == "open" and f"shmmap.{NAME}" in str(arguments[0]):
        touched.append((arguments[2] & os.O_ACCMODE, str(arguments[0])))
    if event in ("fcntl.flock", "fcntl.lockf"):
        touched.append((event, arguments))
    if event == "fcntl.fcntl" and arguments[1] in (6, 7, 37, 38):  # F_SETLK and the like
        touched.append((event, arguments))
    if event == "open" and "/proc/" not in str(arguments[0]):
        with open("/proc/self/maps") as file:
            touched.extend((line,) for line in file if f"shmmap.{NAME}" in line)

from shmmap.tools import cli
sys.addaudithook(look)
for look in sys.argv[2:]:
    code = cli.main(look.split())
    wrong = [one for one in touched if one[0] != os.O_RDONLY]
    print(f"\\n--{look}: {len(touched) > 0}, wrong {wrong}, code {code}")
    touched.clear()
"""
LOOKS = ("ls", "info NAME", "stats NAME", "workers NAME", "get NAME steady-1", "keys NAME",
         "scan NAME", "ttl NAME steady-1", "locks NAME", "tier NAME", "check NAME")
WRITER = """
import random, sys, shmmap
m = shmmap.ShmMap(sys.argv[1], size="2MB", shards=2, sweep_interval=None)
for i in range(200):
    m[f"steady-{i}"] = [0] * 20
print("open", flush=True)
r = random.Random(1)
lock = m.lock("steady-1")
lock.acquire()
n = 0
while True:
    n += 1
    key = r.randrange(200)
    m[f"steady-{key}"] = [n] * r.choice((1, 20, 300))
    if n % 3 == 0:
        m.set(f"comes-{r.randrange(50)}", [n] * 9, ttl=r.choice((None, 0.01, 60)))
        m.delete(f"comes-{r.randrange(50)}")
"""


@pytest.fixture(params=[shmmap.ENGINE, pytest.param(OTHER, marks=needs_other_engine)])
def busy(request, clean, tmp_path):
    """A map that a process of an engine writes to all the time: (name, engine, pid)."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, clean], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
        env={**os.environ, "SHMMAP_ENGINE": request.param},
    )
    assert process.stdout and process.stdout.readline().strip() == "open"
    yield clean, request.param, process.pid
    assert process.poll() is None, "the writer was disturbed"
    process.kill()
    process.communicate(timeout=LIMIT_S)


class TestBesideWriters:
    def test_reading_commands_open_for_reading_and_map_nothing(self, busy, tmp_path):
        name, engine, _ = busy
        looks = [look.replace("NAME", name) + ("" if look == "ls" else f" --engine {engine}")
                 for look in LOOKS]
        made = subprocess.run(
            [sys.executable, "-c", READING, name, *looks], cwd=tmp_path, text=True,
            capture_output=True, timeout=LIMIT_S,
        )
        said = [line for line in made.stdout.splitlines() if line.startswith("--")]
        assert said == [f"--{look}: True, wrong [], code {int(look.startswith('tier'))}"
                        for look in looks], made

    def test_what_is_read_is_whole_and_there(self, busy):
        name, engine, pid = busy
        reader = reader_of(name, engine=engine)
        until = time.monotonic() + 0.8
        rounds, seen = 0, set()
        while time.monotonic() < until or rounds < 3:
            rounds += 1
            listed = Counter()
            problems: list[Exception] = []
            for entry in reader.entries(lambda *of: True, True, problems.append):
                value = plain_value(entry, "auto")
                assert len(set(value)) == 1, "torn"
                listed[unpack(entry.key_type, entry.key)] += 1
            assert problems == []
            assert [key for key, count in listed.items() if count > 1] == []
            assert {f"steady-{i}" for i in range(200)} <= set(listed)
            one = reader.find(f"steady-{rounds % 200}")
            assert one is not None and len(set(plain_value(one, "auto"))) == 1
            seen.add(one.version)
        assert len(seen) > 1 and reader.seen.workers and reader.seen.workers[0].pid == pid

    def test_while_the_map_changes_its_shape(self, make, start):
        m = make(shards=4)
        m.update({f"steady-{i}": [0] * 20 for i in range(300)})

        def resize(child):
            with shmmap.ShmMap.attach(m.name) as mine:
                while not child.is_told():
                    mine.resize(shards=random.choice((1, 2, 4, 8, 16)))
                    mine[f"steady-{random.randrange(300)}"] = [1] * 200

        child = start(resize)
        reader = reader_of(m.name)
        until = time.monotonic() + 1.0
        tables = set()
        while time.monotonic() < until or len(tables) < 3:
            assert set(found_in(reader)) == {f"steady-{i}" for i in range(300)}
            assert all(reader.find(f"steady-{i}") for i in range(0, 300, 29))
            tables.add(reader.control.TABLE)
        child.tell("enough")
        child.end()

    def test_no_byte_of_a_map_changes(self, make, capsys):
        m = make(on_full="evict")
        m.update({f"steady-{i}": i for i in range(50)})

        def sums() -> dict[str, str]:
            return {file.name: hashlib.sha256(file.read_bytes()).hexdigest()
                    for file in objects(m.name)}

        before = sums()
        for look in LOOKS:
            cli.main(look.replace("NAME", m.name).split())
        assert sums() == before and len(before) > 4

    def test_a_writer_that_is_stopped_in_mid_change(self, make, capsys, monkeypatch):
        """The one entry is not waited for without an end, and the others are read."""
        monkeypatch.setattr("shmmap.tools.shard_reading.PATIENCE_S", 0.2)
        m = make(shards=1)
        m.update({"a": 1, "b": 2})
        damage = Damage(m)
        at = damage.slot_word(damage.head(b"a"))
        damage.words[at] += 1
        damage.set_header("DIRTY", 1)
        began = time.monotonic()
        assert cli.main(["scan", m.name]) == 1
        said = capsys.readouterr()
        assert "b\t" in said.out and "is under way and does not end" in said.err
        assert cli.main(["get", m.name, "a"]) == 1
        assert "is under way and does not end" in capsys.readouterr().err
        assert time.monotonic() - began < 20
        damage.words[at] -= 1
        for field in ("SEQUENCE", "REBUILDS"):  # what is not found could be there
            damage.set_header(field, damage.header(field) ^ 1)
            look = ["get", m.name, "none"] if field == "SEQUENCE" else ["keys", m.name]
            assert cli.main(look) == 1
            assert "is under way and does not end" in capsys.readouterr().err
            damage.set_header(field, damage.header(field) ^ 1)
        damage.set_header("DIRTY", 0)

    def test_many_changes_that_do_not_end_are_not_waited_for_one_by_one(
        self, make, capsys, monkeypatch
    ):
        monkeypatch.setattr("shmmap.tools.shard_reading.PATIENCE_S", 0.2)
        m = make(shards=1)
        m.update({i: i for i in range(100)})
        damage = Damage(m)
        ats = [damage.slot_word(slot) for slot in damage.live()]
        for at in ats:
            damage.words[at] |= 1
        began = time.monotonic()
        assert cli.main(["scan", m.name]) == 1
        assert time.monotonic() - began < 10 and "and 96 more" in capsys.readouterr().err
        for at in ats:
            damage.words[at] &= ~1


# -- damage -----------------------------------------------------------------------------------


def version_0(d: Damage) -> None:
    d.words[d.slot_word(d.head(b"k"))] = 0


def odd_version(d: Damage) -> None:
    d.words[d.slot_word(d.head(b"k"))] |= 1


def slot_out_of_bounds(d: Damage) -> None:
    at = d.index_word(d.head(b"k"))
    d.words[at] |= K["SLOT_MASK"]


def length_absurd(d: Damage) -> None:
    at = d.slot_word(d.head(b"k"), 8)
    d.words[at] |= 0xFFFF_FFFF << 32


def chain_in_a_circle(d: Damage) -> None:
    head = d.head(b"k")
    following = d.next_of(head)
    d.tie(following, head)


def chain_cut(d: Damage) -> None:
    d.halves[d.next_half(d.head(b"k"))] = K["IN_USE"]


def chain_that_is_free(d: Damage) -> None:
    d.halves[d.next_half(d.head(b"k"))] &= ~K["IN_USE"]


def another_key(d: Damage) -> None:
    d.words[d.index_word(d.head(b"k"))] ^= 1 << 40


def key_of_no_type(d: Damage) -> None:
    at = d.slot_word(d.head(b"k"), 8)
    d.words[at] |= 0x7F << 16


HURTS = {
    version_0: "which is free", odd_version: "is in mid-change",
    slot_out_of_bounds: "names slot", length_absurd: "that are possible",
    chain_in_a_circle: "the chain of slot", chain_cut: "the chain of slot",
    chain_that_is_free: "the chain of slot",
    another_key: "the entry of another key", key_of_no_type: "",
}


class TestDamage:
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch):
        monkeypatch.setattr("shmmap.tools.shard_reading.PATIENCE_S", 0.002)

    @pytest.mark.parametrize("hurt", HURTS)
    def test_it_is_named_and_the_rest_is_read(self, make, capsys, hurt):
        m = make(shards=1)
        m.update({"k": "x" * 1000, "other": 2})
        damage = Damage(m)
        before = bytes(damage.octets)
        hurt(damage)
        assert cli.main(["scan", m.name]) == 1
        said = capsys.readouterr()
        assert said.out.splitlines()[1:] == ["other\tnever\t8\tint\t2"]
        assert HURTS[hurt] in said.err
        assert cli.main(["scan", m.name, "--json"]) == 1
        document = json.loads(capsys.readouterr().out)
        assert document["count"] == 1 and len(document["problems"]) == 1
        assert cli.main(["get", m.name, "other"]) == 0
        assert cli.main(["get", m.name, "k"]) == 1
        assert cli.main(["check", m.name]) == 1
        damage.octets[:] = before
        assert cli.main(["check", m.name]) == 0

    @pytest.mark.parametrize("how", ["cut", "gone", "a link"])
    def test_a_segment_that_is_not_as_it_was(self, make, clean, capsys, how):
        m = make(shards=2, codec="safe")
        m.update({i: i for i in range(100)})
        label, = (file for file in objects(m.name) if file.name.endswith(".0.0") and
                  not file.name.startswith("sem."))
        whole = label.read_bytes()
        label.unlink()
        if how == "cut":
            label.write_bytes(whole[:5000])
        elif how == "a link":
            label.symlink_to("/etc/passwd")
        codes = [cli.main([*look.replace("NAME", m.name).split()]) for look in (
            "keys NAME", "scan NAME", "stats NAME", "check NAME", "info NAME")]
        said = capsys.readouterr()
        assert codes[0] == codes[1] == codes[3] == 1, said
        assert 0 < said.out.count("\n")  # those of the other shard
        label.unlink(missing_ok=True)
        label.write_bytes(whole)

    def test_damage_of_every_kind_ends_with_a_name(self, name, capsys, monkeypatch):
        """Nothing crashes, hangs, or raises what is no error of ours."""
        monkeypatch.setattr(making, "random_word", making.random_word)  # a subject changes it
        seed = random.randrange(1 << 32)
        rng = random.Random(seed)
        subjects = [Subject(variant, name) for variant in VARIANTS[:2]]
        rounds = {"compiled": 24, "pure": 12}[shmmap.ENGINE]
        try:
            for s in subjects:
                s.neighbour_token = s.dead_token = s.token
                for key in (THEIRS, DEAD, LATE):
                    s.hold(key)
                s.remember()
            for number in range(rounds):
                s = subjects[number % 2]
                s.gaps.allow()
                s.restore()
                done = damages.damage(rng, s)
                for look in ("scan NAME", "keys NAME --json", "get NAME text", "locks NAME",
                             "stats NAME", "check NAME --json", "tier NAME", "workers NAME"):
                    began = time.monotonic()
                    code = cli.main(look.replace("NAME", s.name).split())
                    took_s = time.monotonic() - began
                    said = capsys.readouterr()
                    assert code in (0, 1) and took_s < 10, (seed, number, done, look, code, took_s)
                    assert "Traceback" not in said.err
                    if "--json" in look and said.out:
                        json.loads(said.out)
                s.restore()
        finally:
            for s in subjects:
                s.gaps.allow()
                s.restore()
                s.quick.unlink()
                s.quick.close()
                s.patient.close()


def test_numbers_of_numpy_are_shown(make, capsys):
    m = make()
    m["array"] = np.arange(6).reshape(2, 3)
    assert cli.main(["get", m.name, "array"]) == 0
    assert capsys.readouterr().out == "array([[0, 1, 2],\\n       [3, 4, 5]])\n"


