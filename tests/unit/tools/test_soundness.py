"""shmmap check: what is wrong in a map, told without a lock."""

from __future__ import annotations

import json

import pytest

from shmmap.tools import cli, soundness
from shmmap.tools.map_reading import MapReader, find_usable

from ...support.damage import Damage, K
from .maps import OTHER, needs_other_engine, objects


def problems_of(m) -> list[str]:
    """List what is wrong in a map; all of it can be checked as a whole."""
    found = list(soundness._check_all(MapReader(find_usable(m.name))))
    assert all(was_settled for _, _, was_settled in found)
    return [text for _, problems, _ in found for text in problems]


@pytest.mark.parametrize("shape", [
    {}, {"on_full": "evict", "ttl": 60}, {"shards": 1, "value_size": 8}, {"codec": "safe"},
])
def test_a_map_that_is_well(make, capsys, shape):
    m = make(**shape)
    m.update({i: "x" * (i % 300) for i in range(500)})
    for i in range(0, 500, 3):
        m.delete(i)
        m.get(i + 1)
    with m.lock("x"):
        assert problems_of(m) == [] == m.check()
    assert cli.main(["check", m.name]) == 0
    said = capsys.readouterr().out
    assert f"0 problem(s) in {m.attachment.geometry.shards} shard(s) and that" in said


@pytest.mark.parametrize("field, by", [("ENTRIES", 1), ("FREE_SLOTS", -1), ("LIVE_BYTES", 8),
                                       ("DEADLINE_BASE", 1), ("STAMP", -(1 << 40))])
def test_it_finds_what_the_check_of_the_map_finds(make, capsys, field, by):
    m = make(shards=1)
    m.update({i: i for i in range(50)})
    damage = Damage(m)
    before = damage.header(field)
    damage.set_header(field, max(0, before + by))
    found = problems_of(m)
    assert found and found == [text.partition(": ")[2] for text in m.check()]
    assert cli.main(["check", m.name]) == 1
    assert "shard 0: " in capsys.readouterr().out
    damage.set_header(field, before)
    assert problems_of(m) == []


def test_the_lock_shard_and_files_too(make, capsys):
    m = make(shards=1)
    damage = Damage(m, 1)
    before = damage.header("ENTRIES")
    damage.set_header("ENTRIES", 3)
    assert cli.main(["check", m.name]) == 1
    assert "the lock shard: " in capsys.readouterr().out
    damage.set_header("ENTRIES", before)
    semaphore, = (file for file in objects(m.name) if file.name.startswith("sem.")
                  and file.name.endswith(".locks"))
    whole = semaphore.read_bytes()
    semaphore.unlink()
    assert cli.main(["check", m.name]) == 1
    assert "is missing" in capsys.readouterr().out
    semaphore.write_bytes(whole)


def test_a_shard_that_changes_all_the_time_is_told(make, capsys, monkeypatch):
    """A copy is compared with what lies there after it."""
    m = make(shards=1)
    m.update({i: i for i in range(50)})
    whole = soundness.ShardReader.image

    def write_meanwhile(reader, start, end):
        data = whole(reader, start, end)
        if reader.seen.number == 0:
            m["again"] = start
        return data

    monkeypatch.setattr(soundness.ShardReader, "image", write_meanwhile)
    assert cli.main(["check", m.name, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["unsettled"] == ["shard 0"] and document["problems"] == []
    damage = Damage(m)
    at = damage.slot_word(damage.head((7).to_bytes(8, "little")), 8)
    damage.words[at] |= K["TYPE_MASK"] << K["META_VALUE_TYPE_SHIFT"]
    assert cli.main(["check", m.name]) == 1  # its entries are looked at all the same
    said = capsys.readouterr().out
    assert "V1: " in said and "changes all the time" in said and "fsck" in said
    damage.words[at] &= ~(K["TYPE_MASK"] << K["META_VALUE_TYPE_SHIFT"])
    damage.words[at] |= K["VALUE_INT"] << K["META_VALUE_TYPE_SHIFT"]


def test_bytes_that_change_while_no_word_of_the_header_does(make, capsys, monkeypatch):
    m = make(shards=1)
    m["k"] = "x" * 50
    damage = Damage(m)
    at = damage.slot_word(damage.head(b"k")) * 8 + 30
    whole = soundness.ShardReader.image

    def write_meanwhile(reader, start, end):
        if reader.seen.number == 0:
            damage.octets[at] ^= 1
        return whole(reader, start, end)

    monkeypatch.setattr(soundness.ShardReader, "image", write_meanwhile)
    assert cli.main(["check", m.name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unsettled"] == ["shard 0"]


def test_a_change_that_ends_neither_way_is_told(make, capsys):
    m = make(shards=1)
    m["a"] = 1
    damage = Damage(m)
    damage.set_header("DIRTY", 1)
    assert cli.main(["check", m.name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unsettled"] == ["shard 0"]
    damage.set_header("DIRTY", 0)


@needs_other_engine
def test_a_map_of_the_other_engine(hold, clean, capsys):
    hold(clean, engine=OTHER)
    assert cli.main(["check", clean]) == 0
