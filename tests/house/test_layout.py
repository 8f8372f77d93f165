"""The layout: what is generated from it, its cache lines, and dumps that pin its version."""

from __future__ import annotations

from pathlib import Path

import pytest

import shmmap
from shmmap.lifecycle import headers, making
from shmmap.memory import layout
from shmmap.memory._clock_cy import Clock

from ..support.clocks import START_NS
from ..support.damage import Damage
from .golden import CONSTANTS, SHARD_WORDS, SHARD_WORDS_EVICTING

PACKAGE = Path(shmmap.__file__).parent
# Different words in the tables for one party, or for one that writes nothing at the same time.
SAME_PARTY = {
    "contenders (cas)": "contenders",
    "sweeper (cas)": "sweeper",
    "mover (cas)": "mover",
    "opener, mover (cas)": "creation lock",  # that of a gate, which is switched by hand
    "row claimer": "row owner",  # it becomes the owner, or the owner is dead
    "nobody": "lock holder",
}
ONCE = {"MOVED"}  # stored once, in a shard that nobody uses any more from then on


def test_the_pxd_is_what_the_layout_gives():
    assert (PACKAGE / "memory" / "_layout.pxd").read_text() == layout.render_pxd(), (
        "run: python3 shmmap/memory/layout.py"
    )


@pytest.mark.parametrize("record", layout.RECORDS[:3], ids=lambda record: record.name)
def test_words_of_different_writers_lie_on_different_cache_lines(record):
    lines: dict[int, set[str]] = {}
    offsets = layout.offsets(record)
    for field in record.fields:
        if field is not layout.LINE and field.name not in ONCE:
            party = SAME_PARTY.get(field.writer, field.writer)
            lines.setdefault(offsets[field.name] // layout.CACHE_LINE, set()).add(party)
    assert all(len(parties) == 1 for parties in lines.values()), lines
    assert layout.record_bytes(record) % layout.CACHE_LINE == 0


def test_hot_words_have_a_line_to_themselves():
    """What every reader loads must not be on a line that each write dirties, nor on the lock's."""
    line = {name: at // layout.CACHE_LINE for name, at in layout.offsets(layout.SHARD).items()}
    for hot in ("SEQUENCE", "OWNER", "DIRTY", "HAND", "HAS_DEADLINES", "MAGIC"):
        others = {"SEQUENCE", "OWNER", "DIRTY", "HAND", "HAS_DEADLINES", "MAGIC"} - {hot}
        assert line[hot] not in {line[other] for other in others}
    row = layout.offsets(layout.ROW)
    assert row["HITS"] // layout.CACHE_LINE != row["STATE"] // layout.CACHE_LINE
    control = layout.offsets(layout.CONTROL)
    alone = [name for name, at in control.items() if at // 64 == control["STATE"] // 64]
    assert alone == ["STATE"]


def test_what_tells_a_reader_that_a_shard_has_moved_is_on_a_line_that_it_loads_anyway():
    """Nobody writes there while the shard is in use, so each processor keeps its copy."""
    line = layout.offsets(layout.SHARD)["MOVED"] // layout.CACHE_LINE
    writers = {field.name: field.writer for field in layout.SHARD.fields}
    beside = {writers[name] for name, at in layout.offsets(layout.SHARD).items()
              if at // layout.CACHE_LINE == line and name != "MOVED"}
    assert beside == {"creator"}


def test_every_field_is_documented_and_aligned():
    for record in layout.RECORDS:
        offsets = layout.offsets(record)
        assert list(offsets.values()) == sorted(set(offsets.values()))
        assert all(at % layout.WORD == 0 for at in offsets.values())
        fields = [field for field in record.fields if field is not layout.LINE]
        assert all(field.writer and len(field.meaning) > 4 for field in fields)
        assert len({field.name for field in fields}) == len(fields)


def test_bit_fields_do_not_overlap():
    k = layout.constants()
    assert k["SLOT_MASK"] & k["OVERFLOW_MASK"] == 0
    assert k["OVERFLOW_MAX"] << k["OVERFLOW_SHIFT"] == k["OVERFLOW_MASK"]
    assert k["WORD_MASK"] == ~k["OVERFLOW_MASK"] & (1 << 64) - 1
    assert k["SLOT_MASK"] + k["OVERFLOW_MASK"] == (1 << k["TAG_SHIFT"]) - 1
    assert k["KEY_LENGTH_MASK"] < 1 << k["META_KEY_TYPE_SHIFT"]
    assert k["KEY_TYPE_MASK"] & k["HAS_DEADLINE"] == 0
    assert k["KEY_TYPE_MASK"] | k["HAS_DEADLINE"] == 0xFF == k["TYPE_MASK"] | k["HAS_ORIGIN"]
    assert k["TYPE_MASK"] & k["HAS_ORIGIN"] == 0 and k["VALUE_TOMBSTONE"] <= k["TYPE_MASK"]
    assert k["HAS_ORIGIN"] << k["META_VALUE_TYPE_SHIFT"] >> k["ORIGIN_SHIFT"] == k["ORIGIN_BYTES"]
    assert k["KEY_TYPE_MAX"] <= k["KEY_TYPE_MASK"]
    assert k["VALUE_LENGTH_MAX"] << k["META_LENGTH_SHIFT"] < 1 << 64
    assert k["TOKEN_THREAD_MASK"] == (1 << k["TOKEN_INCARNATION_SHIFT"]) - 1
    shift = k["TOKEN_INCARNATION_SHIFT"]
    assert k["INCARNATION_MASK"] << shift < 1 << k["TOKEN_ROW_SHIFT"]
    assert k["ROW_LIMIT"] << k["TOKEN_ROW_SHIFT"] == 1 << 64


def test_the_constants_are_those_of_this_version():
    """A change here needs a new LAYOUT_VERSION, and a new golden dump with it. Only a limit that
    is no part of any word in memory may be added."""
    assert max(CONSTANTS) == layout.LAYOUT_VERSION
    golden, found = CONSTANTS[layout.LAYOUT_VERSION], layout.constants()
    assert {name: found.get(name) for name in golden} == golden
    fields = tuple(f"{record.prefix}_" for record in layout.RECORDS)
    assert not [name for name in found.keys() - golden.keys() if name.startswith(fields)]


@pytest.mark.parametrize(
    ("on_full", "golden"), [("raise", SHARD_WORDS), ("evict", SHARD_WORDS_EVICTING)]
)
def test_a_shard_in_memory_is_that_of_this_version(make, freeze, monkeypatch, on_full, golden):
    """Every word that is not 0 after the same few writes. `python -m pytest -vv` shows them all:
    a difference needs a new LAYOUT_VERSION."""
    monkeypatch.setattr(making, "random_word", lambda: 0x0123_4567_89AB_CDEF)
    monkeypatch.setattr(headers, "CLOCK", Clock(START_NS))
    m = make(size="147KB", shards=1, on_full=on_full)
    freeze(m)
    m["text"] = "value"
    m.set(b"counter", 7, ttl=60)
    m[1, None] = bytes(range(200))
    m.get("text")
    damage = Damage(m)
    lock = {layout.offsets(layout.SHARD)[name] for name in ("OWNER", "WAITERS")}
    found = {
        at * 8: f"{word:#018x}"
        for at, word in enumerate(damage.words) if word and at * 8 not in lock
    }
    assert found == golden[layout.LAYOUT_VERSION]


def test_the_picture_in_the_document_is_this_layout():
    project = Path(__file__).resolve().parents[2]
    document = (project / "docs" / "design" / "memory-layout.md").read_text()
    assert layout.MARK_START in document
    assert layout.MARK_END in document
    assert layout.replace_picture(document) == document
